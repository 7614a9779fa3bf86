"""A full disk is known by its error, wherever in a chain of exceptions it stands."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from besom.system import disk
from besom.system.disk import as_disk_full, full_disk


def _os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number), "/data/x.ckpt")


def _from(cause: BaseException) -> BaseException:
    error = ValueError("could not be saved")
    error.__cause__ = cause
    return error


def _while(cause: BaseException) -> BaseException:
    error = KeyError("another one")
    error.__context__ = cause
    return error


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("wrap", [lambda error: error, _from, _while, lambda error: ExceptionGroup("of two", [error])])
def test_it_is_found_among_an_exceptions_causes(number, wrap):
    assert "/data/x.ckpt" in full_disk(wrap(_os_error(number)))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("cannot save: [Errno 28] No space left on device"),
        RuntimeError("write error: Disk quota exceeded (os error 122)"),
        sqlite3.OperationalError("database or disk is full"),
        OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full")),
    ],
)
def test_it_is_known_by_its_words_where_there_is_no_number(error):
    assert full_disk(error)


@pytest.mark.parametrize(
    "error", [ValueError("x"), _os_error(errno.EACCES), _os_error(errno.EIO), FileNotFoundError("device")]
)
def test_nothing_else_is_taken_for_one(error, tmp_path):
    assert not full_disk(error, tmp_path)
    assert as_disk_full(error) is None


def test_of_a_checkpoint_that_torch_could_not_write_the_folder_is_looked_at(tmp_path, monkeypatch):
    error = RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")
    assert not full_disk(error, tmp_path)

    monkeypatch.setattr(disk, "has_room", lambda folder: False)
    assert full_disk(error, tmp_path)


def test_a_chain_that_leads_back_to_itself_is_followed_once():
    one, other = ValueError("a"), ValueError("b")
    one.__context__, other.__context__ = other, one
    assert not full_disk(one)


def test_a_folder_that_is_gone_is_not_full(tmp_path: Path):
    assert disk.has_room(tmp_path / "gone")
