"""The runs in a store, found by what a user calls them: a run's id, the beginning of one, or a study's trial."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from besom.config.redaction import redact
from besom.errors import InputError, near
from besom.system.locks import sqlite_file
from besom.tracking.mlflow_store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

SHORTEST = 6  # characters of an id: fewer soon belong to several runs
ID = re.compile(rf"[0-9a-f]{{{SHORTEST},32}}")
STUDY, TRIAL = "besom.study", "besom.trial"  # tags: of a study's run the first, of a trial's run both


def users_store() -> Store:
    """The one that a user means who names none: MLflow's own, unless its variables say otherwise."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    return Store(uri, os.environ.get("MLFLOW_EXPERIMENT_NAME", "besom"))


def used_store() -> Store:
    """The same. Raises InputError: nothing has been recorded in it."""
    store = users_store()
    if (path := sqlite_file(store.uri)) and not path.exists():  # MLflow would make it
        raise InputError(
            f"there is no {path}: nothing has been recorded here. Go to the folder of a sweep, or name its store: "
            "MLFLOW_TRACKING_URI=sqlite:////folder/mlflow.db"
        )
    return store


def study_run(store: Store, study: str) -> Run:
    """The study's run, of several of that name the last begun.

    Raises:
        InputError: there is no such study.
    """
    experiment = store.client.get_experiment_by_name(store.experiment)
    if experiment is None:
        raise InputError(f"no study {study!r}: nothing has been recorded in {store.experiment!r} yet")
    # tags that together no other run has, of a trial or of a training alone
    both = f"tags.`{STUDY}` LIKE '%' AND tags.`besom.folder` LIKE '%'"
    parents = {run.data.tags[STUDY]: run for run in store.search(both, [experiment.experiment_id])}
    if study not in parents:
        raise InputError(f"no study {study!r} in experiment {store.experiment!r}{near(study, parents)}")
    return parents[study]


def chosen(store: Store, name: str) -> Run:
    """The run of that id, of that beginning of an id, or of that trial (`digits/12`).

    Raises:
        InputError: there is none, or there are several; says where was looked.
    """
    study, of_a_trial, trial = name.rpartition("/")
    return _of_trial(store, study, trial) if of_a_trial else _of_id(store, name)


def _of_id(store: Store, name: str) -> Run:
    experiments = _experiments(store)
    if not ID.fullmatch(name):
        raise InputError(f"no run {name!r}: {_what_it_may_be(store, name)}")
    found = list(store.search(f"attributes.run_id LIKE '{name}%'", list(experiments)))
    here = [run for run in found if experiments[run.info.experiment_id] == store.experiment]
    if len(here) == 1:
        return here[0]
    if here:
        raise InputError(f"{name} is how the ids of {len(here)} runs begin; give more of one: {_ids(here)}")
    if found:
        raise InputError(_elsewhere(name, {experiments[run.info.experiment_id] for run in found}))
    mine = [number for number, title in experiments.items() if title == store.experiment]
    beginnings = {run.info.run_id[: len(name)] for run in store.search("", mine)} if mine else set()
    raise InputError(f"no run {name!r} in {_where(store)}{near(name, beginnings)}")


def _of_trial(store: Store, study: str, trial: str) -> Run:
    experiments = _experiments(store)
    found = list(store.search(f"tags.`{STUDY}` LIKE '%'", list(experiments), newest_first=True))
    here = [run for run in found if experiments[run.info.experiment_id] == store.experiment]
    mine = [run for run in here if run.data.tags[STUDY] == study and TRIAL in run.data.tags]
    for run in mine:  # the newest first: of two studies of one name the later is meant
        if run.data.tags[TRIAL] == trial:
            return run
    if mine:
        numbers = sorted({int(run.data.tags[TRIAL]) for run in mine})
        raise InputError(f"study {study!r} has no trial {trial} in {_where(store)}: it has {_ranges(numbers)}")
    if others := {experiments[run.info.experiment_id] for run in found if run.data.tags[STUDY] == study}:
        raise InputError(_elsewhere(f"study {study!r}", others))
    raise InputError(f"no study {study!r} in {_where(store)}{near(study, {run.data.tags[STUDY] for run in here})}")


def _experiments(store: Store) -> dict[str, str]:
    """Their names by their ids."""
    found: dict[str, str] = {}
    token = None
    while True:
        page = store.client.search_experiments(max_results=1000, page_token=token)
        found |= {experiment.experiment_id: experiment.name for experiment in page}
        if not (token := page.token):
            return found


def _what_it_may_be(store: Store, name: str) -> str:
    studies = {run.data.tags[STUDY] for run in store.search(f"tags.`{STUDY}` LIKE '%'", list(_experiments(store)))}
    if name in studies:
        return f"{name} is a study: name one of its trials, such as {name}/0"
    return f"give a run's id, at least {SHORTEST} of its characters (0-9, a-f), or a trial such as digits/12"


def _elsewhere(what: str, experiments: set[str]) -> str:
    one = sorted(experiments)[0]
    return f"{what} is in the MLflow experiment {one!r}: choose it with MLFLOW_EXPERIMENT_NAME={one}"


def _where(store: Store) -> str:
    return f"experiment {store.experiment!r} of {redact(store.uri)}"


def _ids(runs: list[Run]) -> str:
    return ", ".join(f"{run.info.run_id} ({run.info.run_name})" for run in runs[:5])


def _ranges(numbers: list[int]) -> str:
    """`0 to 3, 7`"""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{part[0]} to {part[-1]}" if len(part) > 1 else f"{part[0]}" for part in parts)
