"""Death is normal: whatever is killed, the study ends with its budget, each trial once, and nothing left behind."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import time
from contextlib import closing

import pytest
from doors import Shell, eventually

from sweeps import APP, UNRECORDED, Sweep, assert_whole, lives, processes_in, study, study_is_short

pytestmark = pytest.mark.usefixtures("stocked")


@pytest.mark.parametrize("workers", [1, 2, 8, 16])
def test_any_number_of_workers_spends_the_budget_exactly(shell: Shell, workers: int) -> None:
    """All of them meet a fresh store at once."""
    patient = "hydra.sweeper.lease=30"  # none is taken for dead because the machine is small
    recorded = workers in (2, 16)
    words = (f"hydra.sweeper.n_jobs={workers}", "hydra.sweeper.n_trials=24", *(() if recorded else (UNRECORDED,)))
    sweep = Sweep(shell, patient, *words)
    code, said = sweep.end()
    assert code == 0, said
    assert "anew" not in said  # no worker has died of its own
    assert_whole(shell, 24, recorded=recorded)
    for log in shell.folder.glob("multirun/*/*/workers/*/job.log"):
        assert "Fatal" not in log.read_text()
    assert {trial.state.name for trial in study(shell).trials} == {"COMPLETE"}


def ended(shell: Shell) -> list[int]:
    return [trial.number for trial in study(shell).trials if trial.state.is_finished()]


def test_workers_taken_for_dead_too_soon_leave_each_trial_one_run(shell: Shell) -> None:
    """Eight on a small machine are late with everything: with a lease as short as this most lose some trial."""
    sweep = Sweep(
        shell,
        "hydra.sweeper.n_jobs=8",
        "hydra.sweeper.n_trials=8",
        "hydra.sweeper.lease=0.5",
        "hydra.sweeper.max_retries=100",
    )
    sweep.end()
    while study_is_short(shell, 8):  # launches of which no worker has finished a trial end the sweep
        sweep.again()
    assert_whole(shell, 8)


def test_no_trial_waits_for_a_slow_one(shell: Shell) -> None:
    """Of two slots one is held by a trial that does not end; the other does all the rest."""
    sweep = Sweep(shell, "+how=first until told", "hydra.sweeper.n_trials=8", "hydra.sweeper.n_jobs=2")
    sweep.wait_for_attempt(0)
    eventually(lambda: len(ended(shell)) == 7, "all but one trial")
    assert [trial.state.name for trial in study(shell).trials].count("RUNNING") == 1
    shell.write("go", "")
    code, said = sweep.end()
    assert code == 0, said
    assert_whole(shell, 8)


def test_a_killed_trial_is_tried_again_as_the_same_trial(shell: Shell) -> None:
    sweep = Sweep(shell, "+how=hang once", "hydra.sweeper.n_trials=1")
    os.kill(sweep.wait_for_attempt(0), signal.SIGKILL)
    code, said = sweep.end()
    assert code == 0, said
    assert_whole(shell, 1)
    assert len(sweep.trial_pids(0)) == 2
    assert study(shell).trials[0].user_attrs["besom.ends"] == ["killed"]
    [run] = [run for run in shell.runs() if "besom.trial" in run.data.tags]
    assert run.data.tags["besom.attempts"] == "2"


def test_a_trial_that_dies_every_time_fails_with_its_reason(shell: Shell) -> None:
    sweep = Sweep(shell, "+how=hang", "hydra.sweeper.n_trials=1", "hydra.sweeper.max_retries=1")
    for attempt in (1, 2):
        os.kill(sweep.wait_for_attempt(0, attempt), signal.SIGKILL)
    code, said = sweep.end()
    assert code == 1, said
    assert_whole(shell, 1)
    attrs = study(shell).trials[0].user_attrs
    assert attrs["besom.kind"] == "killed"
    assert "SIGKILL" in attrs["besom.reason"]


def test_a_killed_workers_trial_is_finished_by_another(shell: Shell) -> None:
    sweep = Sweep(shell, "+how=hang once", "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=2")
    pids = [sweep.wait_for_attempt(0), sweep.wait_for_attempt(1)]
    victim = sweep.workers()[0]
    victim.kill()
    # one of the two trials is the victim's: its leash is cut
    eventually(lambda: not all(lives(pid) for pid in pids), "the orphan to end itself")
    for pid in pids:
        if lives(pid):
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: sweep.shell.folder.glob("multirun/*/*/2/attempts"), "the third trial")
    os.kill(sweep.wait_for_attempt(2), signal.SIGKILL)
    code, said = sweep.end()
    assert code == 0, said
    assert_whole(shell, 3)
    assert {tuple(trial.user_attrs["besom.ends"]) for trial in study(shell).trials} == {("lost",), ("killed",)}


def test_when_all_workers_are_killed_new_ones_go_on(shell: Shell) -> None:
    sweep = Sweep(shell, "+how=hang once", "hydra.sweeper.n_trials=1")
    sweep.wait_for_attempt(0)
    for worker in sweep.workers():
        worker.kill()
    code, said = sweep.end()
    assert code == 0, said
    assert_whole(shell, 1)


def test_a_killed_supervisors_workers_finish_their_trial_and_the_same_command_goes_on(shell: Shell) -> None:
    sweep = Sweep(shell, "+how=hang once", "hydra.sweeper.n_trials=3")
    pid = sweep.wait_for_attempt(0)
    sweep.process.kill()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not processes_in(shell.folder), "the worker to stop")
    assert len(study(shell).trials) == 1
    sweep.restart()
    for number in (0, 1, 2):
        release(sweep, number)
    code, said = sweep.end()
    assert code == 0, said
    assert_whole(shell, 3)


def release(sweep: Sweep, number: int) -> None:
    """A trial that hangs in its first attempt is killed out of it."""
    pid = sweep.wait_for_attempt(number)
    if lives(pid) and len(sweep.trial_pids(number)) == 1:
        os.kill(pid, signal.SIGKILL)


def test_when_everything_is_killed_the_same_command_goes_on(shell: Shell) -> None:
    sweep = Sweep(shell, "+how=hang once", "hydra.sweeper.n_trials=2")
    pid = sweep.wait_for_attempt(0)
    for victim in [sweep.process.pid, *(worker.pid for worker in sweep.workers()), pid]:
        os.kill(victim, signal.SIGKILL)
    eventually(lambda: not processes_in(shell.folder), "all to be gone")
    assert [trial.state.name for trial in study(shell).trials] == ["RUNNING"]
    sweep.restart()
    release(sweep, 1)
    code, said = sweep.end()
    assert code == 0, said
    assert_whole(shell, 2)
    assert study(shell).trials[0].user_attrs["besom.ends"] == ["lost"]


def test_a_worker_that_comes_back_late_is_refused(shell: Shell) -> None:
    sweep = Sweep(shell, "+how=hang once", "hydra.sweeper.n_trials=1", "hydra.sweeper.n_jobs=1")
    first = sweep.wait_for_attempt(0)
    worker = sweep.suspend_worker()
    eventually(lambda: not lives(first), "the trial of the silent worker to end itself")
    eventually(lambda: study(shell).trials[0].user_attrs.get("besom.ends") == ["lost"], "the trial to be given back")
    worker.resume()
    code, said = sweep.end()
    assert code == 0, said
    assert_whole(shell, 1)
    assert "taken from this worker" in next(shell.folder.glob("multirun/*/*/workers/0/job.log")).read_text()


@pytest.mark.parametrize("name", ["optuna.db", "mlflow.db"])
def test_a_file_locked_for_longer_than_a_driver_waits_stops_nobody(shell: Shell, name: str) -> None:
    """As a busy disk does it."""
    sweep = Sweep(shell, "+how=first until told", "hydra.sweeper.n_trials=8", "hydra.sweeper.lease=60")
    sweep.wait_for_attempt(0)
    with closing(sqlite3.connect(shell.folder / name, timeout=60, isolation_level=None)) as file:
        file.execute("BEGIN EXCLUSIVE")
        shell.write("go", "")
        time.sleep(7)  # of SQLite's driver's own 5 s nothing tells that they have passed
        file.execute("ROLLBACK")
    code, said = sweep.end()
    assert code == 0, said
    assert "anew" not in said  # no worker has died of it
    assert_whole(shell, 8)
    assert not any("besom.ends" in trial.user_attrs for trial in study(shell).trials)


def test_a_second_supervisor_is_told_of_the_first(shell: Shell) -> None:
    sweep = Sweep(shell, "+how=hang once", "hydra.sweeper.n_trials=1")
    pid = sweep.wait_for_attempt(0)
    second = sweep.again()
    assert second.returncode == 2
    assert f"is being swept by process {sweep.process.pid}" in second.stderr
    os.kill(pid, signal.SIGKILL)
    code, said = sweep.end()
    assert code == 0, said
    assert_whole(shell, 1)


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGUSR1])
def test_a_preempted_worker_gives_its_trial_back_and_spends_no_retry(shell: Shell, sign: signal.Signals) -> None:
    sweep = Sweep(shell, "+how=hang once", "hydra.sweeper.n_trials=1", "hydra.sweeper.max_retries=0")
    sweep.wait_for_attempt(0)
    sweep.workers()[0].send_signal(sign)
    code, said = sweep.end()
    assert code == 0, said
    assert_whole(shell, 1)
    assert study(shell).trials[0].user_attrs["besom.ends"] == ["interrupted"]


def test_a_hung_trial_fails_at_its_timeout(shell: Shell) -> None:
    sweep = Sweep(shell, "+how=hang", "hydra.sweeper.n_trials=1", "hydra.sweeper.trial_timeout=1", UNRECORDED)
    code, said = sweep.end()
    assert code == 1, said
    assert_whole(shell, 1, recorded=False)
    assert study(shell).trials[0].user_attrs["besom.kind"] == "timeout"


def test_after_the_sweeps_timeout_no_trial_is_begun(shell: Shell) -> None:
    sweep = Sweep(shell, "hydra.sweeper.n_trials=3", "hydra.sweeper.timeout=0.001", UNRECORDED)
    code, said = sweep.end()
    assert code == 1, said
    assert study(shell).trials == []


@pytest.mark.parametrize(
    ("how", "retry_on", "attempts", "state"),
    [
        ("fail twice", "[ConnectionError]", 3, "COMPLETE"),
        ("fail twice", "[OSError]", 3, "COMPLETE"),  # a base class
        ("fail twice", "[]", 1, "FAIL"),
        ("never", "[ConnectionError]", 3, "FAIL"),
    ],
)
def test_an_exception_is_retried_where_the_user_has_named_it(
    shell: Shell, how: str, retry_on: str, attempts: int, state: str
) -> None:
    sweep = Sweep(shell, f"+how={how}", f"hydra.sweeper.retry_on={retry_on}", "hydra.sweeper.n_trials=1", UNRECORDED)
    _, said = sweep.end()
    assert_whole(shell, 1, recorded=False)
    [trial] = study(shell).trials
    assert trial.state.name == state, said
    assert len(sweep.trial_pids(0)) == attempts


def test_running_out_of_memory_is_a_failure_of_its_own_kind(shell: Shell) -> None:
    sweep = Sweep(shell, "+how=memory", "hydra.sweeper.n_trials=1", UNRECORDED)
    sweep.end()
    [trial] = study(shell).trials
    assert trial.user_attrs["besom.kind"] == "oom"


def test_another_space_is_refused_with_the_difference(shell: Shell) -> None:
    assert Sweep(shell, "hydra.sweeper.n_trials=1", UNRECORDED).end()[0] == 0
    shell_again = shell.run(sys.executable, "app.py", "-m", "hydra/sweeper=besom", "+x=interval(0,2)", "+y=choice(1,2)")
    assert shell_again.returncode == 2
    for line in ("- +x: interval(0.0, 1.0)", "+ +x: interval(0.0, 2.0)", "+ +y: choice(1, 2)"):
        assert line in shell_again.stderr
    assert len(study(shell).trials) == 1


def test_a_grid_ends_when_each_point_has_been_tried(shell: Shell) -> None:
    shell.write("app.py", APP)
    words = ("hydra/sweeper=besom", "hydra/sweeper/sampler=grid", "+x=choice(1,2,3)", "+y=range(2)", UNRECORDED)
    done = shell.run(sys.executable, "app.py", "-m", *words, "hydra.sweeper.n_jobs=2", "hydra.sweeper.n_trials=100")
    assert done.returncode == 0, done.stderr
    points = [tuple(trial.params.values()) for trial in study(shell).trials]
    assert sorted(points) == [(x, y) for x in (1, 2, 3) for y in (0, 1)]


def test_known_points_are_tried_first(shell: Shell) -> None:
    known = "hydra.sweeper.enqueue=[{+x:0.25},{+x:0.75}]"
    code, said = Sweep(shell, "hydra.sweeper.n_trials=3", known, UNRECORDED).end()
    assert code == 0, said
    assert [trial.params["+x"] for trial in study(shell).trials][:2] == [0.25, 0.75]


def test_of_a_conditional_space_only_the_chosen_branch_is_sampled_recorded_and_repeated(shell: Shell) -> None:
    done = shell.besom("sweep", "optimizers", "hydra.sweeper.n_trials=4", "trainer.max_epochs=1", "model.width=8")
    assert done.returncode == 0, done.stderr
    assert "[" not in done.stdout.split("repeat it:")[1].splitlines()[0]
    children = [run for run in shell.runs() if "besom.trial" in run.data.tags]
    assert len(children) == 4
    for run in children:
        chosen = run.data.params["optimizer"]
        assert ("optimizer.momentum" in run.data.params) == (chosen in ("sgd", "rmsprop"))
