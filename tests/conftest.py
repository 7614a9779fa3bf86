from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import commands
import pytest
from doors import Shell

from besom.tracking import Store

# what tests decode is decoded once for all of them, and is not the user's; Shell passes it on
_CACHE = tempfile.TemporaryDirectory(prefix="besom-tests-")
os.environ["BESOM_CACHE"] = _CACHE.name

# what is started in the background, as by `make test &`, inherits that Ctrl-C is ignored: nobody would hear the tests
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _commands() -> Iterator[None]:
    """The process that they are forked from ends with the session."""
    yield
    commands.close()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with tables and nothing in them: MLflow takes seconds to make one."""
    folder = tmp_path_factory.mktemp("migrated")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Store("sqlite:///mlflow.db", "besom").client  # noqa: B018 - connecting makes them
    return folder / "mlflow.db"


@pytest.fixture
def shell(tmp_path: Path, request: pytest.FixtureRequest) -> Shell:
    """Its commands are forked, but for those of a test that is marked `cold`."""
    return Shell(tmp_path, cold=request.node.get_closest_marker("cold") is not None)


@pytest.fixture
def stocked(migrated: Path, tmp_path: Path) -> None:
    """The folder has a store in which nothing is recorded: to make one takes seconds, and is tested elsewhere."""
    shutil.copy(migrated, tmp_path / "mlflow.db")
