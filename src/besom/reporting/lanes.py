"""The timeline of slots, drawn: a row for each slot, a bar for each trial."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from optuna.trial import TrialState

from besom.reporting.chart import Chart, NothingToShow, figure
from besom.reporting.look import COLOURS, WORDS, clipped, plain
from besom.reporting.tables import attempts
from besom.reporting.timeline import Bar, Timeline, timeline
from besom.study.snapshot import StudySnapshot

UNITS = ((3 * 3600.0, 3600.0, "h"), (180.0, 60.0, "min"), (0.0, 1.0, "s"))  # from how many seconds on, each how long
SHORTEST_S = 0.001  # a bar without length could not be pointed at


def lanes(snapshot: StudySnapshot) -> Chart:
    """A row for each slot."""
    found = timeline(snapshot)
    if not found.bars:
        raise NothingToShow("No trial has been begun.")
    rows = {name: row for row, name in enumerate(found.slots)}
    unit, per = unit_of(found)
    shown = figure(
        list(_bars(found, snapshot, rows, per)),
        max(200, 120 + 34 * len(rows)),
        barmode="overlay",
        xaxis={"title": {"text": f"{unit} of sweeping"}, "rangemode": "tozero"},
        yaxis={
            "tickvals": list(rows.values()),
            "ticktext": [plain(clipped(called(name), 24)) for name in rows],
            "range": [len(rows) - 0.4, -0.6],
            "showgrid": False,
        },
        shapes=[_cut(at / per) for at in found.pauses],
        showlegend=True,
    )
    return Chart("Timeline of slots", _said(found), shown)


def _bars(found: Timeline, snapshot: StudySnapshot, rows: dict[str, int], per: float) -> Iterator[Any]:
    from plotly.graph_objects import Bar as Bars

    for state, word in WORDS.items():
        if bars := [bar for bar in found.bars if bar.trial.state == state]:
            yield Bars(
                base=[bar.begin / per for bar in bars],
                x=[max(bar.seconds, SHORTEST_S) / per for bar in bars],
                y=[rows[bar.slot] for bar in bars],
                width=0.72,
                orientation="h",
                name=f"{word} ({len(bars)})",
                marker={"color": COLOURS[state], "line": {"width": 0}},
                customdata=[_details(bar, snapshot) for bar in bars],
                hovertemplate="%{customdata}<extra></extra>",
            )


def unit_of(found: Timeline) -> tuple[str, float]:
    """In which to count so long a sweep."""
    whole = max(bar.begin + bar.seconds for bar in found.bars)
    return next((name, per) for least, per, name in UNITS if whole >= least)


def called(slot: str) -> str:
    return f"slot {slot}" if slot else "a slot"


def _said(found: Timeline) -> str:
    said = f"The slots stood idle for {found.idle_share:.1%} of the time."
    if len(found.slots) > 1:
        said += " A slot that finds no trial left at the end is idle too."
    if any(attempts(bar.trial) > 1 for bar in found.bars):
        said += " Of a trial that was attempted again only the last attempt has a bar."
    if found.pauses:
        count = len(found.pauses)
        said += (
            f" {'A pause' if count == 1 else f'{count} pauses'} of the whole sweep (dotted) cut out, and not counted."
        )
    return said


def _details(bar: Bar, snapshot: StudySnapshot) -> str:
    trial = bar.trial
    lines = [
        f"trial {trial.number} {WORDS[trial.state]} in {called(bar.slot)}",
        f"{bar.seconds:.1f} s from {trial.datetime_start:%d %b %H:%M:%S}",
    ]
    if trial.state == TrialState.COMPLETE:
        lines.append(snapshot.said(trial))
    return "<br>".join(map(plain, lines))


def _cut(at: float) -> dict[str, Any]:
    line = {"dash": "dot", "width": 1.5, "color": "#8f97a3"}
    return {"type": "line", "xref": "x", "yref": "paper", "x0": at, "x1": at, "y0": 0, "y1": 1, "line": line}
