from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from doors import Shell


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def stocked(migrated: Path, tmp_path: Path) -> None:
    """The folder has a store in which nothing is recorded: to make one takes seconds, and is tested elsewhere."""
    shutil.copy(migrated, tmp_path / "mlflow.db")
