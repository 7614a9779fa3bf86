"""One look for all charts, on a light page and on a dark one."""

from __future__ import annotations

import html
from typing import Any

from optuna.trial import TrialState

COLOURS = {
    TrialState.COMPLETE: "#4a90c2",
    TrialState.PRUNED: "#d9a441",
    TrialState.FAIL: "#d4556a",
    TrialState.RUNNING: "#8f97a3",
    TrialState.WAITING: "#b9bfc8",
}
BEST = "#2f9e77"
# from the worst to the best; no end is lost on a light page or a dark one
SCALE = [[0.0, "#93a1b5"], [0.35, "#5b9bc8"], [0.7, "#36ad8d"], [1.0, "#f0a03c"]]
# what a trial's end is called
WORDS = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
# of colours beside a figure of charts: as long as the shortest of these is high
BAR = {"lenmode": "pixels", "len": 220, "y": 1, "yanchor": "top"}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"


def theme(*, text: str, faint: str, line: str, card: str) -> dict[str, Any]:
    """A plotly template."""
    axis = {
        "gridcolor": line,
        "linecolor": line,
        "zeroline": False,
        "tickcolor": line,
        "tickfont": {"color": faint, "size": 11},
        "title": {"font": {"color": faint, "size": 12}, "standoff": 8},
        "automargin": True,
    }
    return {
        "layout": {
            "font": {"family": FONT, "color": text, "size": 12},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "xaxis": axis,
            "yaxis": axis,
            "coloraxis": {"colorbar": {"outlinewidth": 0, "thickness": 12, "tickfont": {"color": faint, "size": 11}}},
            "hoverlabel": {"bgcolor": card, "bordercolor": line, "font": {"color": text, "size": 12}, "align": "left"},
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"color": faint}},
            "annotationdefaults": {"font": {"color": faint, "size": 11}, "bgcolor": card, "borderpad": 1},
            "shapedefaults": {"line": {"color": faint}},
            "margin": {"l": 60, "r": 20, "t": 30, "b": 50},
        }
    }


THEMES = {
    "light": theme(text="#1f2933", faint="#5b6673", line="#e3e7ec", card="#ffffff"),
    "dark": theme(text="#e6e9ee", faint="#9aa5b4", line="#343c48", card="#222831"),
}


def plain(text: object) -> str:
    """As plotly shows it: what looks like markup or a place to fill in a user's word is neither."""
    return html.escape(str(text), quote=False).replace("%{", "%&#123;")


def clipped(text: str, length: int = 28) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def shortened(text: str, length: int) -> str:
    """Without its middle: names that begin alike stay apart.

    >>> shortened("rmsprop_with_momentum", 12)
    'rmspro…entum'
    """
    kept = max(2, length) - 1
    return text if len(text) <= length else f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"


def parameter(name: str, length: int = 36) -> str:
    """Without Hydra's sign for a key that the config does not have."""
    return clipped(name.lstrip("+"), length)
