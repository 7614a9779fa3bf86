"""Each parameter alone against what came of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from optuna.trial import FrozenTrial

from besom.reporting.axes import Axis, axes, beyond, far_off, window
from besom.reporting.chart import Chart, cells, small_charts
from besom.reporting.early import early, marks, said, value_of, with_edge
from besom.reporting.importances import only, worth_showing
from besom.reporting.look import BAR, BEST, SCALE, parameter, plain
from besom.reporting.values import completed
from besom.space.value import as_text
from besom.study.objective import Objective
from besom.study.snapshot import StudySnapshot

MOST = 24  # parameters
COLUMNS = 3
MANY = 300  # trials, whose dots are fainter


def slices(snapshot: StudySnapshot) -> list[Chart]:
    """For each objective a chart."""
    trials, others, names = completed(snapshot), early(snapshot), worth_showing(snapshot)[:MOST]
    known = axes([*trials, *others])
    return [
        _slices(snapshot, n, trials, others, [known[name] for name in names]) for n in range(len(snapshot.objectives))
    ]


def _slices(
    snapshot: StudySnapshot,
    n: int,
    trials: Sequence[FrozenTrial],
    others: Sequence[FrozenTrial],
    searched: Sequence[Axis],
) -> Chart:
    objective = snapshot.objectives[n]
    columns = min(COLUMNS, len(searched))
    rows = math.ceil(len(searched) / columns)
    values = [value for trial in (*trials, *others) if (value := value_of(trial, n)) is not None]
    ends, edge = with_edge(window(values), others)
    shown = small_charts(len(searched), columns, horizontal_spacing=0.07, vertical_spacing=min(0.12, 0.3 / rows))
    for place, axis in enumerate(searched):
        at = {"row": place // columns + 1, "col": place % columns + 1}
        for trace in (
            _dots(snapshot, _with(trials, axis), axis, n),
            *_marks(_with(others, axis), axis, n, edge, objective),
        ):
            shown.add_trace(trace, **at)
        shown.update_xaxes(axis.as_plotly(), **at)
        side = {"title": {"text": plain(objective.name)}} if at["col"] == 1 else {"showticklabels": False}
        shown.update_yaxes({"range": ends, **side}, **at)
    scale = {"colorscale": SCALE, "cmin": 0, "cmax": max(1, len(snapshot.trials) - 1)}
    scale["colorbar"] = {"title": {"text": "trial"}, **BAR}
    meta = cells(columns, 270, shares_y=True) | {"title": plain(objective.name)}
    shown.update_layout(template="none", height=270 * rows, hovermode="closest", coloraxis=scale, meta=meta)
    says = (
        "Each complete trial, the later the warmer; the best ringed."
        + said(others)
        + far_off(beyond(values, ends), "value")
    )
    title = "Slices" if len(snapshot.objectives) == 1 else f"Slices of {objective.name}"
    return Chart(title, says + only(MOST, snapshot), shown)


def _with(trials: Sequence[FrozenTrial], axis: Axis) -> list[FrozenTrial]:
    return [trial for trial in trials if axis.name in trial.params]


def _marks(trials: Sequence[FrozenTrial], axis: Axis, n: int, edge: float, objective: Objective) -> Iterator[Any]:
    def height(trial: FrozenTrial) -> float:
        value = value_of(trial, n)
        return edge if value is None else value

    return marks(trials, lambda trial: _spread(axis, trial), height, plain(objective.name), showlegend=False)


def _dots(snapshot: StudySnapshot, trials: Sequence[FrozenTrial], axis: Axis, n: int) -> Any:
    """The best on top of the others."""
    from plotly.graph_objects import Scatter

    best = {trial.number for group in snapshot.best_groups for trial in group}
    trials = sorted(trials, key=lambda trial: trial.number in best)
    return Scatter(
        x=[_spread(axis, trial) for trial in trials],
        y=[trial.values[n] for trial in trials],
        customdata=[[trial.number, plain(as_text(trial.params[axis.name]))] for trial in trials],
        mode="markers",
        marker={
            "color": [trial.number for trial in trials],
            "coloraxis": "coloraxis",
            "size": [11 if trial.number in best else 6 for trial in trials],
            "opacity": 0.85 if len(trials) < MANY else 0.6,
            "line": {"color": BEST, "width": [2.0 if trial.number in best else 0.0 for trial in trials]},
        },
        showlegend=False,
        hovertemplate=_hover(axis, snapshot.objectives[n]),
    )


def _spread(axis: Axis, trial: FrozenTrial) -> float:
    """Trials of one choice beside each other, not on top of each other; the same in every report."""
    place = axis.at(trial.params[axis.name])
    return place + ((trial.number * 0.618034) % 1 - 0.5) * 0.5 if axis.choices else place


def _hover(axis: Axis, objective: Objective) -> str:
    value = "%{customdata[1]}" if axis.choices else "%{x:.6g}"
    tried = f"{plain(parameter(axis.name))} {value}"
    return f"trial %{{customdata[0]}}<br>{tried}<br>{plain(objective.name)} %{{y:.6g}}<extra></extra>"
