"""How much each parameter mattered."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from optuna.trial import FrozenTrial

from besom.sweep.findings import Findings
from besom.sweep.objective import Objective
from besom.sweep.report.chart import Chart, NothingToShow, figure
from besom.sweep.report.look import parameter, plain
from besom.sweep.report.values import completed

FEWEST = 4  # trials, below which a share of importance means nothing
FEW = 50  # of a tenth of them 5 or more are wanted
SHADES = ("#4a90c2", "#36ad8d", "#d9a441", "#9b7fc7", "#d4556a")


def importances(findings: Findings) -> list[tuple[Objective, dict[str, float]]]:
    """Of each objective the share of each parameter, the largest first.

    By PED-ANOVA, which knows conditional parameters (https://arxiv.org/abs/2304.10255, 2601.20800).

    Raises:
        NothingToShow: too few trials, or nothing to tell them by.
    """
    trials = completed(findings)
    if len(trials) < FEWEST:
        raise NothingToShow(f"It takes {FEWEST} complete trials to compare; there {_are(len(trials))}.")
    if not (names := _searched(trials)):
        raise NothingToShow("No parameter has had two values.")
    found = [(objective, _of(findings, names, n)) for n, objective in enumerate(findings.objectives)]
    found = [(objective, shares) for objective, shares in found if shares]
    if not found:
        raise NothingToShow("No parameter stands out: all complete trials came to about the same.")
    return found


def ranked(findings: Findings) -> list[str]:
    """The parameters that had two values, the most important first; in the order of the space where none is known."""
    names = _searched(completed(findings))
    try:
        shares = [share for _, share in importances(findings)]
    except NothingToShow:
        return names
    return sorted(names, key=lambda name: -sum(share.get(name, 0.0) for share in shares))


def worth_showing(findings: Findings) -> list[str]:
    """Raises NothingToShow: no parameter is."""
    if not (names := ranked(findings)):
        raise NothingToShow("No parameter has had two values.")
    return names


def only(most: int, findings: Findings) -> str:
    """What to say of a chart that has room for so many parameters."""
    count = len(ranked(findings))
    return f" The {most} most important of {count} parameters." if count > most else ""


def importance(findings: Findings) -> Chart:
    found, order = importances(findings), ranked(findings)
    shown = figure(
        [_bars(objective, shares, order, SHADES[n % len(SHADES)]) for n, (objective, shares) in enumerate(found)],
        max(240, 90 + (18 * len(found) + 14) * len(order)),
        xaxis={"tickformat": ".0%", "rangemode": "tozero"},
        yaxis={
            "tickvals": list(range(len(order))),
            "ticktext": [plain(parameter(name)) for name in order],
            "range": [len(order) - 0.4, -0.6],
        },
        margin={"l": 10, "r": 50, "t": 30, "b": 40},
        bargap=0.35,
        showlegend=len(found) > 1,
    )
    each = ", for each objective" if len(findings.objectives) > 1 else ""
    says = f"What set the best tenth of the trials apart (PED-ANOVA){each}."
    if (count := len(completed(findings))) < FEW:
        says += f" From {count} trials this is a hint, no finding."
    return Chart("Parameter importances", says, shown, wide=len(found) > 1)


def _bars(objective: Objective, shares: dict[str, float], order: list[str], colour: str) -> Any:
    from plotly.graph_objects import Bar

    lengths = [shares.get(name, 0.0) for name in order]
    return Bar(
        y=list(range(len(order))),
        x=lengths,
        orientation="h",
        name=plain(objective.name),
        marker={"color": colour},
        text=[f"{length:.0%}" for length in lengths],
        textposition="outside",
        cliponaxis=False,
        customdata=[plain(parameter(name, 99)) for name in order],
        hovertemplate="%{customdata}: %{x:.1%}<extra></extra>",
    )


def _of(findings: Findings, names: list[str], n: int) -> dict[str, float]:
    """Optuna warns of small numbers of trials, of which the page speaks by itself."""
    from optuna.importance import PedAnovaImportanceEvaluator

    sign = -1.0 if findings.objectives[n].direction == "maximize" else 1.0
    target: Callable[[FrozenTrial], float] = lambda trial: sign * trial.values[n]  # noqa: E731 - with its type
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw = PedAnovaImportanceEvaluator().evaluate(findings.optuna, names, target=target)
    total = sum(raw.values())
    return {name: value / total for name, value in raw.items()} if total > 0 else {}


def _searched(trials: list[FrozenTrial]) -> list[str]:
    """What has had two values: nothing can be said of a parameter that stood still."""
    seen: dict[str, set[Any]] = {}
    for trial in trials:
        for name, value in trial.params.items():
            seen.setdefault(name, set()).add(value)
    return [name for name, values in seen.items() if len(values) > 1]


def _are(count: int) -> str:
    return "is one" if count == 1 else f"are {count}"
