"""What a study remembers may be of another shape: by another release, or another program."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler

from besom.cli.doctor import examine
from besom.errors import InputError
from besom.reporting import save
from besom.study import attrs
from besom.study.attrs import N_TRIALS, STOP
from besom.study.command import Command
from besom.study.lookup import chosen_among
from besom.study.objective import objectives
from besom.study.queue import Queue
from besom.study.snapshot import StudySnapshot
from besom.study.study import StopRequest, Study
from besom.study.validation import OF_A_STUDY, OF_A_TRIAL
from besom.tracking import RunLog


def _create(folder: Path) -> Study:
    return Study.create(f"sqlite:///{folder}/optuna.db", "s", objectives("maximize", "acc"), folder, {"lr": "x"})


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """With a trial that has failed once, and then completed."""
    study = _create(tmp_path)
    study.remember(N_TRIALS, 2)
    queue = Queue(study)
    for _ in range(2):
        claim = queue.claim(1, lambda number: RandomSampler(seed=number), NopPruner())
        assert claim
        if not claim.trial.user_attrs.get(attrs.ENDS):
            queue.requeue(claim, "killed")
    assert claim
    RunLog(study.folder / "0" / "run.jsonl").metrics({"objective": 1.0}, 0)
    queue.complete(claim, [1.0])
    return study


OTHERS: list[Any] = [-1.5, [1, 2], {"app": 7}]


@pytest.mark.parametrize("value", OTHERS, ids=str)
@pytest.mark.parametrize("key", OF_A_STUDY)
def test_an_attribute_of_a_study_that_cannot_be_read_is_one_message(study, tmp_path, key, value):
    if OF_A_STUDY[key](value):
        return
    study.remember(key, value)

    with pytest.raises(InputError, match=f"attribute {key} is of another shape than this besom writes"):
        study.recall(key)
    with pytest.raises(InputError, match="is of another shape than this besom writes"):
        _create(tmp_path)
    with suppress(InputError):  # where it asks for it, and no other exception
        found, _ = chosen_among(study.url, None)
        save(StudySnapshot.of(found), tmp_path / "report.csv")
    with suppress(InputError):
        examine(study.url, "s", None, fix=False)


@pytest.mark.parametrize(
    "asked", [42, "stop", [1], {"why": "x"}, {"cause": "moon", "why": ""}, {"cause": "asked", "why": "", "more": 1}]
)
def test_a_request_to_stop_of_another_shape_stops_all_the_same(study, asked):
    study.remember(STOP, asked)

    stop = study.stop_request()

    assert stop is not None
    assert stop.cause == "asked"
    assert "cannot read" in stop.why


def test_what_this_besom_writes_is_read_as_it_was_written(study):
    stop = StopRequest("full", "a disk is full")
    study.request_stop(stop)
    Command(("app.py",), ("-m", "x=1"), "/data", None).remember(study)

    assert study.stop_request() == stop
    assert "app.py -m x=1" in str(Command.of(study))


@pytest.mark.parametrize("value", [42, [1], {"a": 1}], ids=str)
@pytest.mark.parametrize("key", OF_A_TRIAL)
def test_an_attribute_of_a_trial_that_cannot_be_read_is_ignored_and_named(tmp_path, capsys, key, value):
    study = _create(tmp_path)
    study.remember(N_TRIALS, 1)
    queue = Queue(study)
    claim = queue.claim(1, lambda number: RandomSampler(seed=number), NopPruner())
    assert claim
    claim.trial.set_user_attr(key, value)
    queue.requeue(claim, "killed")
    claim = queue.claim(1, lambda number: RandomSampler(seed=number), NopPruner())
    assert claim
    if key != attrs.ENDS:
        assert study.trials()[0].user_attrs.get(key) is None
    queue.complete(claim, [1.0])
    RunLog(study.folder / "0" / "run.jsonl").metrics({"objective": 1.0}, 0)

    snapshot = StudySnapshot.of(study)
    save(snapshot, tmp_path / "report.html")
    save(snapshot, tmp_path / "trials.csv")
    assert examine(study.url, "s", None, fix=False)
    if key != attrs.ENDS:  # which was written anew
        assert f"trial 0: {key} of another shape" in capsys.readouterr().out
