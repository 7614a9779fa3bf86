from __future__ import annotations

import fcntl
import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from besom.errors import InputError
from besom.system import locks
from besom.system.locks import sqlite_file, sqlite_lock


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
def url(tmp_path):
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
    path = sqlite_file(url)
    assert path
    with path.resolve().with_name(f"{path.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
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


def test_a_job_with_a_temporary_folder_of_its_own_shares_the_lock(url, tmp_path, monkeypatch):
    """Slurm gives each job one, systemd each service (PrivateTmp), Docker each container."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    with _held_by_another_process(url):
        assert not _free(url)


def test_the_lock_is_its_owners_alone(url, tmp_path):
    umask = os.umask(0)
    try:
        with sqlite_lock(url):
            (file,) = (tmp_path / "mine").iterdir()
    finally:
        os.umask(umask)

    assert file.name == "runs.db.lock"
    assert file.stat().st_mode & 0o777 == 0o600


def test_who_shares_a_database_with_a_group_shares_its_lock(url, tmp_path):
    database = tmp_path / "mine" / "runs.db"
    database.touch()
    database.chmod(0o660)
    with sqlite_lock(url):
        pass

    assert database.with_name("runs.db.lock").stat().st_mode & 0o777 == 0o660


def test_a_lock_that_is_a_link_to_elsewhere_is_refused(url, tmp_path):
    (tmp_path / "mine" / "runs.db.lock").symlink_to(tmp_path / "another users file")

    with pytest.raises(InputError, match=r"runs\.db\.lock cannot be opened"), sqlite_lock(url):
        pass
    assert not (tmp_path / "another users file").exists()


def test_who_waits_for_long_is_told_for_whom(url, monkeypatch, caplog):
    monkeypatch.setattr(locks, "PATIENCE_S", 0.01)

    with _held_by_another_process(url) as (process, pipe), caplog.at_level(logging.WARNING):
        waiting = threading.Thread(target=_take_once, args=(url,))
        waiting.start()
        while not caplog.records:
            time.sleep(0.01)
        pipe.send("release")
        waiting.join()

    (said,) = caplog.messages
    assert f"runs.db, which is held by process {process.pid} (" in said


def _take_once(url: str) -> None:
    with sqlite_lock(url):
        pass


def test_a_database_server_needs_no_lock(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with sqlite_lock("postgresql://me@host/runs"):
        assert list(tmp_path.iterdir()) == []
