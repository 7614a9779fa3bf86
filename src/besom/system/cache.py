"""Where besom keeps what it would otherwise make again and again: decoded pictures, an empty MLflow database."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from besom.errors import InputError
from besom.system.private import is_own_folder


def cache_folder() -> Path:
    """`BESOM_CACHE`, or a folder of the user's own.

    Raises:
        InputError: it cannot be written.
    """
    named = os.environ.get("BESOM_CACHE")
    own = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "besom"
    spare = Path(tempfile.gettempdir()) / f"besom-{os.getuid()}"  # in a container there may be no home
    for folder in [Path(named)] if named else [own, spare]:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError:
            continue
        if os.access(folder, os.W_OK) and (folder != spare or is_own_folder(folder)):
            return folder
    raise InputError(f"nothing can be kept in {named or own}: set BESOM_CACHE to a folder to write to")
