"""The study's page: its run in MLflow, the parent of its trials' runs, brought up to date while the sweep goes on.

An MLflow that is away when a study begins makes nobody wait: the run is made as soon as it is back.
"""

from __future__ import annotations

import logging
import math
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path

import yaml
from optuna.trial import TrialState

from besom import reporting
from besom.config.redaction import redact
from besom.engine.reconcile import faults
from besom.engine.study_description import note
from besom.space.space import searched
from besom.study.attrs import FIXED, N_TRIALS, PARENT_RUN, PROGRAM
from besom.study.snapshot import StudySnapshot
from besom.study.study import Study
from besom.system.encoding import say
from besom.system.storable import storable
from besom.tracking import AwayError, Store, persistently, saved_view
from besom.tracking.environment import tags
from besom.tracking.mlflow_store import as_key
from besom.tracking.run_uploader import MAX_METRICS, Status

EVERY_S = 15.0  # between two versions of the page
AGAIN_S = 2.0  # between two tries to make its run
OPENING_S = 10.0  # for a server's answer before the first trial
PATIENCE_S = 10.0  # for a version that is on its way
SETTLED_S = 5.0  # after which no trial is heard of that ended earlier than another one known
STATES = {TrialState.COMPLETE: "completed", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}

log = logging.getLogger(__name__)


class StudyRun:
    """Of a study in a store."""

    def __init__(self, study: Study, store: Store, say: Callable[[str], None] = say) -> None:
        self._study = study
        self._say = say
        self._store = store
        self._run: str | None = study.recall(PARENT_RUN)
        self._ask = partial(persistently, where=f"tracking_uri={redact(store.uri)}")
        self._written = time.monotonic()
        self._writing: Future[None] | None = None
        self._said = ""  # why it could not be written

    def open(self) -> Callable[[], bool]:
        """The study's run is made once, and the same in every session; returned is what tells whether it is there.

        That raises:
            AwayError: MLflow does not answer: `refresh` makes it.
            InputError: MLflow has refused it.
        """
        self._writing = opening = _in_a_thread(self._take_up)
        last = time.monotonic() + OPENING_S if self._store.is_server else math.inf

        def is_open() -> bool:
            if opening.done():
                opening.result()
            elif time.monotonic() > last:
                raise AwayError(f"tracking_uri={redact(self._store.uri)}: MLflow has not answered for {OPENING_S:g} s")
            return opening.done()

        return is_open

    def begin(self) -> str:
        """Its run; made if there is none.

        Raises:
            AwayError: MLflow does not answer.
            InputError: MLflow has refused it.
        """
        if self._run is None:
            known_by = {"besom.study": self._study.name, "besom.folder": str(self._study.folder)}
            more = {**tags(), **known_by, "mlflow.source.name": self._study.recall(PROGRAM) or ""}
            # an earlier try may have made it, and not heard so
            run = self._ask(lambda: self._store.find(known_by) or self._first_run(more))
            space = yaml.safe_dump({"fixed": self._study.recall(FIXED), "space": self._study.space()})
            self._ask(lambda: self._store.client.log_text(run, space, "space.yaml"))
            self._ask(lambda: self._store.client.log_param(run, "n_trials", self._study.recall(N_TRIALS)))
            self._study.remember(PARENT_RUN, run)
            self._run = run
            self._save_view(run)
        return self._run

    def forget(self) -> None:
        """A run that is gone from MLflow."""
        self._run = None
        self._study.remember(PARENT_RUN, None)

    def _first_run(self, tags: dict[str, str]) -> str:
        """Of a study that MLflow may know from another storage, by its name: that is said, once."""
        name = self._study.name
        if other := self._store.last({"besom.study": name}):
            began = datetime.fromtimestamp(other.info.start_time / 1000).astimezone()
            where = other.data.tags.get("besom.folder", "another folder")
            self._say(
                f"study {name}: MLflow has a study of that name already, begun {began:%Y-%m-%d %H:%M} in {where}. "
                f"It is not in {redact(self._study.url)}: this one is new, numbered from 0, with a run of its own. "
                "If the other one's storage was deleted or moved, put it back or name it, hydra.sweeper.storage=...; "
                "or give this one another name, hydra.sweeper.study_name=..."
            )
        return self._new_run(tags)

    def _new_run(self, tags: dict[str, str]) -> str:
        """Begun with the first trial, where MLflow was away then."""
        began = [trial.datetime_start for trial in self._study.trials() if trial.datetime_start]
        return self._store.create_run(self._study.name, tags, began_ms=_ms(min(began)) if began else None)

    def _save_view(self, run: str) -> None:
        """Of the trials in MLflow's table. A study is recorded without one too: MLflow does not document views."""
        objectives = [(objective.key, objective.direction == "maximize") for objective in self._study.objectives()]
        keys = [as_key(key) for key in searched(self._study.space())]
        try:
            saved_view.save(self._store, run, self._study.name, objectives, keys)
        except Exception as error:  # whatever MLflow, its store or the network raise
            log.warning("the view of the trials could not be saved in MLflow: %s", redact(str(error)))

    def refresh(self) -> None:
        """In a thread of its own, for which nothing waits: every `EVERY_S` at most, and one version at a time."""
        pause_s = EVERY_S if self._run else AGAIN_S
        if time.monotonic() - self._written < pause_s or (self._writing and not self._writing.done()):
            return
        self._written = time.monotonic()
        snapshot = StudySnapshot.of(self._study)
        self._writing = _in_a_thread(lambda: self._write(snapshot))

    def close(self, status: Status) -> None:
        """Write what the study has found, and end its run; runs that a dead worker has left open are ended too.

        Raises:
            InputError: MLflow does not take it.
        """
        if self._writing:
            wait([self._writing], PATIENCE_S)  # an older version is not to come after the last
        if self._run is None and not self._study.trials():  # refused before its first trial: nothing of it stays
            return
        run = self.begin()
        for fault in self._ask(lambda: list(faults(self._study, self._store, run))):
            if fault.fix:
                self._ask(fault.fix)
        snapshot = StudySnapshot.of(self._study)
        self._ask(lambda: write(snapshot, self._store, run))
        with tempfile.TemporaryDirectory() as folder:
            for file in _files(snapshot, Path(folder)):
                self._ask(partial(self._store.client.log_artifact, run, str(file)))
        ended = [trial.datetime_complete for trial in snapshot.trials if trial.datetime_complete]
        last_ms = _ms(max(ended)) if ended else None  # it may be `besom doctor` that ends it, days later
        self._ask(lambda: self._store.client.set_terminated(run, status, end_time=last_ms))

    def _take_up(self) -> None:
        if strays := self._ask(self._store.strays):
            self._say(strays)
        if self._run is None:
            self.begin()
            return
        with suppress(Exception):  # MLflow is away: its status is mended at the end
            self._store.client.update_run(self._run, status="RUNNING")
            self._save_view(self._run)

    def _write(self, snapshot: StudySnapshot) -> None:
        try:
            write(snapshot, self._store, self.begin(), time.time() - SETTLED_S)
        except Exception as error:  # whatever MLflow, its store or the network raise: the next version says it too
            if (said := redact(str(error))) != self._said:  # once, and not every few seconds
                self._said = said
                log.warning("the study's page could not be brought up to date: %s", said)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _in_a_thread(call: Callable[[], None]) -> Future[None]:
    """A daemon: an MLflow that does not answer does not keep this process alive."""
    future: Future[None] = Future()

    def serve() -> None:
        try:
            call()
            future.set_result(None)
        except BaseException as error:  # it belongs to whoever asks for the result
            future.set_exception(error)

    threading.Thread(target=serve, name="besom-page", daemon=True).start()
    return future


def _files(snapshot: StudySnapshot, folder: Path) -> list[Path]:
    try:
        return reporting.write(snapshot, folder)
    except Exception:  # a chart that cannot be drawn: all else is recorded
        log.exception("the study's report could not be made: besom report %s", snapshot.name)
        return []


def write(snapshot: StudySnapshot, store: Store, run: str, until_s: float = math.inf) -> None:
    """The text and the numbers of the page; written twice they are there once. `until_s`: of trials that ended by then.

    Raises whatever MLflow, its store or the network raise.
    """
    from mlflow.entities import Metric, RunTag

    points = [
        Metric(as_key(key), value, int(at_s * 1000), step)
        for step, at_s, values in over_time(snapshot)
        if at_s < until_s
        for key, value in values.items()
    ]
    for start in range(0, len(points), MAX_METRICS):
        store.client.log_batch(run, metrics=points[start : start + MAX_METRICS])
    best = ", ".join(str(trial.number) for trial in snapshot.best)
    said = {"besom.best_trial": best, "mlflow.note.content": storable(note(snapshot, store.experiment_of(run), run))}
    store.client.log_batch(run, tags=[RunTag(key, text) for key, text in said.items() if text])


def over_time(snapshot: StudySnapshot) -> Sequence[tuple[int, float, dict[str, float]]]:
    """After each trial's end: how many had ended by then, when (in seconds since 1970), and the study's metrics."""
    values = dict.fromkeys(STATES.values(), 0.0)
    ended = [(trial.datetime_complete, trial) for trial in snapshot.trials if trial.datetime_complete is not None]
    points = []
    for step, (at, trial) in enumerate(sorted(ended, key=lambda pair: (pair[0], pair[1].number)), 1):
        values[STATES[trial.state]] += 1
        if trial.state == TrialState.COMPLETE:
            for objective, value in zip(snapshot.objectives, trial.values, strict=True):
                name = "best" if len(snapshot.objectives) == 1 else f"best/{objective.name}"
                better = max if objective.direction == "maximize" else min
                values[name] = better(values.get(name, value), value)
        points.append((step, at.timestamp(), dict(values)))
    return points
