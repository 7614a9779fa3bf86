from __future__ import annotations

import errno
import json
import math
import multiprocessing
import os
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from besom.tracking.run_log import Entry, MetricDeduplicator, RunLog, Skipped, line_numbers, read, run_of


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.jsonl"


def _entries(path: Path, offset: int = 0) -> list[Entry]:
    return [entry for entry, _ in read(path, offset)]


def _append(path: Path, text: bytes) -> None:
    with path.open("ab") as file:
        file.write(text)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"lr": 0.1, "hidden": [64, 32], "name": None, "amsgrad": False},
        {"note": "a line\nand another"},
        {"ü": "→ 🧹"},
    ],
)
def test_params_are_read_as_they_were_written(path, values):
    RunLog(path).params(values)

    (entry,) = _entries(path)
    assert (entry["kind"], entry["values"]) == ("params", values)


def test_tags_are_read_as_they_were_written(path):
    RunLog(path).tags({"device": "cpu"})

    (entry,) = _entries(path)
    assert (entry["kind"], entry["values"]) == ("tags", {"device": "cpu"})


@pytest.mark.parametrize("value", [0.1, 1e-320, 1.7976931348623157e308, math.inf, -math.inf])
def test_a_metric_is_read_to_the_last_bit(path, value):
    RunLog(path).metrics({"train/loss": value}, step=7)

    (entry,) = _entries(path)
    assert (entry["kind"], entry["values"], entry["step"]) == ("metrics", {"train/loss": value}, 7)


def test_nan_is_read_as_nan(path):
    RunLog(path).metrics({"train/loss": math.nan}, step=0)

    (entry,) = _entries(path)
    assert math.isnan(entry["values"]["train/loss"])


def test_a_relative_artifact_is_found_from_anywhere(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    RunLog(path).artifact(Path("best.ckpt"), "checkpoints")

    (entry,) = _entries(path)
    assert (entry["kind"], entry["path"], entry["folder"]) == ("artifact", str(tmp_path / "best.ckpt"), "checkpoints")


def test_a_datasets_facts_are_read_as_they_were_written(path):
    facts = {"name": "digits", "digest": "abc", "origin": "scikit-learn", "schema": "{}", "profile": "{}"}

    RunLog(path).dataset(**facts)

    (entry,) = _entries(path)
    assert (entry["kind"], entry["values"]) == ("dataset", facts)


def test_a_line_keeps_the_time_when_it_was_written(path):
    log = RunLog(path)

    log.metrics({"loss": 1.0}, step=0)
    log.metrics({"loss": 0.5}, step=1)

    first, second = (entry["t"] for entry in _entries(path))
    assert 1_600_000_000_000 < first <= second  # milliseconds


def test_a_log_not_yet_made_is_empty(path):
    assert _entries(path) == []


def test_its_folder_is_made(tmp_path):
    path = tmp_path / "study" / "0" / "run.jsonl"

    RunLog(path).tags({"a": "b"})

    assert len(_entries(path)) == 1


def test_another_attempt_goes_on_behind_the_first(path):
    RunLog(path).metrics({"loss": 1.0}, step=0)
    RunLog(path).metrics({"loss": 0.5}, step=1)

    assert [entry["step"] for entry in _entries(path)] == [0, 1]


def test_only_its_owner_reads_it(path):
    umask = os.umask(0)
    try:
        RunLog(path)
    finally:
        os.umask(umask)

    assert path.stat().st_mode & 0o777 == 0o600


def test_reading_goes_on_from_an_offset(path):
    log = RunLog(path)
    log.metrics({"loss": 1.0}, step=0)
    log.metrics({"loss": 0.5}, step=1)
    (_, behind_first), (_, behind_second) = read(path)

    log.metrics({"loss": 0.25}, step=2)

    assert [entry["step"] for entry in _entries(path, behind_first)] == [1, 2]
    assert [entry["step"] for entry in _entries(path, behind_second)] == [2]


def test_at_the_end_there_is_nothing_more(path):
    RunLog(path).metrics({"loss": 1.0}, step=0)

    assert _entries(path, path.stat().st_size) == []


def test_a_torn_last_line_waits_for_its_rest(path):
    RunLog(path).metrics({"loss": 1.0}, step=0)
    ((_, offset),) = read(path)
    line = b'{"kind": "metrics", "values": {"loss": 0.5}, "step": 1, "t": 0}\n'

    _append(path, line[:30])
    assert _entries(path, offset) == []

    _append(path, line[30:])
    assert [entry["step"] for entry in _entries(path, offset)] == [1]


def test_a_line_torn_by_a_killed_process_spoils_no_other(path):
    RunLog(path).metrics({"loss": 1.0}, step=0)
    _append(path, b'{"kind": "metrics", "val')

    RunLog(path).metrics({"loss": 0.5}, step=1)  # the next attempt

    assert [entry["step"] for entry in _entries(path)] == [0, 1]


LINES = 300


def _write(path: Path, writer: str, both_ready: Barrier) -> None:
    log = RunLog(path)
    both_ready.wait()
    for step in range(LINES):
        log.metrics({writer: float(step)}, step)


def test_lines_of_two_writers_stay_whole_and_in_order(path):
    context = multiprocessing.get_context("spawn")
    both_ready = context.Barrier(2)
    writers = [context.Process(target=_write, args=(path, name, both_ready)) for name in ("worker", "trial")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    entries = _entries(path)
    for name in ("worker", "trial"):
        steps = [entry["step"] for entry in entries if name in entry["values"]]
        assert steps == list(range(LINES))
    assert len(entries) == 2 * LINES


def _open_files() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_a_log_holds_no_file_open(tmp_path):
    """A worker writes to one for each of its trials."""
    before = _open_files()
    logs = [RunLog(tmp_path / f"{number}.jsonl") for number in range(50)]
    for log in logs:
        log.params({"lr": 0.1})

    assert len(_open_files() - before) < 10


def test_a_log_knows_its_run_once_it_was_told(tmp_path):
    log = RunLog(tmp_path / "run.jsonl")
    assert run_of(log.path) is None

    log.run("5f3a")

    assert run_of(log.path) == "5f3a"


def _told(path) -> list[tuple[int, dict[str, float]]]:
    told = MetricDeduplicator()
    news = [told.news(entry) for entry, _ in read(path)]
    return [(entry["step"], entry["values"]) for entry in news if entry["kind"] == "metrics"]


def test_a_step_that_an_earlier_attempt_has_told_is_told_once(tmp_path):
    log = RunLog(tmp_path / "run.jsonl")
    log.attempt()
    log.metrics({"loss": 3.0}, step=0)
    log.metrics({"loss": 2.0}, step=1)
    log.attempt()
    log.metrics({"loss": 2.5, "acc": 0.5}, step=1)
    log.metrics({"loss": 1.0}, step=2)

    assert _told(log.path) == [(0, {"loss": 3.0}), (1, {"loss": 2.0}), (1, {"acc": 0.5}), (2, {"loss": 1.0})]


def test_what_one_attempt_tells_of_a_step_twice_is_told_twice(tmp_path):
    log = RunLog(tmp_path / "run.jsonl")
    log.attempt()
    log.metrics({"loss": 3.0}, step=0)
    log.metrics({"loss": 2.0}, step=0)

    assert _told(log.path) == [(0, {"loss": 3.0}), (0, {"loss": 2.0})]


# ── damaged and foreign lines ─────────────────────────────────────────────────────────────────────────────────────────
NO_RECORDS = {
    "a number": b"42",
    "a list": b"[]",
    "null": b"null",
    "a word": b'"metrics"',
    "another kind's name": b'{"kind": 1, "t": 1}',
    "a kind that is a list": b'{"kind": [], "t": 1}',
    "an unknown kind": b'{"kind": "moon", "t": 1}',
    "no kind": b'{"t": 1}',
    "no time": b'{"kind": "attempt"}',
    "a time that is none": b'{"kind": "attempt", "t": "now"}',
    "a time no database keeps": b'{"kind": "attempt", "t": 9999999999999999999999}',
    "metrics without a step": b'{"kind": "metrics", "t": 1, "values": {"a": 1}}',
    "metrics without values": b'{"kind": "metrics", "t": 1, "step": 1}',
    "metrics that are words": b'{"kind": "metrics", "t": 1, "step": 1, "values": {"a": "b"}}',
    "metrics that are too large": b'{"kind": "metrics", "t": 1, "step": 1, "values": {"a": 1%s}}' % (b"0" * 400),
    "a step that is a fraction": b'{"kind": "metrics", "t": 1, "step": 1.5, "values": {"a": 1}}',
    "a step that is too large": b'{"kind": "metrics", "t": 1, "step": 1e30, "values": {"a": 1}}',
    "params that are a list": b'{"kind": "params", "t": 1, "values": [1]}',
    "tags that are numbers": b'{"kind": "tags", "t": 1, "values": {"a": 1}}',
    "an artifact without a path": b'{"kind": "artifact", "t": 1, "folder": ""}',
    "a dataset of which something lacks": b'{"kind": "dataset", "t": 1, "values": {"name": "x"}}',
    "a run of another kind": b'{"kind": "run", "t": 1, "run_id": 7}',
    "a run that is a path": b'{"kind": "run", "t": 1, "run_id": "../x"}',
    "a begin without a process": b'{"kind": "begin", "t": 1, "values": {"uri": "x", "experiment": "y"}}',
    "an end that is none": b'{"kind": "end", "t": 1, "values": {"status": "DONE", "reason": ""}}',
    "NUL bytes": b"\0" * 100,
    "bytes that are no UTF-8": b'{"kind": "tags", "t": 1, "values": {"a": "\xff"}}',
    "a torn line": b'{"kind": "metrics", "t": 1, "val',
    "a deep nest": b"[" * 100_000,
}


@pytest.mark.parametrize("line", NO_RECORDS.values(), ids=NO_RECORDS)
def test_a_line_that_is_no_record_is_skipped_and_told(path, line):
    log = RunLog(path)
    log.params({"a": 1})
    _append(path, line + b"\n")
    log.params({"b": 2})

    skipped: list[Skipped] = []
    assert [entry["values"] for entry, _ in read(path, skipped=skipped)] == [{"a": 1}, {"b": 2}]
    assert line_numbers(path, skipped) == [2]


def test_an_empty_line_is_nothing_to_be_told(path):
    RunLog(path).params({"a": 1})
    _append(path, b"\n")

    skipped: list[Skipped] = []
    assert len(list(read(path, skipped=skipped))) == 1
    assert not skipped


def test_a_folder_or_a_fifo_in_its_place_is_an_empty_log(path):
    path.mkdir()
    assert _entries(path) == []
    path.rmdir()
    os.mkfifo(path)
    assert _entries(path) == []


@pytest.mark.parametrize("text", ["caf\udce9", "\0", "\ud800 and more"])
def test_text_that_no_database_takes_is_written_and_read_as_its_escapes(path, text):
    escaped = text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    RunLog(path).tags({text: text})
    _append(path, json.dumps({"kind": "params", "t": 1, "values": {text: [text]}}).encode() + b"\n")

    tags, params = _entries(path)
    assert tags["values"] == {escaped: escaped}
    assert params["values"] == {escaped: [escaped]}


def test_a_line_that_a_full_disk_has_torn_does_not_swallow_the_next(path, monkeypatch):
    log = RunLog(path)
    write = os.write

    def writes_a_part(file: int, line: bytes) -> int:
        monkeypatch.setattr(os, "write", refuses)
        return write(file, line[:10])

    def refuses(file: int, line: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", writes_a_part)
    with pytest.raises(OSError, match="No space"):
        log.params({"a": 1})
    monkeypatch.setattr(os, "write", write)
    log.params({"b": 2})

    assert [entry["values"] for entry in _entries(path)] == [{"b": 2}]
