"""The Hydra app that is swept. A job of it can be sent to another process and run there."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import cloudpickle
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, IConfigRepository
from hydra.core.config_loader import ConfigLoader
from hydra.core.default_element import ResultDefault
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict, read_write

from besom.errors import InputError
from besom.hydra_versions import changes_directory
from besom.kept import keep, take_over
from besom.secrecy import learn
from besom.sweep.program import Program
from besom.sweep.script import copies, dumps
from besom.sweep.sweeps_own import link, trial_name


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
        config = self._loader.load_sweep_config(self.config, overrides)
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
    def _loader(self) -> ConfigLoader:
        return _TrialsLoader(self.context.config_loader)

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


class _TrialsLoader(ConfigLoaderImpl):
    """Composes one trial's config after the other, of files that it reads once.

    Hydra would read them again for each. What it makes of one list of defaults, before the values that are searched are
    put into it, is the same for all trials that have chosen the same options.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        vars(self).update(vars(loader))
        self._read: CachingConfigRepository | None = None
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def _parse_overrides_and_create_caching_repo(
        self, config_name: str | None, overrides: list[str], *more: Any, **named: Any
    ) -> tuple[list[Override], CachingConfigRepository]:
        """`more`: what Hydra 1.4 asks besides."""
        if self._read is None or any("hydra.searchpath" in override for override in overrides):
            self._composed.clear()
            parsed, self._read = super()._parse_overrides_and_create_caching_repo(
                config_name, overrides, *more, **named
            )
            return parsed, self._read
        given = more[0] if more else named.get("parsed_overrides")
        return given or OverridesParser.create().parse_overrides(overrides=overrides), self._read

    def _compose_config_from_defaults_list(self, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        known_by = tuple(f"{one!r} {one.primary} {one.override_key}" for one in defaults)
        if known_by not in self._composed:
            # of files read for this alone: Hydra puts what it has read into what it composes, uncopied
            unshared = CachingConfigRepository(repo)
            unshared.cache = copy.deepcopy(repo.cache) if isinstance(repo, CachingConfigRepository) else {}
            self._composed[known_by] = super()._compose_config_from_defaults_list(defaults, unshared)
        return copy.deepcopy(self._composed[known_by])


def python_path() -> str:
    """For the environment of another process: it imports what can be imported here, as the app's own folder."""
    return os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
