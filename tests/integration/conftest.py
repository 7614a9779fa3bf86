from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from doors import Shell


@pytest.fixture
def shell(tmp_path: Path, request: pytest.FixtureRequest) -> Shell:
    """Its commands are forked, but for those of a test that is marked `cold`."""
    return Shell(tmp_path, cold=request.node.get_closest_marker("cold") is not None)


@pytest.fixture
def stocked(migrated: Path, tmp_path: Path) -> None:
    """The folder has a store in which nothing is recorded: to make one takes seconds, and is tested elsewhere."""
    shutil.copy(migrated, tmp_path / "mlflow.db")
