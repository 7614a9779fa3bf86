"""Hydra's own launchers start besom's workers: joblib, submitit and Ray keep the engine's promises as `local` does."""

from __future__ import annotations

import os
import signal
import sys
from importlib.util import find_spec

import psutil
import pytest
from doors import Shell, eventually

from sweeps import APP, UNRECORDED, Sweep, assert_whole, lives, processes_in, study

pytestmark = pytest.mark.usefixtures("stocked")

WITHOUT_RAY = find_spec("ray") is None
LAUNCHERS = [
    "joblib",
    "submitit_local",
    pytest.param("ray", marks=pytest.mark.skipif(WITHOUT_RAY, reason="extra `ray` is not installed: see CONTRIBUTING")),
]
every_launcher = pytest.mark.parametrize("launcher", LAUNCHERS)
# who is gone is seen by the process's number here; a busy machine is not to take the others for dead
PATIENT = "hydra.sweeper.lease=60"
HELD = ("hydra.sweeper.n_jobs=2", "+how=hang once", PATIENT, UNRECORDED)


def worker_of(shell: Shell, number: int) -> psutil.Process:
    """The holder of that trial, wherever its launcher has put it."""
    return psutil.Process(study(shell).trials[number].user_attrs["besom.lease"]["pid"])


def release(sweep: Sweep, number: int) -> None:
    """A trial that hangs in its first attempt is killed out of it."""
    pid = sweep.wait_for_attempt(number)
    if lives(pid) and len(sweep.trial_pids(number)) == 1:
        os.kill(pid, signal.SIGKILL)


def press_ctrl_c(sweep: Sweep) -> None:
    """As a terminal does: each process of the supervisor's group hears it."""
    supervisor = psutil.Process(sweep.process.pid)
    for process in (supervisor, *supervisor.children(recursive=True)):
        if os.getpgid(process.pid) == os.getpgid(supervisor.pid):
            process.send_signal(signal.SIGINT)


def ends(shell: Shell) -> list[list[str]]:
    return [trial.user_attrs.get("besom.ends", []) for trial in study(shell).trials]


@every_launcher
@pytest.mark.parametrize("workers", [1, 3])  # joblib would run one in the supervisor itself, Ray as many as cores
def test_the_budget_is_spent_exactly_by_as_many_workers_as_asked_for(shell: Shell, launcher: str, workers: int) -> None:
    sweep = Sweep(
        shell,
        f"hydra/launcher={launcher}",
        "+how=until told",
        PATIENT,
        f"hydra.sweeper.n_jobs={workers}",
        "hydra.sweeper.n_trials=5",
    )
    for number in range(workers):
        sweep.wait_for_attempt(number)
    holders = {worker_of(shell, number).pid for number in range(workers)}
    assert len(holders) == workers
    assert sweep.process.pid not in holders
    shell.write("go", "")
    code, said = sweep.end()
    assert code == 0, said
    assert "anew" not in said  # no worker has died of its own
    assert_whole(shell, 5)
    assert {trial.state.name for trial in study(shell).trials} == {"COMPLETE"}
    assert {path.name for path in shell.folder.glob("multirun/*/*/workers/*")} == {str(n) for n in range(workers)}


@pytest.mark.parametrize("folder", ["", "hydra.launcher.submitit_folder=logs/of/%j/jobs"])
def test_a_submitit_job_that_is_faster_than_its_supervisor_is_not_lost(shell: Shell, folder: str) -> None:
    shell.write(
        "slow.py",
        "import time\n"
        "from pathlib import Path\n"
        "from submitit.local.local import LocalExecutor\n"
        "submit = LocalExecutor._submit_command\n"
        "def submit_and_wait(self, command):\n"
        "    job = submit(self, command)\n"
        "    while not list(Path.cwd().rglob(f'{job.job_id}_0_log.err')) and job.get_info()['jobState'] == 'RUNNING':\n"
        "        time.sleep(0.01)\n"
        "    return job\n"
        "LocalExecutor._submit_command = submit_and_wait\n",
    )
    words = ["hydra/launcher=submitit_local", UNRECORDED, "hydra.sweeper.n_jobs=2", "hydra.sweeper.n_trials=2"]
    code, said = Sweep(shell, *words, *filter(None, [folder]), app="import slow\n" + APP).end()
    assert code == 0, said
    assert "anew" not in said
    assert_whole(shell, 2, recorded=False)


@every_launcher
def test_ctrl_c_gives_the_trials_back_and_the_same_command_goes_on(shell: Shell, launcher: str) -> None:
    sweep = Sweep(shell, f"hydra/launcher={launcher}", *HELD, "hydra.sweeper.n_trials=3")
    pids = [sweep.wait_for_attempt(0), sweep.wait_for_attempt(1)]
    press_ctrl_c(sweep)
    code, said = sweep.end()
    assert code == 130, said
    assert ends(shell) == [["interrupted"], ["interrupted"]]
    assert not any(lives(pid) for pid in pids)
    eventually(lambda: not processes_in(shell.folder), "the last process to end")
    sweep.restart()
    release(sweep, 2)
    code, said = sweep.end()
    assert code == 0, said
    assert_whole(shell, 3, recorded=False)


@every_launcher
def test_a_killed_supervisors_workers_begin_no_other_trial_and_the_same_command_goes_on(
    shell: Shell, launcher: str
) -> None:
    sweep = Sweep(shell, f"hydra/launcher={launcher}", *HELD, "hydra.sweeper.n_trials=3")
    pids = [sweep.wait_for_attempt(0), sweep.wait_for_attempt(1)]
    sweep.process.kill()
    for pid in pids:
        if lives(pid):  # Ray ends its workers, and so their trials, with the supervisor
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: not processes_in(shell.folder), "the last process to end")
    assert len(study(shell).trials) == 2
    sweep.restart()
    release(sweep, 2)
    code, said = sweep.end()
    assert code == 0, said
    assert_whole(shell, 3, recorded=False)


@every_launcher
def test_a_killed_workers_trial_is_tried_again(shell: Shell, launcher: str) -> None:
    sweep = Sweep(shell, f"hydra/launcher={launcher}", *HELD, "hydra.sweeper.n_trials=2")
    pids = [sweep.wait_for_attempt(0), sweep.wait_for_attempt(1)]
    worker_of(shell, 0).kill()
    eventually(lambda: not lives(pids[0]), "the orphan to end itself")
    if lives(pids[1]):  # joblib ends all of its processes when one has died
        os.kill(pids[1], signal.SIGKILL)
    code, said = sweep.end()
    assert code == 0, said
    assert_whole(shell, 2, recorded=False)
    assert ends(shell)[0] == ["lost"]


# submitit's own signal, and the one that many clusters are told to send
@pytest.mark.parametrize("sign", [signal.SIGUSR2, signal.SIGUSR1])
def test_a_preempted_submitit_job_gives_its_trial_back_and_is_queued_again(shell: Shell, sign: signal.Signals) -> None:
    sweep = _preempted(shell, sign, SUBMITIT_PREEMPT_SIGNAL=sign.name.removeprefix("SIG"))
    code, said = sweep.end()
    assert code == 0, said
    assert_whole(shell, 2, recorded=False)
    assert ends(shell) == [["interrupted"], ["interrupted"]]
    records = [path.read_text() for path in shell.folder.glob("multirun/*/*/workers/*/job.log")]
    assert len(records) == 2
    assert all("Requeued job" in record for record in records)


def test_a_terminated_submitit_job_gives_its_trial_back_and_spends_no_retry(shell: Shell) -> None:
    sweep = _preempted(shell, signal.SIGTERM)
    code, said = sweep.end()
    assert code == 0, said
    assert_whole(shell, 2, recorded=False)
    assert ends(shell) == [["interrupted"], ["interrupted"]]


def _preempted(shell: Shell, sign: signal.Signals, **env: str) -> Sweep:
    """Two trials and no retry; as Slurm may do it, each process of their jobs is signalled, the trials' own first."""
    words = ("hydra/launcher=submitit_local", *HELD, "hydra.sweeper.n_trials=2", "hydra.sweeper.max_retries=0")
    sweep = Sweep(shell, *words, **env)
    sweep.wait_for_attempt(0)
    sweep.wait_for_attempt(1)
    for worker in [worker_of(shell, number) for number in (0, 1)]:
        for process in (*reversed(worker.children(recursive=True)), worker):
            process.send_signal(sign)
    return sweep


@every_launcher
def test_a_task_function_finds_what_lies_beside_its_app(shell: Shell, launcher: str) -> None:
    shell.write("apps/beside.py", "def objective(x): return x\n")
    shell.write(
        "apps/app.py",
        "import beside, hydra\n"
        "@hydra.main(version_base='1.3', config_path=None)\n"
        "def main(cfg):\n"
        "    return beside.objective(cfg.x)\n"
        "main()\n",
    )
    words = (
        "-m",
        "hydra/sweeper=besom",
        f"hydra/launcher={launcher}",
        "hydra.sweeper.n_trials=1",
        "+x=choice(1)",
        UNRECORDED,
    )
    done = shell.run(sys.executable, "apps/app.py", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_whole(shell, 1, recorded=False)


@every_launcher
def test_what_every_worker_dies_of_is_told(shell: Shell, launcher: str) -> None:
    shell.write(
        "app.py",
        "import hydra\n"
        "def main(cfg):\n"
        "    return 0\n"
        "main.besom_preload = 7\n"
        "hydra.main(version_base='1.3', config_path=None)(main)()\n",
    )
    words = (
        "-m",
        "hydra/sweeper=besom",
        f"hydra/launcher={launcher}",
        "hydra.sweeper.n_trials=1",
        "+x=choice(1)",
        UNRECORDED,
    )
    done = shell.run(sys.executable, "app.py", *words)
    assert done.returncode == 1
    assert "must be an iterable, not int; 3 launches of workers have finished no trial" in done.stderr


@pytest.mark.skipif(not WITHOUT_RAY, reason="extra `ray` is installed")
@pytest.mark.parametrize("setting", ["hydra.sweeper.n_jobs=2", "hydra.launcher.ray.remote.num_gpus=1"])
def test_a_launcher_that_is_not_installed_is_refused_with_the_name_of_its_extra(shell: Shell, setting: str) -> None:
    sweep = Sweep(shell, "hydra/launcher=ray", setting)
    out, err = sweep.process.communicate()
    assert sweep.process.returncode == 2
    assert err == (
        "besom: hydra/launcher=ray|ray_aws needs hydra-ray-launcher, which is not installed: pip install 'besom[ray]'\n"
    )
    assert out == ""
    assert not (shell.folder / "optuna.db").exists()


def test_a_cluster_is_not_told_of_this_machines_gpus(shell: Shell) -> None:
    sweep = Sweep(shell, "hydra/launcher=submitit_slurm", "hydra.sweeper.gpus_per_trial=1")
    code, said = sweep.end()
    assert code == 2
    assert "hydra.sweeper.gpus_per_trial=1: the workers run on a cluster" in said
    assert "hydra.launcher.gpus_per_node=1" in said
