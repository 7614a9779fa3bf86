"""From `hydra.sweeper` and the command line to a `Sweep`: what cannot be meant is refused here."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from besom.config.directions import mode_of_app
from besom.config.redaction import stash_password
from besom.engine.launch import is_elsewhere
from besom.engine.plan import Plan, Rules, Sweep
from besom.engine.slots import Slot, Wanted, as_given, cores, share, visible_gpus
from besom.errors import InputError
from besom.hydra_app.job import App
from besom.hydra_app.sweep_settings import folder_of
from besom.search.samplers import size
from besom.space.parse import parse, said_again
from besom.space.space import Space
from besom.study.objective import objectives, said_of_directions
from besom.system.locks import absolute


def as_sweep(given: Mapping[str, Any], arguments: Sequence[str], app: App) -> Sweep:
    """Raises InputError: the first thing that cannot be meant."""
    asked = {key: _plain(value) for key, value in given.items()}
    space = parse(asked["params"], arguments, app.context.config_loader)
    for line in said_again(arguments, app.context.config_loader):
        print(f"besom: {line}", file=sys.stderr)
    _refuse_no_space(space)
    folder_of(app.config)
    if not asked["sampler"]:
        raise InputError("hydra.sweeper.sampler=null: a sweep needs one; choose hydra/sweeper/sampler=tpe")
    n_trials, enqueue = _number(asked, "n_trials", least=1), tuple(asked["enqueue"])
    points = size(asked["sampler"], space)
    _refuse_contradictions(asked, is_finite=points is not None)
    if points is not None:  # a grid ends when each point has been tried
        n_trials = min(n_trials, points + len(enqueue))
    timeout = _seconds(asked, "timeout")
    aims = objectives(asked["direction"], asked["metric"])
    if not asked["join"]:
        for line in said_of_directions(asked["direction"], aims, mode_of_app(app.config)):
            print(f"besom: {line}", file=sys.stderr)
    plan = Plan(
        storage=stash_password(absolute(asked["storage"])),
        study_name=asked["study_name"],
        n_trials=n_trials,
        objectives=aims,
        space=space,
        sampler=asked["sampler"],
        pruner=asked["pruner"],
        tracking_uri=stash_password(absolute(asked["tracking_uri"])) if asked["tracking_uri"] else None,
        experiment=asked["experiment"],
        system_metrics_s=_seconds(asked, "system_metrics"),
        slots=_slots(asked, app),
        program=str(app.program),
        question=asked["question"] or "",
        lease_s=_seconds(asked, "lease") or math.inf,
        deadline=time.time() + timeout if timeout else math.inf,
        trial_timeout_s=_seconds(asked, "trial_timeout"),
        max_retries=_number(asked, "max_retries", least=0),
        retry_on=tuple(asked["retry_on"]),
        rules=_rules(asked),
        isolation=_one_of(asked, "isolation", "process", "none"),
        resume=_one_of(asked, "resume", "continue", "anyway", "fork"),
    )
    return Sweep(plan, app, enqueue)


def _refuse_no_space(space: Space) -> None:
    if next(space.everything(), None) is None:
        raise InputError(
            "there is nothing to search: neither hydra.sweeper.params nor the command line has a key with several "
            "values, and all trials would be the same. Write what to search, x=interval(0,1) or x=1,2,3; to repeat "
            "one point, search its seed: seed=range(0,5); for a single run leave out --multirun"
        )


def _slots(asked: Mapping[str, Any], app: App) -> tuple[Slot, ...]:
    wishes = ("n_jobs", "threads_per_trial", "trials_per_gpu", "gpus_per_trial")
    wanted = Wanted(**{key: _number(asked, key, least=0 if key == "gpus_per_trial" else 1) for key in wishes})
    if asked["isolation"] == "none":
        if (wanted.n_jobs or 1) > 1:
            raise InputError(f"hydra.sweeper.isolation=none runs one trial at a time: leave out n_jobs={wanted.n_jobs}")
        wanted = Wanted(1, wanted.threads_per_trial, wanted.trials_per_gpu, wanted.gpus_per_trial)
    if is_elsewhere(app.config.hydra.launcher):
        return as_given(wanted)
    return share(wanted, visible_gpus(), cores())


def _rules(asked: Mapping[str, Any]) -> Rules:
    rate = asked["max_failure_rate"]
    if rate is not None and not 0 <= rate <= 1:
        raise InputError(f"hydra.sweeper.max_failure_rate={rate:g}: a share of the trials, from 0 to 1")
    return Rules(rate, _number(asked, "patience", least=1), asked["terminator"])


def _refuse_contradictions(asked: Mapping[str, Any], is_finite: bool) -> None:
    if asked["isolation"] == "none" and asked["trial_timeout"]:
        raise InputError("hydra.sweeper.trial_timeout needs isolation=process: nobody else could end the trial")
    if asked["terminator"] and len(objectives(asked["direction"], asked["metric"])) > 1:
        raise InputError("hydra.sweeper.terminator judges one objective: choose hydra/sweeper/terminator=none")
    if asked["resume"] == "fork" and is_finite:
        raise InputError(
            "hydra.sweeper.resume=fork: a grid tries each of its points in turn, and would not know those of another "
            "study: choose another study_name, or hydra/sweeper/sampler=tpe"
        )


def _one_of(asked: Mapping[str, Any], key: str, *options: Any) -> Any:
    if asked[key] not in options:
        raise InputError(f"hydra.sweeper.{key}={asked[key]}: choose {' or '.join(options)}")
    return asked[key]


def _number(asked: Mapping[str, Any], key: str, least: int) -> Any:
    """A whole number, or None where that was given and may be."""
    if asked[key] is not None and asked[key] < least:
        raise InputError(f"hydra.sweeper.{key}={asked[key]}: must be at least {least}")
    return asked[key]


def _seconds(asked: Mapping[str, Any], key: str) -> float | None:
    if asked[key] is not None and not asked[key] > 0:
        raise InputError(f"hydra.sweeper.{key}={asked[key]:g}: must be above 0 seconds")
    return None if asked[key] is None else float(asked[key])


def _plain(config: Any) -> Any:
    return OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
