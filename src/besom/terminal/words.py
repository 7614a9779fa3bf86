"""How parameters, numbers, times and curves are written where there is little room."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from besom.space.value import as_pairs as pairs
from besom.space.value import brief, short

__all__ = ["brief", "cut", "fitting", "in_brief", "number", "pairs", "span", "sparkline"]

LONGEST = 8  # cells of a value, where there is little room
LEVELS = "▁▂▃▄▅▆▇█"


def fitting(points: Sequence[Mapping[str, Any]], width: int) -> list[str]:
    """All in the same way, names beside values: with their keys, with short ones, with short values, or cut to `width`.

    Trials of a conditional space have different parameters: a value without its name could be of any.
    """
    for form in (pairs, lambda point: pairs(brief(point)), _terse):
        written = [form(point) for point in points]
        if all(cell_len(text) <= width for text in written):
            return written
    return [cut(text, width) for text in written]


def in_brief(point: Mapping[str, Any], width: int | None = None) -> str:
    """`optimizer=adamw lr=0.0031`, always in this one way; cut to `width` cells."""
    return pairs(point) if width is None else cut(pairs(brief(point)), width)


def _terse(point: Mapping[str, Any]) -> str:
    """Of long values only the beginning."""
    return pairs({key: cut(short(value), LONGEST) for key, value in brief(point).items()})


def cut(text: str, width: int) -> str:
    """With an ellipsis, where it is longer."""
    whole = Text(text)
    whole.truncate(max(1, width), overflow="ellipsis")
    return whole.plain


def number(value: float) -> str:
    """In 8 signs, hardly ever 9."""
    if value == 0 or 1e-3 <= abs(value) < 100:
        return f"{value:.4f}"
    return f"{value:.6g}" if 100 <= abs(value) < 1e4 else f"{value:.3g}"


def span(seconds: float) -> str:
    """`42 s`, `12 min`, `5.2 h`, `3.1 days`"""
    for size, unit in ((86_400, "days"), (3_600, "h")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def sparkline(values: Sequence[float], width: int) -> str:
    """A curve from its own least to its own greatest value; of many values as many as there is room for.

    >>> sparkline([0, 1, 2, 3], 12)
    '▁▃▆█'
    """
    step = max(1.0, len(values) / width)
    picked = [values[min(len(values), round((n + 1) * step)) - 1] for n in range(min(width, len(values)))]
    finite = [value for value in picked if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    return "".join(_level(value, low, high) for value in picked)


def _level(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        return "?"
    share = (value - low) / (high - low) if high > low else 0.5
    return LEVELS[round(share * (len(LEVELS) - 1))]
