"""How much each parameter mattered, judged in two ways: where they differ, the trials do not tell."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, create_trial

from besom.reporting.chart import Chart, NothingToShow, figure
from besom.reporting.look import parameter, plain
from besom.reporting.values import completed
from besom.study.objective import Objective
from besom.study.snapshot import StudySnapshot

if TYPE_CHECKING:
    from optuna.importance import BaseImportanceEvaluator

FEWEST = 15  # complete trials, below which chance speaks louder than any parameter
FEW = 50  # and below which the page says that this is a hint
FANOVA_MOST = 200  # trials: it grows a forest over them, a second for so many
TOP = 5  # trials at least that PED-ANOVA sets apart, or the best tenth
SHADES = ("#4a90c2", "#36ad8d", "#d9a441", "#9b7fc7", "#d4556a")
FANOVA, PED_ANOVA = "fANOVA", "PED-ANOVA"


@dataclass(frozen=True)
class Importance:
    """The share of each parameter, of one objective, judged in one way."""

    objective: Objective
    method: str
    shares: dict[str, float]


def importances(snapshot: StudySnapshot) -> list[Importance]:
    """For each objective by fANOVA, where that is affordable, and by PED-ANOVA.

    A parameter that only some trials have is judged on those alone, and not at all where they are fewer than `FEWEST`.
    fANOVA: what part of the variance a parameter explains (Hutter et al., ICML 2014). PED-ANOVA: how far it sets the
    best trials apart (https://arxiv.org/abs/2304.10255).

    Raises:
        NothingToShow: too few trials, or nothing to tell them by.
    """
    trials = completed(snapshot)
    if len(trials) < FEWEST:
        raise NothingToShow(f"It takes {FEWEST} complete trials to tell parameters apart; there {_are(len(trials))}.")
    if not (names := _searched(trials)):
        raise NothingToShow("No parameter has had two values.")
    if "importances" not in snapshot.memo:  # several charts ask
        snapshot.memo["importances"] = _judged(snapshot, trials, names)
    if not (found := snapshot.memo["importances"]):
        raise NothingToShow("No parameter stands out: all complete trials came to about the same.")
    return list(found)


def _judged(snapshot: StudySnapshot, trials: Sequence[FrozenTrial], names: Sequence[str]) -> list[Importance]:
    methods = [FANOVA, PED_ANOVA] if len(trials) <= FANOVA_MOST else [PED_ANOVA]
    found = [
        Importance(objective, method, _shares(trials, names, n, objective, method))
        for n, objective in enumerate(snapshot.objectives)
        for method in methods
    ]
    return [one for one in found if one.shares]


def ranked(snapshot: StudySnapshot) -> list[str]:
    """The parameters that had two values, the most important first; in the order of the space where none is known."""
    names = _searched(completed(snapshot))
    try:
        shares = [one.shares for one in importances(snapshot)]
    except NothingToShow:
        return names
    return sorted(names, key=lambda name: -sum(share.get(name, 0.0) for share in shares))


def worth_showing(snapshot: StudySnapshot) -> list[str]:
    """Raises NothingToShow: no parameter is."""
    if not (names := ranked(snapshot)):
        raise NothingToShow("No parameter has had two values.")
    return names


def only(most: int, snapshot: StudySnapshot) -> str:
    """What to say of a chart that has room for so many parameters."""
    count = len(ranked(snapshot))
    return f" The {most} most important of {count} parameters." if count > most else ""


def importance(snapshot: StudySnapshot) -> list[Chart]:
    """For each objective a chart."""
    found = importances(snapshot)
    objectives = list(dict.fromkeys(one.objective for one in found))
    return [_chart(snapshot, [one for one in found if one.objective == objective]) for objective in objectives]


def _chart(snapshot: StudySnapshot, found: list[Importance]) -> Chart:
    objective, trials = found[0].objective, completed(snapshot)
    judged = {name for one in found for name in one.shares}
    order = sorted(judged, key=lambda name: -max(one.shares.get(name, 0.0) for one in found))
    labels = {name: parameter(name) + _alone(trials, name) for name in order}
    shown = figure(
        [_bars(one, order, SHADES[(FANOVA, PED_ANOVA).index(one.method)]) for one in found],
        max(240, 90 + (18 * len(found) + 14) * len(order)),
        xaxis={"tickformat": ".0%", "rangemode": "tozero", "nticks": 4, "tickangle": 0},
        yaxis={
            "tickvals": list(range(len(order))),
            "ticktext": [plain(labels[name]) for name in order],
            "range": [len(order) - 0.4, -0.6],
        },
        margin={"l": 10, "r": 50, "t": 30, "b": 40},
        bargap=0.35,
        showlegend=True,
    )
    several = len(snapshot.objectives) > 1
    title = f"Parameter importances of {objective.name}" if several else "Parameter importances"
    return Chart(title, _said(snapshot, found, judged, trials), shown, wide=False)


def _said(snapshot: StudySnapshot, found: list[Importance], judged: set[str], trials: list[FrozenTrial]) -> str:
    name, count, methods = found[0].objective.name, len(trials), {one.method for one in found}
    ways = []
    if FANOVA in methods:
        ways.append(f"the part of the variance of {name} that a parameter explains ({FANOVA})")
    if PED_ANOVA in methods:
        ways.append(f"how far it sets the best {_top(count)} of {count} trials apart ({PED_ANOVA})")
    each = ", for each objective its own" if len(snapshot.objectives) > 1 else ""
    said = f"{' and '.join(ways)}{each}."
    said = said[0].upper() + said[1:]
    if len(methods) > 1:
        said += " Where the two differ much, the trials do not tell."
    elif count > FANOVA_MOST:
        said += f" {FANOVA} is left out with more than {FANOVA_MOST} trials."
    if count < FEW:
        said += f" From {count} trials this is a hint, no finding."
    if any(_alone(trials, one) for one in judged):
        said += " A parameter that only some trials have is judged on those alone."
    lost = [f"{parameter(one)} ({_having(trials, one)})" for one in _searched(trials) if one not in judged]
    return said + (f" Too few trials have: {', '.join(lost)}." if lost else "")


def _alone(trials: Sequence[FrozenTrial], name: str) -> str:
    """How many trials have the parameter, where that is not all."""
    count = _having(trials, name)
    return f" ({count} trials)" if count < len(trials) else ""


def _having(trials: Sequence[FrozenTrial], name: str) -> int:
    return sum(name in trial.params for trial in trials)


def _bars(one: Importance, order: list[str], colour: str) -> Any:
    from plotly.graph_objects import Bar

    lengths = [one.shares.get(name, 0.0) for name in order]
    return Bar(
        y=list(range(len(order))),
        x=lengths,
        orientation="h",
        name=one.method,
        marker={"color": colour},
        text=[f"{length:.0%}" for length in lengths],
        textposition="outside",
        cliponaxis=False,
        customdata=[plain(parameter(name, 99)) for name in order],
        hovertemplate=f"%{{customdata}}: %{{x:.1%}} by {one.method}<extra></extra>",
    )


def _shares(
    trials: Sequence[FrozenTrial], names: Sequence[str], n: int, objective: Objective, method: str
) -> dict[str, float]:
    """Of the parameters that all trials have, together; of each other one among those of the trials that have it."""
    sign = -1.0 if objective.direction == "maximize" else 1.0
    having: dict[tuple[int, ...], list[str]] = {tuple(trial.number for trial in trials): []}
    for name in names:
        having.setdefault(tuple(trial.number for trial in trials if name in trial.params), []).append(name)
    found: dict[str, float] = {}
    for numbers, judged in having.items():
        members = [trial for trial in trials if trial.number in set(numbers)]
        if judged and len(members) >= FEWEST:
            common = [name for name in _searched(members) if _having(members, name) == len(members)]
            shares = _evaluated(members, common, method, lambda trial: sign * trial.values[n])
            found |= {name: shares[name] for name in judged if name in shares}
    return found


def _evaluated(
    trials: Sequence[FrozenTrial], names: list[str], method: str, target: Callable[[FrozenTrial], float]
) -> dict[str, float]:
    """Of parameters that all the trials have; adds up to 1. Nothing where the trials came to the same."""
    import optuna

    values = [target(trial) for trial in trials]
    if not names or max(values) == min(values):
        return {}
    if len(names) == 1:  # it explains all that can be explained
        return {names[0]: 1.0}
    study = optuna.create_study()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna warns of few trials, of which the page speaks by itself
        study.add_trials([_on_lines(trial, names, value) for trial, value in zip(trials, values, strict=True)])
        try:
            raw = _evaluator(method, len(trials)).evaluate(study, names)
        except (ValueError, RuntimeError):  # a parameter's limits changed within the study, or no variance is left
            return {}
    total = sum(raw.values())
    return {name: float(value / total) for name, value in raw.items()} if total > 0 and math.isfinite(total) else {}


def _evaluator(method: str, count: int) -> BaseImportanceEvaluator:
    from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator

    if method == FANOVA:
        return FanovaImportanceEvaluator(seed=0)
    return PedAnovaImportanceEvaluator(target_quantile=_top(count) / count)


def _top(count: int) -> int:
    """How many trials are the best, for PED-ANOVA."""
    return max(TOP, math.ceil(count / 10))


def _on_lines(trial: FrozenTrial, names: Sequence[str], value: float) -> FrozenTrial:
    """Logarithmic parameters as their exponents: fANOVA weighs a range by its length, and would see the last decade."""
    params: dict[str, Any] = {name: trial.params[name] for name in names}
    searched: dict[str, BaseDistribution] = {name: trial.distributions[name] for name in names}
    for name, one in searched.items():
        if isinstance(one, (FloatDistribution, IntDistribution)) and one.log:
            params[name] = min(max(math.log10(params[name]), math.log10(one.low)), math.log10(one.high))
            searched[name] = FloatDistribution(math.log10(one.low), math.log10(one.high))
    return create_trial(value=value, params=params, distributions=searched)


def _searched(trials: list[FrozenTrial]) -> list[str]:
    """What has had two values: nothing can be said of a parameter that stood still."""
    seen: dict[str, set[Any]] = {}
    for trial in trials:
        for name, value in trial.params.items():
            seen.setdefault(name, set()).add(value)
    return [name for name, values in seen.items() if len(values) > 1]


def _are(count: int) -> str:
    return "is one" if count == 1 else f"are {count}"
