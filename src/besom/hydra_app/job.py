"""The Hydra app that is swept. A job of it can be sent to another process and run there."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import cloudpickle
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.errors import HydraException
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from besom.config.hydra_compat import changes_directory, name_by_overrides
from besom.config.redaction import learn
from besom.errors import InputError
from besom.hydra_app.program import Program
from besom.hydra_app.saved_config import keep, take_over
from besom.hydra_app.script import copies, dumps
from besom.hydra_app.sweep_settings import link, trial_name


def refuse_homebound(app: App) -> None:
    """Raises InputError: the task function, or a callback, cannot be sent to another process."""
    parts = {f"task function {getattr(app.task, '__name__', app.task)}": app.task}
    parts |= {f"callback {type(callback).__name__}": callback for callback in app.context.callbacks.callbacks}
    for name, part in parts.items():
        try:
            dumps(part, app.program) if app.program.runs_again else cloudpickle.dumps(part)
        except Exception as error:  # whatever an object says that is asked to be pickled
            raise InputError(
                f"the {name} cannot be sent to a worker's process: {error}; make what it refers to inside the "
                "function, or in a module that it imports, or run one trial at a time here: "
                "hydra.sweeper.isolation=none"
            ) from error


@dataclass(frozen=True)
class App:
    """The Hydra app that is swept.

    In other processes than the user's, what it is made of stays packed until a trial's process needs it: only there
    is the app's script (`script.py`).
    """

    task: TaskFunction
    context: HydraContext
    config: DictConfig  # as composed for the sweep; a trial's is composed anew
    program: Program

    def compose(self, number: int, overrides: list[str], folder: Path) -> DictConfig:
        """The config of one trial, as `app overrides` would compose it."""
        config = self.loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = str(number), number
            config.hydra.job.chdir = changes_directory(config)
            # the sweep's: a launcher may have started this worker elsewhere
            config.hydra.runtime.cwd = self.config.hydra.runtime.cwd
            config.hydra.run.dir = str(folder)  # where Lightning's DDP sends the other ranks
            name = trial_name(config)
            config.hydra.sweep.dir = str(folder.parent)
            config.hydra.sweep.subdir = name if name == folder.name else link(folder, name)
        return config

    def job(self, config: DictConfig) -> Job:
        if "task" in vars(self):
            return Job(self.task, self.context, config, self.program, self._singletons)
        task, callbacks, singletons = cloudpickle.loads(self._parts)
        return Job(task, replace(self.context, callbacks=callbacks), config, self.program, singletons)

    def packed(self, config: DictConfig) -> bytes:
        """A trial's config, for its process."""
        return dumps(config, self.program)

    @cached_property
    def pickled(self) -> bytes:
        """For a trial's process: once for all trials."""
        return bytes(cloudpickle.dumps(self))

    @cached_property
    def copies(self) -> bytes:
        """Of what the app's script defines, for a trial's process that cannot run it."""
        return copies()

    @cached_property
    def loader(self) -> ConfigLoader:
        """Of trials' configs."""
        return TrialsLoader(self.context.config_loader)

    @cached_property
    def preload(self) -> Sequence[str]:
        """The modules that `besom.preload` has named."""
        modules: Sequence[str] = getattr(self.task, "besom_preload", ())
        return modules

    @cached_property
    def prepare(self) -> str | None:
        """The function that `besom.prepare` has named."""
        return getattr(self.task, "besom_prepare", None)

    @cached_property
    def fingerprint(self) -> str | None:
        """The function that `besom.fingerprint` has named."""
        return getattr(self.task, "besom_fingerprint", None)

    @cached_property
    def _parts(self) -> bytes:
        return dumps((self.task, self.context.callbacks, self._singletons), self.program)

    @cached_property
    def _singletons(self) -> dict[Any, Any]:
        """Hydra's: no trial changes those of this process."""
        state: dict[Any, Any] = Singleton.get_state()
        return state

    def __getstate__(self) -> dict[str, Any]:
        names = ("config", "program", "copies", "preload", "prepare", "fingerprint", "_parts")
        return {**{name: getattr(self, name) for name in names}, "context": without_callbacks(self.context)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


@dataclass(frozen=True)
class Job:
    """Pickle it with cloudpickle: a task function of `__main__` has no other way to travel."""

    task: TaskFunction
    context: HydraContext
    config: DictConfig
    program: Program | None = None  # None: nothing will start this job's process once more
    singletons: dict[Any, Any] = field(default_factory=Singleton.get_state)

    def run(self) -> Any:
        """What the task function returns, or its exception; its output folder is made, its config saved."""
        if Plugins in Singleton._instances:  # found already; Hydra would search and import them all again
            self.singletons["instances"][Plugins] = Plugins.instance()
        Singleton.set_state(self.singletons)
        setup_globals()
        folder = Path(self.config.hydra.sweep.dir) / self.config.hydra.sweep.subdir
        learn(self.config)
        subdir = take_over(self.config)
        keep(self.config, folder, subdir)
        result = run_job(
            task_function=self.task,
            config=self.config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
            hydra_context=replace(self.context, callbacks=_JobCallbacks(self.context.callbacks, subdir)),
        )
        if result.status == JobStatus.FAILED:  # Hydra's `return_value` would print the overrides, secrets too
            raise result._return_value
        return result.return_value

    def posing(self) -> AbstractContextManager[None]:
        """Meanwhile this process looks as if its user had started this job alone."""
        return self.program.posing(self._overrides()) if self.program else nullcontext()

    def _overrides(self) -> list[str]:
        """Of a single run that is this job once more: in the same folder, whose saved config it leaves alone."""
        hydra = self.config.hydra
        return [
            *(line for line in _lines(hydra.overrides.hydra) if not line.startswith("hydra.mode=")),
            *_lines(hydra.overrides.task),
            f"hydra.run.dir={QuotedString(hydra.run.dir, Quote.single).with_quotes()}",
            "hydra.output_subdir=null",
            f"hydra.job.chdir={hydra.job.chdir}",
            f"hydra.job.num={hydra.job.num}",
            f"hydra.job.id={hydra.job.id}",
        ]


def _lines(overrides: ListConfig) -> list[str]:
    """As they were given: `${...}` in them is the job's to resolve."""
    lines: Any = OmegaConf.to_container(overrides, resolve=False)
    return list(lines)


class _JobCallbacks(Callbacks):
    """The app's callbacks, told of a job as Hydra tells them: with the name of the folder that keeps its config."""

    def __init__(self, callbacks: Callbacks, output_subdir: str | None) -> None:
        super().__init__()
        self.callbacks = callbacks.callbacks
        self._output_subdir = output_subdir

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        self._restore(config)
        super().on_job_start(config, **kwargs)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if job_return.hydra_cfg is not None:
            self._restore(job_return.hydra_cfg)
        super().on_job_end(config, job_return, **kwargs)

    def _restore(self, config: DictConfig) -> None:
        """Besom's own copy is saved by now; Hydra was told to save none."""
        mine: Any = HydraConfig.instance().cfg
        for one in (config, mine):
            if one is not None:
                with read_write(one.hydra), open_dict(one.hydra):
                    one.hydra.output_subdir = self._output_subdir


def without_callbacks(context: HydraContext) -> HydraContext:
    """For jobs of besom's own, which are no jobs of the app's."""
    return replace(context, callbacks=Callbacks())  # with all else that this Hydra has in it


def for_workers(context: HydraContext) -> HydraContext:
    """For the jobs that are workers."""
    return replace(context, config_loader=_WorkersLoader(context.config_loader), callbacks=Callbacks())


class _WorkersLoader(ConfigLoaderImpl):
    """Composes a worker's config. What the app says of its jobs is meant for trials, which alone have their values."""

    def __init__(self, loader: ConfigLoader) -> None:
        vars(self).update(vars(loader))

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        config = super().load_sweep_config(master_config, sweep_overrides)
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.sweep.dir = master_config.hydra.sweep.dir
            job = config.hydra.job
            job.chdir = False
            if OmegaConf.is_interpolation(job, "name"):
                job.name = "worker"
            for name in list(job.env_set):
                if OmegaConf.is_interpolation(job.env_set, name):
                    del job.env_set[name]
        return config


class TrialsLoader(ConfigLoaderImpl):
    """Composes one trial's config after the other.

    What Hydra makes of the options that are chosen is made once for each choice of them, and the values of a trial are
    put into a copy of it. The first trial of each choice is composed by Hydra as well: where the two differ, and for
    whatever is more than options and values, or is refused, Hydra composes every time.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        vars(self).update(vars(loader))
        self._made: dict[tuple[str, ...], DictConfig | None] = {}  # None: values change more than themselves
        self._is_group: dict[str, bool] = {}
        self._groups: CachingConfigRepository | None = None

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        overrides = OverridesParser.create().parse_overrides(sweep_overrides)
        values = [override for override in overrides if self._is_value(override, master_config)]
        chosen = tuple(str(override.input_line) for override in overrides if override not in values)
        if any(override.is_delete() for override in overrides):  # of what stands before it
            return super().load_sweep_config(master_config, sweep_overrides)
        if chosen not in self._made:
            config = super().load_sweep_config(master_config, sweep_overrides)
            self._made[chosen] = None
            with suppress(HydraException, OmegaConfBaseException):
                self._made[chosen] = super().load_sweep_config(master_config, list(chosen))
                if _raw(self._put(overrides, values, chosen, master_config)) != _raw(config):
                    self._made[chosen] = None
            return config
        if self._made[chosen] is not None:
            with suppress(HydraException, OmegaConfBaseException):
                return self._put(overrides, values, chosen, master_config)
        return super().load_sweep_config(master_config, sweep_overrides)

    def _is_value(self, override: Override, master_config: DictConfig) -> bool:
        """It chooses nothing that brings anything else."""
        key = override.key_or_group
        if override.package is not None or override.is_hydra_override() or override.is_sweep_override():
            return False
        if self._groups is None:
            name, given = master_config.hydra.job.config_name, _lines(master_config.hydra.overrides.hydra)
            _, self._groups = self._parse_overrides_and_create_caching_repo(name, given)
        if key not in self._is_group:
            self._is_group[key] = self._groups.group_exists(key)
        return not self._is_group[key]

    def _put(
        self,
        overrides: Sequence[Override],
        values: Sequence[Override],
        chosen: tuple[str, ...],
        master_config: DictConfig,
    ) -> DictConfig:
        config = copy.deepcopy(self._made[chosen])
        assert config is not None
        self._apply_overrides_to_config(list(values), config)
        of_the_app = [override for override in overrides if not override.is_hydra_override()]
        config.hydra.overrides.task.clear()
        config.hydra.overrides.task.extend([override.input_line for override in of_the_app])
        name_by_overrides(config, of_the_app)
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        return config


def _raw(config: DictConfig) -> Any:
    return OmegaConf.to_container(config, resolve=False)


def python_path() -> str:
    """For the environment of another process: it imports what can be imported here, as the app's own folder."""
    return os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
