"""All parameters of each trial as one line: parallel coordinates.

Drawn as plain lines: plotly's own kind has no place for a parameter that a trial lacks, and needs WebGL.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial

from besom.sweep.findings import Findings
from besom.sweep.objective import Objective
from besom.sweep.report.axes import Axis, axes, window
from besom.sweep.report.chart import Chart, NothingToShow, figure
from besom.sweep.report.importances import only, worth_showing
from besom.sweep.report.look import BEST, SCALE, clipped, parameter, plain
from besom.sweep.report.values import completed

MOST = 12  # parameters
MANY = 30  # lines, which are drawn thinner
ABSENT = -0.14  # where a line goes that has no such parameter; the axis itself is from 0 to 1
TICKS = 4  # parts of an axis of numbers


@dataclass(frozen=True)
class Lane:
    """One upright axis: where on it each trial lies, and what is written beside it."""

    label: str
    places: list[float]
    ticks: dict[float, str]


def parallel(findings: Findings) -> Chart:
    trials, names = completed(findings), worth_showing(findings)[:MOST]
    known = axes(trials)
    if len(trials) < 2:
        raise NothingToShow("It takes two complete trials to compare.")
    lanes = [
        _of_objective(objective, [trial.values[n] for trial in trials])
        for n, objective in enumerate(findings.objectives)
    ]
    lanes += [_of_parameter(known[name], trials) for name in names]
    absent = any(place == ABSENT for lane in lanes for place in lane.places)
    shown = figure(
        list(_traces(findings, trials, lanes)),
        480,
        xaxis={
            "tickvals": list(range(len(lanes))),
            "ticktext": [lane.label for lane in lanes],
            "side": "top",
            "tickangle": -14,
            "showgrid": False,
            "range": [-0.35, len(lanes) - 0.9],
            "fixedrange": True,
        },
        yaxis={"visible": False, "range": [ABSENT - 0.05 if absent else -0.05, 1.05], "fixedrange": True},
        shapes=[_upright(n) for n in range(len(lanes))],
        annotations=[_tick(n, at, text) for n, lane in enumerate(lanes) for at, text in lane.ticks.items()],
        hovermode="closest",
        legend={"y": -0.02, "yanchor": "top"},
        margin={"l": 20, "r": 40, "t": 90, "b": 40},
    )
    says = "A line is a complete trial. A click on a word of the legend hides its lines, a double-click all others."
    if absent:
        says += " At ∅ a trial has no such parameter."
    return Chart("Parallel coordinates", says + only(MOST, findings), shown)


def _traces(findings: Findings, trials: Sequence[FrozenTrial], lanes: Sequence[Lane]) -> Iterator[Any]:
    """The better on top of the worse."""
    from plotly.graph_objects import Scatter

    for word, colour, width, members in _groups(findings, trials):
        if not members:
            continue
        faint = 0.9 if width > 1.5 else max(0.2, min(0.6, 60 / len(trials)))
        points = [
            point
            for n in members
            for point in [*((at, lane.places[n], n) for at, lane in enumerate(lanes)), (0, None, n)]
        ]
        yield Scatter(
            x=[at for at, _, _ in points],
            y=[None if place is None else round(place, 4) for _, place, _ in points],
            customdata=[trials[n].number for _, _, n in points],
            mode="lines",
            name=f"{word} ({len(members)})",
            line={"color": colour, "width": width if len(members) < MANY else width / 2},
            opacity=faint,
            hovertemplate="trial %{customdata}<extra></extra>",
        )


def _groups(findings: Findings, trials: Sequence[FrozenTrial]) -> list[tuple[str, str, float, list[int]]]:
    grey, blue, green = SCALE[0][1], SCALE[1][1], BEST
    if len(findings.objectives) > 1:
        front = {trial.number for trial in findings.best}
        inside = [n for n, trial in enumerate(trials) if trial.number in front]
        outside = [n for n, trial in enumerate(trials) if trial.number not in front]
        return [("dominated", str(grey), 1.0, outside), ("Pareto front", green, 2.2, inside)]
    sign = -1 if findings.objectives[0].direction == "maximize" else 1
    order = sorted(range(len(trials)), key=lambda n: sign * trials[n].values[0])
    tenth, half = max(1, len(order) // 10), max(1, len(order) // 2)
    return [
        ("the worse half", str(grey), 1.0, order[half:]),
        ("the better half", str(blue), 1.2, order[tenth:half]),
        ("the best tenth", green, 2.2, order[:tenth]),
    ]


def _of_objective(objective: Objective, values: list[float]) -> Lane:
    low, high = window(values)
    low, high = max(low, min(values)), min(high, max(values))
    width = (high - low) or 1.0
    places = [(min(max(value, low), high) - low) / width for value in values]
    return Lane(f"<b>{plain(clipped(objective.name, 24))}</b>", places, _numbers(low, high, log=False))


def _of_parameter(axis: Axis, trials: Sequence[FrozenTrial]) -> Lane:
    low, high = axis.ends
    width = (high - low) or 1.0
    places = [_place(axis, n, trial, width) for n, trial in enumerate(trials)]
    if axis.choices:
        ticks = {place / width: text for place, text in enumerate(axis.labels)}
    else:
        ticks = _numbers(low, high, log=axis.log)
    return Lane(_called(axis.name), places, {ABSENT: "∅", **ticks} if ABSENT in places else ticks)


def _place(axis: Axis, n: int, trial: FrozenTrial, width: float) -> float:
    """Lines through one choice are fanned out, the same way in every report."""
    if axis.name not in trial.params:
        return ABSENT
    place = (axis.level(trial.params[axis.name]) - axis.ends[0]) / width
    return place + ((n * 0.618034) % 1 - 0.5) * 0.05 if axis.choices else place


def _called(name: str) -> str:
    """The condition of a name, `lr [optimizer=sgd]`, on a line of its own."""
    key, bracket, condition = name.partition(" [")
    return "<br>".join(plain(parameter(part, 24)) for part in (key, bracket.strip() + condition) if part)


def _numbers(low: float, high: float, *, log: bool) -> dict[float, str]:
    if low == high:
        return {0.0: f"{10**low if log else low:.3g}"}
    levels = {part / TICKS: low + (high - low) * part / TICKS for part in range(TICKS + 1)}
    return {place: f"{10**level if log else level:.3g}" for place, level in levels.items()}


def _upright(n: int) -> dict[str, Any]:
    return {"type": "line", "x0": n, "x1": n, "y0": 0, "y1": 1, "line": {"width": 1}, "layer": "above"}


def _tick(n: int, at: float, text: str) -> dict[str, Any]:
    return {"x": n, "y": at, "text": text, "showarrow": False, "xanchor": "right", "xshift": -4}
