"""The study's page: its run in MLflow, the parent of its trials' runs, brought up to date while the sweep goes on."""

from __future__ import annotations

import logging
import math
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Self

import yaml
from optuna.trial import TrialState

from besom.secrecy import masked, public_override
from besom.sweep import report
from besom.sweep.findings import Findings
from besom.sweep.note import note
from besom.sweep.plan import Plan
from besom.sweep.record import faults
from besom.sweep.study import PARENT_RUN, Study
from besom.tracking import Store, persistently
from besom.tracking.facts import tags
from besom.tracking.recorder import MAX_METRICS, Status
from besom.tracking.store import as_key

EVERY_S = 15.0  # between two versions of the page
PATIENCE_S = 10.0  # for a version that is on its way
SETTLED_S = 5.0  # after which no trial is heard of that ended earlier than another one known
STATES = {TrialState.COMPLETE: "completed", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}

log = logging.getLogger(__name__)


class Page:
    """Of a study in a store; `run` is its id there."""

    def __init__(self, study: Study, store: Store, run: str) -> None:
        self._study = study
        self._store = store
        self._run = run
        self._ask = partial(persistently, where=f"tracking_uri={masked(store.uri)}")
        self._written = time.monotonic()
        self._writing: threading.Thread | None = None

    @classmethod
    def open(cls, study: Study, store: Store, plan: Plan) -> Self:
        """The study's run is made once, and the same in every session.

        Raises:
            InputError: MLflow cannot be reached, and the study has no run yet.
        """
        if run := study.recall(PARENT_RUN):
            with suppress(Exception):  # MLflow is away: it need not be there yet
                store.client.update_run(run, status="RUNNING")
            return cls(study, store, str(run))
        known_by = {"besom.study": study.name, "besom.folder": str(study.folder)}
        more = {**tags(), **known_by, "mlflow.source.name": plan.program}
        ask = partial(persistently, where=f"tracking_uri={masked(store.uri)}")
        # an earlier try may have made it, and not heard so
        run = ask(lambda: store.find(known_by) or store.create_run(study.name, more))
        space = {"fixed": list(map(public_override, plan.space.fixed)), "space": plan.space.describe()}
        ask(lambda: store.client.log_text(run, yaml.safe_dump(space), "space.yaml"))
        ask(lambda: store.client.log_param(run, "n_trials", plan.n_trials))
        study.remember(PARENT_RUN, run)
        return cls(study, store, run)

    def refresh(self) -> None:
        """In a thread of its own, for which nothing waits: every `EVERY_S` at most, and one version at a time."""
        if time.monotonic() - self._written < EVERY_S or (self._writing and self._writing.is_alive()):
            return
        self._written = time.monotonic()
        findings = Findings.of(self._study)
        self._writing = threading.Thread(target=self._write, args=(findings,), name="besom-page", daemon=True)
        self._writing.start()

    def close(self, status: Status) -> None:
        """Write what the study has found, and end its run; runs that a dead worker has left open are ended too.

        Raises:
            InputError: MLflow does not take it.
        """
        if self._writing:
            self._writing.join(PATIENCE_S)  # an older version is not to come after the last
        for fault in self._ask(lambda: list(faults(self._study, self._store, self._run))):
            if fault.mend:
                self._ask(fault.mend)
        findings = Findings.of(self._study)
        self._ask(lambda: write(findings, self._store, self._run))
        with tempfile.TemporaryDirectory() as folder:
            for file in _files(findings, Path(folder)):
                self._ask(partial(self._store.client.log_artifact, self._run, str(file)))
        self._ask(lambda: self._store.client.set_terminated(self._run, status))

    def _write(self, findings: Findings) -> None:
        try:
            write(findings, self._store, self._run, time.time() - SETTLED_S)
        except Exception as error:  # whatever MLflow, its store or the network raise: the next version says it too
            log.warning("the study's page could not be brought up to date: %s", masked(str(error)))


def _files(findings: Findings, folder: Path) -> list[Path]:
    try:
        return report.write(findings, folder)
    except Exception:  # a chart that cannot be drawn: all else is recorded
        log.exception("the study's report could not be made: besom report %s", findings.name)
        return []


def write(findings: Findings, store: Store, run: str, until_s: float = math.inf) -> None:
    """The text and the numbers of the page; written twice they are there once. `until_s`: of trials that ended by then.

    Raises whatever MLflow, its store or the network raise.
    """
    from mlflow.entities import Metric, RunTag

    points = [
        Metric(as_key(key), value, int(at_s * 1000), step)
        for step, at_s, values in over_time(findings)
        if at_s < until_s
        for key, value in values.items()
    ]
    for start in range(0, len(points), MAX_METRICS):
        store.client.log_batch(run, metrics=points[start : start + MAX_METRICS])
    best = ", ".join(str(trial.number) for trial in findings.best)
    said = {"besom.best_trial": best, "mlflow.note.content": note(findings, store.experiment_of(run), run)}
    store.client.log_batch(run, tags=[RunTag(key, text) for key, text in said.items() if text])


def over_time(findings: Findings) -> Sequence[tuple[int, float, dict[str, float]]]:
    """After each trial's end: how many had ended by then, when (in seconds since 1970), and the study's metrics."""
    values = dict.fromkeys(STATES.values(), 0.0)
    ended = [(trial.datetime_complete, trial) for trial in findings.trials if trial.datetime_complete is not None]
    points = []
    for step, (at, trial) in enumerate(sorted(ended, key=lambda pair: (pair[0], pair[1].number)), 1):
        values[STATES[trial.state]] += 1
        if trial.state == TrialState.COMPLETE:
            for objective, value in zip(findings.objectives, trial.values, strict=True):
                name = "best" if len(findings.objectives) == 1 else f"best/{objective.name}"
                better = max if objective.direction == "maximize" else min
                values[name] = better(values.get(name, value), value)
        points.append((step, at.timestamp(), dict(values)))
    return points
