"""The study as files that other programs read: a row a trial, and the best."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from besom.reporting.look import WORDS
from besom.space.space import as_text
from besom.study.attrs import ENDS, OVERRIDES
from besom.study.snapshot import StudySnapshot, point, seconds, slot, tie, why

ABOUT = ("number", "state", "seconds", "attempts", "slot", "start", "end", "run", "reason")


def trials_csv(snapshot: StudySnapshot) -> str:
    """Numbers as Python writes them, so that none is rounded; parameters as an override takes them, None as `null`.

    A parameter called like another column has `params.` before its name, an objective `objective.`.
    """
    keys = parameters(snapshot)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(_header(snapshot, keys))
    for trial in snapshot.trials:
        values, here = trial.values or [None] * len(snapshot.objectives), point(trial)
        number, state, *about = _about(trial, snapshot)
        rows.writerow(
            [
                *(number, state, *("" if value is None else repr(value) for value in values)),
                *(as_text(here[key]) if key in here else "" for key in keys),
                *about,
            ]
        )
    return text.getvalue()


def best_yaml(snapshot: StudySnapshot) -> str:
    """The best trial, or a list: the Pareto front."""
    import yaml

    several = len(snapshot.objectives) > 1
    best = [_as_mapping(trial, snapshot) for trial in snapshot.best]
    what = f"the Pareto front of study {snapshot.name!r}" if several else f"the best trial of study {snapshot.name!r}"
    aim = ", ".join(f"{objective.direction} {objective.name}" for objective in snapshot.objectives)
    shared = [tie(group, snapshot.said(group[0])) for group in snapshot.best_groups]
    head = [
        f"# {what} ({aim}){'' if best else ': no trial is complete yet'}",
        *(f"# {line}" for line in shared if line),
        "# overrides make this trial again, behind the app's name; params are a point for hydra.sweeper.enqueue",
    ]
    body: Any = best if several else (best[0] if best else {})
    return (
        "\n".join(" ".join(line.splitlines()) for line in head)
        + "\n"
        + yaml.safe_dump(body, sort_keys=False, allow_unicode=True)
    )


def parameters(snapshot: StudySnapshot) -> list[str]:
    """The config keys that a trial of the study has."""
    return list(dict.fromkeys(key for trial in snapshot.trials for key in point(trial)))


def attempts(trial: FrozenTrial) -> int:
    """So far; only that of a failed one has noted its end already."""
    begun = trial.state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    return len(trial.user_attrs.get(ENDS, ())) + begun


def _header(snapshot: StudySnapshot, keys: list[str]) -> list[str]:
    taken = list(ABOUT)
    objectives = [_free(name, f"objective.{name}", taken) for name in _names(snapshot)]
    params = [_free(key, f"params.{key}", taken) for key in keys]
    return [*ABOUT[:2], *objectives, *params, *ABOUT[2:]]


def _free(name: str, otherwise: str, taken: list[str]) -> str:
    taken.append(otherwise if name in taken else name)
    return taken[-1]


def _about(trial: FrozenTrial, snapshot: StudySnapshot) -> Iterator[Any]:
    yield trial.number
    yield WORDS[trial.state]
    took = seconds(trial)
    yield "" if took is None else repr(took)
    yield attempts(trial)
    yield slot(trial)
    yield _iso(trial.datetime_start)
    yield _iso(trial.datetime_complete)
    yield snapshot.run_id(trial) or ""
    yield why(trial)


def _iso(moment: datetime | None) -> str:
    """In the local time of who ran it, as Optuna has it."""
    return moment.isoformat() if moment else ""


def _as_mapping(trial: FrozenTrial, snapshot: StudySnapshot) -> dict[str, Any]:
    """One that a fork has adopted was not made by overrides of this study's."""
    how = {"command": snapshot.command(trial), "overrides": list(trial.user_attrs.get(OVERRIDES, ()))}
    return {
        "number": trial.number,
        "values": dict(zip(_names(snapshot), trial.values, strict=True)),
        **(how if OVERRIDES in trial.user_attrs else {}),
        "params": point(trial),
    }


def _names(snapshot: StudySnapshot) -> list[str]:
    """Of the objectives; two may be called alike."""
    names = [objective.name for objective in snapshot.objectives]
    return [one.key if names.count(one.name) > 1 else one.name for one in snapshot.objectives]
