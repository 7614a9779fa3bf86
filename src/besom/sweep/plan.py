"""A sweep as the user asked for it: the same for all its workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from besom.sweep.attempt import Outcome
from besom.sweep.space import Space


@dataclass(frozen=True)
class Plan:
    """What every worker of a sweep is given: the same for all of them."""

    storage: str
    study_name: str
    n_trials: int
    space: Space
    sampler: Any  # configs, instantiated where they are used
    pruner: Any
    tracking_uri: str | None
    experiment: str
    threads: int  # CPU threads of one trial
    program: str  # the app, as a user would start it
    lease_s: float = 30.0
    deadline: float = float("inf")  # in seconds since 1970: no trial is begun after it
    trial_timeout_s: float | None = None
    max_retries: int = 2
    retry_on: tuple[str, ...] = ()

    def is_retried(self, outcome: Outcome) -> bool:
        """Whether a failure may be bad luck: a process that died, or an exception the user has named."""
        if outcome.state != "failed":
            return False
        return outcome.kind == "killed" or bool(set(self.retry_on) & set(outcome.exception))
