"""Successive halving by epochs done. Optuna's own takes a step's number for the resource that has been spent: counted
from 0, as epochs are, the first rung is reached one epoch late, after twice the time.
"""

from __future__ import annotations

import copy

import optuna.pruners
from optuna.study import Study
from optuna.trial import FrozenTrial


class SuccessiveHalvingPruner(optuna.pruners.SuccessiveHalvingPruner):
    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        return super().prune(study, _spent(trial))


class HyperbandPruner(optuna.pruners.HyperbandPruner):
    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        return super().prune(study, _spent(trial))


def _spent(trial: FrozenTrial) -> FrozenTrial:
    """The trial with its values by how many steps it had done; who counts from 1 says that already."""
    if 0 not in trial.intermediate_values:
        return trial
    spent = copy.copy(trial)
    spent.intermediate_values = {step + 1: value for step, value in trial.intermediate_values.items()}
    return spent
