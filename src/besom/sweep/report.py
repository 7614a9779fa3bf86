"""What a finished study says: on the terminal, and as the note of its run in MLflow."""

from __future__ import annotations

import shlex

from optuna.trial import FrozenTrial

from besom.sweep.study import RUN, Study
from besom.sweep.worker import Plan


def summary(study: Study, metric: str, plan: Plan) -> str:
    counts, best = study.counts(), study.best()
    lines = [
        f"study {study.name}: {counts.finished} of {plan.n_trials} trials: "
        f"{counts.complete} complete, {counts.pruned} pruned, {counts.failed} failed"
    ]
    if best:
        lines += [
            f"best: trial {best.number} with {metric} {best.value:.4f}",
            f"repeat it:  {command(best, plan)}",
        ]
    if plan.tracking_uri:
        lines.append(f"look at it: besom ui {study.name}")
    return "\n".join(lines)


def note(study: Study, metric: str, plan: Plan) -> str:
    """Markdown."""
    counts, best = study.counts(), study.best()
    assert best is not None
    return (
        f"**Best: trial {best.number}, {metric} = {best.value:.4f}** (run `{best.user_attrs.get(RUN, '')}`)\n\n"
        f"```\n{command(best, plan)}\n```\n\n"
        f"{counts.complete} complete, {counts.pruned} pruned, {counts.failed} failed, of {plan.n_trials} trials\n"
    )


def command(trial: FrozenTrial, plan: Plan) -> str:
    """What to paste into a shell to train this point again, alone."""
    return shlex.join([*plan.program.split(), *plan.space.overrides(trial.params)])
