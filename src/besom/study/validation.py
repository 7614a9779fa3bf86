"""Attributes of a study or a trial that this release of besom has not written: another one, or another program."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from optuna.trial import FrozenTrial, Trial

from besom.config.redaction import redact
from besom.errors import InputError
from besom.study import attrs

Is = Callable[[Any], bool]


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _lines(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())


def _changes(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, list) and len(one) == 2 and _count(one[0]) and _texts(one[1]) for one in value
    )


def _settled(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    data, seen_by = value.get("data"), value.get("seen_by", [])
    has_words = _texts(value.get("overrides")) and _text(value.get("said"))
    return has_words and (data is None or _lines(data)) and _texts(seen_by)


def _command(value: Any) -> bool:
    match value:
        case {"app": app, "arguments": arguments, "folder": str(), "sweeps": str() | None, **more}:
            return _texts(app) and bool(app) and _texts(arguments) and not more
    return False


# None, or nothing: not said yet. Leases are read by `Lease.from_attr`, a request to stop by `StopRequest.from_attr`
OF_A_STUDY: dict[str, Is] = {
    **dict.fromkeys((attrs.ID, attrs.FOLDER, attrs.PARENT_RUN, attrs.COMMIT, attrs.TRACKING), _text),
    **dict.fromkeys((attrs.EXPERIMENT, attrs.QUESTION, attrs.PROGRAM, attrs.OPENED), _text),
    **dict.fromkeys((attrs.N_TRIALS, attrs.SLOTS), _count),
    **dict.fromkeys((attrs.DEADLINE, attrs.LEASE_S), _number),
    **dict.fromkeys((attrs.SPACE, attrs.FINGERPRINT, attrs.FOUND), _lines),
    attrs.FIXED: _texts,
    attrs.CHANGES: _changes,
    attrs.PREPARED: _settled,
    attrs.COMMAND: _command,
}
OF_A_TRIAL: dict[str, Is] = {
    **dict.fromkeys((attrs.RUN, attrs.KIND, attrs.REASON, attrs.FORKED), _text),
    **dict.fromkeys((attrs.ENDS, attrs.OVERRIDES), _texts),
}


def refuse_other_shape(url: str, study: str, key: str, value: Any) -> None:
    """Raises InputError: the value is none that this besom writes under that key of a study."""
    is_one = OF_A_STUDY.get(key)
    if value is not None and is_one is not None and not is_one(value):
        raise InputError(
            f"study {study!r} in {redact(url)}: its attribute {key} is of another shape than this besom writes, by "
            "another release or another program: use the release that it was begun with, or begin another study with "
            "hydra.sweeper.study_name"
        )


def refuse_other_shapes(url: str, study: str, found: Mapping[str, Any]) -> None:
    """Raises InputError: one of them is none that this besom writes."""
    for key in OF_A_STUDY:
        refuse_other_shape(url, study, key, found.get(key))


def odd_attributes(trial: FrozenTrial) -> list[str]:
    """The names of those of besom's that are of another shape."""
    return [key for key, is_one in OF_A_TRIAL.items() if key in trial.user_attrs and not is_one(trial.user_attrs[key])]


def without_odd(trial: FrozenTrial) -> FrozenTrial:
    """The trial, without attributes that nobody can read."""
    odd = odd_attributes(trial)
    if not odd:
        return trial
    known = copy.copy(trial)
    known.user_attrs = {key: value for key, value in trial.user_attrs.items() if key not in odd}
    return known


def ends_of(trial: FrozenTrial | Trial) -> list[str]:
    """Why each of its attempts so far has ended."""
    ends: list[str] | None = trial.user_attrs.get(attrs.ENDS)
    return ends if ends is not None and _texts(ends) else []
