"""`besom tensorboard`: a study's runs as TensorBoard's event files, written from MLflow, with their hyperparameters."""

from __future__ import annotations

import importlib.util
import math
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from besom.errors import InputError
from besom.tracking.catalogue import study_run, used_store
from besom.tracking.store import Store, as_key
from besom.ui import HOST, check_port

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run

OURS = ".besom"  # how the names of the files end that are written here, and that may be removed

Hyperparameter = float | bool | str


def serve(study: str, port: int) -> None:
    """Write the study's event files into a folder here, print the link, then become TensorBoard, until Ctrl-C.

    Raises:
        InputError: TensorBoard is not installed, the port is taken, or there is no such study.
    """
    _check_installed()
    check_port(port, f"besom tensorboard {study}")
    folder = Path("tensorboard-" + re.sub(r"[^\w.-]", "_", study))
    write(study, folder)
    print(f"TensorBoard, in a few seconds: http://{HOST}:{port}/#hparams\nCtrl-C ends it", flush=True)
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--host", HOST, "--port", str(port)]
    os.execv(command[0], command)  # no besom process stays behind it


def write(study: str, folder: Path) -> None:
    """A folder for each trial; what an earlier call has written there is replaced.

    Raises:
        InputError: TensorBoard is not installed, there is no such study, or the folder cannot be written.
    """
    _check_installed()
    store = used_store()
    recorded = Recorded(store, study_run(store, study))
    _make_room(folder)
    from besom.event_files import write_all

    write_all(recorded, folder)
    print(f"{len(recorded.trials)} trials of study {study} are in {folder}")


@dataclass(frozen=True)
class Recorded:
    """What MLflow has of a study."""

    store: Store
    run: Run  # the study's

    @cached_property
    def trials(self) -> list[Run]:
        """By number."""
        asked = f"tags.`mlflow.parentRunId` = '{self.run.info.run_id}'"
        runs = self.store.search(asked, [self.run.info.experiment_id])
        return sorted((run for run in runs if "besom.trial" in run.data.tags), key=number_of)

    @cached_property
    def points(self) -> list[dict[str, Hyperparameter]]:
        """Of each trial the parameters that are searched; one that is a number in each trial is a number."""
        keys = self._searched()
        texts = {key: [run.data.params[key] for run in self.trials if key in run.data.params] for key in keys}
        reads = {key: _reader(values) for key, values in texts.items()}
        return [
            {key: read(run.data.params[key]) for key, read in reads.items() if key in run.data.params}
            for run in self.trials
        ]

    def objectives(self) -> list[str]:
        return sorted(
            {key for run in self.trials for key in run.data.metrics if re.fullmatch(r"objective(_\d+)?", key)}
        )

    def metrics(self, run: Run) -> Iterator[Metric]:
        for key in sorted(run.data.metrics):
            yield from self.store.client.get_metric_history(run.info.run_id, key)

    def _searched(self) -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(self.store.client.download_artifacts(self.run.info.run_id, "space.yaml", folder))
            lines = yaml.safe_load(file.read_text())["space"]
        # two branches may search one key differently, `optimizer.lr [optimizer=sgd]`
        return sorted({as_key(line.partition(" [")[0].lstrip("+")) for line in lines})


def number_of(run: Run) -> int:
    return int(run.data.tags["besom.trial"])


def _make_room(folder: Path) -> None:
    """Only what was written here before is removed. Raises InputError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for earlier in (*folder.glob(f"events.*{OURS}"), *folder.glob(f"trial-*/events.*{OURS}")):
            earlier.unlink()
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}); choose another: -o FOLDER") from error


def _check_installed() -> None:
    if importlib.util.find_spec("tensorboard") is None:
        raise InputError("TensorBoard is not installed: pip install 'besom[tb]'")


def _reader(texts: Sequence[str]) -> Any:
    """What makes of these what they stand for: numbers, truth values, or words."""
    if all(map(_is_number, texts)):
        return float
    if set(texts) <= {"true", "false"}:
        return lambda text: text == "true"
    return str


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
