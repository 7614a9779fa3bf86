"""`dry_run=true`: what a sweep would do, proven as for the sweep itself; nothing of it is kept or recorded."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial

from besom.config.redaction import redact
from besom.engine.estimate import estimate
from besom.engine.forking import open_or_fork
from besom.engine.launch import is_elsewhere
from besom.engine.plan import Plan, Sweep
from besom.engine.preflight import run_preflight_checks
from besom.errors import InputError
from besom.search.constraints import SamplersStudy
from besom.search.samplers import make_pruner, make_sampler, size
from besom.study.lookup import names
from besom.study.storage import is_used
from besom.study.study import Shared, Study
from besom.tracking.mlflow_store import check_uri

SAMPLES = 3


def preview(sweep: Sweep) -> None:
    """Print it.

    Raises:
        InputError: what the sweep itself would refuse.
        RunError: its first trial would fail.
    """
    sweep = run_preflight_checks(sweep)
    plan = sweep.plan
    if plan.tracking_uri:
        check_uri(plan.tracking_uri)
    begun = _begun(sweep)
    remaining = max(0, plan.n_trials - begun.ended)
    print("\n".join([*_facts(plan, begun), *_table(plan)]), flush=True)
    samples = list(_samples(sweep, begun, min(SAMPLES, remaining)))
    if not samples:
        print("\nthe budget is spent; to go on, raise hydra.sweeper.n_trials")
        return
    chance = plan.sampler.get("seed") is None and size(plan.sampler, plan.space) is None
    which = "next" if begun.trials else "first"
    print(f"\nits {which} trials{' (the sampler has no seed: each time others)' if chance else ''}:")
    for overrides in samples:
        print(f"  {shlex.join([*shlex.split(plan.program), *overrides])}")
    print(f"\n{_estimate(sweep, samples[0], remaining)}", flush=True)


@dataclass(frozen=True)
class _Begun:
    """Where the sweep would go on from."""

    name: str
    folder: Path
    trials: Sequence[FrozenTrial]
    is_new: bool

    @property
    def ended(self) -> int:
        return sum(trial.state.is_finished() for trial in self.trials)


class _New(Exception):  # noqa: N818 - what it is
    def __init__(self, name: str, adopted: Sequence[FrozenTrial]) -> None:
        self.name = name
        self.adopted = adopted


def _begun(sweep: Sweep) -> _Begun:
    """Raises InputError: the study there searches another space, or cannot be read."""
    plan = sweep.plan
    folder = Path(str(sweep.app.config.hydra.sweep.dir)).absolute()
    there = names(plan.storage) if is_used(plan.storage) else []

    def look(name: str, adopted: Sequence[FrozenTrial] = ()) -> Study:
        if name not in there:
            raise _New(name, adopted)
        study = Study(plan.storage, name)
        shared = Shared(plan.fingerprint)
        study.compare(plan.objectives, plan.space.describe(), shared, accept=plan.resume == "anyway")
        return study

    try:
        study = open_or_fork(plan, look) if plan.resume == "fork" else look(plan.study_name)
    except _New as new:
        _refuse_no_folder(folder)
        return _Begun(new.name, folder, new.adopted, is_new=True)
    return _Begun(study.name, study.folder, study.trials(), is_new=False)


def _refuse_no_folder(folder: Path) -> None:
    there = next(one for one in (folder, *folder.parents) if one.exists())
    if not there.is_dir():
        raise InputError(
            f"the output folder {folder} cannot be written ({there} is no folder); choose another: hydra.sweep.dir=..."
        )


# ── what is shown ─────────────────────────────────────────────────────────────────────────────────────────────────────
def _facts(plan: Plan, begun: _Begun) -> Iterator[str]:
    threads = {slot.threads for slot in plan.slots}
    each = f", threads of each: {threads.pop()}" if len(threads) == 1 and threads != {None} else ""
    gpus = sorted({gpu for slot in plan.slots for gpu in slot.gpus or ()})
    facts = {
        "study": begun.name,
        "question": plan.question,
        "objective": ", ".join(f"{objective.direction} {objective.name}" for objective in plan.objectives),
        "trials": f"{plan.n_trials}" + (f", of which {begun.ended} have ended" if begun.trials else ""),
        "slots": f"{len(plan.slots)}{each}" + (f", on GPU {', '.join(gpus)}" if gpus else ""),
        "sampler": _named(plan.sampler),
        "pruner": _named(plan.pruner) if plan.pruner else "none",
        "storage": redact(plan.storage),
        "recorded": f"{redact(plan.tracking_uri)}, experiment {plan.experiment}" if plan.tracking_uri else "nowhere",
        "folders": str(begun.folder),
    }
    width = max(map(len, facts))
    return (f"{name:<{width}}  {fact}" for name, fact in facts.items() if fact)


def _named(config: Mapping[str, Any]) -> str:
    """`TPESampler, seed 0`"""
    name = str(config.get("_target_")).rpartition(".")[2]
    return f"{name}, seed {config['seed']}" if config.get("seed") is not None else name


def _table(plan: Plan) -> Iterator[str]:
    rows = [*_rows(plan)]
    rows.insert(0, ("key", "searched", "only with" if any(condition for _, _, condition in rows) else ""))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    yield ""
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    if plan.space.fixed:
        yield f"every trial: {shlex.join(plan.space.fixed)}"


def _rows(plan: Plan) -> Iterator[tuple[str, str, str]]:
    """A line a key; one that an option fixes is shown with its value."""
    for path, searched in plan.space.describe().items():
        key, _, condition = path.partition(" [")
        yield key, searched, condition.removesuffix("]")


# ── the first trials ──────────────────────────────────────────────────────────────────────────────────────────────────
def _samples(sweep: Sweep, begun: _Begun, count: int) -> Iterator[list[str]]:
    """The overrides of the trials that come next, drawn as a worker would, in a study that nobody keeps."""
    plan = sweep.plan
    optuna.logging.set_verbosity(logging.WARNING)
    study = optuna.create_study(directions=[objective.direction for objective in plan.objectives])
    study.add_trials(begun.trials)
    for point in sweep.enqueue if begun.is_new else ():
        study.enqueue_trial(plan.space.known_point(point))
    for _ in range(count):
        yield plan.space.overrides(plan.space.suggest(_next(study, plan)))


def _next(study: optuna.Study, plan: Plan) -> Trial:
    asked = study.ask()
    sampler = make_sampler(plan.sampler, plan.space, asked.number)
    seen = SamplersStudy(study.study_name, study._storage, sampler, make_pruner(plan.pruner))
    return Trial(seen, asked._trial_id)


def _estimate(sweep: Sweep, overrides: Sequence[str], remaining: int) -> str:
    app = sweep.app
    if app.program.module != "besom.train":
        return "no estimate of time and disk: what an epoch of this app is, only the app knows"
    if is_elsewhere(app.config.hydra.launcher):
        return "no estimate of time and disk: the trials would run on other machines than this one"
    return estimate(sweep, list(overrides), remaining)
