"""Where trials run: each in its slot, with its own GPUs and threads; and in place, for a debugger."""

from __future__ import annotations

import subprocess
import sys

from doors import Shell

from sweeps import UNRECORDED, study

APP = """
import os
import hydra

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    seen = os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("OMP_NUM_THREADS"), os.getpid()
    print("saw {} {} {}\\n".format(*seen), end="", flush=True)  # at once: the sweep may print beside it
    if cfg.get("stop") and cfg.x == 2:
        breakpoint()
    return cfg.x

if __name__ == "__main__":
    main()
"""
# no trial here knows more of a GPU than its name, so any name will do
TWO_GPUS = {"CUDA_VISIBLE_DEVICES": "3,GPU-5f"}


def sweep(shell: Shell, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    shell.write("app.py", APP)
    return shell.run(
        sys.executable, "app.py", "-m", "hydra/sweeper=besom", "+x=choice(0,1,2,3)", UNRECORDED, *words, **env
    )


def seen(shell: Shell) -> list[list[str]]:
    logs = shell.folder.glob("multirun/*/*/*/output.log")
    return sorted(line.split()[1:] for log in logs for line in log.read_text().splitlines() if line.startswith("saw"))


def test_each_slot_has_a_gpu_of_its_own(shell: Shell) -> None:
    done = sweep(shell, "hydra.sweeper.n_trials=8", **TWO_GPUS)
    assert done.returncode == 0, done.stderr
    assert "2 at a time" in done.stdout
    assert {gpu for gpu, *_ in seen(shell)} == {"3", "GPU-5f"}


def test_trials_share_a_gpu_where_the_user_says_so(shell: Shell) -> None:
    done = sweep(
        shell,
        "hydra.sweeper.n_trials=4",
        "hydra.sweeper.trials_per_gpu=2",
        "hydra.sweeper.threads_per_trial=3",
        **TWO_GPUS,
    )
    assert done.returncode == 0, done.stderr
    assert "4 at a time" in done.stdout
    assert {threads for _, threads, _ in seen(shell)} == {"3"}


def test_a_trial_may_have_several_gpus(shell: Shell) -> None:
    done = sweep(shell, "hydra.sweeper.n_trials=2", "hydra.sweeper.gpus_per_trial=2", **TWO_GPUS)
    assert done.returncode == 0, done.stderr
    assert [gpus for gpus, *_ in seen(shell)] == ["3,GPU-5f"] * 2


def test_more_gpus_than_there_are_are_refused(shell: Shell) -> None:
    done = sweep(shell, "hydra.sweeper.gpus_per_trial=3", **TWO_GPUS)
    assert done.returncode == 2
    assert "hydra.sweeper.gpus_per_trial=3: this machine shows 2: 3, GPU-5f" in done.stderr
    done = sweep(shell, "hydra.sweeper.gpus_per_trial=1", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2
    assert "this machine shows no GPU" in done.stderr
    assert not (shell.folder / "optuna.db").exists()


def test_isolation_none_runs_every_trial_in_the_sweeps_own_process(shell: Shell) -> None:
    done = sweep(
        shell,
        "hydra.sweeper.n_trials=3",
        "hydra.sweeper.isolation=none",
        "hydra.sweeper.tracking_uri=sqlite:///mlflow.db",
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("saw")]
    assert len(lines) == 3
    assert len({pid for *_, pid in lines}) == 1
    assert len(shell.runs()) == 4


def test_a_debugger_stops_in_a_trial_of_isolation_none(shell: Shell) -> None:
    shell.write("app.py", APP)
    words = (sys.executable, "app.py", "-m", "hydra/sweeper=besom", "+x=choice(2)", "+stop=true")
    process = subprocess.Popen(
        [*words, "hydra.sweeper.n_trials=1", "hydra.sweeper.isolation=none"],
        cwd=shell.folder,
        env=shell.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    out, _ = process.communicate("p 'x is', cfg.x\ncontinue\n")
    assert process.returncode == 0
    assert "('x is', 2)" in out
    assert [trial.value for trial in study(shell).trials] == [2.0]


def test_ctrl_c_in_a_trial_of_isolation_none_gives_it_back_and_ends_its_run(shell: Shell) -> None:
    shell.write(
        "app.py",
        APP.replace("    return cfg.x", "    os.kill(os.getpid(), signal.SIGINT)").replace(
            "import os\n", "import os, signal\n", 1
        ),
    )
    words = (sys.executable, "app.py", "-m", "hydra/sweeper=besom", "+x=choice(0,1)", "hydra.sweeper.isolation=none")
    done = shell.run(*words)
    assert done.returncode == 130
    assert "MLflow is away" not in done.stdout + done.stderr
    assert [trial.state.name for trial in study(shell).trials] == ["WAITING"]
    (run,) = (run for run in shell.runs() if "besom.trial" in run.data.tags)
    assert (run.info.status, run.data.tags["besom.outcome"]) == ("KILLED", "requeued")


def test_a_trial_of_isolation_none_can_be_pruned_and_fail(shell: Shell) -> None:
    body = """
    import besom
    besom.report(cfg.x, 0)
    if cfg.x == 1:
        raise ValueError("one")
    return cfg.x"""
    shell.write("app.py", APP.replace("    return cfg.x", body))
    done = shell.run(
        *(sys.executable, "app.py", "-m", "hydra/sweeper=besom", "+x=choice(0,1,2,3)", "hydra/sweeper/sampler=grid"),
        *(
            "hydra/sweeper/pruner=threshold",
            "hydra.sweeper.pruner.upper=2.5",
            "hydra.sweeper.isolation=none",
            UNRECORDED,
        ),
    )
    assert done.returncode == 0, done.stderr
    assert {trial.params["+x"]: trial.state.name for trial in study(shell).trials} == {
        0: "COMPLETE",
        1: "FAIL",
        2: "COMPLETE",
        3: "PRUNED",
    }


def test_a_task_function_that_cannot_travel_is_refused_and_may_run_in_place(shell: Shell) -> None:
    """One of a script travels by its name; typed in, as into a notebook, it has to be copied."""
    shell.write(
        "app.py",
        APP.replace("import os\n", "import os, threading\nLOCK = threading.Lock()\n", 1).replace(
            "    print(", "    with LOCK: print(", 1
        ),
    )
    words = ("-m", "hydra/sweeper=besom", "+x=choice(0,1)", "hydra.sweeper.n_trials=1", UNRECORDED)
    assert shell.run(sys.executable, "app.py", *words, "hydra.sweeper.study_name=by_name").returncode == 0
    (shell.folder / "optuna.db").unlink()
    words = (sys.executable, "-c", "exec(open('app.py').read())", *words, "hydra.sweeper.study_name=typed")
    done = shell.run(*words)
    assert done.returncode == 2
    assert "the task function main cannot be sent to a worker's process: cannot pickle '_thread.lock'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (shell.folder / "optuna.db").exists()
    assert shell.run(*words, "hydra.sweeper.isolation=none").returncode == 0


def test_what_isolation_none_cannot_do_is_refused(shell: Shell) -> None:
    for words in (["hydra.sweeper.n_jobs=2"], ["hydra.sweeper.trial_timeout=5"]):
        done = sweep(shell, "hydra.sweeper.isolation=none", *words)
        assert done.returncode == 2
        assert "isolation" in done.stderr
    done = sweep(shell, "hydra.sweeper.isolation=thread")
    assert done.returncode == 2
    assert "choose process or none" in done.stderr
    assert not (shell.folder / "optuna.db").exists()
