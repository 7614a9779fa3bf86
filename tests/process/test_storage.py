"""A storage that a study cannot be kept in is refused before anything starts, with one message that says what to do."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from doors import Shell

from sweeps import Sweep, study

pytestmark = pytest.mark.usefixtures("stocked")


def refused(shell: Shell, storage: str) -> str:
    """The one message."""
    code, said = Sweep(shell, f"hydra.sweeper.storage='{storage}'", "hydra.sweeper.n_trials=1").end()
    assert code == 2, said
    assert "Traceback" not in said
    [message] = [line for line in said.splitlines() if line.startswith("besom: ")]
    return message


def swept(shell: Shell) -> Path:
    """Its storage."""
    assert Sweep(shell, "hydra.sweeper.n_trials=1").end()[0] == 0
    return shell.folder / "optuna.db"


def set_schema(database: Path, version: str) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
    connection.close()


def test_an_older_optunas_storage_is_refused_with_the_way_to_upgrade_it(shell: Shell) -> None:
    storage = f"sqlite:///{swept(shell)}"
    set_schema(shell.folder / "optuna.db", "v3.0.0.d")
    message = refused(shell, storage)
    assert f"`optuna storage upgrade --storage {storage}`" in message


def test_a_newer_optunas_storage_is_refused_with_the_way_to_update(shell: Shell) -> None:
    set_schema(swept(shell), "v99.0.0")
    message = refused(shell, "sqlite:///optuna.db")
    assert "`pip install -U optuna`" in message
    assert "choose another hydra.sweeper.storage" in message


def test_mlflows_own_database_is_refused_and_still_works(shell: Shell) -> None:
    swept(shell)
    before = tables(shell.folder / "mlflow.db")
    message = refused(shell, "sqlite:///mlflow.db")
    assert "another program's (MLflow's?)" in message
    assert tables(shell.folder / "mlflow.db") == before
    assert len(shell.runs()) == 2
    assert len(study(shell).trials) == 1


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(shell: Shell) -> None:
    shell.write("notes.db", "dear diary")
    assert "file is not a database" in refused(shell, "sqlite:///notes.db")
    assert (shell.folder / "notes.db").read_text() == "dear diary"


@pytest.mark.parametrize("storage", ["mysql://me:secret@127.0.0.1/optuna", "sqlite://", "redis://127.0.0.1"])
def test_a_storage_that_workers_cannot_share_is_refused_with_those_they_can(shell: Shell, storage: str) -> None:
    message = refused(shell, storage)
    assert "SQLite (sqlite:///optuna.db) or PostgreSQL (postgresql://user@host/optuna)" in message
    assert "secret" not in message


def tables(database: Path) -> list[tuple[str]]:
    with sqlite3.connect(database) as connection:
        found = connection.execute("SELECT name FROM sqlite_master ORDER BY name").fetchall()
    connection.close()
    return found
