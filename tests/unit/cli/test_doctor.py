from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from besom.cli import doctor
from besom.cli.doctor import examine
from besom.errors import InputError
from besom.study.attrs import LEASE, LEASE_S, N_TRIALS, SUPERVISOR
from besom.study.lease import Lease
from besom.study.objective import objectives
from besom.study.queue import Queue
from besom.study.study import Study
from besom.tracking import RunLog


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """In which one trial runs in a container, of whose processes nothing can be seen from here."""
    monkeypatch.setattr(doctor, "LOOK_S", 0.02)
    study = Study.create(f"sqlite:///{tmp_path}/optuna.db", "s", objectives("maximize", "acc"), tmp_path, {"lr": ""})
    study.remember(N_TRIALS, 1)
    study.remember(LEASE_S, 0.2)
    study.remember(SUPERVISOR, _in_a_container().as_attr())
    claim = Queue(study).claim(1, lambda number: RandomSampler(number), NopPruner())
    assert claim
    claim.trial.set_user_attr(LEASE, _in_a_container().as_attr())
    return study


def _in_a_container() -> Lease:
    mine = Lease.mine()
    return replace(mine, machine=f"{mine.machine.partition(' ')[0]} pid:[1]")


def test_a_holder_in_another_container_that_is_silent_for_a_lease_is_gone(study, capsys):
    examine(study.url, "s", None, fix=True)

    assert study.trials()[0].state == TrialState.WAITING
    assert study.supervisor() is None
    assert "waiting 0.2 s for a sign of it" in capsys.readouterr().out


def test_from_a_holder_in_another_container_that_beats_nothing_is_taken(study):
    done = threading.Event()

    def beat() -> None:
        lease = study.supervisor()
        while lease and not done.wait(0.05):
            lease = lease.renewed()
            study.remember(SUPERVISOR, lease.as_attr())

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        with pytest.raises(InputError, match="the sweep is in the hands of process"):
            examine(study.url, "s", None, fix=True)
    finally:
        done.set()
        beating.join()

    assert study.trials()[0].state == TrialState.RUNNING


def test_lines_of_a_log_that_are_no_records_are_named(tmp_path, capsys):
    study = Study.create(f"sqlite:///{tmp_path}/optuna.db", "t", objectives("maximize", "acc"), tmp_path, {"lr": ""})
    study.remember(N_TRIALS, 1)
    queue = Queue(study)
    claim = queue.claim(1, lambda number: RandomSampler(number), NopPruner())
    assert claim
    log = RunLog(study.folder / "0" / "run.jsonl")
    log.metrics({"objective": 1.0}, 0)
    with log.path.open("ab") as file:
        file.write(b'42\n{"kind": "metrics"}\n\0\0\n')
    queue.complete(claim, [1.0])

    assert examine(study.url, "t", None, fix=False)

    assert f"trial 0: 3 lines of {log.path} are no records, and skipped: 2, 3, 4" in capsys.readouterr().out
