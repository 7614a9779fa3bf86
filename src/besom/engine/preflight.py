"""Before anything is written: what would fail later is found now."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from besom.engine.launch import make_launcher
from besom.engine.plan import Sweep
from besom.engine.stop_conditions import make_terminator
from besom.engine.worker import Worker
from besom.hydra_app.check_space import check_space
from besom.hydra_app.job import refuse_homebound
from besom.search.samplers import check
from besom.study.fingerprint import fingerprint
from besom.system.locks import sqlite_file


def run_preflight_checks(sweep: Sweep) -> Sweep:
    """Compose every end of the space, and build whatever the sweep will need; the sweep with its fingerprint.

    Raises:
        InputError: one of them cannot be.
    """
    plan, app = sweep.plan, sweep.app
    if plan.isolation == "process":
        refuse_homebound(app)
    composed = check_space(plan.space, app)
    is_shared = sqlite_file(plan.storage) is None
    check(plan.sampler, plan.space, plan.pruner, len(plan.objectives), is_shared=is_shared)
    make_terminator(plan.rules.terminator)
    # one not installed refuses here
    make_launcher(app, Worker(plan, app), Path(str(app.config.hydra.sweep.dir)).absolute(), len(plan.slots), None)
    for point in sweep.enqueue:
        plan.space.known_point(point)
    return replace(sweep, plan=replace(plan, fingerprint=fingerprint(plan.space, composed)))
