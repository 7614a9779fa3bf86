"""A run's way into MLflow: its log is read and sent in batches, from a thread of its own (`UploadThread`).

MLflow may be away at any moment, or take what it is sent and not say so. What fails is done again until it succeeds,
and done twice it adds nothing: metrics keep their time, and before a run is made a second time it is looked for.

Why not Lightning's MLFlowLogger: it calls a pruned trial FAILED, cuts parameters at 250 characters, and makes training
wait for the server at every metric.
"""

from __future__ import annotations

import json
import logging
import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, Self
from uuid import uuid4

from besom.config.redaction import redact
from besom.system.storable import shortened, storable
from besom.tracking import environment
from besom.tracking.mlflow_store import MAX_KEY, Store, as_key, as_param
from besom.tracking.run_log import Entry, MetricDeduplicator, RunLog, Skipped, began_ms, read

Status = Literal["FINISHED", "FAILED", "KILLED"]

MAX_PARAMS, MAX_METRICS, MAX_TAGS = 100, 1000, 100  # MLflow's limits of one batch
MAX_BATCH = 1000  # of all three together
MAX_VALUE = 6000  # characters of a parameter; a longer one goes whole into an artifact
MAX_TAG = 5000

RUN_KEY = "besom.key"  # a tag by which a run is found again that was made, and its making not answered

log = logging.getLogger(__name__)


class _End(NamedTuple):
    status: Status
    reason: str
    outcome: str
    unless: Callable[[], bool]


class RunUploader:
    """One run: made, followed, ended once. As a context manager it ends with the block's fate."""

    def __init__(
        self,
        store: Store,
        log_path: Path,
        *,
        name: str | None = None,
        tags: Mapping[str, str] | None = None,
        parent: Callable[[], str] | None = None,
        run_id: str | None = None,
        known_by: Mapping[str, str] | None = None,
        is_new: bool = True,
        counts: Callable[[str], bool] = lambda run_id: True,
    ) -> None:
        """`known_by`: tags that no other run (under `parent`) has. `is_new`: no earlier attempt can have made it.

        `parent` is asked for when the run is to be made: what it raises is a reason to try again later.
        `counts` is asked about the run once it is there: False, where another was made that is to be kept.
        """
        self.run_id = run_id  # given: the run of an earlier attempt, taken up again
        self._store = store
        self._log_path = log_path
        self._name = name
        self._identity = dict(known_by or {RUN_KEY: uuid4().hex})
        self._tags = {**(tags or {}), **self._identity}
        self._parent = parent
        self._counts = counts
        self._may_be_there = not is_new
        self._taken_up = run_id is not None
        self._made = False
        self._offset = 0
        self._told = MetricDeduplicator()
        self._last_ms: int | None = None  # when the last line was written
        self._unsent = _Batch()
        self._params_sent: set[str] = set()
        self._odd_steps: dict[tuple[str, str], list[str]] = {}  # of metrics that were no finite number
        self._end: _End | None = None
        self._given_up = threading.Event()

    def sync(self) -> bool:
        """Make the run if there is none, and send what is new; True when there is nothing left to do.

        Raises whatever MLflow, its store or the network raise: call it again.
        """
        if self._given_up.is_set():
            return True
        end = self._end  # before the log is read: all that was written before the end is sent before it
        if not self._made and not self._make():
            return True
        self._read()
        ends = end is not None and not end.unless()
        if end and ends:
            said = {"besom.outcome": end.outcome, "besom.reason": redact(end.reason)}
            self._unsent.tags.update({tag: value for tag, value in said.items() if value})
        self._send()
        if end and ends:  # this thread lags behind: the run ends when its log does
            self._store.client.set_terminated(str(self.run_id), end.status, end_time=self._last_ms)
        return end is not None

    def finish(
        self, status: Status, reason: str = "", outcome: str = "", unless: Callable[[], bool] = lambda: False
    ) -> None:
        """What is to be its final status; `outcome` in the sweep's words. `unless` it goes on by then."""
        self._end = _End(status, storable(reason), outcome, unless)

    def give_up(self) -> None:
        """Another records this run from here on."""
        self._given_up.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        status, reason = _fate(kind, error)
        RunLog(self._log_path).end(status, redact(reason))
        self.finish(status, reason)

    def _make(self) -> bool:
        """False: another run counts. This one is left to whoever looks over the study: it may have been taken up."""
        client = self._store.client
        parent = self._parent() if self._parent and self.run_id is None else None
        if self.run_id is None and self._may_be_there:
            self.run_id = self._store.find(self._identity, parent)
            self._taken_up = self.run_id is not None
        if self.run_id is None:
            self._may_be_there = True  # from here on, even if the answer is lost
            self.run_id = self._store.create_run(
                self._name, {**environment.tags(), **self._tags}, parent, began_ms=began_ms(self._log_path)
            )
        if not self._counts(self.run_id):
            return False
        if self._taken_up:
            client.update_run(self.run_id, status="RUNNING")
            # a parameter is recorded once: an attempt with another config keeps the first one's
            self._params_sent.update(client.get_run(self.run_id).data.params)
        else:
            RunLog(self._log_path).run(self.run_id)
            client.log_text(self.run_id, environment.requirements(), "requirements.txt")
        self._made = True
        return True

    def _read(self) -> None:
        """Every whole line that is new. What is not sent stays unsent: sending a line twice adds nothing."""
        with suppress(OSError):
            if self._log_path.stat().st_size < self._offset:  # begun anew, where a trial has deleted it
                self._offset = 0
        skipped: list[Skipped] = []
        for entry, behind in read(self._log_path, self._offset, skipped=skipped):
            self._unsent.add(self._told.news(entry))
            self._offset = behind
            if entry["kind"] != "run":  # which this thread has written
                self._last_ms = entry["t"]
        if skipped:
            self._offset = max(self._offset, skipped[-1].behind)  # said once
            log.warning("%s: %s lines are no records, and were skipped", self._log_path, len(skipped))

    def _send(self) -> None:
        """What MLflow has taken leaves the batch: the next try begins behind it."""
        from mlflow.entities import Metric, Param, RunTag

        assert self.run_id is not None
        client, run, batch = self._store.client, self.run_id, self._unsent
        for key in self._params_sent & batch.params.keys():
            del batch.params[key]
        batch.tags.update(self._not_finite(batch.metrics))
        while batch.params or batch.tags or batch.metrics:
            params, tags = _first(batch.params, MAX_PARAMS), _first(batch.tags, MAX_TAGS)
            metrics = batch.metrics[: MAX_BATCH - len(params) - len(tags)]
            client.log_batch(
                run,
                params=[Param(key, _short(key, value)) for key, value in params.items()],
                tags=[RunTag(key, value[:MAX_TAG]) for key, value in tags.items()],
                metrics=[Metric(key, value, t, step) for key, value, t, step in metrics],
            )
            for key, value in params.items():
                if len(value) > MAX_VALUE:
                    client.log_text(run, value, f"params/{key}.txt")
            for key, value in tags.items():
                if len(value) > MAX_TAG:
                    client.log_text(run, value, f"tags/{key}.txt")
            self._params_sent.update(params)
            for key in params:
                del batch.params[key]
            for key in tags:
                del batch.tags[key]
            del batch.metrics[: len(metrics)]
        while batch.artifacts:
            path, folder = batch.artifacts[0]
            if os.path.isfile(path):  # noqa: PTH113 - which raises nothing, whatever the path
                client.log_artifact(run, path, folder or None)
            else:
                log.warning("the artifact %s is gone; all else is recorded", path)
            del batch.artifacts[0]
        if batch.datasets:
            self._send_datasets(batch.datasets)
            batch.datasets.clear()

    def _send_datasets(self, datasets: Sequence[Mapping[str, str]]) -> None:
        from mlflow.entities import Dataset, DatasetInput

        inputs = [
            DatasetInput(
                Dataset(
                    facts["name"],
                    facts["digest"],
                    source_type="local",
                    source=json.dumps({"uri": facts["origin"]}),
                    schema=facts["schema"],
                    profile=facts["profile"],
                ),
                tags=[],
            )
            for facts in datasets
        ]
        self._store.client.log_inputs(str(self.run_id), inputs)

    def _not_finite(self, metrics: Sequence[tuple[str, float, int, int]]) -> dict[str, str]:
        """As tags: MLflow keeps infinity as the largest number there is, and its UI shows no NaN."""
        tags = {}
        for key, value, _, step in metrics:
            if not math.isfinite(value):
                steps = self._odd_steps.setdefault((key, str(value)), [])
                if str(step) not in steps:
                    steps.append(str(step))
                tags[f"not_finite.{key}.{value}"[:MAX_KEY]] = f"{value} at step {', '.join(steps)}"
        return tags


def _fate(kind: type[BaseException] | None, error: BaseException | None) -> tuple[Status, str]:
    if kind is None:
        return "FINISHED", ""
    if issubclass(kind, KeyboardInterrupt | SystemExit):
        return "KILLED", "interrupted"
    return "FAILED", shortened(storable(f"{kind.__name__}: {_words(error)}"))


def _words(error: BaseException | None) -> str:
    try:
        return str(error)
    except Exception:  # of a class of the user's
        return "(its text cannot be had)"


class _Batch:
    """Lines of the log, sorted by where they go."""

    def __init__(self) -> None:
        self.params: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.metrics: list[tuple[str, float, int, int]] = []
        self.artifacts: list[tuple[str, str]] = []
        self.datasets: list[dict[str, str]] = []

    def add(self, entry: Entry) -> None:
        match entry["kind"]:
            case "params":
                self.params.update({as_key(key): as_param(value) for key, value in entry["values"].items()})
            case "tags":
                self.tags.update({as_key(key): value for key, value in entry["values"].items()})
            case "metrics":
                step, t = entry["step"], entry["t"]
                self.metrics.extend((as_key(key), value, t, step) for key, value in entry["values"].items())
            case "artifact":
                self.artifacts.append((entry["path"], entry["folder"]))
            case "dataset":
                self.datasets.append(entry["values"])


def _first(values: Mapping[str, str], count: int) -> dict[str, str]:
    return dict(islice(values.items(), count))


def _short(key: str, value: str) -> str:
    return value if len(value) <= MAX_VALUE else f"→ artifact params/{key}.txt"
