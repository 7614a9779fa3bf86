"""The study's page: its run in MLflow, the parent of its trials' runs."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial

import yaml

from besom.secrecy import masked
from besom.sweep.findings import Findings
from besom.sweep.note import note
from besom.sweep.plan import Plan
from besom.sweep.record import faults
from besom.sweep.study import PARENT_RUN, Study
from besom.tracking import Store, persistently
from besom.tracking.facts import tags
from besom.tracking.recorder import Status


def open_run(study: Study, store: Store | None, plan: Plan) -> str | None:
    """The study's run: made once, the same in every session; None where nothing is recorded.

    Raises:
        InputError: MLflow cannot be reached, and the study has no run yet.
    """
    if store is None:
        return None
    if run := study.recall(PARENT_RUN):
        with suppress(Exception):  # MLflow is away: it need not be there yet
            store.client.update_run(run, status="RUNNING")
        return str(run)
    known_by = {"besom.study": study.name, "besom.folder": str(study.folder)}
    more = {**tags(), **known_by, "mlflow.source.name": plan.program}
    ask = partial(persistently, where=f"tracking_uri={masked(store.uri)}")
    # an earlier try may have made it, and not heard so
    run = ask(lambda: store.find(known_by) or store.create_run(study.name, more))
    space = {"fixed": list(plan.space.fixed), "space": plan.space.describe()}
    ask(lambda: store.client.log_text(run, yaml.safe_dump(space), "space.yaml"))
    ask(lambda: store.client.log_param(run, "n_trials", plan.n_trials))
    study.remember(PARENT_RUN, run)
    return run


def close_run(study: Study, store: Store, run: str, status: Status) -> None:
    """Write what the study has found, and end its run; runs that a dead worker has left open are ended too.

    Raises:
        InputError: MLflow does not take it.
    """
    ask = partial(persistently, where=f"tracking_uri={masked(store.uri)}")
    at = int(time.time() * 1000)  # asked twice, MLflow keeps what is said of one moment once
    findings = Findings.of(study)
    counts = findings.counts
    found = {"completed": float(counts.complete), "pruned": float(counts.pruned), "failed": float(counts.failed)}
    if best := findings.best:
        numbers = ", ".join(str(trial.number) for trial in best)
        ask(lambda: store.client.set_tag(run, "besom.best_trial", numbers))
        ask(lambda: store.client.set_tag(run, "mlflow.note.content", note(findings)))
        if len(findings.objectives) == 1:
            found["best"] = best[0].values[0]
    for name, value in found.items():
        ask(partial(store.client.log_metric, run, name, value, timestamp=at, step=0))
    for fault in ask(lambda: list(faults(study, store, run))):
        if fault.mend:
            ask(fault.mend)
    ask(lambda: store.client.set_terminated(run, status))
