"""A Hydra job that can be sent to another process and run there as Hydra would have run it here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass(frozen=True)
class Job:
    """Pickle it with cloudpickle: a task function of `__main__` has no other way to travel."""

    task: TaskFunction
    context: HydraContext
    config: DictConfig
    singletons: dict[Any, Any] = field(default_factory=Singleton.get_state)

    def run(self) -> Any:
        """What the task function returns, or its exception; its output folder is made, its config saved."""
        Singleton.set_state(self.singletons)
        setup_globals()
        result = run_job(
            task_function=self.task,
            config=self.config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
            hydra_context=self.context,
        )
        return result.return_value
