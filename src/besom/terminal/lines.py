"""One plain line for each trial that ends: all that a pipe gets, and what scrolls by above the live table."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState
from rich.cells import cell_len

from besom.config.redaction import hidden_in
from besom.study.attrs import OVERRIDES
from besom.study.objective import Objective, described
from besom.study.snapshot import StudySnapshot, point, seconds, tie, why
from besom.study.study import Study
from besom.system.encoding import say
from besom.system.storable import on_one_line
from besom.terminal.words import in_brief


class Lines:
    """A line for each trial that has ended since the last look."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._objectives = study.objectives()
        self._shown = {trial.number for trial in study.trials() if trial.state.is_finished()}

    def refresh(self) -> None:
        for trial in self._study.trials():
            if trial.state.is_finished() and trial.number not in self._shown:
                self._shown.add(trial.number)
                self.say(one_line(trial, self._objectives, self._width))

    def say(self, text: str) -> None:
        # at once, with its end: where Python buffers nothing, a trial in this process could print in between
        say(f"{text}\n", end="", flush=True)

    @property
    def _width(self) -> int | None:
        return None


def one_line(trial: FrozenTrial, objectives: Sequence[Objective], width: int | None = None) -> str:
    """`trial 7 complete  val/acc 0.9861  optimizer=adamw optimizer.lr=0.0031  4.2 s`

    Each has its number, its end, what came of it, its parameters and its time. Within a `width` the parameters have
    short names and give way; the reason of a failure is told in full.
    """
    took = seconds(trial)
    begins = f"trial {trial.number} {_came_of(trial, objectives)}"
    ends = "" if took is None else f"{took:.1f} s"
    room = None if width is None else max(1, width - cell_len(begins) - cell_len(ends) - 4)
    return "  ".join(filter(None, (begins, in_brief(point(trial), room), ends)))


def _came_of(trial: FrozenTrial, objectives: Sequence[Objective]) -> str:
    match trial.state:
        case TrialState.COMPLETE:
            return f"complete  {described(trial.values, objectives)}"
        case TrialState.PRUNED:
            return f"pruned  {_last(trial, objectives)}"
        case _:
            return f"failed  {on_one_line(why(trial)) or 'no reason given'}"


def _last(trial: FrozenTrial, objectives: Sequence[Objective]) -> str:
    """What a pruned trial has reported last; with several objectives none reports."""
    if not trial.intermediate_values:
        return "without a value"
    step = max(trial.intermediate_values)
    return f"{described([trial.intermediate_values[step]], objectives[:1])} at step {step}"


def summary(snapshot: StudySnapshot, recorded: bool) -> str:
    """The end of a sweep."""
    counts = snapshot.counts
    lines = [
        f"study {snapshot.name}: {counts.finished} of {snapshot.n_trials} trials: "
        f"{counts.complete} complete, {counts.pruned} pruned, {counts.failed} failed"
    ]
    if len(snapshot.objectives) > 1:
        lines.append(f"none beats these in all objectives (Pareto front, {len(snapshot.best)} trials):")
    for group in snapshot.best_groups:
        lines.append(f"best: trial {group[0].number} with {snapshot.said(group[0])}")
        if len(group) > 1:
            lines.append(tie(group, snapshot.said(group[0])))
        lines.append(f"repeat it:  {snapshot.command(group[0])}")
        if hidden := hidden_in(group[0].user_attrs.get(OVERRIDES, ())):
            lines.append(f"a secret is written nowhere; give it again in place of ***: {', '.join(hidden)}")
    if recorded:
        lines.append(f"look at it: besom ui {snapshot.name}")
    return "\n".join(lines)
