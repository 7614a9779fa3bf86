"""The doors users use: commands in a folder of their own, and MlflowClient."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from commands import BESOM, ForkedCommand, is_alike
from mlflow import MlflowClient
from mlflow.entities import Run
from terminal import Terminal

PATIENCE_S = 300  # a machine may be busy; nothing is to be learnt from that


class Shell:
    """Runs commands in one folder, with no MLflow or Hydra settings of the caller's."""

    def __init__(self, folder: Path, *, cold: bool = False) -> None:
        """`cold`: each command in an interpreter that has just been started, and not a forked one."""
        self.folder = folder
        self.cold = cold
        self.experiment = "besom"
        self.tracking_uri: str | None = None  # where its runs are, if not in its folder
        self.env = {
            key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "HYDRA_", "BESOM_"))
        } | {"BESOM_CACHE": os.environ["BESOM_CACHE"]}

    def start(self, *words: str, **env: str) -> subprocess.Popen[str]:
        whole = {**self.env, **env}
        kind = subprocess.Popen if self.cold or not is_alike(words, whole) else ForkedCommand
        return kind(
            list(words),
            cwd=self.folder,
            env=whole,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*words, **env)
        out, err = process.communicate(timeout=PATIENCE_S)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def besom(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        return self.run(BESOM, *words, **env)

    def terminal(self, *words: str, columns: int = 140, lines: int = 40, **env: str) -> Terminal:
        return Terminal(words, self.folder, {**self.env, **env}, columns, lines)

    def on_terminal(self, *words: str, columns: int = 140) -> tuple[int, str]:
        """The exit code, and all that the terminal was sent."""
        return self.terminal(*words, columns=columns).end()

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.tracking_uri or f"sqlite:///{self.folder / 'mlflow.db'}")

    def runs(self) -> list[Run]:
        """Oldest first; none where nothing has been recorded."""
        if not self.tracking_uri and not (self.folder / "mlflow.db").exists():
            return []
        found = self.client.get_experiment_by_name(self.experiment)
        if found is None:
            return []
        return list(self.client.search_runs([found.experiment_id], order_by=["attributes.start_time"]))


def eventually(look: Callable[[], object], what: str) -> None:
    """Wait for something another process does; looking is all one can do from outside."""
    deadline = time.monotonic() + PATIENCE_S
    while not look():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s for {what}"
        time.sleep(0.05)
