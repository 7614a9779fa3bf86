"""What the page shows of one matter: a chart, or why there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from besom.errors import BesomError

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True)
class Chart:
    title: str
    says: str  # how to read it, or why there is none
    figure: Figure | None = None
    wide: bool = True
    least_px: int = 0  # of width: a card that is narrower is moved sideways


class NothingToShow(BesomError):  # noqa: N818 - what happened
    """A chart needs more than the study has; its text is what the page says instead."""


def cells(columns: int, height: int, *, shares_y: bool = False) -> dict[str, Any]:
    """For `page.js`, of a figure of small charts: it lays out as many of them beside each other as there is room for.

    `height` is that of one chart in pixels; `shares_y`: all have one vertical axis, written at the first of each row.
    """
    return {"columns": columns, "cell": height, "sharesY": shares_y}


def small_charts(count: int, columns: int, **spacing: float) -> Figure:
    """An empty figure of so many small charts."""
    from plotly.subplots import make_subplots

    rows = math.ceil(count / columns)
    places: list[list[dict[str, Any] | None]] = [
        [{} if row * columns + column < count else None for column in range(columns)] for row in range(rows)
    ]
    return make_subplots(rows, columns, specs=places, **spacing)


def figure(data: list[Any], height: int, **layout: Any) -> Figure:
    from plotly.graph_objects import Figure

    return Figure(data, layout={"template": "none", "height": height, **layout})
