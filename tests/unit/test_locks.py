from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from besom.locks import sqlite_file, sqlite_lock


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///runs.db", "runs.db"),
        ("sqlite:///below/runs.db", "below/runs.db"),
        ("sqlite+pysqlite:///runs.db", "runs.db"),
        ("sqlite:///runs.db?timeout=30", "runs.db"),
    ],
)
def test_a_relative_url_names_a_file_in_the_working_directory(url, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert sqlite_file(url) == tmp_path / path


def test_four_slashes_name_an_absolute_file():
    assert sqlite_file("sqlite:////var/lib/runs.db") == Path("/var/lib/runs.db")


@pytest.mark.parametrize(
    "url", ["postgresql://me@host/runs", "mysql+pymysql:///runs", "http://host:5000", "runs.db", "sqlite://", ""]
)
def test_any_other_url_names_no_file(url):
    assert sqlite_file(url) is None


@pytest.fixture
def temporary_folder(tmp_path, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))  # for the processes that a test starts
    return folder


@pytest.fixture
def url(tmp_path, temporary_folder):
    (tmp_path / "mine").mkdir()
    return f"sqlite:///{tmp_path}/mine/runs.db"


def _hold(url: str, pipe: Connection) -> None:
    with sqlite_lock(url):
        pipe.send("held")
        pipe.recv()
    pipe.send("released")


@contextmanager
def _held_by_another_process(url: str) -> Iterator[tuple[BaseProcess, Connection]]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_hold, args=(url, there))
    process.start()
    there.close()
    try:
        assert here.recv() == "held"
        yield process, here
    finally:
        process.kill()
        process.join()
        here.close()


def _free(url: str) -> bool:
    """True when this process can take the lock at once."""
    lock = sqlite_lock(url)
    assert isinstance(lock, FileLock)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    lock.release()
    return True


def test_what_one_process_holds_another_cannot_take(url):
    with _held_by_another_process(url):
        assert not _free(url)


def test_what_is_released_can_be_taken(url):
    with _held_by_another_process(url) as (_, pipe):
        pipe.send("release")
        assert pipe.recv() == "released"

        assert _free(url)


def test_a_killed_process_holds_nothing(url):
    with _held_by_another_process(url) as (process, _):
        process.kill()
        process.join()

        assert _free(url)


def test_two_ways_to_write_one_file_share_its_lock(url, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "mine")

    with _held_by_another_process(url):
        assert not _free(f"sqlite+pysqlite:///{tmp_path}/link/runs.db?timeout=30")


def test_two_files_do_not_share_a_lock(url, tmp_path):
    with _held_by_another_process(url):
        assert _free(f"sqlite:///{tmp_path}/mine/others.db")


def test_the_users_folder_is_not_littered(url, tmp_path, temporary_folder):
    with sqlite_lock(url):
        assert len(list(temporary_folder.iterdir())) == 1
        assert list((tmp_path / "mine").iterdir()) == []


def test_another_users_process_may_take_the_lock_after_ours(url, temporary_folder):
    with sqlite_lock(url):
        (file,) = temporary_folder.iterdir()

        assert file.stat().st_mode & 0o777 == 0o666


def test_a_database_server_needs_no_lock(temporary_folder):
    with sqlite_lock("postgresql://me@host/runs"):
        assert list(temporary_folder.iterdir()) == []
