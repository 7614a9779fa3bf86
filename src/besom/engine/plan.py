"""A sweep as the user asked for it: the same for all its workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from besom.engine.outcome import Outcome
from besom.engine.slots import Slot
from besom.hydra_app.job import App
from besom.space.space import Space, Value
from besom.study.objective import Objective

Isolation = Literal["process", "none"]
# where the study of that name has another space, other settings or other data: refuse; take them for its own from here
# on, which is recorded; or go on in a study of its own
Resume = Literal["continue", "anyway", "fork"]


@dataclass(frozen=True)
class Rules:
    """When a sweep ends before its budget is spent; None: never."""

    max_failure_rate: float | None = None
    patience: int | None = None  # trials since the best one
    terminator: Any = None  # the config of an optuna.terminator


@dataclass(frozen=True)
class Plan:
    """What every worker of a sweep is given: the same for all of them."""

    storage: str
    study_name: str
    n_trials: int
    objectives: tuple[Objective, ...]
    space: Space
    sampler: Any  # configs, instantiated where they are used
    pruner: Any
    tracking_uri: str | None
    experiment: str
    slots: tuple[Slot, ...]  # one for each worker
    program: str  # the app, as a user would start it
    system_metrics_s: float | None = None  # between two samples of what a trial uses of its machine; None: none
    question: str = ""  # what the sweep is to find out, for people
    lease_s: float = 30.0
    deadline: float = float("inf")  # in seconds since 1970: no trial is begun after it
    trial_timeout_s: float | None = None
    max_retries: int = 2
    retry_on: tuple[str, ...] = ()
    rules: Rules = field(default_factory=Rules)
    isolation: Isolation = "process"
    resume: Resume = "continue"
    fingerprint: Mapping[str, str] | None = None  # of the fixed settings; None: not compared
    data: Mapping[str, str] | None = None  # as its app has seen them; None: not compared

    def is_retried(self, outcome: Outcome) -> bool:
        """Whether a failure may be bad luck: a process that died, or an exception the user has named."""
        if outcome.state != "failed":
            return False
        return outcome.kind in ("killed", "lost", "broken") or bool(set(self.retry_on) & set(outcome.exception))


@dataclass(frozen=True)
class Sweep:
    """A plan, and the Hydra app it is about."""

    plan: Plan
    app: App
    enqueue: tuple[Mapping[str, Value], ...] = ()  # points to be tried first
