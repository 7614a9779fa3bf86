"""A changed sweep goes on in a study of its own, with what the trials of the old one have already shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

from optuna.trial import FrozenTrial, TrialState, create_trial

from besom.engine.plan import Plan
from besom.errors import InputError
from besom.study.attrs import FORKED, PREPARED, RUN
from besom.study.study import Study, StudyChanged
from besom.system.encoding import say

MAX_FORKS = 1000


def open_or_fork(plan: Plan, create: Callable[[str, Sequence[FrozenTrial]], Study]) -> Study:
    """The study of the plan's name, or else the first of `NAME-2`, `NAME-3` ... that is as the plan has it, or new.

    So the same command goes on with the same fork. `create` takes a name and the trials a new study begins with.
    """
    old: Study | None = None
    adopts = False
    for name in chain([plan.study_name], (f"{plan.study_name}-{n}" for n in range(2, MAX_FORKS))):
        adopted = fitting(old, plan) if old and adopts else []
        try:
            study = create(name, adopted)
        except StudyChanged as changed:
            old, adopts = Study(plan.storage, name), changed.adopts
            continue
        if old and adopts:
            if study.recall(PREPARED) is None:
                study.remember(PREPARED, old.recall(PREPARED))
            fits = sum(FORKED in trial.user_attrs for trial in study.trials())
            say(f"study {name}: a fork of {old.name}, of whose trials {fits} fit; they count as this study's")
        elif old:
            say(f"study {name}: a fork of {old.name}, without its trials: they had other settings or data")
        return study
    raise InputError(f"hydra.sweeper.resume=fork: too many forks of {plan.study_name!r}; choose another study_name")


def fitting(old: Study, plan: Plan) -> list[FrozenTrial]:
    """The trials of an older study that are points of the plan's space, as a new study takes them."""
    ended = old.trials((TrialState.COMPLETE, TrialState.PRUNED))
    return [adopted for trial in ended if (adopted := _as_new(trial, old, plan))]


def _as_new(trial: FrozenTrial, old: Study, plan: Plan) -> FrozenTrial | None:
    distributions = plan.space.distributions_of(trial.params)
    complete = trial.state == TrialState.COMPLETE
    if distributions is None or (complete and len(trial.values) != len(plan.objectives)):
        return None
    origin = {FORKED: f"{old.name}/{trial.number}"}
    run = {RUN: trial.user_attrs[RUN]} if RUN in trial.user_attrs else {}
    return create_trial(
        state=trial.state,
        values=trial.values if complete else None,
        params=trial.params,
        distributions=distributions,
        user_attrs={**origin, **run},
        intermediate_values=trial.intermediate_values,
    )
