"""What an objective comes to between the trials, over two parameters at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from besom.reporting.axes import Axis, axes, window
from besom.reporting.chart import Chart, NothingToShow, cells, small_charts
from besom.reporting.early import early, marks
from besom.reporting.importances import worth_showing
from besom.reporting.look import BAR, SCALE, plain
from besom.reporting.values import completed
from besom.study.objective import Objective
from besom.study.snapshot import StudySnapshot

MOST = 4  # parameters: each pair of them has a chart
COLUMNS = 3
MANY = 200  # trials, whose dots are smaller
GRID = 32  # points of a contour, each way
BREADTH = 0.09  # of what a trial says about its neighbourhood, as a share of an axis
DOTS = {"size": 4, "color": "rgba(255,255,255,.75)", "line": {"width": 0.7, "color": "rgba(20,25,35,.7)"}}
LINES = {"contours_coloring": "heatmap", "line": {"width": 0.6, "color": "rgba(255,255,255,.45)"}, "ncontours": 12}


def contours(snapshot: StudySnapshot) -> list[Chart]:
    """Two parameters at a time, for each objective a chart."""
    trials, names = completed(snapshot), worth_showing(snapshot)[:MOST]
    known = axes([*trials, *early(snapshot)])
    pairs = [pair for pair in combinations(names, 2) if len(_with(trials, *pair)) > 2]
    if not pairs:
        raise NothingToShow("It takes two parameters, and three complete trials that have both.")
    return [_contour(snapshot, n, pairs, known) for n in range(len(snapshot.objectives))]


def _contour(snapshot: StudySnapshot, n: int, pairs: Sequence[tuple[str, str]], known: dict[str, Axis]) -> Chart:
    trials, objective = completed(snapshot), snapshot.objectives[n]
    columns = min(COLUMNS, len(pairs))
    rows = math.ceil(len(pairs) / columns)
    shown = small_charts(len(pairs), columns, horizontal_spacing=0.1, vertical_spacing=0.16)
    others = early(snapshot)
    surfaces = [surface(known[one], known[other], _with(trials, one, other), n) for one, other in pairs]
    for place, (one, other) in enumerate(pairs):
        at = {"row": place // columns + 1, "col": place % columns + 1}
        shown.add_trace(_ground(known[one], known[other], surfaces[place]), **at)
        shown.add_trace(_dots(known[one], known[other], _with(trials, one, other), objective, n), **at)
        for trace in _marks(known[one], known[other], _with(others, one, other), objective):
            shown.add_trace(trace, **at)
        shown.update_xaxes(known[one].as_plotly(), **at)
        shown.update_yaxes(known[other].as_plotly(upright=True), **at)
    low, high = ends(surfaces)
    scale = {
        "colorscale": SCALE,
        "reversescale": objective.direction == "minimize",
        "cmin": low,
        "cmax": high,
        "colorbar": BAR,
    }
    meta = cells(columns, 330)
    shown.update_layout(template="none", height=330 * rows, coloraxis=scale, hovermode="closest", meta=meta)
    title = "Contours" if len(snapshot.objectives) == 1 else f"Contours of {objective.name}"
    says = (
        f"What {objective.name} comes to between the trials (dots), smoothed, for the most important parameters two by "
        "two; orange is best. Empty where no trial is complete."
    )
    states = {trial.state for trial in others}
    for state, text in ((TrialState.PRUNED, "✕ was pruned"), (TrialState.FAIL, "▼ failed")):
        if state in states:
            says += f" {text}."
    return Chart(title, says, shown)


def _ground(one: Axis, other: Axis, surface: tuple[Any, Any, Any]) -> Any:
    """There is no line between two choices."""
    from plotly.graph_objects import Contour, Heatmap

    x, y, z = surface
    ground = Heatmap() if one.choices or other.choices else Contour(LINES)
    return ground.update(x=x, y=y, z=z, coloraxis="coloraxis", hoverinfo="skip")


def _dots(one: Axis, other: Axis, trials: Sequence[FrozenTrial], objective: Objective, n: int) -> Any:
    from plotly.graph_objects import Scatter

    name = plain(objective.name)
    return Scatter(
        x=[one.at(trial.params[one.name]) for trial in trials],
        y=[other.at(trial.params[other.name]) for trial in trials],
        customdata=[[trial.number, trial.values[n]] for trial in trials],
        mode="markers",
        marker=DOTS if len(trials) < MANY else {**DOTS, "size": 2.5},
        showlegend=False,
        hovertemplate=f"trial %{{customdata[0]}}<br>{name} %{{customdata[1]:.6g}}<extra></extra>",
    )


def _marks(one: Axis, other: Axis, trials: Sequence[FrozenTrial], objective: Objective) -> Iterator[Any]:
    def along(axis: Axis) -> Callable[[FrozenTrial], float]:
        return lambda trial: axis.at(trial.params[axis.name])

    return marks(trials, along(one), along(other), plain(objective.name), showlegend=False)


def ends(surfaces: Sequence[tuple[Any, Any, Any]]) -> tuple[float, float]:
    """Of their colours: all of one study's surfaces have the same."""
    import numpy as np

    values = np.concatenate([z[np.isfinite(z)] for _, _, z in surfaces])
    return window(values.tolist())


def surface(one: Axis, other: Axis, trials: Sequence[FrozenTrial], n: int) -> tuple[Any, Any, Any]:
    """The mean of the trials around each point of a grid, the near ones counting most; nan far from all of them."""
    import numpy as np

    (x, across), (y, up) = _grid(one, trials), _grid(other, trials)
    away = ((x[1][None, None, :] - across[None, :, None]) / _breadth(one)) ** 2
    away = away + ((y[1][:, None, None] - up[None, :, None]) / _breadth(other)) ** 2
    weights = np.exp(-away / 2)
    values = np.array([trial.values[n] for trial in trials])
    total = weights.sum(axis=1)
    mean = (weights * values[None, :, None]).sum(axis=1) / np.maximum(total, 1e-300)
    return x[0], y[0], np.where(total > np.exp(-2.0), mean, np.nan).astype(np.float32)


def _grid(axis: Axis, trials: Sequence[FrozenTrial]) -> tuple[tuple[Any, Any], Any]:
    """Along an axis the points where they are, and where they lie between 0 and 1; and so the trials."""
    import numpy as np

    levels = np.array([axis.level(trial.params[axis.name]) for trial in trials])
    low, high = axis.ends
    if axis.choices:
        points = np.arange(len(axis.choices), dtype=float)
        return (points, points), levels
    points, width = np.linspace(low, high, GRID), (high - low) or 1.0
    return (10.0**points if axis.log else points, (points - low) / width), (levels - low) / width


def _breadth(axis: Axis) -> float:
    """Choices are no neighbours."""
    return 0.2 if axis.choices else BREADTH


def _with(trials: Sequence[FrozenTrial], *names: str) -> list[FrozenTrial]:
    return [trial for trial in trials if all(name in trial.params for name in names)]
