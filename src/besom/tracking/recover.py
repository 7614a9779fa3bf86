"""A run of `besom train` whose MLflow was away, or that was killed: its log has all it had to say, and where to."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from besom.config.redaction import stash_password
from besom.errors import InputError
from besom.system.processes import ProcessIdentity
from besom.tracking.mlflow_store import Store, persistently
from besom.tracking.run_log import Skipped, read
from besom.tracking.run_uploader import RunUploader

KILLED: dict[str, Any] = {"status": "FAILED", "reason": "its process was killed"}


def own(**where: Any) -> dict[str, Any]:
    """For `RunLog.begin`: where the run is recorded, and whose it is while it goes on."""
    return {**where, "process": asdict(ProcessIdentity.mine())}


def recorder_of(log: Path, begin: dict[str, Any], store: Store, *, is_new: bool) -> RunUploader:
    """`begin` as the log has it."""
    known_by = {"besom.folder": str(log.parent), "host": begin["process"]["host"]}
    return RunUploader(store, log, name=begin["name"], tags=begin["tags"], known_by=known_by, is_new=is_new)


def resend(folder: Path, uri: str | None) -> str:
    """Record the whole run; what MLflow has already, it takes for what it has. What is to be said of it.

    Raises:
        InputError: no run was begun there, it goes on, or MLflow does not take it.
    """
    log = folder.absolute() / "run.jsonl"
    skipped: list[Skipped] = []
    entries = [entry for entry, _ in read(log, skipped=skipped)]
    damaged = f"; {len(skipped)} lines of {log.name} are no records, and were skipped" if skipped else ""
    begin = next((entry["values"] for entry in entries if entry["kind"] == "begin"), None)
    if begin is None:
        raise InputError(
            f"{folder}: no run of `besom train` was begun there{damaged}; or name a study: besom doctor STUDY"
        )
    if _goes_on(begin):
        raise InputError(
            f"{folder}: its run goes on, in process {begin['process']['pid']}: ask again when it has ended"
        )
    store = Store(stash_password(uri or begin["uri"]), begin["experiment"])
    recorder = recorder_of(log, begin, store, is_new=False)
    end = next((entry["values"] for entry in entries if entry["kind"] == "end"), KILLED)
    recorder.finish(end["status"], end["reason"])
    persistently(recorder.sync, f"tracking_uri={store.uri}")
    return f"{folder}: recorded as run {recorder.run_id}, {end['status']}, in {store.uri}{damaged}"


def _goes_on(begin: dict[str, Any]) -> bool:
    """Of another machine's process nothing can be known from here."""
    process = ProcessIdentity(**begin["process"])
    return process.is_here() and not process.is_dead()
