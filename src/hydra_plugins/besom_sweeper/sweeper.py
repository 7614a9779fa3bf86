"""Hydra sweeper `besom`: `python any_app.py -m hydra/sweeper=besom`. Light: Hydra imports it at every start."""

# no `from __future__ import annotations`: Hydra runs this before it is in sys.modules, where dataclasses would look
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


@dataclass
class BesomSweeperConf:
    """The names of the official Optuna sweeper, and besom's own."""

    defaults: list[Any] = field(default_factory=lambda: ["_self_", {"sampler": "tpe"}, {"pruner": None}])
    _target_: str = "hydra_plugins.besom_sweeper.sweeper.BesomSweeper"
    _recursive_: bool = False
    sampler: Any = None
    pruner: Any = None
    direction: Any = "${oc.select:objective.mode,minimize}"
    storage: str = "sqlite:///optuna.db"
    study_name: str = "${hydra.job.name}"
    n_trials: int = 20  # of the whole study, over all its sessions
    n_jobs: int = 1  # trials at once
    lease: float = 30.0  # seconds without a beat after which a worker is taken for dead
    timeout: float | None = None  # seconds; after it no trial is begun
    trial_timeout: float | None = None  # seconds of one attempt; after it the trial has failed
    max_retries: int = 2  # of a trial whose process or worker died
    retry_on: list[str] = field(default_factory=list)  # classes of exceptions that may be bad luck
    params: dict[str, Any] = field(default_factory=dict)  # the search space
    enqueue: list[dict[str, Any]] = field(default_factory=list)  # known points, tried first
    metric: str = "${oc.select:objective.metric,objective}"  # what the objective is called, for people
    tracking_uri: str | None = "${oc.select:tracking.uri,${oc.env:MLFLOW_TRACKING_URI,'sqlite:///mlflow.db'}}"
    experiment: str = "${oc.select:tracking.experiment,${oc.env:MLFLOW_EXPERIMENT_NAME,besom}}"


# its samplers and pruners: samplers.py
ConfigStore.instance().store(group="hydra/sweeper", name="besom", node=BesomSweeperConf, provider="besom")


class BesomSweeper(Sweeper):
    def __init__(self, **settings: Any) -> None:
        self._settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._context = hydra_context
        self._task = task_function
        self._config = config

    def sweep(self, arguments: list[str]) -> None:
        """Exits as besom's commands do: Hydra would exit 1 with a trace whatever went wrong."""
        from besom.errors import BesomError
        from besom.sweep.supervisor import supervise

        try:
            supervise(self._as_asked(arguments))
        except BesomError as error:
            print(f"besom: {error}", file=sys.stderr)
            sys.exit(error.exit_code)

    def _as_asked(self, arguments: list[str]) -> Any:
        from besom.errors import InputError
        from besom.locks import absolute
        from besom.sweep.hold import App
        from besom.sweep.plan import Plan
        from besom.sweep.samplers import size
        from besom.sweep.space import parse
        from besom.sweep.supervisor import Sweep, threads_per_trial

        asked = self._settings
        space = parse(_plain(asked["params"]), arguments, self._context.config_loader)
        sampler, enqueue = _plain(asked["sampler"]), tuple(_plain(asked["enqueue"]))
        if not sampler:
            raise InputError("hydra.sweeper.sampler=null: a sweep needs one; choose hydra/sweeper/sampler=tpe")
        n_trials, n_jobs = (_at_least_one(key, asked[key]) for key in ("n_trials", "n_jobs"))
        if (points := size(sampler, space)) is not None:  # a grid ends when each point has been tried
            n_trials = min(n_trials, points + len(enqueue))
        plan = Plan(
            storage=absolute(asked["storage"]),
            study_name=asked["study_name"],
            n_trials=n_trials,
            space=space,
            sampler=sampler,
            pruner=_plain(asked["pruner"]),
            tracking_uri=absolute(asked["tracking_uri"]) if asked["tracking_uri"] else None,
            experiment=asked["experiment"],
            threads=threads_per_trial(n_jobs),
            program=_program(),
            lease_s=_above_zero("lease", asked["lease"]),
            deadline=time.time() + _above_zero("timeout", asked["timeout"]) if asked["timeout"] else math.inf,
            trial_timeout_s=_above_zero("trial_timeout", asked["trial_timeout"]) if asked["trial_timeout"] else None,
            max_retries=asked["max_retries"],
            retry_on=tuple(asked["retry_on"]),
        )
        return Sweep(
            plan,
            direction=_direction(asked["direction"]),
            n_jobs=n_jobs,
            metric=asked["metric"],
            enqueue=enqueue,
            app=App(self._task, self._context, self._config),
        )


def _plain(config: Any) -> Any:
    return OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config


def _at_least_one(key: str, value: int) -> int:
    from besom.errors import InputError

    if value < 1:
        raise InputError(f"hydra.sweeper.{key}={value}: must be at least 1")
    return value


def _above_zero(key: str, value: float) -> float:
    from besom.errors import InputError

    if value <= 0:
        raise InputError(f"hydra.sweeper.{key}={value:g}: must be above 0 seconds")
    return value


def _direction(given: Any) -> Any:
    from besom.errors import InputError

    known: Mapping[str, str] = {"max": "maximize", "min": "minimize", "maximize": "maximize", "minimize": "minimize"}
    if given not in known:
        raise InputError(f"hydra.sweeper.direction={given}: choose maximize or minimize")
    return known[given]


def _program() -> str:
    """The app as a user would start it for one run."""
    main = sys.modules["__main__"]
    module = main.__spec__.name if main.__spec__ else None
    if module == "besom.train":
        return "besom train"
    return f"python -m {module}" if module else f"python {sys.argv[0]}"
