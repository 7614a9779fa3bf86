"""The values that a trial's parameters take, and how they are written."""

from __future__ import annotations

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
