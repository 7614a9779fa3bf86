"""Hydra sweeper `besom`: `python any_app.py -m hydra/sweeper=besom`. Light: Hydra imports it at every start."""

# no `from __future__ import annotations`: Hydra runs this before it is in sys.modules, where dataclasses would look
import os
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields
from typing import Any

from hydra._internal.core_plugins import basic_sweeper  # not its class, which Hydra would find here once more
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobRuntime
from hydra.errors import HydraException
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from besom.config import resolvers
from besom.config.directions import register


def _job_name(*, _root_: DictConfig) -> str:
    """The name of the sweep's file in besom's own app, or else the app's name.

    Hydra's, where `hydra.job.name` is each trial's own and cannot be resolved for the sweep.
    """
    script = str(JobRuntime.instance().get("name"))
    try:
        name = str(_root_.hydra.job.name)
    except OmegaConfBaseException:
        return script
    sweep = OmegaConf.select(_root_, "hydra.runtime.choices.sweeps") if "besom.training.app" in sys.modules else None
    return str(sweep) if sweep and name == script else name


resolvers.register("besom.job_name", _job_name)
register()


@dataclass
class BesomSweeperConf:
    """The names of the official Optuna sweeper, and besom's own. Null stands for the default, but where it is said."""

    defaults: list[Any] = field(
        default_factory=lambda: ["_self_", {"sampler": "tpe"}, {"pruner": None}, {"terminator": None}]
    )
    _target_: str = "hydra_plugins.besom_sweeper.sweeper.BesomSweeper"
    _recursive_: bool = False
    # the study
    storage: str | None = "sqlite:///optuna.db"
    study_name: str | None = "${besom.job_name:}"  # of the sweep's file, or else hydra.job.name
    # of a study that is there with other settings or data; anyway: they hold from here on, which is recorded;
    # fork: it is left as it is, and a study of its own uses its trials where they fit
    resume: str | None = "continue"
    direction: Any = "${besom.direction:}"  # objective.mode, or by the metric's name; several objectives: a list
    metric: Any = "${oc.select:objective.metric,objective}"  # what the objective is called
    params: dict[str, Any] | None = field(default_factory=dict)  # the search space
    enqueue: list[dict[str, Any]] | None = field(default_factory=list)  # known points, tried first
    sampler: Any = None
    pruner: Any = None
    # the budget
    n_trials: int = 20  # of the whole study, over all its sessions
    timeout: float | None = None  # seconds; after it no trial is begun
    trial_timeout: float | None = None  # seconds of one attempt; after it the trial has failed
    max_retries: int = 2  # of a trial whose process or worker died
    retry_on: list[str] | None = field(default_factory=list)  # classes of exceptions that may be bad luck
    max_failure_rate: float | None = 0.8  # of a session's trials; above it the sweep is stopped; null: it is not
    patience: int | None = None  # trials; the sweep ends when the best has not moved for so many
    terminator: Any = None
    # the slots
    n_jobs: int | None = None  # trials at once; null: one for each GPU, without one as many as fit the cores
    threads_per_trial: int | None = None  # CPU threads; null: the cores are shared evenly
    trials_per_gpu: int | None = None
    gpus_per_trial: int | None = None  # 0: trials see no GPU
    isolation: str | None = "process"  # none: trials run in this process, for a debugger
    lease: float = 30.0  # seconds without a beat after which a worker is taken for dead
    dry_run: bool = False  # show what the sweep would do, and do nothing
    join: bool = False  # work for a sweep that runs, instead: what `besom worker` sets
    # the record
    question: str | None = None  # what the sweep is to find out: it stands at the top of the study's page
    tracking_uri: str | None = "${oc.select:tracking.uri,${oc.env:MLFLOW_TRACKING_URI,'sqlite:///mlflow.db'}}"
    # seconds between two samples of a trial's CPU, memory and GPUs; null: none
    system_metrics: float | None = "${oc.select:tracking.system_metrics,10.0}"  # type: ignore[assignment]
    experiment: str = "${oc.select:tracking.experiment,${oc.env:MLFLOW_EXPERIMENT_NAME,besom}}"


# its samplers, pruners and terminators: samplers.py
ConfigStore.instance().store(group="hydra/sweeper", name="besom", node=BesomSweeperConf, provider="besom")


def _refuse_unknown(settings: Iterable[str]) -> None:
    """A key that was added with a `+` would be ignored."""
    from besom.errors import InputError, near

    known = {field.name for field in fields(BesomSweeperConf)}
    for key in settings:
        if key not in known:
            raise InputError(f"hydra.sweeper.{key}: there is no such setting{near(key, known)}")


# no sweep is without these: null stands for their default
_NEVER_NULL = ("storage", "study_name", "resume", "direction", "metric", "params", "enqueue", "retry_on", "isolation")


def _filled(settings: dict[str, Any], config: DictConfig) -> dict[str, Any]:
    """With defaults in the place of nulls."""
    nulls = [key for key, value in settings.items() if value is None and key in _NEVER_NULL]
    usual, copy = OmegaConf.structured(BesomSweeperConf), config.copy()
    with read_write(copy.hydra), open_dict(copy.hydra.sweeper):
        for key in nulls:
            copy.hydra.sweeper[key] = usual._get_node(key)
    return {**settings, **{key: copy.hydra.sweeper[key] for key in nulls}}


def _say_who_can() -> None:
    """Where Hydra's own sweeper is given what only another one can search, it is said which one can.

    Hydra would show a trace that names neither the key nor a way out.
    """
    usual = basic_sweeper.BasicSweeper.split_arguments

    def split_arguments(overrides: list[Override], *more: Any) -> Any:
        try:
            return usual(overrides, *more)
        except HydraException as error:
            line = next((one.input_line for one in overrides if one.is_interval_sweep()), None)
            if line is None or ("HYDRA_FULL_ERROR" in os.environ and "besom.training.app" not in sys.modules):
                raise
            from besom.config.redaction import redacted_override

            print(
                f"besom: {redacted_override(line or '')}: Hydra's own sweeper tries values one by one, and cannot "
                f"search an interval ({error}); add hydra/sweeper=besom, or list values: choice(0.1, 0.5)",
                file=sys.stderr,
            )
            sys.exit(2)

    setattr(basic_sweeper.BasicSweeper, "split_arguments", staticmethod(split_arguments))  # noqa: B010


_say_who_can()


class BesomSweeper(Sweeper):
    def __init__(self, **settings: Any) -> None:
        self._settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._context = hydra_context
        self._task = task_function
        self._config = config

    def sweep(self, arguments: list[str]) -> None:
        """Exits as besom's commands do: Hydra would exit 1 with a trace whatever went wrong."""
        from besom.errors import INTERRUPTED, BesomError
        from besom.system.disk import as_disk_full
        from besom.system.leaving import leave_at_once

        leave_at_once()
        try:
            settings = _filled(self._settings, self._config)
            _refuse_unknown(settings)
            with _warm_process(settings) as warm:  # it imports while the sweep is checked
                self._sweep(settings, arguments, warm)
        except BesomError as error:
            print(f"besom: {error}", file=sys.stderr)
            sys.exit(error.exit_code)
        except OSError as error:
            if (full := as_disk_full(error)) is None:
                raise
            print(f"besom: {full}", file=sys.stderr)
            sys.exit(full.exit_code)
        except KeyboardInterrupt:
            print("besom: interrupted", file=sys.stderr)
            sys.exit(INTERRUPTED)

    def _sweep(self, settings: dict[str, Any], arguments: list[str], warm: Any) -> None:
        from besom.config.redaction import learn, redact_urls
        from besom.engine.dry_run import preview
        from besom.engine.join import join
        from besom.engine.request import as_sweep
        from besom.engine.supervisor import supervise
        from besom.hydra_app.job import App
        from besom.hydra_app.program import Program

        learn(self._config)
        sweep = as_sweep(
            settings, arguments, App(self._task, self._context, redact_urls(self._config), Program.running())
        )
        if settings["dry_run"]:
            preview(sweep)
        elif settings["join"]:
            join(sweep)
        else:
            supervise(sweep, warm)


def _warm_process(settings: dict[str, Any]) -> AbstractContextManager[Any]:
    from besom.engine.warm_process import WarmProcess

    if settings["dry_run"] or settings["join"] or settings["isolation"] != "process":
        return nullcontext()
    return WarmProcess(makes_workers=True, records=bool(settings["tracking_uri"]))
