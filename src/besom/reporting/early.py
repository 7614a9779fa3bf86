"""Trials that did not complete, in the charts of those that did: in their own style, at the last value they had."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from besom.reporting.axes import drawable
from besom.reporting.look import COLOURS, WORDS, clipped, plain
from besom.study.snapshot import StudySnapshot, why

STATES = (TrialState.PRUNED, TrialState.FAIL)
MARKERS: dict[TrialState, dict[str, Any]] = {
    TrialState.PRUNED: {"symbol": "x", "size": 7, "color": COLOURS[TrialState.PRUNED], "opacity": 0.8},
    TrialState.FAIL: {"symbol": "triangle-down", "size": 9, "color": COLOURS[TrialState.FAIL], "opacity": 0.9},
}


def early(snapshot: StudySnapshot) -> list[FrozenTrial]:
    """Those that were pruned or failed, by number."""
    return [trial for trial in snapshot.trials if trial.state in STATES]


def value_of(trial: FrozenTrial, n: int = 0) -> float | None:
    """Of an objective: a complete trial's own, another one's last reported; None where a chart can place neither.

    Trials report only where there is one objective.
    """
    if trial.state == TrialState.COMPLETE:
        value = trial.values[n]
    elif trial.intermediate_values:
        value = trial.intermediate_values[max(trial.intermediate_values)]
    else:
        return None
    return value if drawable(value) else None


def marks(
    trials: Sequence[FrozenTrial],
    x: Callable[[FrozenTrial], Any],
    y: Callable[[FrozenTrial], Any],
    name: str,
    **more: Any,
) -> Iterator[Any]:
    """A trace for each of the states; `name` is the objective's, `more` goes to plotly."""
    from plotly.graph_objects import Scatter

    for state in STATES:
        if members := [trial for trial in trials if trial.state == state]:
            word = WORDS[state]
            yield Scatter(
                x=[x(trial) for trial in members],
                y=[y(trial) for trial in members],
                customdata=[_details(trial, name) for trial in members],
                mode="markers",
                name=f"{word} ({len(members)})",
                legendgroup=word,
                marker=MARKERS[state],
                cliponaxis=False,
                hovertemplate="%{customdata}<extra></extra>",
                **more,
            )


def _details(trial: FrozenTrial, name: str) -> str:
    said = f"trial {trial.number} {WORDS[trial.state]}"
    if reason := why(trial):
        said += f": {clipped(' '.join(reason.split()), 80)}"
    if (value := value_of(trial)) is None:
        return plain(f"{said}, without a value")
    return f"{plain(said)}<br>{name} {value:.6g} at step {max(trial.intermediate_values)}"


def with_edge(ends: tuple[float, float], trials: Sequence[FrozenTrial]) -> tuple[tuple[float, float], float]:
    """The ends of an axis with room for trials that have no value, and where on it they are drawn."""
    if all(value_of(trial) is not None for trial in trials):
        return ends, ends[0]
    low, high = ends
    return (low - 0.08 * (high - low), high), low - 0.03 * (high - low)


def said(trials: Sequence[FrozenTrial], pruned: str = "✕", failed: str = "▼", *, edge: bool = True) -> str:
    """How to read them; `edge`: those without a value are drawn at the lower edge."""
    states = {trial.state for trial in trials}
    signs = ((TrialState.PRUNED, f"pruned ones ({pruned})"), (TrialState.FAIL, f"failed ones ({failed})"))
    words = [text for state, text in signs if state in states]
    if not words:
        return ""
    text = f" {' and '.join(words).capitalize()} are shown at their last value"
    lost = edge and any(value_of(trial) is None for trial in trials)
    return f"{text}, or at the lower edge without one." if lost else f"{text}."
