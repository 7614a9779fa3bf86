"""Each parameter alone against what came of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from optuna.trial import FrozenTrial

from besom.sweep.findings import Findings
from besom.sweep.objective import Objective
from besom.sweep.report.axes import Axis, axes, beyond, far_off, window
from besom.sweep.report.chart import Chart
from besom.sweep.report.importances import only, worth_showing
from besom.sweep.report.look import BEST, SCALE, parameter, plain
from besom.sweep.report.values import completed

MOST = 24  # parameters
COLUMNS = 3
MANY = 300  # trials, whose dots are fainter


def slices(findings: Findings) -> Chart:
    """A row of them for each objective."""
    trials, names = completed(findings), worth_showing(findings)[:MOST]
    known = axes(trials)
    from plotly.subplots import make_subplots

    columns = min(COLUMNS, len(names))
    rows = math.ceil(len(names) / columns)
    count = rows * len(findings.objectives)
    shown = make_subplots(count, columns, horizontal_spacing=0.07, vertical_spacing=min(0.12, 0.3 / count))
    far = 0
    for n, objective in enumerate(findings.objectives):
        values = [trial.values[n] for trial in trials]
        ends = window(values)
        far += beyond(values, ends)
        for place, name in enumerate(names):
            at = {"row": n * rows + place // columns + 1, "col": place % columns + 1}
            shown.add_trace(_dots(findings, [trial for trial in trials if name in trial.params], known[name], n), **at)
            shown.update_xaxes(known[name].as_plotly(), **at)
            side = {"title": {"text": plain(objective.name)}} if at["col"] == 1 else {"showticklabels": False}
            shown.update_yaxes({"range": ends, **side}, **at)
    scale = {"colorscale": SCALE, "cmin": 0, "cmax": max(1, len(findings.trials) - 1)}
    scale["colorbar"] = {"title": {"text": "trial"}}
    shown.update_layout(template="none", height=270 * count, hovermode="closest", coloraxis=scale)
    says = "Each complete trial, the later the warmer; the best ringed." + far_off(far, "value")
    return Chart("Slices", says + only(MOST, findings), shown)


def _dots(findings: Findings, trials: Sequence[FrozenTrial], axis: Axis, n: int) -> Any:
    """The best on top of the others."""
    from plotly.graph_objects import Scatter

    best = {trial.number for trial in findings.best}
    trials = sorted(trials, key=lambda trial: trial.number in best)
    return Scatter(
        x=[_spread(axis, trial) for trial in trials],
        y=[trial.values[n] for trial in trials],
        customdata=[trial.number for trial in trials],
        mode="markers",
        marker={
            "color": [trial.number for trial in trials],
            "coloraxis": "coloraxis",
            "size": [11 if trial.number in best else 6 for trial in trials],
            "opacity": 0.85 if len(trials) < MANY else 0.6,
            "line": {"color": BEST, "width": [2.0 if trial.number in best else 0.0 for trial in trials]},
        },
        showlegend=False,
        hovertemplate=_hover(axis, findings.objectives[n]),
    )


def _spread(axis: Axis, trial: FrozenTrial) -> float:
    """Trials of one choice beside each other, not on top of each other; the same in every report."""
    place = axis.at(trial.params[axis.name])
    return place + ((trial.number * 0.618034) % 1 - 0.5) * 0.5 if axis.choices else place


def _hover(axis: Axis, objective: Objective) -> str:
    there = "" if axis.choices else f"<br>{plain(parameter(axis.name))} %{{x:.6g}}"
    return f"trial %{{customdata}}{there}<br>{plain(objective.name)} %{{y:.6g}}<extra></extra>"
