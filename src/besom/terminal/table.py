"""A study at a glance: what runs in its slots, the best so far, how far it is. Fits the terminal it is drawn for."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Literal, NamedTuple

from optuna.trial import FrozenTrial
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from besom.study.snapshot import StudySnapshot, point, slot
from besom.terminal.pace import busy_for, idle_share, left, of_this_session, running, to_go_s
from besom.terminal.words import brief, fitting, in_brief, number, pairs, span, sparkline

WIDE = 100  # columns of a terminal from which on there is room for a longer curve and for times
NARROW = 60  # and below which there is none for a curve
AROUND = 7  # lines that are no slot's, one that stays free among them
BAR = 40
LONG, SHORT = 24, 10  # cells of a curve

Row = tuple[str, FrozenTrial | None]  # a slot, and what runs there


class TerminalSize(NamedTuple):
    """Of a terminal, in signs."""

    width: int
    height: int


def picture(snapshot: StudySnapshot, room: TerminalSize, now: datetime) -> Group:
    """Of a study that is swept its slots; of any the best and the counts."""
    slots = ("", _slots(snapshot, room, now), "") if snapshot.is_swept or running(snapshot) else ()
    return Group(*slots, _best(snapshot, room), _how_far(snapshot, room, now), _counts(snapshot))


# ── slots ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def _slots(snapshot: StudySnapshot, room: TerminalSize, now: datetime) -> RenderableType:
    rows, fit = _rows(snapshot), max(2, room.height - AROUND)
    if len(rows) <= fit:
        return _table(rows, snapshot, room, now)
    hidden = sorted(rows, key=lambda row: row[1] is None)[fit - 1 :]  # idle ones before any that is at work
    shown = [row for row in rows if row not in hidden]
    at_work = sum(trial is not None for _, trial in hidden)
    more = f"and {len(hidden)} slots more: {at_work} at work, {len(hidden) - at_work} idle"
    return Group(_table(shown, snapshot, room, now), _line(more, "dim"))


def _rows(snapshot: StudySnapshot) -> list[Row]:
    """The supervisor's own slots, idle ones too, then those of workers that joined."""
    busy: list[Row] = [(slot(trial), trial) for trial in running(snapshot)]
    own = min(snapshot.slots, snapshot.n_trials) if snapshot.is_swept else 0
    idle: list[Row] = [(name, None) for name in map(str, range(own)) if name not in dict(busy)]
    return sorted(busy + idle, key=lambda row: _natural(row[0]))


def _natural(name: str) -> tuple[bool, list[tuple[int, str]]]:
    parts = re.findall(r"\d+|\D+", name)
    return "/" in name, [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _table(rows: list[Row], snapshot: StudySnapshot, room: TerminalSize, now: datetime) -> Table:
    columns, waiting = _columns(snapshot, room, now, LONG), _waiting(snapshot)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", expand=False)
    slots = max(4, min(16, max((len(name) for name, _ in rows), default=0)))
    tried = [point(trial) for _, trial in rows if trial]
    free = _free(columns, room, slots)
    if any(cell_len(pairs(brief(one))) > free for one in tried):  # a shorter curve says as much; a cut value nothing
        columns = _columns(snapshot, room, now, SHORT)
        free = _free(columns, room, slots)
    table.add_column("slot", width=slots, no_wrap=True, style="dim")
    for column in columns:
        table.add_column(column.title, width=column.width, no_wrap=True, justify=column.justify, style=column.style)
    written = fitting(tried, free)
    table.add_column("parameters", max_width=free, no_wrap=True, overflow="ellipsis")
    texts = iter(written)
    for name, trial in rows:
        cells = [column.cell(trial) if trial else "" for column in columns]
        table.add_row(Text(name), *cells, Text(next(texts)) if trial else Text(waiting, "dim"))
    return table


def _waiting(snapshot: StudySnapshot) -> str:
    """What a slot without a trial does."""
    if any(of_this_session(snapshot)) or not snapshot.is_swept or not left(snapshot):
        return "idle"
    return f"starting: waits for {snapshot.waits_for}"


@dataclass(frozen=True)
class _Column:
    title: str
    width: int
    cell: Callable[[FrozenTrial], str]
    justify: Literal["left", "right"] = "right"
    style: str = ""


def _free(columns: list[_Column], room: TerminalSize, slots: int) -> int:
    """Cells left for the parameters."""
    return max(10, room.width - slots - 4 - sum(column.width + 2 for column in columns))


def _columns(snapshot: StudySnapshot, room: TerminalSize, now: datetime, curve: int) -> list[_Column]:
    columns = [_Column("trial", 5, lambda trial: str(trial.number), style="bold")]
    if _has_reports(snapshot):
        columns += [_Column("epoch", 5, _step), _Column("value", 8, _value)]
        if room.width >= NARROW:
            length = curve if room.width >= WIDE else SHORT
            columns.append(_Column("so far", length, partial(_curve, width=length), "left", "cyan"))
    if room.width >= WIDE or not columns[1:]:
        columns.append(_Column("for", 8, lambda trial: span(busy_for(trial, now))))
    return columns


def _has_reports(snapshot: StudySnapshot) -> bool:
    """Until the first trial has ended nobody knows whether there will be any."""
    reports = any(trial.intermediate_values for trial in snapshot.trials)
    return len(snapshot.objectives) == 1 and (reports or not snapshot.counts.finished)


def _step(trial: FrozenTrial) -> str:
    return str(max(trial.intermediate_values)) if trial.intermediate_values else ""


def _value(trial: FrozenTrial) -> str:
    return number(trial.intermediate_values[max(trial.intermediate_values)]) if trial.intermediate_values else ""


def _curve(trial: FrozenTrial, width: int) -> str:
    return sparkline([value for _, value in sorted(trial.intermediate_values.items())], width)


# ── the study ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def _best(snapshot: StudySnapshot, room: TerminalSize) -> Text:
    if len(snapshot.objectives) > 1:
        front = len(snapshot.best)
        return _line(f"Pareto front: {front} trial{'s' * (front != 1)}, beaten by none in all objectives")
    if not snapshot.best:
        return _line("no trial is complete yet", "dim")
    [best] = snapshot.best
    line = _line(f"best {snapshot.said(best)}", "bold green").append(f"  trial {best.number}  ", "not bold default")
    shared = len(snapshot.best_groups[0])
    if shared > 1:
        line.append(f"and {shared - 1} more share it  ", "not bold default")
    return line.append(in_brief(point(best), max(1, room.width - line.cell_len)), "not bold default")


def _how_far(snapshot: StudySnapshot, room: TerminalSize, now: datetime) -> Table:
    """A bar; of a study that is swept also the time to go, and the share of its slots that lies idle."""
    counts, asked = snapshot.counts, max(1, snapshot.n_trials)
    words = [f"{counts.finished}/{snapshot.n_trials}"]
    if snapshot.is_swept:
        if left(snapshot) and (seconds := to_go_s(snapshot, now)) is not None:
            words.append(f"about {span(max(1, seconds))} to go")
        if (idle := idle_share(snapshot, now)) is not None:
            words.append(f"slots {idle:.0%} idle")
    text = "  ".join(words)
    bar = ProgressBar(asked, min(counts.finished, asked), width=max(4, min(BAR, room.width - len(text) - 4)))
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_row(bar, _line(text))
    return grid


def _counts(snapshot: StudySnapshot) -> Text:
    counts = snapshot.counts
    line = _line(f"{counts.complete} complete  {counts.pruned} pruned  ")
    line.append(f"{counts.failed} failed", "red" if counts.failed else "")
    return line.append(f"  {left(snapshot)} left")


def _line(text: str, style: str = "") -> Text:
    return Text(text, style, no_wrap=True, overflow="ellipsis")
