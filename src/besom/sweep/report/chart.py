"""What the page shows of one matter: a chart, or why there is none."""

from __future__ import annotations

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


class NothingToShow(BesomError):  # noqa: N818 - what happened
    """A chart needs more than the study has; its text is what the page says instead."""


def figure(data: list[Any], height: int, **layout: Any) -> Figure:
    from plotly.graph_objects import Figure

    return Figure(data, layout={"template": "none", "height": height, **layout})
