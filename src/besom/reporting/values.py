"""Charts of what trials were worth: one after the other, and one objective against another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import accumulate, combinations
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from besom.reporting.axes import beyond, drawable, far_off, whole, window
from besom.reporting.chart import Chart, NothingToShow, cells, figure, small_charts
from besom.reporting.early import early, marks, said, value_of, with_edge
from besom.reporting.look import BEST, COLOURS, plain
from besom.study.objective import Objective
from besom.study.snapshot import StudySnapshot, listed

MAX_PAIRS = 6  # of objectives, each with a chart of its own
COLUMNS = 3
SIZE = 7  # pixels of a dot
DOMINATED: dict[str, Any] = {"color": COLOURS[TrialState.COMPLETE], "opacity": 0.5}


def completed(snapshot: StudySnapshot, *, or_none: bool = False) -> list[FrozenTrial]:
    """Those that a chart can place.

    Raises:
        NothingToShow: there are none; unless `or_none`.
    """
    complete = [trial for trial in snapshot.trials if trial.state == TrialState.COMPLETE]
    placed = [trial for trial in complete if all(map(drawable, trial.values))]
    if or_none:
        return placed
    if not complete:
        raise NothingToShow("No trial is complete yet.")
    if not placed:
        raise NothingToShow("No complete trial has a finite value.")
    return placed


def so_far(values: Iterable[float], direction: str) -> list[float]:
    """The best of all values up to each."""
    return list(accumulate(values, max if direction == "maximize" else min))


def history(snapshot: StudySnapshot) -> Chart:
    [objective], others = snapshot.objectives, early(snapshot)
    lasts = [value for trial in others if (value := value_of(trial)) is not None]
    trials = completed(snapshot, or_none=bool(lasts))
    values = [trial.values[0] for trial in trials]
    name, (ends, edge) = plain(objective.name), with_edge(window([*values, *lasts]), others)
    last = snapshot.trials[-1].number
    margin = max(0.5, 0.015 * last)
    shown = figure(
        [
            *_dots_and_line([trial.number for trial in trials], values, last, objective),
            *marks(others, lambda trial: trial.number, lambda trial: _or(value_of(trial), edge), name),
        ],
        380,
        xaxis={"title": {"text": "trial"}, "range": [-margin, last + margin], **whole(last)},
        yaxis={"title": {"text": name}, "range": ends},
        hovermode="closest",
    )
    says = f"Each trial's {objective.name}, in the order in which they were begun, to {objective.direction}."
    says += said(others) + _left_out(snapshot, trials, beyond([*values, *lasts], ends))
    return Chart("Optimisation history", says, shown)


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _dots_and_line(numbers: list[int], values: list[float], last: int, objective: Objective) -> list[Any]:
    """The line goes on to the last trial, whatever became of that."""
    from plotly.graph_objects import Scatter

    if not values:
        return []
    name = plain(objective.name)
    return [
        Scatter(
            x=numbers,
            y=values,
            mode="markers",
            name=f"complete ({len(values)})",
            marker=DOMINATED | {"opacity": 0.8, "size": SIZE},
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


def pareto(snapshot: StudySnapshot) -> Chart:
    trials = completed(snapshot)
    pairs = list(combinations(range(len(snapshot.objectives)), 2))[:MAX_PAIRS]
    columns = min(COLUMNS, len(pairs))
    rows = math.ceil(len(pairs) / columns)
    shown = small_charts(len(pairs), columns, horizontal_spacing=0.09, vertical_spacing=0.2)
    for place, (x, y) in enumerate(pairs):
        at = {"row": place // columns + 1, "col": place % columns + 1}
        shown.add_traces(_front(snapshot, trials, x, y, legend=place == 0), at["row"], at["col"])
        for update, objective in ((shown.update_xaxes, x), (shown.update_yaxes, y)):
            update(title_text=_aim(snapshot.objectives[objective]), nticks=6, tickangle=0, **at)
    shown.update_layout(
        template="none", height=420 if columns < COLUMNS else 380 * rows, legend={"itemsizing": "constant"}
    )
    if len(pairs) > 1:
        shown.update_layout(meta=cells(columns, 360))
    says = f"No trial beats one of the front in every objective. {_front_said(snapshot)}"
    says += _left_out(snapshot, trials, 0) + _without_values(snapshot)
    return Chart("Pareto front", says, shown)


def _front_said(snapshot: StudySnapshot) -> str:
    """How many points the front has: of many trials with equal values one dot is seen."""
    trials, points = len(snapshot.best), len(snapshot.best_groups)
    where = "one point" if points == 1 else f"{points} points"
    said = f"The front has {trials} trial{'s' * (trials != 1)} at {where}"
    return f"{said}; a dot of several trials is larger, and says how many." if points < trials else f"{said}."


def _without_values(snapshot: StudySnapshot) -> str:
    counts = snapshot.counts
    words = [f"{count} {word}" for count, word in ((counts.pruned, "pruned"), (counts.failed, "failed")) if count]
    return f" Without values, and so not shown: {' and '.join(words)}." if words else ""


def _front(snapshot: StudySnapshot, trials: Sequence[FrozenTrial], x: int, y: int, *, legend: bool) -> list[Any]:
    """The dominated trials, and the front on top of them."""
    from plotly.graph_objects import Scatter

    front = {trial.number for trial in snapshot.best}
    one, other = (plain(snapshot.objectives[n].name) for n in (x, y))
    traces = []
    for group, marker, size, members in (
        ("dominated", DOMINATED, SIZE, [trial for trial in trials if trial.number not in front]),
        ("Pareto front", {"color": BEST}, SIZE + 2, [trial for trial in trials if trial.number in front]),
    ):
        alike: dict[tuple[float, float], list[int]] = {}
        for trial in members:
            alike.setdefault((trial.values[x], trial.values[y]), []).append(trial.number)
        counts = [len(numbers) for numbers in alike.values()]
        traces.append(
            Scatter(
                x=[point[0] for point in alike],
                y=[point[1] for point in alike],
                customdata=[_named(numbers) for numbers in alike.values()],
                mode="markers+text" if max(counts, default=1) > 1 else "markers",
                text=[f"×{count}" if count > 1 else "" for count in counts],
                textposition="middle right",
                name=f"{group} ({len(members)})",
                marker={**marker, "size": [size + min(8, 2 * (count - 1)) for count in counts]},
                legendgroup=group,
                showlegend=legend,
                cliponaxis=False,
                hovertemplate=f"%{{customdata}}<br>{one} %{{x:.6g}}<br>{other} %{{y:.6g}}<extra></extra>",
            )
        )
    return traces


def _named(numbers: Sequence[int]) -> str:
    return f"trial {numbers[0]}" if len(numbers) == 1 else f"{len(numbers)} trials: {listed(numbers)}"


def _aim(objective: Objective) -> str:
    return f"{plain(objective.name)} ({objective.direction})"


def _left_out(snapshot: StudySnapshot, shown: Sequence[FrozenTrial], far: int) -> str:
    infinite = snapshot.counts.complete - len(shown)
    return (f" Not shown: {infinite} with an infinite value." if infinite else "") + far_off(far, "trial")
