"""Several objectives, and the ends of a sweep before its budget."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from doors import Shell, eventually

from sweeps import UNRECORDED, study

pytestmark = pytest.mark.usefixtures("stocked")

APP = """
import os
import besom
import hydra

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    how = cfg.get("how")
    if how == "fail" or (how == "fail at first" and cfg.x < 3):
        raise RuntimeError(f"a mistake at {cfg.x}")
    besom.report(cfg.x, 0)
    if how == "memory" and cfg.x > 0.5:
        raise MemoryError("too wide")
    if how == "hog":
        print(os.getpid(), flush=True)
        hog = []
        while True:
            hog.append(bytearray(50_000_000))
    if how == "three":
        return [cfg.x, 1 - cfg.x, 0.0]
    # Binh and Korn's problem, which the official Optuna plugin's multi-objective example uses
    return cfg.x if how else (4 * cfg.x**2 + 4 * cfg.y**2, (cfg.x - 5) ** 2 + (cfg.y - 5) ** 2)

if __name__ == "__main__":
    main()
"""
BINH_AND_KORN = ("+x=interval(0,5)", "+y=interval(0,3)", "hydra.sweeper.direction=[minimize,minimize]")


def sweep(shell: Shell, *words: str) -> subprocess.CompletedProcess[str]:
    shell.write("app.py", APP)
    return shell.run(sys.executable, "app.py", "-m", "hydra/sweeper=besom", *words)


@pytest.mark.parametrize("sampler", ["tpe", "nsgaii", "random"])
def test_a_tuple_is_several_objectives(shell: Shell, sampler: str) -> None:
    unsampled = "hydra.sweeper.system_metrics=null"
    done = sweep(shell, *BINH_AND_KORN, "hydra.sweeper.n_trials=12", f"hydra/sweeper/sampler={sampler}", unsampled)
    assert done.returncode == 0, done.stderr
    found = study(shell)
    assert [direction.name for direction in found.directions] == ["MINIMIZE", "MINIMIZE"]
    for trial in found.trials:
        x, y = trial.params["+x"], trial.params["+y"]
        assert trial.values == pytest.approx([4 * x**2 + 4 * y**2, (x - 5) ** 2 + (y - 5) ** 2])
    for trial in found.best_trials:
        assert f"best: trial {trial.number} with objective_0 {trial.values[0]:.4f} " in done.stdout
    parent = next(run for run in shell.runs() if "mlflow.parentRunId" not in run.data.tags)
    front = sorted(trial.number for trial in found.best_trials)
    assert parent.data.tags["besom.best_trial"] == ", ".join(map(str, front))
    for run in shell.runs():
        if "besom.trial" in run.data.tags:
            values = found.trials[int(run.data.tags["besom.trial"])].values
            assert [run.data.metrics[f"objective_{n}"] for n in (0, 1)] == values
            assert not [key for key in run.data.metrics if key.startswith("system/")]


def test_objectives_have_the_users_names(shell: Shell) -> None:
    done = sweep(shell, *BINH_AND_KORN, "hydra.sweeper.metric=[weight,error]", "hydra.sweeper.n_trials=2")
    assert done.returncode == 0, done.stderr
    assert "complete  weight " in done.stdout


def test_a_count_that_differs_from_the_directions_stops_the_sweep_with_its_first_trial(shell: Shell) -> None:
    done = sweep(shell, "+x=interval(0,1)", "+how=three", "hydra.sweeper.direction=[minimize,maximize]")
    assert done.returncode == 2
    assert "returned 3 numbers, but hydra.sweeper.direction has 2" in done.stderr
    assert "Traceback" not in done.stderr
    assert not any(trial.state.is_finished() for trial in study(shell).trials)
    assert "RUNNING" not in [run.info.status for run in shell.runs()]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["hydra.sweeper.direction=[minimize,up]"], "hydra.sweeper.direction=up: choose maximize or minimize"),
        (["hydra.sweeper.direction=[minimize,maximize]", "hydra/sweeper/pruner=median"], "compares trials by one"),
        (["hydra.sweeper.direction=[minimize,maximize]", "hydra.sweeper.metric=[a]"], "lists 2 and"),
        (["hydra.sweeper.direction=minimize", "hydra.sweeper.metric=[a,b]"], "names 2 objectives"),
        (["hydra.sweeper.direction=[minimize,maximize]", "hydra/sweeper/sampler=cmaes"], "follows one objective"),
        (["hydra.sweeper.direction=[minimize,maximize]", "hydra/sweeper/terminator=emmr"], "judges one objective"),
        (["hydra.sweeper.max_failure_rate=1.5"], "a share of the trials, from 0 to 1"),
        (["hydra.sweeper.patience=0"], "hydra.sweeper.patience=0: must be at least 1"),
        (["hydra/sweeper/terminator=emmr", "hydra.sweeper.terminator.min_n_trials=0"], "hydra.sweeper.terminator"),
    ],
)
def test_what_cannot_be_meant_is_refused(shell: Shell, words: list[str], says: str) -> None:
    done = sweep(shell, "+x=interval(0,1)", *words)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (shell.folder / "optuna.db").exists()


# ── ends before the budget ────────────────────────────────────────────────────────────────────────────────────────────
def test_a_sweep_whose_trials_mostly_fail_is_stopped_and_names_the_first_error(shell: Shell) -> None:
    done = sweep(
        shell, "+x=interval(0,1)", "+how=fail", "hydra.sweeper.n_trials=1000", "hydra.sweeper.n_jobs=1", UNRECORDED
    )
    assert done.returncode == 1
    assert "max_failure_rate=0.8; the first of them, trial 0: RuntimeError: a mistake at" in done.stderr
    assert sum(trial.state.is_finished() for trial in study(shell).trials) < 1000


def test_a_session_is_judged_by_its_own_failures(shell: Shell) -> None:
    """Once the mistake is mended, the same study goes on."""
    words = ("+x=range(0,9)", "hydra/sweeper/sampler=grid", "hydra.sweeper.n_jobs=1", UNRECORDED, "+how=fail at first")
    mostly = "hydra.sweeper.max_failure_rate=0.2"
    assert sweep(shell, *words, mostly, "hydra.sweeper.sampler.seed=3").returncode == 1
    mended = ("+how=well", "hydra.sweeper.resume=anyway")
    done = sweep(shell, *words[:-1], *mended, mostly, "hydra.sweeper.sampler.seed=3")
    assert done.returncode == 0, done.stderr
    assert "9 of 9 trials" in done.stdout


def test_a_sweep_ends_when_the_best_has_not_moved_for_long(shell: Shell) -> None:
    # nothing is better than the first: who runs while the sweep is stopped cannot move the best
    words = ("+x=interval(0,1)", "hydra.sweeper.enqueue=[{+x:0}]", "+how=well", "hydra.sweeper.patience=3")
    done = sweep(shell, *words, "hydra.sweeper.n_trials=1000", UNRECORDED)
    assert done.returncode == 0, done.stderr
    assert "stopped early: the best has not moved for" in done.stdout
    trials = study(shell).trials
    assert {trial.state.name for trial in trials} == {"COMPLETE"}  # running ones came to their end
    assert study(shell).best_trial.number == 0
    assert 4 <= len(trials) < 1000


@pytest.mark.parametrize("terminator", ["regret"])  # emmr fits a Gaussian process at each look: minutes here
def test_a_terminator_ends_a_sweep_that_has_nothing_more_to_gain(shell: Shell, terminator: str) -> None:
    words = ("+x=interval(0,0.001)", "+how=well", "hydra.sweeper.n_trials=1000", "hydra.sweeper.n_jobs=1", UNRECORDED)
    generous = f"hydra/sweeper/terminator={terminator}"
    sure = "hydra.sweeper.terminator.error_evaluator.constant=1000" if terminator == "regret" else "+ignored=1"
    done = sweep(shell, *words, generous, "hydra.sweeper.terminator.min_n_trials=5", sure)
    assert done.returncode == 0, done.stderr
    assert "stopped early: hydra.sweeper.terminator expects no better trial" in done.stdout
    assert 5 <= len(study(shell).trials) < 1000


def test_a_trial_out_of_memory_is_failed_and_infeasible(shell: Shell) -> None:
    done = sweep(shell, "+x=interval(0,1)", "+how=memory", "hydra.sweeper.n_trials=8", "hydra.sweeper.sampler.seed=0")
    assert done.returncode == 0, done.stderr
    failed = [trial for trial in study(shell).trials if trial.state.name == "FAIL"]
    assert failed
    for trial in failed:
        assert trial.user_attrs["besom.kind"] == "oom"
        assert trial.constraints == {"besom.memory": 1.0}
        assert trial.params["+x"] > 0.5


@pytest.fixture
def little_memory() -> Iterator[Path]:
    """A control group of 1.2 GB, where this process may make one."""
    for root, limit in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max"),
    ):
        group = root / f"besom-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / limit).write_text("1200000000")
        except OSError:
            group.rmdir()
            continue
        yield group
        processes = group / "cgroup.procs"
        eventually(lambda processes=processes: not processes.read_text(), "the last process to end")
        group.rmdir()
        return
    pytest.skip("this process may make no control group: not root, or in a container without one")


def test_a_trial_that_linux_kills_for_want_of_memory_is_failed_as_such(shell: Shell, little_memory: Path) -> None:
    shell.write("app.py", APP)
    enter = f"echo $$ > {little_memory}/cgroup.procs && exec"
    words = "-m hydra/sweeper=besom '+x=interval(0,1)' +how=hog hydra.sweeper.n_trials=1 hydra.sweeper.n_jobs=1"
    done = shell.run("sh", "-c", f"{enter} {sys.executable} app.py {words}")
    assert done.returncode == 1
    [trial] = study(shell).trials
    assert trial.user_attrs["besom.kind"] == "oom"
    assert trial.constraints == {"besom.memory": 1.0}
    assert trial.user_attrs["besom.ends"] == ["oom"]  # it is not tried again
