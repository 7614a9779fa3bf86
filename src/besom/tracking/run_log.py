"""What a run has to say, written down before it is sent: one JSON object a line, appended, never changed.

A trial's process writes here and nowhere else; whoever records the run (`RunUploader`) reads from where it left off.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, cast

from besom.system.processes import ProcessIdentity
from besom.system.storable import storable_all


class Entry(TypedDict, total=False):
    """One line. `kind` says which of the other keys are there; `t` is in milliseconds since 1970."""

    kind: str  # params, tags, metrics, artifact, dataset, run, attempt, begin, end
    t: int
    values: dict[str, Any]
    step: int
    path: str
    folder: str
    run_id: str


class RunLog:
    """Appends to a file. A line is one `write`, so that a killed process leaves whole lines and at most one torn."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._open():  # it is there from here on
            pass

    def params(self, values: Mapping[str, Any]) -> None:
        self._append({"kind": "params", "values": dict(values)})

    def tags(self, values: Mapping[str, str]) -> None:
        self._append({"kind": "tags", "values": dict(values)})

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        self._append({"kind": "metrics", "values": dict(values), "step": step})

    def artifact(self, path: Path, folder: str = "") -> None:
        """`path` is uploaded as it is when the log is sent: write it first, and do not change it after."""
        self._append({"kind": "artifact", "path": str(path.absolute()), "folder": folder})

    def dataset(self, **facts: str) -> None:
        """facts: name, digest, origin, and as JSON schema and profile."""
        self._append({"kind": "dataset", "values": facts})

    def attempt(self) -> None:
        """Another one begins: of the steps that an earlier one has spoken of, its word holds (`MetricDeduplicator`)."""
        self._append({"kind": "attempt"})

    def begin(self, **where: Any) -> None:
        """By whom the run is recorded, and where to (`resend`); of a trial's run the study knows."""
        self._append({"kind": "begin", "values": where})

    def end(self, status: str, reason: str) -> None:
        """What its recorder is to say of the run's end."""
        self._append({"kind": "end", "values": {"status": status, "reason": reason}})

    def run(self, run_id: str) -> None:
        """The run that MLflow has made for this log."""
        self._append({"kind": "run", "run_id": run_id})

    def _append(self, entry: Entry) -> None:
        entry["t"] = int(time.time() * 1000)
        line = json.dumps(storable_all(entry)).encode() + b"\n"
        with self._open() as file:
            _end_torn_line(file)
            while line:  # a disk that is full takes a part of it, and refuses the rest with an error
                line = line[os.write(file, line) :]

    @contextmanager
    def _open(self) -> Iterator[int]:
        """For each line anew: a worker writes to as many logs as it has trials."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
        try:
            file = os.open(self.path, flags, 0o600)
        except FileNotFoundError:  # a trial may delete its own folder
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self.path, flags, 0o600)
        try:
            yield file
        finally:
            os.close(file)


def run_of(path: Path) -> str | None:
    """The run that MLflow has made for the log, if it has told."""
    return next((entry["run_id"] for entry, _ in read(path) if entry["kind"] == "run"), None)


def began_ms(path: Path) -> int | None:
    """When the log's first line was written: a run begins then, whenever MLflow hears of it."""
    return next((entry["t"] for entry, _ in read(path)), None)


class MetricDeduplicator:
    """A run's metrics, each step of each once: an attempt goes on from a checkpoint, and repeats what came after it."""

    def __init__(self) -> None:
        self._before: set[tuple[str, int]] = set()  # by earlier attempts
        self._now: set[tuple[str, int]] = set()

    def news(self, entry: Entry) -> Entry:
        """The entry without what an earlier attempt has told. To be asked in the log's order."""
        if entry["kind"] == "attempt":
            self._before |= self._now
            self._now = set()
        if entry["kind"] != "metrics":
            return entry
        step, values = entry["step"], entry["values"]
        self._now.update((key, step) for key in values)
        return {**entry, "values": {key: value for key, value in values.items() if (key, step) not in self._before}}


def _end_torn_line(file: int) -> None:
    """What a killed process or a full disk has left half written must not swallow the next line."""
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        os.write(file, b"\n")


class Skipped(NamedTuple):
    """Where a line lies that is no record."""

    begin: int
    behind: int


def read(path: Path, offset: int = 0, *, skipped: list[Skipped] | None = None) -> Iterator[tuple[Entry, int]]:
    """The whole lines after `offset`, each with the offset behind it. A torn last line waits for its rest.

    A line that is no record is skipped: one torn by a killed process and ended by the next one, or a damaged one.
    `skipped` takes those.
    """
    if not path.is_file():  # a trial may have put anything in its place
        return
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            begin, offset = offset, offset + len(line)
            if (entry := _parsed(line)) is not None:
                yield entry, offset
            elif skipped is not None and line.strip():
                skipped.append(Skipped(begin, offset))


def line_numbers(path: Path, skipped: Sequence[Skipped]) -> list[int]:
    """Of those lines, counted from 1."""
    content = path.read_bytes()
    return [1 + content.count(b"\n", 0, line.begin) for line in skipped]


def _parsed(line: bytes) -> Entry | None:
    """None: it is no record, or has not all that its kind has."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("kind"), str) or not _is_time(entry.get("t")):
        return None
    is_whole = WHOLE.get(entry["kind"])
    if is_whole is None or not is_whole(entry):
        return None
    # as JSON any text can be written down, also one that no database takes
    is_odd = b"\\u0000" in line or b"\\ud" in line.lower()
    return cast("Entry", storable_all(entry) if is_odd else entry)


RUN_ID = re.compile(r"[a-zA-Z0-9][\w\-]{0,255}", re.ASCII)  # as MLflow takes it
STATUSES = ("FINISHED", "FAILED", "KILLED")


def _is_time(value: Any) -> bool:
    return _is_whole_number(value) and value >= 0


def _is_whole_number(value: Any) -> bool:
    """One that a database keeps."""
    return type(value) is int and -(2**63) <= value < 2**63


def _is_number(value: Any) -> bool:
    if type(value) not in (int, float):
        return False
    with suppress(OverflowError):
        return isinstance(float(value), float)
    return False


def _are_texts(values: Any) -> bool:
    return isinstance(values, dict) and all(isinstance(value, str) for value in values.values())


def _has_values(entry: dict[str, Any]) -> bool:
    return isinstance(entry.get("values"), dict)


def _has_texts(entry: dict[str, Any]) -> bool:
    return _are_texts(entry.get("values"))


def _is_metrics(entry: dict[str, Any]) -> bool:
    return _has_values(entry) and _is_whole_number(entry.get("step")) and all(map(_is_number, entry["values"].values()))


def _is_artifact(entry: dict[str, Any]) -> bool:
    return isinstance(entry.get("path"), str) and isinstance(entry.get("folder"), str)


def _is_dataset(entry: dict[str, Any]) -> bool:
    return _has_texts(entry) and entry["values"].keys() >= {"name", "digest", "origin", "schema", "profile"}


def _is_run(entry: dict[str, Any]) -> bool:
    return isinstance(entry.get("run_id"), str) and RUN_ID.fullmatch(entry["run_id"]) is not None


def _is_begin(entry: dict[str, Any]) -> bool:
    match entry.get("values"):
        case {"uri": str(), "experiment": str(), "name": str() | None, "tags": tags, "process": process}:
            return _are_texts(tags) and ProcessIdentity.is_one(process)
    return False


def _is_end(entry: dict[str, Any]) -> bool:
    match entry.get("values"):
        case {"status": status, "reason": str()}:
            return status in STATUSES
    return False


# of each kind of record, whether one has all that its readers ask for
WHOLE: dict[str, Callable[[dict[str, Any]], bool]] = {
    "params": _has_values,
    "tags": _has_texts,
    "metrics": _is_metrics,
    "artifact": _is_artifact,
    "dataset": _is_dataset,
    "run": _is_run,
    "attempt": lambda entry: True,
    "begin": _is_begin,
    "end": _is_end,
}
