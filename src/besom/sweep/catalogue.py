"""The studies in a storage, found by the name that a user gives."""

from __future__ import annotations

import optuna

from besom.errors import InputError, near
from besom.locks import sqlite_file
from besom.secrecy import masked
from besom.sweep.storage import open_storage
from besom.sweep.study import FOLDER, Study


def studies(url: str, name: str | None = None) -> list[Study]:
    """All of besom's, by name, or the one of that name.

    Raises:
        InputError: no such storage or study.
    """
    return [Study(url, one) for one in sorted(_names(url, name))]


def names(url: str) -> list[str]:
    """Of all of them, the last begun at the end.

    Raises:
        InputError: no such storage.
    """
    return _names(url, None)


def chosen(url: str, name: str | None) -> Study:
    """The study of that name; without one, the one last begun.

    Raises:
        InputError: no such storage or study.
    """
    names = _names(url, name)
    if not names:
        raise InputError(f"nothing has been swept in {masked(url)}; or name another: --storage URL")
    return Study(url, name or names[-1])


def _names(url: str, name: str | None) -> list[str]:
    """The last begun at the end."""
    if (path := sqlite_file(url)) and not path.exists():
        raise InputError(f"there is no {path}: nothing has been swept here; or name another: --storage URL")
    there = [
        summary.study_name
        for summary in sorted(optuna.get_all_study_summaries(open_storage(url)), key=lambda one: one._study_id)
        if FOLDER in summary.user_attrs
    ]
    if name and name not in there:
        raise InputError(f"no study {name!r} in {masked(url)}{near(name, there)}")
    return [one for one in there if name in (None, one)]
