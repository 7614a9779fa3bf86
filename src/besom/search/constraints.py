"""A point that does not fit into memory teaches the sampler to keep away from it.

Optuna's samplers never look at failed trials. They are shown one with a broken constraint as a pruned one, which TPE
ranks behind all others (`constraints`, Optuna 5).
"""

from __future__ import annotations

import copy
from collections.abc import Container

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

MEMORY = "besom.memory"  # the name of the constraint


def mark_infeasible(trial: Trial) -> None:
    """Before the trial ends: a finished one takes no more."""
    if MEMORY not in trial.constraints:
        trial.set_constraint(MEMORY, 1.0)


class SamplersStudy(optuna.Study):
    """A study as its sampler is to see it."""

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        if states is not None and TrialState.PRUNED not in states:
            return super()._get_trials(deepcopy, states, use_cache)
        trials = [_as_pruned(trial) for trial in super()._get_trials(deepcopy, None, use_cache)]
        return [trial for trial in trials if states is None or trial.state in states]


def _as_pruned(trial: FrozenTrial) -> FrozenTrial:
    if trial.state != TrialState.FAIL or MEMORY not in trial.constraints:
        return trial
    shown = copy.copy(trial)
    shown.state = TrialState.PRUNED
    return shown
