"""`besom best`: a study's best trials, for people and for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, Literal

import yaml
from optuna.trial import FrozenTrial
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from besom.errors import InputError, RunError
from besom.study.attrs import OVERRIDES
from besom.study.lookup import chosen
from besom.study.snapshot import StudySnapshot, point, seconds, tie
from besom.system.encoding import say
from besom.terminal import console, is_watched
from besom.terminal.screen import Screen
from besom.terminal.words import brief, cut, number, pairs, span

FEW = 5  # where nobody says how many
BOUNDLESS = 100_000  # columns
PAGE = 400  # columns of a pipe, in which nothing is cut

Form = Literal["table", "yaml", "json"]


def best(url: str, name: str | None, n: int | None, form: Form) -> None:
    """Print the `n` best complete trials; with several objectives the Pareto front, all of it unless `n` is given.

    Raises:
        InputError: no such storage or study, or `n` is below 1.
        RunError: no trial is complete.
    """
    if n is not None and n < 1:
        raise InputError(f"-n {n}: must be at least 1")
    snapshot = StudySnapshot.of(chosen(url, name))
    if not snapshot.best:
        raise RunError(f"no trial of study {snapshot.name!r} is complete yet")
    is_front = len(snapshot.objectives) > 1
    trials = snapshot.best[:n] if is_front else snapshot.ranked()[: n or FEW]
    match form:
        case "json":
            print(json.dumps([_json(_facts(snapshot, trial)) for trial in trials], indent=2, allow_nan=False))
        case "yaml":
            facts = [_facts(snapshot, trial) for trial in trials]
            print(yaml.safe_dump(facts, sort_keys=False, allow_unicode=True, width=math.inf), end="")
        case _:
            _show(snapshot, trials, is_front)


def _facts(snapshot: StudySnapshot, trial: FrozenTrial) -> dict[str, Any]:
    names = [objective.name for objective in snapshot.objectives]
    return {
        "number": trial.number,
        "values": dict(zip(names, trial.values, strict=True)),
        "params": point(trial),
        "overrides": list(trial.user_attrs.get(OVERRIDES, ())),
        "command": snapshot.command(trial),
        "run": snapshot.run_id(trial),
    }


def _json(value: Any) -> Any:
    """JSON has no infinity: it is written as a text, which `float()` takes back."""
    match value:
        case dict():
            return {key: _json(one) for key, one in value.items()}
        case list():
            return [_json(one) for one in value]
        case float() if not math.isfinite(value):
            return str(value)
    return value


def _show(snapshot: StudySnapshot, trials: Sequence[FrozenTrial], is_front: bool) -> None:
    if is_front:
        say(f"study {snapshot.name}: none beats these in all objectives (Pareto front)")
    else:
        say(f"study {snapshot.name}: the best of {snapshot.counts.complete} complete trials")
    for group in snapshot.best_groups:
        if len(group) > 1:
            say(tie(group, snapshot.said(group[0])))
    screen = console() if is_watched() else Screen(width=PAGE, highlight=False)
    apart = _table(snapshot, trials, is_front)
    # in a boundless room: no measure is ever larger than the room it is taken in
    fits = screen.measure(apart, options=screen.options.update(width=BOUNDLESS)).maximum <= screen.width
    with screen.capture() as shown:
        screen.print(apart if fits else _table(snapshot, trials, is_front, screen.width))
    print("\n".join(line.rstrip() for line in shown.get().splitlines()))
    say(f"repeat the first:  {snapshot.command(trials[0])}")


def _table(snapshot: StudySnapshot, trials: Sequence[FrozenTrial], is_front: bool, width: int | None = None) -> Table:
    """A column for each parameter; within a `width` one for all of them, which gives way where there is no room."""
    points = [brief(point(trial)) for trial in trials]
    keys = list(dict.fromkeys(key for one in points for key in one)) if width is None else ["parameters"]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    ranks = [] if is_front else ["rank"]
    titles = [*ranks, "trial", *(objective.name for objective in snapshot.objectives), "took"]
    numbers = [
        [
            *([] if is_front else [str(snapshot.rank(trial))]),
            *(str(trial.number), *map(number, trial.values), _took(seconds(trial))),
        ]
        for trial in trials
    ]
    taken = 0
    for title, *column in zip(titles, *numbers, strict=True):
        table.add_column(Text(title), justify="right", no_wrap=True)
        taken += max(map(cell_len, (title, *column))) + 2
    for key in keys:
        table.add_column(Text(key), no_wrap=True, overflow="ellipsis")
    for row, tried in zip(numbers, points, strict=True):
        cells = [_cell(tried, key) for key in keys] if width is None else [cut(pairs(tried), max(10, width - taken))]
        table.add_row(*row, *map(Text, cells))
    return table


def _took(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return span(seconds) if seconds >= 10 else f"{seconds:.1f} s"


def _cell(tried: dict[str, Any], key: str) -> str:
    return pairs({key: tried[key]}).partition("=")[2] if key in tried else ""
