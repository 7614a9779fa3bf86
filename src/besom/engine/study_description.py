"""The text at the top of the study's page: MLflow shows it as the description of the study's run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from besom.config.redaction import redact
from besom.space.space import short
from besom.study.snapshot import StudySnapshot, point, seconds, tie
from besom.study.study import Change
from besom.tracking.mlflow_store import TRAINING
from besom.tracking.saved_view import link

TOP = 10
MAX_NOTE = 7500  # characters; MLflow takes 8,000
ENDED = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


def note(snapshot: StudySnapshot, experiment: str, run: str) -> str:
    """Markdown, with links to the runs in the same MLflow."""
    runs = f"#/experiments/{experiment}/runs"
    settled = f"All trials: {_cell(snapshot.settled)}" if snapshot.settled else ""
    found = [*_best(snapshot, runs), _state(snapshot), _table(snapshot, runs)]
    # MLflow folds the text after a few lines: the links and the best are seen without a click
    parts = [snapshot.question, _links(experiment, run), *found, settled, *map(_change, snapshot.changes)]
    while len(text := "\n\n".join(filter(None, parts))) > MAX_NOTE:  # of commands and points as long as that
        longest = max(parts, key=len)
        parts[parts.index(longest)] = f"{longest[: MAX_NOTE // 3]} …" if len(longest) > MAX_NOTE // 3 else ""
    return text


def _best(snapshot: StudySnapshot, runs: str) -> Iterator[str]:
    if len(snapshot.objectives) > 1 and snapshot.best:
        yield f"**Pareto front: {len(snapshot.best)} trials that no other beats in all objectives**"
    for group in snapshot.best_groups[:3]:
        trial = group[0]
        named = _link(snapshot, trial, runs, "trial ")
        shared = f" ({_cell(tie(group, snapshot.said(trial)))})" if len(group) > 1 else ""
        yield f"**Best: {named}, {snapshot.said(trial)}**{shared}\n\n```\n{snapshot.command(trial)}\n```"
    if not snapshot.best:
        yield "No trial is complete yet."


def _state(snapshot: StudySnapshot) -> str:
    """`12 of 20 trials: 9 complete (70 s), 3 pruned (8 s, 10 % of the time)`"""
    spent = dict.fromkeys(ENDED, 0.0)
    for trial in snapshot.trials:
        if trial.state in spent:
            spent[trial.state] += seconds(trial) or 0.0
    whole, counts = sum(spent.values()) or 1.0, snapshot.counts
    parts = []
    for state, count in zip(ENDED, (counts.complete, counts.pruned, counts.failed), strict=True):
        wasted = "" if state == TrialState.COMPLETE else f", {spent[state] / whole:.0%} of the time"
        parts.append(f"{count} {ENDED[state]} ({_time(spent[state])}{wasted})" if count else f"0 {ENDED[state]}")
    running = f"; {counts.running} running" if counts.running else ""
    return f"{counts.finished} of {snapshot.n_trials} trials: {', '.join(parts)}{running}"


def _table(snapshot: StudySnapshot, runs: str) -> str:
    """Of the best trials; of the Pareto front, where there are several objectives."""
    single = len(snapshot.objectives) == 1
    top = (snapshot.ranked() if single else snapshot.best)[:TOP]
    if not top:
        return ""
    keys = list(dict.fromkeys(key for trial in top for key in point(trial)))
    rows = [["", "trial", *(objective.name for objective in snapshot.objectives), *keys, "time"]]
    for place, trial in enumerate(top, 1):
        rank = snapshot.rank(trial) if single else place
        values = [f"{value:.4g}" for value in trial.values]
        searched = point(trial)
        cells = [short(searched[key]) if key in searched else "" for key in keys]
        rows.append([str(rank), _link(snapshot, trial, runs), *values, *cells, _time(seconds(trial) or 0.0)])
    rows.insert(1, ["---"] * len(rows[0]))
    return "\n".join("| " + " | ".join(map(_cell, row)) + " |" for row in rows)


def _change(change: Change) -> str:
    lines = "\n".join(map(redact, change.lines))
    return f"After {change.after} trials the sweep went on with a change:\n\n```\n{lines}\n```"


def _links(experiment: str, run: str) -> str:
    there = f"#/experiments/{experiment}/runs/{run}/artifacts"
    files = (f"[{name}]({there}/{name}{TRAINING})" for name in ("report.html", "trials.csv", "best.yaml"))
    return " · ".join((f"[all trials in a table]({link(experiment, run)})", *files))


def _link(snapshot: StudySnapshot, trial: FrozenTrial, runs: str, before: str = "") -> str:
    text, run = f"{before}{trial.number}", snapshot.run_id(trial)
    return f"[{text}]({runs}/{run}{TRAINING})" if run else text


def _cell(text: Any) -> str:
    return redact(str(text)).replace("|", "\\|").replace("\n", " ")


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
