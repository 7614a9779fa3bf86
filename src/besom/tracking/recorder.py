"""A run's way into MLflow: reads the run's log and sends it in batches, from a thread of its own.

Why not Lightning's MLFlowLogger: it calls a pruned trial FAILED, cuts parameters at 250 characters, and makes training
wait for the server at every metric.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar

from besom.tracking import facts
from besom.tracking.log import Entry, read
from besom.tracking.store import Store, as_key, as_param

Item = TypeVar("Item")
Status = Literal["FINISHED", "FAILED", "KILLED"]

EVERY_S = 1.0  # between two batches; the UI is rarely looked at more often
MAX_PARAMS, MAX_METRICS, MAX_TAGS = 100, 1000, 100  # MLflow's limits of one batch
MAX_VALUE = 6000  # characters of a parameter; a longer one goes whole into an artifact
MAX_TAG = 5000

log = logging.getLogger(__name__)


class Recorder:
    """Makes the MLflow run, follows its log, and ends it once. As a context manager it ends with the block's fate."""

    def __init__(
        self,
        store: Store,
        log_path: Path,
        *,
        name: str | None = None,
        tags: Mapping[str, str] | None = None,
        parent: str | None = None,
        run_id: str | None = None,
    ) -> None:
        self.run_id = run_id  # given: the run of an earlier attempt, taken up again
        self._store = store
        self._log_path = log_path
        self._name = name
        self._tags = dict(tags or {})
        self._parent = parent
        self._offset = 0
        self._params_sent: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="besom-recorder", daemon=True)

    def start(self) -> None:
        """Make the run. Not before the input has proven good: a refused run leaves nothing in MLflow."""
        if self.run_id is None:
            self.run_id = self._store.create_run(self._name, {**facts.tags(), **self._tags}, self._parent)
            self._store.client.log_text(self.run_id, facts.requirements(), "requirements.txt")
        else:
            self._store.client.update_run(self.run_id, status="RUNNING")
            # a parameter is recorded once: an attempt with another config keeps the first one's
            self._params_sent.update(self._store.client.get_run(self.run_id).data.params)
        self._thread.start()

    def withdraw(self) -> None:
        """Delete the run: it was made in vain."""
        self._stop.set()
        self._thread.join()
        if self.run_id is not None:
            self._store.client.delete_run(self.run_id)

    def finish(self, status: Status, reason: str = "", outcome: str = "") -> None:
        """Send what is left and set the final status; `outcome` in the sweep's words."""
        if self.run_id is None:
            return
        self._stop.set()
        self._thread.join()
        self._drain()
        for tag, value in {"besom.outcome": outcome, "besom.reason": reason}.items():
            if value:
                self._store.client.set_tag(self.run_id, tag, value[:MAX_TAG])
        self._store.client.set_terminated(self.run_id, status)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self.finish("FINISHED")
        elif issubclass(kind, KeyboardInterrupt | SystemExit):
            self.finish("KILLED", "interrupted")
        else:
            self.finish("FAILED", f"{kind.__name__}: {error}")

    def _follow(self) -> None:
        while not self._stop.wait(EVERY_S):
            try:
                self._drain()
            except (
                Exception
            ) as error:  # whatever MLflow, its store or the network raise: the log keeps all for the next try
                log.warning("MLflow did not take the last batch, it will be sent again: %s", error)

    def _drain(self) -> None:
        """Send every whole line not yet sent. What fails stays unsent: sending a line twice adds nothing."""
        batch, end = _Batch(), self._offset
        for entry, behind in read(self._log_path, self._offset):
            batch.add(entry)
            end = behind
        if end > self._offset:
            self._send(batch)
            self._offset = end

    def _send(self, batch: _Batch) -> None:
        from mlflow.entities import Dataset, DatasetInput, Metric, RunTag

        assert self.run_id is not None
        client, run = self._store.client, self.run_id
        self._send_params({key: value for key, value in batch.params.items() if key not in self._params_sent})
        for some_tags in _chunks([RunTag(key, value[:MAX_TAG]) for key, value in batch.tags.items()], MAX_TAGS):
            client.log_batch(run, tags=some_tags)
        metrics = [Metric(key, value, t, step) for key, value, t, step in batch.metrics]
        for some_metrics in _chunks(metrics, MAX_METRICS):
            client.log_batch(run, metrics=some_metrics)
        for path, folder in batch.artifacts:
            if Path(path).exists():
                client.log_artifact(run, path, folder or None)
            else:
                log.warning("the artifact %s is gone; all else is recorded", path)
        datasets = [
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
            for facts in batch.datasets
        ]
        if datasets:
            client.log_inputs(run, datasets)

    def _send_params(self, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        assert self.run_id is not None
        client, run = self._store.client, self.run_id
        short = {
            key: value if len(value) <= MAX_VALUE else f"→ artifact params/{key}.txt" for key, value in params.items()
        }
        for some in _chunks([Param(key, value) for key, value in short.items()], MAX_PARAMS):
            client.log_batch(run, params=some)
        for key, value in params.items():
            if len(value) > MAX_VALUE:
                client.log_text(run, value, f"params/{key}.txt")
        self._params_sent.update(params)


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


def _chunks(items: list[Item], size: int) -> list[list[Item]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
