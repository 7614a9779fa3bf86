from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from besom.tracking import Store

# what tests decode is decoded once for all of them, and is not the user's; Shell passes it on
_CACHE = tempfile.TemporaryDirectory(prefix="besom-tests-")
os.environ["BESOM_CACHE"] = _CACHE.name


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with tables and nothing in them: MLflow takes seconds to make one."""
    folder = tmp_path_factory.mktemp("migrated")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Store("sqlite:///mlflow.db", "besom").client  # noqa: B018 - connecting makes them
    return folder / "mlflow.db"
