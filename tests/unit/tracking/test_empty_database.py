"""A fresh SQLite store is a copy of an empty one, and MLflow takes it for its own."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from besom.tracking import Store


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BESOM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    Store(f"sqlite:///{folder}/mlflow.db", "besom").experiment_id()
    return folder / "mlflow.db"


def tables(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as file:
        return sorted(file.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))


def test_the_second_store_is_as_the_first_and_has_files_of_its_own(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        path = made(tmp_path / name)
        store = Store(f"sqlite:///{path}", "besom")
        assert store.create_run("a run", {})
        default = store.client.get_experiment_by_name("Default")
        assert default.artifact_location.startswith(str(path.parent)), "of the template's place"
        assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in cache.glob("*.db")], "no template was kept"
    assert tables(tmp_path / "first/mlflow.db") == tables(tmp_path / "second/mlflow.db")
    [template] = cache.glob("*.db")
    with closing(sqlite3.connect(template)) as file:
        assert file.execute("SELECT count(*) FROM experiments").fetchone() == (0,)
        assert file.execute("SELECT count(*) FROM runs").fetchone() == (0,)


def test_a_damaged_template_is_not_used(cache: Path, tmp_path: Path) -> None:
    first = made(tmp_path / "first")
    [template] = cache.glob("*.db")
    template.write_bytes(template.read_bytes()[:8192] + b"\0" * 65536)
    # MLflow writes some of its lists in no order, so two that it makes itself differ in words
    assert [name for name, _ in tables(made(tmp_path / "second"))] == [name for name, _ in tables(first)]
