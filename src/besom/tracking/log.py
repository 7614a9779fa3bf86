"""What a run has to say, written down before it is sent: one JSON object a line, appended, never changed.

A trial's process writes here and nowhere else; whoever records the run (`Recorder`) reads from where it left off.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict


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
        with self._open() as file:
            _end_torn_line(file)

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
        """Another one begins: of the steps that an earlier one has spoken of, its word holds (`Told`)."""
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
        line = json.dumps(entry).encode() + b"\n"
        with self._open() as file:
            os.write(file, line)

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


class Told:
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
    """What a killed process left half written must not swallow the next line."""
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        os.write(file, b"\n")


def read(path: Path, offset: int = 0) -> Iterator[tuple[Entry, int]]:
    """The whole lines after `offset`, each with the offset behind it. A torn last line waits for its rest."""
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            try:
                entry = json.loads(line)
            except ValueError:  # torn by a killed process, and ended by the next one
                continue
            yield entry, offset
