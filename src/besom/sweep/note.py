"""The text at the top of the study's page: MLflow shows it as the description of the study's run."""

from __future__ import annotations

from besom.sweep.findings import Findings
from besom.sweep.study import RUN


def note(findings: Findings) -> str:
    """Markdown."""
    counts = findings.counts
    found = (
        f"**Best: trial {trial.number}, {findings.said(trial)}** "
        f"(run `{trial.user_attrs.get(RUN, '')}`)\n\n```\n{findings.command(trial)}\n```\n\n"
        for trial in findings.best
    )
    ended = f"{counts.complete} complete, {counts.pruned} pruned, {counts.failed} failed, of {findings.n_trials}\n"
    return "".join(found) + ended
