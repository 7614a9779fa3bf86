"""What the trials reported on their way: intermediate values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from besom.reporting.axes import beyond, drawable, far_off, whole, window
from besom.reporting.chart import Chart, NothingToShow, figure
from besom.reporting.look import BEST, COLOURS, WORDS, plain
from besom.study.snapshot import StudySnapshot

MANY = 150  # trials, whose lines are drawn thinner


def steps(snapshot: StudySnapshot) -> Chart:
    if len(snapshot.objectives) > 1:
        raise NothingToShow("With several objectives Optuna takes no values while a trial runs.")
    trials = [trial for trial in snapshot.trials if trial.intermediate_values]
    values = [value for trial in trials for value in trial.intermediate_values.values() if drawable(value)]
    if not values:
        raise NothingToShow("No trial has reported a value on its way.")
    name, ends = snapshot.objectives[0].name, window(values)
    shown = figure(
        list(_traces(trials, {trial.number for trial in snapshot.best}, plain(name))),
        380,
        xaxis={"title": {"text": "step"}, **whole(max(max(trial.intermediate_values) for trial in trials))},
        yaxis={"title": {"text": plain(name)}, "range": ends},
        hovermode="closest",
    )
    says = f"{name} as the trials reported it, step by step." + far_off(beyond(values, ends), "value")
    return Chart("Intermediate values", says, shown, wide=False)


def _traces(trials: Sequence[FrozenTrial], best: set[int], name: str) -> Iterator[Any]:
    """One for all trials of one end: a thousand traces would keep the browser busy for long."""
    for state, word in WORDS.items():
        if members := [trial for trial in trials if trial.state == state]:
            thin = 1.2 if len(trials) < MANY else 0.7
            yield _line(members, f"{word} ({len(members)})", COLOURS[state], thin, 0.5, name)
    if pruned := [trial for trial in trials if trial.state == TrialState.PRUNED]:
        yield _crosses(pruned, name)
    for trial in trials:
        if trial.number in best:
            yield _line([trial], f"the best, trial {trial.number}", BEST, 2.5, 1.0, name)


def _crosses(pruned: Sequence[FrozenTrial], name: str) -> Any:
    from plotly.graph_objects import Scatter

    ends = ((step, value, trial.number) for trial in pruned for step, value in [max(trial.intermediate_values.items())])
    return Scatter(
        **_arrays(ends),
        mode="markers",
        name=f"where {len(pruned)} were pruned",
        marker={"color": COLOURS[TrialState.PRUNED], "symbol": "x", "size": 7 if len(pruned) < MANY else 4},
        hovertemplate=f"trial %{{customdata}} pruned at step %{{x}}<br>{name} %{{y:.6g}}<extra></extra>",
    )


def _line(trials: Sequence[FrozenTrial], called: str, colour: str, width: float, opacity: float, name: str) -> Any:
    from plotly.graph_objects import Scatter

    gap = (0, math.nan, -1)  # between two trials
    points = [
        point
        for trial in trials
        for point in [*((s, v, trial.number) for s, v in sorted(trial.intermediate_values.items())), gap]
    ]
    alone = all(len(trial.intermediate_values) == 1 for trial in trials)  # one point makes no line
    return Scatter(
        **_arrays(points[:-1]),
        mode="markers" if alone else "lines",
        name=called,
        opacity=opacity,
        line={"color": colour, "width": width},
        marker={"color": colour},
        hovertemplate=f"trial %{{customdata}}, step %{{x}}<br>{name} %{{y:.6g}}<extra></extra>",
    )


def _arrays(points: Iterable[tuple[int, float, int]]) -> dict[str, Any]:
    """As arrays, which take half the room of lists; a screen shows less than a float32 holds."""
    import numpy as np

    steps, values, numbers = zip(*points, strict=True) if (points := list(points)) else ((), (), ())
    # what a float32 cannot hold becomes infinite, which no chart shows
    with np.errstate(over="ignore"):
        y = np.array(values, dtype=float).astype(np.float32)
    return {
        "x": np.array(steps, dtype=np.int64),
        "y": np.where(np.isfinite(y), y, np.float32("nan")),
        "customdata": np.array(numbers, dtype=np.int64),
    }
