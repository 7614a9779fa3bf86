"""Hydra launcher `local`: each job in a process of its own, all at once. Besom starts its workers with it."""

# no `from __future__ import annotations`: Hydra runs this before it is in sys.modules, where dataclasses would look
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict


@dataclass
class LocalConf:
    _target_: str = "hydra_plugins.besom_launcher.local.LocalLauncher"


ConfigStore.instance().store(group="hydra/launcher", name="local", node=LocalConf, provider="besom")


class LocalLauncher(Launcher):
    """The processes have a session of their own: Ctrl-C reaches the one who started them, and he decides."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._context = hydra_context
        self._task = task_function
        self._config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Start all jobs, wait for all; their output goes to `job.log` in each one's folder.

        Raises:
            RuntimeError: a job ended with an error; names its log.

        """
        jobs = [self._job(list(overrides), initial_job_idx + index) for index, overrides in enumerate(job_overrides)]
        logs = [self._log(job) for job in jobs]
        ends = [self.start(job, log) for job, log in zip(jobs, logs, strict=True)]
        codes = [end() for end in ends]
        for path, code in zip(logs, codes, strict=True):
            if code != 0:
                raise RuntimeError(f"a job ended with exit code {code}: {_last_line(path)} (all it said: {path})")
        return [JobReturn(status=JobStatus.COMPLETED) for _ in codes]

    def _job(self, overrides: list[str], index: int) -> Any:
        from besom.hydra_app.job import Job

        config = self._context.config_loader.load_sweep_config(self._config, overrides)
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = str(index), index
        return Job(self._task, self._context, config)

    @staticmethod
    def _log(job: Any) -> Path:
        hydra = job.config.hydra
        folder = Path(str(hydra.sweep.dir)) / str(hydra.sweep.subdir)
        folder.mkdir(parents=True, exist_ok=True)
        return folder / "job.log"

    def start(self, job: Any, log: Path) -> Callable[[], int]:
        """Returned is what waits for its end, and returns its exit code."""
        import cloudpickle

        from besom.hydra_app.job import python_path

        with log.open("ab") as output, TemporaryFile() as file:
            file.write(cloudpickle.dumps(job))
            file.seek(0)
            process = subprocess.Popen(
                [sys.executable, "-m", "besom.hydra_app"],
                stdin=file,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": python_path()},
            )
        return process.wait


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
