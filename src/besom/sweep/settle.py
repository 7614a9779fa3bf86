"""What an app settles once a study, for all its trials: one worker asks it before the first, the others wait.

It is asked where and as a trial runs: in a process of its own, on a slot's device. What it refuses (`InputError`) ends
the sweep before its first trial.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from besom.errors import InputError
from besom.secrecy import masked
from besom.sweep.attempt import Attempt
from besom.sweep.hold import BEATS
from besom.sweep.in_place import InPlace
from besom.sweep.job import App
from besom.sweep.lease import Lease, Watch
from besom.sweep.outcome import Terms
from besom.sweep.plan import Plan
from besom.sweep.question import ANSWER, Question
from besom.sweep.rehearsal import first_point
from besom.sweep.study import SETTLED, SETTLER, Stop, Study

LEASH_S = 86400.0  # the pipe tells it of its worker's death
LOOK_S = 0.2


def settled(plan: Plan, app: App, study: Study, goes_on: Callable[[], bool]) -> Plan:
    """The plan, with what was settled; that is done by now, unless the sweep is to end."""
    function, watch = getattr(app.task, "besom_prepare", None), Watch(plan.lease_s)
    while function and not study.recall(SETTLED) and goes_on():
        mine = Lease.mine()
        if study.may_settle(mine, watch):
            study.remember(SETTLED, _answer(plan, replace(app, task=Question(function)), study, mine, goes_on))
        else:
            time.sleep(LOOK_S)
    if known := study.recall(SETTLED):
        return replace(plan, space=replace(plan.space, fixed=(*plan.space.fixed, *known["overrides"])))
    return plan


def _answer(plan: Plan, app: App, study: Study, mine: Lease, goes_on: Callable[[], bool]) -> dict[str, Any] | None:
    lease, beaten = mine, time.monotonic()

    def must_end() -> bool:
        nonlocal lease, beaten
        if time.monotonic() - beaten > plan.lease_s / BEATS:
            lease, beaten = lease.renewed(), time.monotonic()
            study.remember(SETTLER, lease.as_attr())
        return not goes_on()

    with TemporaryDirectory(prefix="besom-") as parent:
        folder = Path(parent) / "0"
        folder.mkdir()
        terms = Terms(lambda value, step: False, must_end, LEASH_S, plan.trial_timeout_s)
        attempt = (
            InPlace(app, terms) if plan.isolation == "none" else Attempt(app.pickled, folder / "output.log", terms)
        )
        with attempt:
            outcome = attempt.outcome(app.compose(0, plan.space.overrides(first_point(plan.space)), folder))
        if outcome.state == "complete":
            return dict(json.loads((folder / ANSWER).read_text()))
        if InputError.__name__ in outcome.exception:
            study.request_stop(Stop("refused", outcome.reason.removeprefix(f"{outcome.exception[0]}: ")))
            return None
        if outcome.state == "interrupted":
            return None
        # the trials will say it better, if it is theirs too
        return {"overrides": [], "said": masked(f"nothing was settled: {outcome.kind}: {outcome.reason}")}
