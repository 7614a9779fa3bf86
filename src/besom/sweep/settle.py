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
from besom.sweep.attrs import SETTLED, SETTLER
from besom.sweep.hold import BEATS
from besom.sweep.in_place import InPlace
from besom.sweep.job import App, without_callbacks
from besom.sweep.lease import Lease, Watch
from besom.sweep.outcome import Terms
from besom.sweep.plan import Plan
from besom.sweep.question import ANSWER, Question
from besom.sweep.rehearsal import first_point
from besom.sweep.study import Stop, Study

LEASH_S = 86400.0  # the pipe tells it of its worker's death
LOOK_S = 0.2


def settled(plan: Plan, app: App, study: Study, goes_on: Callable[[], bool]) -> Plan:
    """The plan, with what was settled; that is done by now, unless the sweep is to end."""
    function, watch = asked_of(app), Watch(plan.lease_s)
    while function and not study.recall(SETTLED) and goes_on():
        mine = Lease.mine()
        if study.may_settle(mine, watch):
            study.remember(SETTLED, _settle(plan, app, study, mine, goes_on))
        else:
            time.sleep(LOOK_S)
    if known := study.recall(SETTLED):
        return replace(plan, space=replace(plan.space, fixed=(*plan.space.fixed, *known["overrides"])))
    return plan


def _settle(plan: Plan, app: App, study: Study, mine: Lease, goes_on: Callable[[], bool]) -> dict[str, Any] | None:
    lease, beaten = mine, time.monotonic()

    def must_end() -> bool:
        nonlocal lease, beaten
        if time.monotonic() - beaten > plan.lease_s / BEATS:
            lease, beaten = lease.renewed(), time.monotonic()
            study.remember(SETTLER, lease.as_attr())
        return not goes_on()

    try:
        return ask(plan, app, plan.space.overrides(first_point(plan.space)), must_end)
    except InputError as error:
        study.request_stop(Stop("refused", str(error)))
        return None


def asked_of(app: App) -> str | None:
    """The function that `besom.prepare` has named."""
    return getattr(app.task, "besom_prepare", None)


def ask(plan: Plan, app: App, overrides: list[str], must_end: Callable[[], bool]) -> dict[str, Any] | None:
    """The app's answer for a trial with these overrides: `overrides` for all, and what is `said`; None: it must end.

    Raises:
        InputError: what the app refuses.
    """
    function = asked_of(app)
    assert function
    asked = replace(app, task=Question(function), context=without_callbacks(app.context))
    terms = Terms(lambda value, step: False, must_end, LEASH_S, plan.trial_timeout_s)
    with TemporaryDirectory(prefix="besom-") as parent:
        folder = Path(parent) / "0"
        folder.mkdir()
        alone = plan.isolation == "none"
        attempt = InPlace(asked, terms) if alone else Attempt(asked.pickled, folder / "output.log", terms)
        with attempt:
            outcome = attempt.outcome(app.compose(0, overrides, folder))
        if outcome.state == "complete":
            return dict(json.loads((folder / ANSWER).read_text()))
    if InputError.__name__ in outcome.exception:
        raise InputError(outcome.reason.removeprefix(f"{outcome.exception[0]}: "))
    if outcome.state == "interrupted":
        return None
    # the trials will say it better, if it is theirs too
    return {"overrides": [], "said": masked(f"nothing was settled: {outcome.kind}: {outcome.reason}")}
