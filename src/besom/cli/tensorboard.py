"""`besom tensorboard`: a study's runs as TensorBoard's event files, written from MLflow, with their hyperparameters."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import tempfile
from pathlib import Path

from besom.cli.ui import HOST, check_port
from besom.errors import InputError
from besom.tracking.run_lookup import study_run, used_store
from besom.tracking.study_runs import Recorded

OURS = ".besom"  # how the names of the files end that are written here, and that may be removed


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
    from besom.tracking.tensorboard_export import write_all

    write_all(recorded, folder, OURS)
    print(f"{len(recorded.trials)} trials of study {study} are in {folder}")


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
