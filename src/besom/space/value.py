"""The values that a trial's parameters take, and how they are written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

Value = str | int | float | bool | None
SCALARS = (bool, int, float, type(None))


def as_text(value: Value) -> str:
    """A value in Hydra's override grammar. Choices that are no plain scalars are kept as that text already.

    >>> as_text(None), as_text(True), as_text(1e-05)
    ('null', 'true', '1e-05')
    """
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case float():
            return repr(value)
        case _:
            return str(value)


def short(value: Value) -> str:
    """For people; `as_text` is exact."""
    return f"{value:.3g}" if isinstance(value, float) else as_text(value)


def as_pairs(point: Mapping[str, Any]) -> str:
    """`model.activation=gelu optimizer.lr=0.0031`, on one line whatever the values are."""
    return " ".join(" ".join(f"{key}={short(value)}" for key, value in point.items()).split())


def brief(point: Mapping[str, Any]) -> dict[str, Any]:
    """By the last word of each key, where that tells them apart.

    >>> brief({"optimizer.lr": 0.1, "model.width": 8, "head.width": 9})
    {'lr': 0.1, 'model.width': 8, 'head.width': 9}
    """
    last = Counter(key.rpartition(".")[2] for key in point)
    return {(end if last[end := key.rpartition(".")[2]] == 1 else key): value for key, value in point.items()}
