"""Death is normal: whatever is killed, the study ends with its budget, each trial once, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import psutil
import pytest
from doors import Shell, eventually

# each trial says that it is there, then works until the test lets it go on (or for a moment, where nobody holds it)
APP = """
import os, time
from pathlib import Path
import besom
import hydra
from hydra.core.hydra_config import HydraConfig

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    here = Path(HydraConfig.get().runtime.output_dir)
    with open(here / "attempts", "a") as log:
        print(os.getpid(), file=log, flush=True)
    attempts = len((here / "attempts").read_text().split())
    how = cfg.get("how", "well")
    if how == "hang" or (how == "hang once" and attempts == 1):
        while True:
            time.sleep(0.05)
    if how == "fail twice" and attempts < 3:
        raise ConnectionError("a server is away")
    if how == "never":
        raise ConnectionError("a server is away")
    if how == "memory":
        raise MemoryError("too much")
    for step in range(3):
        besom.report(cfg.x, step)
    return cfg.x

if __name__ == "__main__":
    main()
"""
LEASE_S = 2.0
BASE = ("hydra/sweeper=besom", f"hydra.sweeper.lease={LEASE_S}", "+x=interval(0,1)")


class Sweep:
    """A sweep in the background, and a look into its processes."""

    def __init__(self, shell: Shell, *words: str) -> None:
        shell.write("app.py", APP)
        self.shell = shell
        self.words = (sys.executable, "app.py", "-m", *BASE, *words)
        self.process = shell.start(*self.words)

    def restart(self) -> None:
        """The same command again, after the first has ended."""
        self.process.communicate()
        self.process = self.shell.start(*self.words)

    def again(self) -> subprocess.CompletedProcess[str]:
        return self.shell.run(*self.words)

    def workers(self) -> list[psutil.Process]:
        supervisor = psutil.Process(self.process.pid)
        return [child for child in supervisor.children() if "besom.sweep" in child.cmdline()]

    def trial_pids(self, number: int) -> list[int]:
        """Of its attempts so far."""
        [log] = self.shell.folder.glob(f"multirun/*/*/{number}/attempts") or [Path(os.devnull)]
        return [int(pid) for pid in log.read_text().split()]

    def wait_for_attempt(self, number: int, attempt: int = 1) -> int:
        eventually(
            lambda: self._started(number, attempt) or self.process.poll() is not None,
            f"attempt {attempt} of trial {number}",
        )
        assert self._started(number, attempt), self.process.communicate()
        return self.trial_pids(number)[attempt - 1]

    def end(self) -> tuple[int, str]:
        out, err = self.process.communicate(timeout=120)
        return self.process.returncode, out + err

    def _started(self, number: int, attempt: int) -> bool:
        logs = list(self.shell.folder.glob(f"multirun/*/*/{number}/attempts"))
        return bool(logs) and len(logs[0].read_text().split()) >= attempt


def study(shell: Shell) -> optuna.Study:
    return optuna.load_study(study_name="app", storage=f"sqlite:///{shell.folder / 'optuna.db'}")


def study_is_short(shell: Shell, n_trials: int) -> bool:
    return sum(trial.state.is_finished() for trial in study(shell).trials) < n_trials


def processes_in(folder: Path) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()) == folder and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def assert_whole(shell: Shell, n_trials: int) -> None:
    """The invariants: the budget to the unit, an end for each trial, one run each, no process, no lock held."""
    trials = study(shell).trials
    assert len(trials) == n_trials
    assert {trial.state.name for trial in trials} <= {"COMPLETE", "PRUNED", "FAIL"}
    children = [run for run in shell.runs() if "mlflow.parentRunId" in run.data.tags]
    assert sorted(int(run.data.tags["besom.trial"]) for run in children) == list(range(n_trials))
    expected = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}
    for run in children:
        trial = trials[int(run.data.tags["besom.trial"])]
        assert run.info.status == expected[trial.state.name]
        if trial.value is not None:
            assert run.data.metrics["objective"] == trial.value
    eventually(lambda: not processes_in(shell.folder), "the last process to end")


@pytest.mark.parametrize("workers", [1, 2, 8, 16])
def test_any_number_of_workers_spends_the_budget_exactly(shell: Shell, workers: int) -> None:
    """All of them meet a fresh store at once."""
    patient = "hydra.sweeper.lease=30"  # none is taken for dead because the machine is small
    sweep = Sweep(shell, f"hydra.sweeper.n_jobs={workers}", "hydra.sweeper.n_trials=24", patient)
    code, said = sweep.end()
    assert code == 0, said
    assert "anew" not in said  # no worker has died of its own
    assert_whole(shell, 24)
    for log in shell.folder.glob("multirun/*/*/workers/*/job.log"):
        assert "Fatal" not in log.read_text()
    assert {trial.state.name for trial in study(shell).trials} == {"COMPLETE"}


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
    eventually(lambda: not all(psutil.pid_exists(pid) for pid in pids), "the orphan to end itself")
    for pid in pids:
        if psutil.pid_exists(pid):
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
    if psutil.pid_exists(pid) and len(sweep.trial_pids(number)) == 1:
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
    [worker] = sweep.workers()
    worker.suspend()
    eventually(lambda: not psutil.pid_exists(first), "the trial of the silent worker to end itself")
    eventually(lambda: study(shell).trials[0].user_attrs.get("besom.ends") == ["lost"], "the trial to be given back")
    worker.resume()
    code, said = sweep.end()
    assert code == 0, said
    assert_whole(shell, 1)
    assert "taken from this worker" in next(shell.folder.glob("multirun/*/*/workers/0/job.log")).read_text()


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
    sweep = Sweep(shell, "+how=hang", "hydra.sweeper.n_trials=1", "hydra.sweeper.trial_timeout=1")
    code, said = sweep.end()
    assert code == 1, said
    assert_whole(shell, 1)
    assert study(shell).trials[0].user_attrs["besom.kind"] == "timeout"


def test_after_the_sweeps_timeout_no_trial_is_begun(shell: Shell) -> None:
    sweep = Sweep(shell, "hydra.sweeper.n_trials=3", "hydra.sweeper.timeout=0.001")
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
    sweep = Sweep(shell, f"+how={how}", f"hydra.sweeper.retry_on={retry_on}", "hydra.sweeper.n_trials=1")
    _, said = sweep.end()
    assert_whole(shell, 1)
    [trial] = study(shell).trials
    assert trial.state.name == state, said
    assert len(sweep.trial_pids(0)) == attempts


def test_running_out_of_memory_is_a_failure_of_its_own_kind(shell: Shell) -> None:
    sweep = Sweep(shell, "+how=memory", "hydra.sweeper.n_trials=1")
    sweep.end()
    [trial] = study(shell).trials
    assert trial.user_attrs["besom.kind"] == "oom"


def test_another_space_is_refused_with_the_difference(shell: Shell) -> None:
    assert Sweep(shell, "hydra.sweeper.n_trials=1").end()[0] == 0
    shell_again = shell.run(sys.executable, "app.py", "-m", "hydra/sweeper=besom", "+x=interval(0,2)", "+y=choice(1,2)")
    assert shell_again.returncode == 2
    for line in ("- +x: interval(0.0, 1.0)", "+ +x: interval(0.0, 2.0)", "+ +y: choice(1, 2)"):
        assert line in shell_again.stderr
    assert len(study(shell).trials) == 1


def test_a_grid_ends_when_each_point_has_been_tried(shell: Shell) -> None:
    shell.write("app.py", APP)
    words = ("hydra/sweeper=besom", "hydra/sweeper/sampler=grid", "+x=choice(1,2,3)", "+y=range(2)")
    done = shell.run(sys.executable, "app.py", "-m", *words, "hydra.sweeper.n_jobs=2", "hydra.sweeper.n_trials=100")
    assert done.returncode == 0, done.stderr
    points = [tuple(trial.params.values()) for trial in study(shell).trials]
    assert sorted(points) == [(x, y) for x in (1, 2, 3) for y in (0, 1)]


def test_known_points_are_tried_first(shell: Shell) -> None:
    known = "hydra.sweeper.enqueue=[{+x:0.25},{+x:0.75}]"
    code, said = Sweep(shell, "hydra.sweeper.n_trials=3", known).end()
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
