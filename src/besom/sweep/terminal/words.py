"""How parameters, numbers, times and curves are written where there is little room."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from besom.sweep.value import as_pairs as pairs
from besom.sweep.value import brief, short

__all__ = ["brief", "fitting", "number", "pairs", "span", "sparkline"]

LEVELS = "▁▂▃▄▅▆▇█"


def values(point: Mapping[str, Any]) -> str:
    """`gelu 0.0031`, where there is no room for keys."""
    return " ".join(" ".join(map(short, point.values())).split())


def fitting(points: Sequence[Mapping[str, Any]], width: int) -> list[str]:
    """All in the same way: with their keys, with short ones, with none, or cut to `width` cells."""
    for form in (pairs, lambda point: pairs(brief(point)), values):
        written = [form(point) for point in points]
        if all(cell_len(text) <= width for text in written):
            return written
    return [_cut(text, width) for text in written]


def _cut(text: str, width: int) -> str:
    cut = Text(text)
    cut.truncate(max(1, width), overflow="ellipsis")
    return cut.plain


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
