"""Charts of what trials were worth: one after the other, and one objective against another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import accumulate, combinations
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from besom.sweep.findings import Findings
from besom.sweep.objective import Objective
from besom.sweep.report.axes import beyond, drawable, far_off, whole, window
from besom.sweep.report.chart import Chart, NothingToShow, figure
from besom.sweep.report.look import BEST, COLOURS, plain

MAX_PAIRS = 6  # of objectives, each with a chart of its own
COLUMNS = 3
DOMINATED = {"color": COLOURS[TrialState.COMPLETE], "size": 7, "opacity": 0.5}


def completed(findings: Findings) -> list[FrozenTrial]:
    """Those that a chart can place.

    Raises:
        NothingToShow: there are none.
    """
    complete = [trial for trial in findings.trials if trial.state == TrialState.COMPLETE]
    placed = [trial for trial in complete if all(map(drawable, trial.values))]
    if not complete:
        raise NothingToShow("No trial is complete yet.")
    if not placed:
        raise NothingToShow("No complete trial has a finite value.")
    return placed


def so_far(values: Iterable[float], direction: str) -> list[float]:
    """The best of all values up to each."""
    return list(accumulate(values, max if direction == "maximize" else min))


def history(findings: Findings) -> Chart:
    [objective], trials = findings.objectives, completed(findings)
    name, ends = plain(objective.name), window(values := [trial.values[0] for trial in trials])
    last = findings.trials[-1].number
    margin = max(0.5, 0.015 * last)
    shown = figure(
        _dots_and_line([trial.number for trial in trials], values, last, objective),
        380,
        xaxis={"title": {"text": "trial"}, "range": [-margin, last + margin], **whole(last)},
        yaxis={"title": {"text": name}, "range": ends},
        hovermode="closest",
    )
    says = f"Each complete trial's {objective.name}, in the order in which they were begun, to {objective.direction}."
    return Chart("Optimisation history", says + _left_out(findings, trials, beyond(values, ends)), shown)


def _dots_and_line(numbers: list[int], values: list[float], last: int, objective: Objective) -> list[Any]:
    """The line goes on to the last trial, whatever became of that."""
    from plotly.graph_objects import Scatter

    name = plain(objective.name)
    return [
        Scatter(
            x=numbers,
            y=values,
            mode="markers",
            name="a trial",
            marker=DOMINATED | {"opacity": 0.8},
            hovertemplate=f"trial %{{x}}<br>{name} %{{y:.6g}}<extra></extra>",
        ),
        Scatter(
            x=[*numbers, last],
            y=so_far([*values, values[-1]], objective.direction),
            mode="lines",
            name="best so far",
            line={"color": BEST, "width": 2.5, "shape": "hv"},
            hovertemplate=f"up to trial %{{x}}<br>best {name} %{{y:.6g}}<extra></extra>",
        ),
    ]


def pareto(findings: Findings) -> Chart:
    trials = completed(findings)
    from plotly.subplots import make_subplots

    pairs = list(combinations(range(len(findings.objectives)), 2))[:MAX_PAIRS]
    columns = min(COLUMNS, len(pairs))
    rows = math.ceil(len(pairs) / columns)
    shown = make_subplots(rows, columns, horizontal_spacing=0.09, vertical_spacing=0.2)
    for place, (x, y) in enumerate(pairs):
        at = {"row": place // columns + 1, "col": place % columns + 1}
        shown.add_traces(_front(findings, trials, x, y, legend=place == 0), at["row"], at["col"])
        for update, objective in ((shown.update_xaxes, x), (shown.update_yaxes, y)):
            update(title_text=_aim(findings.objectives[objective]), **at)
    shown.update_layout(template="none", height=420 if columns < COLUMNS else 380 * rows)
    says = "No trial beats one of the front in every objective." + _left_out(findings, trials, 0)
    return Chart("Pareto front", says, shown)


def _front(findings: Findings, trials: Sequence[FrozenTrial], x: int, y: int, *, legend: bool) -> list[Any]:
    """The dominated trials, and the front on top of them."""
    from plotly.graph_objects import Scatter

    front = {trial.number for trial in findings.best}
    one, other = (plain(findings.objectives[n].name) for n in (x, y))
    return [
        Scatter(
            x=[trial.values[x] for trial in members],
            y=[trial.values[y] for trial in members],
            customdata=[trial.number for trial in members],
            mode="markers",
            name=group,
            marker=marker,
            legendgroup=group,
            showlegend=legend,
            hovertemplate=f"trial %{{customdata}}<br>{one} %{{x:.6g}}<br>{other} %{{y:.6g}}<extra></extra>",
        )
        for group, marker, members in (
            ("dominated", DOMINATED, [trial for trial in trials if trial.number not in front]),
            ("Pareto front", {"color": BEST, "size": 9}, [trial for trial in trials if trial.number in front]),
        )
    ]


def _aim(objective: Objective) -> str:
    return f"{plain(objective.name)} ({objective.direction})"


def _left_out(findings: Findings, shown: Sequence[FrozenTrial], far: int) -> str:
    infinite = findings.counts.complete - len(shown)
    return (f" Not shown: {infinite} with an infinite value." if infinite else "") + far_off(far, "trial")
