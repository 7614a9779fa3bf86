"""All parameters of each trial as one line: parallel coordinates.

Drawn as plain lines: plotly's own kind has no place for a parameter that a trial lacks, and needs WebGL.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from besom.reporting.axes import Axis, axes, window
from besom.reporting.chart import Chart, NothingToShow, figure
from besom.reporting.early import early, said, value_of
from besom.reporting.importances import only, worth_showing
from besom.reporting.look import BEST, COLOURS, SCALE, parameter, plain, shortened
from besom.reporting.values import completed
from besom.study.objective import Objective
from besom.study.snapshot import StudySnapshot

MOST = 12  # parameters
MANY = 30  # lines, which are drawn thinner
ABSENT = -0.14  # where a line goes that has no such parameter; the axis itself is from 0 to 1
LANE_PX = 98  # from one axis to the next
NAME, CHOICE = 14, 11  # characters that have room there
TICKS = 4  # parts of an axis of numbers


@dataclass(frozen=True)
class Lane:
    """One upright axis: where on it each trial lies, and what is written beside it."""

    label: str
    places: list[float]
    ticks: dict[float, str]


def parallel(snapshot: StudySnapshot) -> Chart:
    complete, others, names = completed(snapshot), early(snapshot), worth_showing(snapshot)[:MOST]
    if len(complete) < 2:
        raise NothingToShow("It takes two complete trials to compare.")
    trials = [*complete, *(trial for trial in others if trial.params)]
    known = axes(trials)
    lanes = [
        _of_objective(objective, [value_of(trial, n) for trial in trials])
        for n, objective in enumerate(snapshot.objectives)
    ]
    lanes += [_of_parameter(known[name], trials) for name in names]
    absent = any(place == ABSENT for lane in lanes for place in lane.places)
    shown = figure(
        list(_traces(snapshot, trials, lanes)),
        480,
        xaxis={
            "tickvals": list(range(len(lanes))),
            "ticktext": [lane.label for lane in lanes],
            "side": "top",
            "tickangle": 0,
            "ticklabeloverflow": "allow",  # or the name of the last axis goes
            "showgrid": False,
            "range": [-0.6, len(lanes) - 0.4],
            "fixedrange": True,
        },
        yaxis={"visible": False, "range": [ABSENT - 0.05 if absent else -0.05, 1.05], "fixedrange": True},
        shapes=[_upright(n) for n in range(len(lanes))],
        annotations=[_tick(n, at, text) for n, lane in enumerate(lanes) for at, text in lane.ticks.items()],
        hovermode="closest",
        legend={"y": -0.02, "yanchor": "top"},
        margin={"l": 10, "r": 10, "t": 90, "b": 40},
    )
    says = "A line is a trial. A click on a word of the legend hides its lines, a double-click all others."
    says += said(others, "dashed", "dotted", edge=False)
    if absent:
        says += " At ∅ a trial has no such parameter."
    if any(lane.places.count(ABSENT) for lane in lanes[: len(snapshot.objectives)]):
        says += " One without a value begins there."
    return Chart("Parallel coordinates", says + only(MOST, snapshot), shown, least_px=LANE_PX * len(lanes) + 60)


def _traces(snapshot: StudySnapshot, trials: Sequence[FrozenTrial], lanes: Sequence[Lane]) -> Iterator[Any]:
    """The better on top of the worse."""
    from plotly.graph_objects import Scatter

    for word, colour, width, members, dash in _groups(snapshot, trials):
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
            line={"color": colour, "width": width if len(members) < MANY else width / 2, "dash": dash},
            opacity=faint,
            hovertemplate="trial %{customdata}<extra></extra>",
        )


Group = tuple[str, str, float, list[int], str]  # a word, a colour, a width, places in the list of trials, dashes


def _groups(snapshot: StudySnapshot, trials: Sequence[FrozenTrial]) -> list[Group]:
    """Failed and pruned trials below those that are complete."""
    of = {state: [n for n, trial in enumerate(trials) if trial.state == state] for state in COLOURS}
    return [
        ("failed", COLOURS[TrialState.FAIL], 1.0, of[TrialState.FAIL], "dot"),
        ("pruned", COLOURS[TrialState.PRUNED], 1.0, of[TrialState.PRUNED], "dash"),
        *((*group, "solid") for group in _complete(snapshot, trials, of[TrialState.COMPLETE])),
    ]


def _complete(
    snapshot: StudySnapshot, trials: Sequence[FrozenTrial], complete: Sequence[int]
) -> list[tuple[str, str, float, list[int]]]:
    grey, blue, green = SCALE[0][1], SCALE[1][1], BEST
    if len(snapshot.objectives) > 1:
        front = {trial.number for trial in snapshot.best}
        inside = [n for n in complete if trials[n].number in front]
        outside = [n for n in complete if trials[n].number not in front]
        return [("dominated", str(grey), 1.0, outside), ("Pareto front", green, 2.2, inside)]
    sign = -1 if snapshot.objectives[0].direction == "maximize" else 1
    order = sorted(complete, key=lambda n: sign * trials[n].values[0])
    tenth, half = max(1, len(order) // 10), max(1, len(order) // 2)
    return [
        ("the worse half", str(grey), 1.0, order[half:]),
        ("the better half", str(blue), 1.2, order[tenth:half]),
        ("the best tenth", green, 2.2, order[:tenth]),
    ]


def _of_objective(objective: Objective, values: list[float | None]) -> Lane:
    known = [value for value in values if value is not None]
    low, high = window(known)
    low, high = max(low, min(known)), min(high, max(known))
    width = (high - low) or 1.0
    places = [ABSENT if value is None else (min(max(value, low), high) - low) / width for value in values]
    ticks = _numbers(low, high, log=False)
    return Lane(f"<b>{_wrapped(objective.name)}</b>", places, {ABSENT: "∅", **ticks} if ABSENT in places else ticks)


def _of_parameter(axis: Axis, trials: Sequence[FrozenTrial]) -> Lane:
    low, high = axis.ends
    width = (high - low) or 1.0
    places = [_place(axis, n, trial, width) for n, trial in enumerate(trials)]
    if axis.choices:
        ticks = {place / width: text for place, text in enumerate(axis.labels(CHOICE))}
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
    return "<br>".join(_wrapped(parameter(part, 99)) for part in (key, bracket.strip() + condition) if part)


def _wrapped(name: str) -> str:
    """On lines that fit between two axes, broken behind dots, slashes and underscores where that is enough."""
    lines = [""]
    for part in re.findall(r"[^./_=]*[./_=]?", name):
        if lines[-1] and len(lines[-1]) + len(part) > NAME:
            lines.append("")
        lines[-1] += part
    return "<br>".join(plain(shortened(line, NAME)) for line in lines if line)


def _numbers(low: float, high: float, *, log: bool) -> dict[float, str]:
    if low == high:
        return {0.0: f"{10**low if log else low:.3g}"}
    levels = {part / TICKS: low + (high - low) * part / TICKS for part in range(TICKS + 1)}
    return {place: f"{10**level if log else level:.3g}" for place, level in levels.items()}


def _upright(n: int) -> dict[str, Any]:
    return {"type": "line", "x0": n, "x1": n, "y0": 0, "y1": 1, "line": {"width": 1}, "layer": "above"}


def _tick(n: int, at: float, text: str) -> dict[str, Any]:
    return {"x": n, "y": at, "text": text, "showarrow": False, "xanchor": "right", "xshift": -4}
