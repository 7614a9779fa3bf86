"""When a sweep ends before its budget is spent: most trials fail, the best has not moved, an Optuna terminator says so.

The supervisor asks, for it alone sees the whole session.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from optuna.exceptions import ExperimentalWarning
from optuna.terminator import BaseTerminator
from optuna.trial import FrozenTrial, TrialState

from besom.config.hydra_compat import build
from besom.engine.plan import Rules
from besom.errors import InputError
from besom.study.attrs import REASON
from besom.study.study import StopRequest, Study
from besom.system.storable import on_one_line

FEWEST = 5  # trials of a session before its failures are counted: the first ones may be bad luck


class StopConditions:
    """Looks at each state of the study once."""

    def __init__(self, rules: Rules, study: Study) -> None:
        self._rules = rules
        self._study = study
        self._terminator = make_terminator(rules.terminator)
        self._before = {trial.number for trial in study.trials() if trial.state.is_finished()}
        self._seen = len(self._before)

    def verdict(self) -> StopRequest | None:
        ended = [trial for trial in self._study.trials() if trial.state.is_finished()]
        if len(ended) == self._seen:
            return None
        self._seen = len(ended)
        new = [trial for trial in ended if trial.number not in self._before]
        return self._too_many_failures(new) or self._no_progress(ended) or self._terminated()

    def _too_many_failures(self, new: list[FrozenTrial]) -> StopRequest | None:
        rate = self._rules.max_failure_rate
        failed = [trial for trial in new if trial.state == TrialState.FAIL]
        if rate is None or len(new) < FEWEST or len(failed) <= rate * len(new):
            return None
        first = min(failed, key=lambda trial: trial.number)
        return StopRequest(
            "failing",
            f"{len(failed)} of {len(new)} trials have failed, more than hydra.sweeper.max_failure_rate={rate:g}; "
            f"the first of them, trial {first.number}: {on_one_line(first.user_attrs.get(REASON, 'no reason given'))}",
        )

    def _no_progress(self, ended: list[FrozenTrial]) -> StopRequest | None:
        patience, best = self._rules.patience, self._study.best()
        if patience is None or not best:
            return None
        moved = max(trial.number for trial in best)
        since = sum(trial.number > moved for trial in ended)
        if since < patience:
            return None
        return StopRequest(
            "settled", f"the best has not moved for {since} trials (hydra.sweeper.patience={patience}): trial {moved}"
        )

    def _terminated(self) -> StopRequest | None:
        if self._terminator is None:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            if not self._terminator.should_terminate(self._study.as_optuna()):
                return None
        return StopRequest("settled", "hydra.sweeper.terminator expects no better trial that would be worth its time")


def make_terminator(config: Mapping[str, Any] | None) -> BaseTerminator | None:
    """Raises InputError: it cannot be built."""
    if not config:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            terminator: BaseTerminator = build(config)
    except Exception as error:  # whatever the class makes of its arguments
        raise InputError(f"hydra.sweeper.terminator: {config.get('_target_')}: {error.__cause__ or error}") from error
    return terminator
