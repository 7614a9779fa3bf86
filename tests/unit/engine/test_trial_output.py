"""Endless output is cut, whoever writes, and who writes does not notice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from besom.engine.trial_output import CappedOutput


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "output.log"


def _capped(path: Path) -> CappedOutput:
    return CappedOutput(path, limit=10_000, head=1_000, tail=2_000)


def _append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_what_is_short_stays_as_it_is(path):
    output = _capped(path)
    _append(path, "x" * 10_000)
    output.cut()
    assert path.read_text() == "x" * 10_000


def test_of_what_is_long_the_begin_and_the_end_are_kept_and_the_rest_is_counted(path):
    output = _capped(path)
    lines = [f"line {number}\n" for number in range(3000)]
    _append(path, "".join(lines))
    output.cut()
    kept = path.read_text()
    begin, note, end = kept[:1000], kept[1000:].splitlines()[1], kept[-1500:]
    assert "".join(lines).startswith(begin)
    assert "".join(lines).endswith(end)
    assert f"{len(''.join(lines)) - 1000 - len(kept.rpartition(']')[2]) + 1:,} bytes of output are left out" in note


def test_cut_again_it_has_one_note_and_counts_all(path):
    output = _capped(path)
    for _ in range(5):
        _append(path, "0123456789\n" * 1000)
        output.cut()
    kept = path.read_text()
    assert len(kept) < 4_000
    assert kept.count("left out here") == 1


def test_a_process_that_writes_goes_on_behind_the_cut(path):
    output = _capped(path)
    code = "import sys\nfor line in sys.stdin: print('x' * 20_000 if line == 'long\\n' else line, end='', flush=True)"
    with (
        path.open("a") as file,
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=file, text=True) as writer,
    ):
        assert writer.stdin
        writer.stdin.write("first\nlong\n")
        writer.stdin.flush()
        while path.stat().st_size < 20_000:
            pass
        output.cut()
        writer.stdin.write("last\n")
    kept = path.read_bytes()
    assert kept.startswith(b"first\n")
    assert kept.endswith(b"last\n")
    assert b"\0" not in kept


def test_a_file_that_the_trial_has_deleted_is_bounded_too(path):
    output = _capped(path)
    file = os.open(path, os.O_WRONLY | os.O_APPEND)
    path.unlink()
    os.write(file, b"x" * 50_000)
    output.cut()
    assert os.fstat(file).st_size < 4_000
    os.close(file)
    output.close()
