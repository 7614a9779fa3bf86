"""`besom doctor` says what a crash has left, and mends it."""

from __future__ import annotations

import os
import signal
import sqlite3

import pytest
from doors import BESOM, Shell, eventually
from mlflow.entities import Metric

from sweeps import Sweep, assert_whole, processes_in, study

pytestmark = pytest.mark.usefixtures("stocked")


@pytest.fixture
def killed(shell: Shell) -> Sweep:
    """A sweep of which everything was killed while its second trial ran."""
    sweep = Sweep(shell, "+how=until told", "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=1")
    sweep.wait_for_attempt(0)
    for pid in (sweep.process.pid, *processes_in(shell.folder)):
        os.kill(pid, signal.SIGKILL)
    sweep.process.communicate()
    eventually(lambda: not processes_in(shell.folder), "the last process to end")
    return sweep


def test_what_a_crash_has_left_is_found_and_mended(shell: Shell, killed: Sweep) -> None:
    found = shell.besom("doctor", "app")
    assert found.returncode == 1
    assert "app: trial 0 is RUNNING, but its worker is gone" in found.stdout
    assert "app: its supervisor died" in found.stdout
    assert "app: the study's run is RUNNING" in found.stdout
    assert "0 of 3 trials" in found.stdout
    assert "mend it with: besom doctor app --fix" in found.stdout
    assert [trial.state.name for trial in study(shell).trials] == ["RUNNING"]  # looking changes nothing
    mended = shell.besom("doctor", "app", "--fix")
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert [trial.state.name for trial in study(shell).trials] == ["WAITING"]
    assert {run.info.status for run in shell.runs()} == {"KILLED"}
    again = shell.besom("doctor")
    assert again.returncode == 0
    assert (
        again.stdout == "app: 0 of 3 trials: 0 complete, 0 pruned, 0 failed; 3 still to go, with the same command; "
        "all is well: no trial has begun\n"
    )
    shell.write("go", "")
    done = killed.again()
    assert done.returncode == 0, done.stderr
    assert_whole(shell, 3)


def test_a_run_that_lacks_what_its_trials_log_says_is_completed(shell: Shell) -> None:
    """As after a worker was killed between the study and MLflow."""
    done = Sweep(shell, "hydra.sweeper.n_trials=2").end()
    assert done[0] == 0, done[1]
    first, second = (run.info.run_id for run in shell.runs() if "besom.trial" in run.data.tags)
    shell.client.update_run(first, status="RUNNING")
    with sqlite3.connect(shell.folder / "mlflow.db") as database:
        for name in ("metrics", "latest_metrics"):
            database.execute(f"DELETE FROM {name} WHERE run_uuid = ?", [second])
    database.close()
    found = shell.besom("doctor", "app")
    assert found.returncode == 1
    assert "is COMPLETE in the study, its run is RUNNING" in found.stdout
    assert "its objective is not in MLflow" in found.stdout
    assert shell.besom("doctor", "app", "--fix").returncode == 0
    assert_whole(shell, 2)


def test_a_run_that_its_user_has_deleted_stays_deleted(shell: Shell) -> None:
    assert Sweep(shell, "hydra.sweeper.n_trials=2").end()[0] == 0
    [run, _] = [run for run in shell.runs() if "besom.trial" in run.data.tags]
    shell.client.delete_run(run.info.run_id)
    assert shell.besom("doctor", "app", "--fix").returncode == 0
    assert sum("besom.trial" in run.data.tags for run in shell.runs()) == 1


def test_a_second_run_of_a_trial_is_deleted(shell: Shell) -> None:
    assert Sweep(shell, "hydra.sweeper.n_trials=1").end()[0] == 0
    [run] = [run for run in shell.runs() if "besom.trial" in run.data.tags]
    double = shell.client.create_run(run.info.experiment_id, tags=run.data.tags)
    shell.client.log_batch(double.info.run_id, metrics=[Metric("objective", 5.0, 0, 0)])
    assert "has a second run in MLflow" in shell.besom("doctor", "app").stdout
    assert shell.besom("doctor", "app", "--fix").returncode == 0
    assert_whole(shell, 1)


def test_a_study_that_is_being_swept_is_left_alone(shell: Shell) -> None:
    sweep = Sweep(shell, "+how=until told", "hydra.sweeper.n_trials=1")
    sweep.wait_for_attempt(0)
    asked = shell.besom("doctor", "app", "--fix")
    assert asked.returncode == 2
    assert f"the sweep is in the hands of process {sweep.process.pid}" in asked.stderr
    shell.write("go", "")
    assert sweep.end()[0] == 0
    assert shell.besom("doctor", "app").returncode == 0


def test_a_process_that_a_sweep_has_left_is_found_and_ended(shell: Shell) -> None:
    """Of a worker whose supervisor and trial are gone; stopped, it cannot end by itself."""
    sweep = Sweep(shell, "+how=until told", "hydra.sweeper.n_trials=1", "hydra.sweeper.n_jobs=1")
    trial = sweep.wait_for_attempt(0)
    worker = sweep.suspend_worker()
    for pid in (sweep.process.pid, trial):
        os.kill(pid, signal.SIGKILL)
    sweep.process.communicate()
    refused = shell.besom("doctor", "app")
    assert refused.returncode == 2  # it holds its trial still, for all one can know
    assert f"trial 0 is in the hands of process {worker.pid}" in refused.stderr
    left = [pid for pid in processes_in(shell.folder) if pid != worker.pid]
    worker.kill()
    assert left  # its fork server among them
    eventually(lambda: shell.besom("doctor", "app", "--fix").returncode == 0, "all to be well")
    eventually(lambda: not processes_in(shell.folder), "the last process to end")


def test_there_is_nothing_to_examine_where_nothing_was_swept(shell: Shell) -> None:
    asked = shell.besom("doctor")
    assert asked.returncode == 2
    assert "nothing has been swept here" in asked.stderr
    assert not (shell.folder / "optuna.db").exists()
    assert Sweep(shell, "hydra.sweeper.n_trials=1").end()[0] == 0
    asked = shell.run(BESOM, "doctor", "ap")
    assert asked.returncode == 2
    assert "no study 'ap'" in asked.stderr
    assert "app" in asked.stderr
