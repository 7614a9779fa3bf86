"""The main charts as PNG, for where no page can be opened."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from besom.reporting.axes import window
from besom.reporting.chart import NothingToShow
from besom.reporting.early import early, value_of, with_edge
from besom.reporting.importances import SHADES, importances, ranked
from besom.reporting.lanes import SHORTEST_S, called, unit_of
from besom.reporting.look import BEST, COLOURS, WORDS, clipped, parameter
from besom.reporting.timeline import timeline
from besom.reporting.values import completed, so_far
from besom.study.snapshot import StudySnapshot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 144
ABOVE: dict[str, Any] = {"frameon": False, "ncols": 5, "loc": "lower left", "bbox_to_anchor": (0, 1)}  # a legend


def pictures(snapshot: StudySnapshot, folder: Path) -> Iterator[Path]:
    """Those that the study has enough for."""
    several = len(snapshot.objectives) > 1
    made: dict[str, Callable[[StudySnapshot], Figure]] = {
        "pareto_front.png" if several else "history.png": _pareto if several else _history,
        "importances.png": _importances,
        "timeline.png": _timeline,
    }
    for name, draw in made.items():
        try:
            picture = draw(snapshot)
        except NothingToShow:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of signs that matplotlib's font does not have
            picture.savefig(folder / name, dpi=DPI)
        yield folder / name


def _history(snapshot: StudySnapshot) -> Figure:
    [objective], others = snapshot.objectives, early(snapshot)
    lasts = [value for trial in others if (value := value_of(trial)) is not None]
    trials = completed(snapshot, or_none=bool(lasts))
    numbers, values = [trial.number for trial in trials], [trial.values[0] for trial in trials]
    ends, edge = with_edge(window([*values, *lasts]), others)
    figure, axes = _paper(8, 4)
    if values:
        axes.scatter(
            numbers, values, s=18, color=COLOURS[TrialState.COMPLETE], alpha=0.8, linewidths=0, label="complete"
        )
        best = so_far([*values, values[-1]], objective.direction)
        steps = [*numbers, snapshot.trials[-1].number]
        axes.plot(steps, best, color=BEST, linewidth=2, drawstyle="steps-post", label="best so far")
    for state, sign in ((TrialState.PRUNED, "x"), (TrialState.FAIL, "v")):
        if members := [trial for trial in others if trial.state == state]:
            heights = [edge if (value := value_of(trial)) is None else value for trial in members]
            where = [trial.number for trial in members]
            axes.scatter(where, heights, s=22, color=COLOURS[state], marker=sign, label=WORDS[state], clip_on=False)
    axes.set_ylim(*ends)
    axes.set_xlabel("trial")
    axes.set_ylabel(_plain(objective.name))
    axes.legend(**ABOVE)
    return figure


def _pareto(snapshot: StudySnapshot) -> Figure:
    """Of the first two objectives."""
    trials, front = completed(snapshot), {trial.number for trial in snapshot.best}
    figure, axes = _paper(6.5, 5)
    for word, colour, members in (
        ("dominated", COLOURS[TrialState.COMPLETE], [trial for trial in trials if trial.number not in front]),
        ("Pareto front", BEST, [trial for trial in trials if trial.number in front]),
    ):
        x, y = ([trial.values[n] for trial in members] for n in (0, 1))
        axes.scatter(x, y, s=24, color=colour, alpha=0.8, linewidths=0, label=word)
    for name, n in ((axes.set_xlabel, 0), (axes.set_ylabel, 1)):
        name(_plain(f"{snapshot.objectives[n].name} ({snapshot.objectives[n].direction})"))
    axes.legend(**ABOVE)
    return figure


def _importances(snapshot: StudySnapshot) -> Figure:
    found, names = importances(snapshot), list(reversed(ranked(snapshot)))
    figure, axes = _paper(8, 1.2 + 0.32 * len(names) * len(found))
    thick = 0.7 / len(found)
    for n, one in enumerate(found):
        places = [place + (n - (len(found) - 1) / 2) * thick for place in range(len(names))]
        lengths = [one.shares.get(name, 0.0) for name in names]
        label = f"{one.objective.name} ({one.method})" if len(snapshot.objectives) > 1 else one.method
        axes.barh(places, lengths, thick * 0.9, color=SHADES[n % len(SHADES)], label=_plain(label))
    axes.set_yticks(range(len(names)), [_plain(parameter(name)) for name in names])
    axes.xaxis.set_major_formatter("{x:.0%}")
    if len(found) > 1:
        axes.legend(**ABOVE)
    return figure


def _timeline(snapshot: StudySnapshot) -> Figure:
    found = timeline(snapshot)
    if not found.bars:
        raise NothingToShow("No trial has been begun.")
    rows = {name: row for row, name in enumerate(found.slots)}
    unit, per = unit_of(found)
    figure, axes = _paper(10, 1.4 + 0.4 * len(rows))
    for state, word in WORDS.items():
        if bars := [bar for bar in found.bars if bar.trial.state == state]:
            axes.bar(0, 0, color=COLOURS[state], label=word)  # for the legend
        for name, row in rows.items():
            spans = [(bar.begin / per, max(bar.seconds, SHORTEST_S) / per) for bar in bars if bar.slot == name]
            axes.broken_barh(spans, (row - 0.35, 0.7), color=COLOURS[state], linewidth=0)
    for at in found.pauses:
        axes.axvline(at / per, color="#8f97a3", linestyle=":")
    axes.set_yticks(range(len(rows)), [_plain(clipped(called(name), 24)) for name in rows])
    axes.set_xlim(left=0)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel(f"{unit} of sweeping, {found.idle_share:.1%} idle")
    axes.legend(**ABOVE)
    return figure


def _paper(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of its own: pyplot would keep it, and speak to a screen."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e3e7ec", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _plain(text: str) -> str:
    """No formula, whatever a user has named it."""
    return text.replace("$", r"\$")
