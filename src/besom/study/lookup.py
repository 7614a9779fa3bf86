"""The studies in a storage, found by the name that a user gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from optuna.storages._rdb.models import TrialModel
from optuna.study._frozen import FrozenStudy
from optuna.trial import TrialState
from sqlalchemy import func, select

from besom.config.redaction import redact
from besom.errors import InputError, near
from besom.study.attrs import FOLDER, N_TRIALS, SUPERVISOR
from besom.study.lease import Lease
from besom.study.storage import BesomStorage, open_storage, told_plainly
from besom.study.study import Study
from besom.system.locks import sqlite_file

ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True)
class StudySummary:
    """A study, of which no trial was read."""

    name: str
    finished: int
    n_trials: int  # asked for
    is_swept: bool


def studies(url: str, name: str | None = None) -> list[Study]:
    """All of besom's, by name, or the one of that name.

    Raises:
        InputError: no such storage or study.
    """
    return [Study(url, one) for one in sorted(_names(_opened(url), url, name))]


def names(url: str) -> list[str]:
    """Of all of them, the last begun at the end.

    Raises:
        InputError: no such storage.
    """
    return _names(_opened(url), url, None)


def chosen(url: str, name: str | None) -> Study:
    """The study of that name; without one, the one last begun.

    Raises:
        InputError: no such storage or study.
    """
    return chosen_among(url, name)[0]


def chosen_among(url: str, name: str | None) -> tuple[Study, Iterator[StudySummary]]:
    """And all others, each at a glance; the storage is opened once, which takes a tenth of a second.

    Raises:
        InputError: no such storage or study.
    """
    storage = _opened(url)
    names = _names(storage, url, name)
    if not names:
        raise InputError(f"nothing has been swept in {redact(url)}; or name another: --storage URL")
    study = Study(url, name or names[-1], storage=storage)
    return study, (glance for glance in _glances(storage) if glance.name != study.name)


def _glances(storage: BesomStorage) -> Iterator[StudySummary]:
    """All of besom's, the last begun at the end."""
    finished = _finished(storage)
    for study in _begun(storage):
        supervisor = Lease.from_attr(study.user_attrs.get(SUPERVISOR))
        is_swept = supervisor is not None and supervisor.seems_alive()
        asked = study.user_attrs.get(N_TRIALS) or 0
        asked = asked if isinstance(asked, int) else 0
        yield StudySummary(study.study_name, finished.get(study._study_id, 0), asked, is_swept)


def _finished(storage: BesomStorage) -> dict[int, int]:
    """Trials with an end, by their study. Optuna's own count reads every trial with all that it has."""
    ended = select(TrialModel.study_id, func.count()).where(TrialModel.state.in_(ENDED)).group_by(TrialModel.study_id)
    with told_plainly(storage.url), storage.engine.connect() as connection:
        return dict(tuple(row) for row in connection.execute(ended))


def _opened(url: str) -> BesomStorage:
    if (path := sqlite_file(url)) and not path.exists():
        raise InputError(f"there is no {path}: nothing has been swept here; or name another: --storage URL")
    return open_storage(url)


def _names(storage: BesomStorage, url: str, name: str | None) -> list[str]:
    """The last begun at the end."""
    there = [study.study_name for study in _begun(storage)]
    if name and name not in there:
        raise InputError(f"no study {name!r} in {redact(url)}{near(name, there)}")
    return [one for one in there if name in (None, one)]


def _begun(storage: BesomStorage) -> list[FrozenStudy]:
    """In this order. Not Optuna's summaries, which read every trial of every study."""
    there = sorted(storage.get_all_studies(), key=lambda study: study._study_id)
    return [study for study in there if FOLDER in study.user_attrs]
