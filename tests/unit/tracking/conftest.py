from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from besom.tracking import Store


@pytest.fixture
def store(migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store of this test's own; the artifacts lie in the working directory."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(migrated, tmp_path / "mlflow.db")
    return Store(f"sqlite:///{tmp_path}/mlflow.db", "besom")
