"""What the terminal shows while a sweep runs: a bar where someone watches, one plain line a trial in a pipe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from besom.sweep.findings import Findings
from besom.sweep.objective import described
from besom.sweep.plan import Plan
from besom.sweep.space import short
from besom.sweep.study import REASON, Study


class Progress(Protocol):
    def refresh(self) -> None:
        """Look at the study and show what is new."""

    def say(self, text: str) -> None:
        """A line of its own."""


@contextmanager
def progress(study: Study, plan: Plan) -> Iterator[Progress]:
    """Shows the last state once more on the way out."""
    console = Console()
    if not console.is_terminal:
        lines = Lines(study, plan)
        yield lines
        lines.refresh()
        return
    with RichProgress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        refresh_per_second=2,
    ) as bar:
        task = bar.add_task(study.name, total=plan.n_trials, state="starting")
        view = Bar(study, plan, bar, task)
        yield view
        view.refresh()


class Lines:
    """One plain line for each trial that has ended since the last look."""

    def __init__(self, study: Study, plan: Plan) -> None:
        self._study = study
        self._plan = plan
        self._shown = {trial.number for trial in study.trials() if trial.state.is_finished()}

    def refresh(self) -> None:
        for trial in self._study.trials():
            if trial.state.is_finished() and trial.number not in self._shown:
                self._shown.add(trial.number)
                self.say(one_line(trial, self._plan))

    def say(self, text: str) -> None:
        print(text, flush=True)


class Bar(Lines):
    """The same lines, above a bar with the best so far."""

    def __init__(self, study: Study, plan: Plan, bar: RichProgress, task: TaskID) -> None:
        super().__init__(study, plan)
        self._bar = bar
        self._task = task

    def refresh(self) -> None:
        super().refresh()
        counts, best = self._study.counts(), self._study.best()
        state = f"{counts.running} running"
        if len(best) == 1:
            state = f"best {described(best[0].values, self._plan.objectives)} (trial {best[0].number}) · {state}"
        elif best:
            state = f"{len(best)} on the Pareto front · {state}"
        if counts.failed:
            state += f" · {counts.failed} failed"
        self._bar.update(self._task, completed=counts.finished, state=state)

    def say(self, text: str) -> None:
        self._bar.console.print(text, highlight=False, markup=False)


def one_line(trial: FrozenTrial, plan: Plan) -> str:
    """`trial 7 complete  val/acc 0.9861  optimizer=adamw optimizer.lr=0.0031  4.2 s`"""
    point = " ".join(f"{key}={short(value)}" for key, value in plan.space.values(trial.params).items())
    took = f"{trial.duration.total_seconds():.1f} s" if trial.duration else ""
    match trial.state:
        case TrialState.COMPLETE:
            end = f"complete  {described(trial.values, plan.objectives)}"
        case TrialState.PRUNED:
            end = "pruned"
        case _:
            end = f"failed: {trial.user_attrs.get(REASON, 'no reason given')} "
    return f"trial {trial.number} {end}  {point}  {took}"


def summary(findings: Findings, recorded: bool) -> str:
    """The end of a sweep."""
    counts, best = findings.counts, findings.best
    lines = [
        f"study {findings.name}: {counts.finished} of {findings.n_trials} trials: "
        f"{counts.complete} complete, {counts.pruned} pruned, {counts.failed} failed"
    ]
    if len(findings.objectives) > 1:
        lines.append(f"none beats these in all objectives (Pareto front, {len(best)} trials):")
    for trial in best:
        lines += [
            f"best: trial {trial.number} with {findings.said(trial)}",
            f"repeat it:  {findings.command(trial)}",
        ]
    if recorded:
        lines.append(f"look at it: besom ui {findings.name}")
    return "\n".join(lines)
