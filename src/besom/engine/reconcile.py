"""What MLflow has of a study's trials, held against the study and the trials' own logs; what is missing is sent again.

A killed worker may have told the study of a trial's end, and not MLflow. The trial's log has all it had to say.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from optuna.trial import FrozenTrial, TrialState

from besom.config.redaction import redact
from besom.space.space import label
from besom.study.attrs import ENDS, FORKED, KIND, REASON, TRIAL
from besom.study.lease import lease_of
from besom.study.snapshot import point, run_id
from besom.study.study import Study
from besom.tracking import RunUploader, Store, persistently
from besom.tracking.mlflow_store import as_key
from besom.tracking.run_log import MetricDeduplicator, RunLog, read
from besom.tracking.run_uploader import Status

if TYPE_CHECKING:
    from mlflow.entities import Run

# of a trial's state in the study, the status of its run and its `besom.outcome`
ENDED: dict[TrialState, tuple[Status, str]] = {
    TrialState.COMPLETE: ("FINISHED", "complete"),
    TrialState.PRUNED: ("FINISHED", "pruned"),  # the pruner's decision: MLflow marks KILLED as it marks FAILED
    TrialState.FAIL: ("FAILED", "failed"),
    TrialState.WAITING: ("KILLED", "requeued"),
}


@dataclass(frozen=True)
class Inconsistency:
    """Something a crash has left."""

    what: str
    fix: Callable[[], object] | None = None  # None: nobody can


def faults(
    study: Study, store: Store, parent: str, *, thorough: bool = False, notes: list[str] | None = None
) -> Iterator[Inconsistency]:
    """Of the runs of trials that no worker holds; `thorough`: every value in every trial's log is looked for.

    `notes` takes what was found otherwise, and is nobody's fault.
    """
    runs = _children(store, parent)
    for trial in study.trials():
        if trial.state in ENDED and FORKED not in trial.user_attrs:
            yield from _faults_of(study, store, parent, trial, runs[trial.number], thorough, notes)


def _faults_of(
    study: Study,
    store: Store,
    parent: str,
    trial: FrozenTrial,
    runs: list[Run],
    thorough: bool,
    notes: list[str] | None,
) -> Iterator[Inconsistency]:
    if _is_being_recorded(trial, thorough):
        return
    # an attempt that was killed early made a run that the trial does not know
    known = run_id(study.folder, trial) or next((run.info.run_id for run in runs), None)
    own = next((run for run in runs if run.info.run_id == known), None)
    for run in runs:
        if run is not own:
            yield Inconsistency(
                f"trial {trial.number} has a second run in MLflow, {run.info.run_id}",
                partial(store.client.delete_run, run.info.run_id),
            )
    if known and own is None and store.was_deleted(known):  # by its user
        if notes is not None:
            notes.append(f"the run of trial {trial.number} was deleted in MLflow")
        return
    if known and own is None:  # it is gone for good, or another study's
        known = None
    if what := _fault(study, store, trial, own, thorough):
        yield Inconsistency(what, partial(_record_again, study, store, parent, trial, known))


def _record_again(study: Study, store: Store, parent: str, trial: FrozenTrial, run_id: str | None) -> None:
    """Send a trial's whole log: what MLflow has already, it takes for what it has."""
    status, outcome = ENDED[trial.state]
    _complete_log(study, trial)
    recorder = RunUploader(
        store,
        _log_of(study, trial),
        name=label(trial.number, point(trial)),
        tags={"besom.study": study.name},
        known_by={TRIAL: str(trial.number)},
        parent=lambda: parent,
        run_id=run_id,
        is_new=False,
    )
    kind, reason = (trial.user_attrs.get(key, "") for key in (KIND, REASON))
    recorder.finish(status, f"{kind}: {reason}" if kind else reason, outcome)
    persistently(recorder.sync, f"tracking_uri={redact(store.uri)}")


def _complete_log(study: Study, trial: FrozenTrial) -> None:
    """With what the study alone has, where the disk was full at the trial's end."""
    if trial.state != TrialState.COMPLETE:
        return
    log = _log_of(study, trial)
    said = {key for entry, _ in read(log) if entry["kind"] == "metrics" for key in entry["values"]}
    score = {objective.key: value for objective, value in zip(study.objectives(), trial.values, strict=True)}
    if missing := {key: value for key, value in score.items() if key not in said}:
        RunLog(log).metrics(missing, step=len(trial.user_attrs.get(ENDS, [])))


def _is_being_recorded(trial: FrozenTrial, thorough: bool) -> bool:
    """Its worker, one that joined the sweep, may still be at it; of one on another machine nobody can know."""
    holder = lease_of(trial)
    return holder is not None and not holder.is_dead() and (holder.is_here() or not thorough)


def _log_of(study: Study, trial: FrozenTrial) -> Path:
    return study.folder / str(trial.number) / "run.jsonl"


def _children(store: Store, parent: str) -> dict[int, list[Run]]:
    """By the number of their trial."""
    found: dict[int, list[Run]] = defaultdict(list)  # the oldest first
    asked = f"tags.`mlflow.parentRunId` = '{parent}'"
    for run in store.search(asked, [store.experiment_of(parent)]):
        found[int(run.data.tags.get(TRIAL, -1))].append(run)
    return found


def _fault(study: Study, store: Store, trial: FrozenTrial, run: Run | None, thorough: bool) -> str | None:
    status, _ = ENDED[trial.state]
    if run is None:
        began = trial.state != TrialState.WAITING or _log_of(study, trial).exists()
        return f"trial {trial.number} has no run in MLflow" if began else None
    if run.info.status != status:
        return f"trial {trial.number} is {trial.state.name} in the study, its run is {run.info.status}"
    recorded = [run.data.metrics.get(objective.key) for objective in study.objectives()]
    if trial.state == TrialState.COMPLETE and recorded != list(map(_as_mlflow_has_it, trial.values)):
        return f"trial {trial.number}: its objective is not in MLflow"
    if thorough and (missing := _missing(store, run, _log_of(study, trial))):
        return f"trial {trial.number}: {missing} values of its log are not in MLflow"
    return None


def _missing(store: Store, run: Run, log: Path) -> int:
    said: dict[str, set[tuple[int, int]]] = defaultdict(set)
    told = MetricDeduplicator()
    for entry, _ in read(log):
        if (news := told.news(entry))["kind"] == "metrics":
            for key in news["values"]:
                said[as_key(key)].add((entry["step"], entry["t"]))
    kept = {
        key: {(metric.step, metric.timestamp) for metric in store.client.get_metric_history(run.info.run_id, key)}
        for key in said
    }
    return sum(len(points - kept[key]) for key, points in said.items())


def _as_mlflow_has_it(value: float) -> float:
    """Infinity as the largest number there is."""
    return max(-sys.float_info.max, min(sys.float_info.max, value))
