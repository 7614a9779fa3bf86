"""`besom sweep`: the shipped digits sweep, read back as a user would the morning after."""

from __future__ import annotations

import csv
import json
import shlex
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import optuna
import pytest
from doors import BESOM, Shell, eventually
from mlflow.entities import Run

from sweeps import study

TO_THE_END = "hydra/sweeper/pruner=none"
SMALL = ("trainer.max_epochs=2", "model.width=8", "hydra.sweeper.n_trials=3", TO_THE_END)

APP = """
import os
from dataclasses import dataclass

import besom
import hydra
from hydra.core.config_store import ConfigStore

@dataclass
class Conf:
    x: float = 0.0
    y: float = 0.0
    ends: str = "well"

ConfigStore.instance().store(name="conf", node=Conf)

@hydra.main(version_base="1.3", config_path=None, config_name="conf")
def main(cfg):
    print("this trial has x", cfg.x)
    if cfg.ends == "exit":
        os._exit(3)
    if cfg.ends == "segfault":
        os.kill(os.getpid(), 11)
    if cfg.ends == "exception":
        raise RuntimeError("a mistake")
    if cfg.ends == "text":
        return "far"
    if cfg.ends == "not_a_number":
        return float("nan")
    for step in range(5):
        besom.report(cfg.x, step)
    return cfg.x**2 + cfg.y**2

if __name__ == "__main__":
    main()
"""


def split(runs: list[Run]) -> tuple[Run, list[Run]]:
    """The study's run and its trials' runs, by number."""
    [parent] = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    return parent, sorted(children, key=lambda run: int(run.data.tags["besom.trial"]))


RESTLESS = """
import itertools
from pathlib import Path

import besom
import hydra
from hydra.core.hydra_config import HydraConfig

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    for step in itertools.count():
        besom.report(0.0, step)
        Path(HydraConfig.get().runtime.output_dir, "reported").touch()

if __name__ == "__main__":
    main()
"""


def app(shell: Shell, *words: str) -> subprocess.CompletedProcess[str]:
    shell.write("app.py", APP)
    return shell.run(sys.executable, "app.py", "-m", "hydra/sweeper=besom", *words)


def no_process_of(shell: Shell) -> bool:
    """Nothing that was started in the folder is still there."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve() == shell.folder:
                return False
        except OSError:  # it has ended meanwhile
            continue
    return True


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Shell, str]:
    """The sweep of the README, as it is shipped; with what it printed."""
    shell = Shell(tmp_path_factory.mktemp("swept"))
    done = shell.besom("sweep")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return shell, done.stdout


def test_twenty_ended_runs_lie_under_one_parent(swept: tuple[Shell, str]) -> None:
    shell, _ = swept
    parent, children = split(shell.runs())
    assert (parent.info.run_name, parent.info.status) == ("digits", "FINISHED")
    assert {run.info.status for run in children} == {"FINISHED"}  # those that were pruned too
    assert [int(run.data.tags["besom.trial"]) for run in children] == list(range(20))


def test_the_best_trial_reads_digits(swept: tuple[Shell, str]) -> None:
    shell, _ = swept
    parent, _ = split(shell.runs())
    assert parent.data.metrics["best"] >= 0.97


def test_mlflow_and_optuna_agree_on_every_trial(swept: tuple[Shell, str]) -> None:
    shell, _ = swept
    _, children = split(shell.runs())
    for trial, run in zip(study(shell, "digits").trials, children, strict=True):
        assert trial.state.name == run.data.tags["besom.outcome"].upper()
        assert run.data.metrics.get("objective") == (trial.value if trial.state.name == "COMPLETE" else None)
        assert {key: run.data.params[key] for key in trial.params} == {key: str(v) for key, v in trial.params.items()}
        epochs = shell.client.get_metric_history(run.info.run_id, "val/acc")
        assert [point.step for point in epochs] == list(trial.intermediate_values)
        assert len(epochs) == 10 or trial.state.name == "PRUNED"
        assert [point.value for point in epochs] == list(trial.intermediate_values.values())


def test_the_studys_table_of_trials_is_what_mlflow_has(swept: tuple[Shell, str], tmp_path: Path) -> None:
    shell, _ = swept
    parent, children = split(shell.runs())
    path = shell.client.download_artifacts(parent.info.run_id, "trials.csv", str(tmp_path))
    with Path(path).open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [row["run"] for row in rows] == [run.info.run_id for run in children]
    for row, run in zip(rows, children, strict=True):
        assert row["state"] == run.data.tags["besom.outcome"]
        value = "objective" if row["state"] == "complete" else "val/acc"  # of a pruned one the last it has reported
        assert float(row["val/acc"]) == run.data.metrics[value]
        for key in ("model.activation", "optimizer", "optimizer.lr"):
            assert row[key] == run.data.params[key] == run.data.params[f"_{key}"]


def test_the_studys_page_followed_the_sweep(swept: tuple[Shell, str]) -> None:
    shell, _ = swept
    parent, children = split(shell.runs())
    completed, pruned, best = (
        shell.client.get_metric_history(parent.info.run_id, key) for key in ("completed", "pruned", "best")
    )
    assert sorted(one.value + other.value for one, other in zip(completed, pruned, strict=True)) == list(range(1, 21))
    objectives = [run.data.metrics["objective"] for run in children if "objective" in run.data.metrics]
    assert max(point.value for point in best) == max(objectives)
    named = {file.path for file in shell.client.list_artifacts(parent.info.run_id)}
    assert {"report.html", "trials.csv", "best.yaml", "history.png", "timeline.png"} <= named


def test_a_trials_run_has_all_that_a_single_run_has(swept: tuple[Shell, str]) -> None:
    shell, _ = swept
    _, children = split(shell.runs())
    run = next(run for run in children if run.info.status == "FINISHED")
    files = {file.path for file in shell.client.list_artifacts(run.info.run_id)}
    assert files >= {"config.yaml", "checkpoints", "requirements.txt"}
    assert run.data.params["trainer.max_epochs"] == "10"
    assert run.data.tags["version.torch"]
    assert run.data.tags["device"] == "cpu x1 (1 threads)"
    assert [used.dataset.name for used in run.inputs.dataset_inputs] == ["digits"]


def test_the_test_set_is_never_scored_in_a_sweep(swept: tuple[Shell, str]) -> None:
    shell, _ = swept
    assert not [name for run in shell.runs() for name in run.data.metrics if name.startswith("test/")]


def test_a_pipe_gets_one_plain_line_a_trial(swept: tuple[Shell, str]) -> None:
    _, out = swept
    lines = [line for line in out.splitlines() if line.startswith("trial ")]
    assert sorted(int(line.split()[1]) for line in lines) == list(range(20))


def test_the_printed_command_repeats_the_best_trial_exactly(swept: tuple[Shell, str], tmp_path: Path) -> None:
    """All its metrics, at every epoch, to the last bit."""
    shell, out = swept
    [line] = [line for line in out.splitlines() if line.startswith("repeat it:")]
    program, *words = shlex.split(line.removeprefix("repeat it:"))
    assert program == "besom"
    alone = Shell(tmp_path)
    done = alone.besom(*words)
    assert done.returncode == 0, done.stderr
    parent, children = split(shell.runs())
    best = children[int(parent.data.tags["besom.best_trial"])]
    [repeated] = alone.runs()
    for metric in ("train/loss", "val/loss", "val/acc"):
        theirs, ours = (
            [(point.step, point.value) for point in where.client.get_metric_history(run.info.run_id, metric)]
            for where, run in ((shell, best), (alone, repeated))
        )
        assert ours == theirs, metric


def test_the_studys_note_names_the_best_trial_and_its_command(swept: tuple[Shell, str]) -> None:
    shell, out = swept
    parent, _ = split(shell.runs())
    [line] = [line for line in out.splitlines() if line.startswith("repeat it:")]
    assert line.removeprefix("repeat it:").strip() in parent.data.tags["mlflow.note.content"]


def test_a_finished_sweep_started_again_runs_nothing_and_says_the_same(swept: tuple[Shell, str]) -> None:
    shell, out = swept
    again = shell.besom("sweep")
    assert again.returncode == 0, again.stderr
    assert out.endswith(again.stdout)
    assert len(shell.runs()) == 21


def test_optuna_dashboard_opens_the_study(swept: tuple[Shell, str]) -> None:
    shell, _ = swept
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    dashboard = str(Path(sys.executable).parent / "optuna-dashboard")
    server = subprocess.Popen(
        [dashboard, "sqlite:///optuna.db", "--host", "127.0.0.1", "--port", str(port)], cwd=shell.folder
    )

    def studies() -> list[str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies") as answer:
                return [study["study_name"] for study in json.load(answer)["study_summaries"]]
        except OSError:
            return []

    try:
        eventually(studies, "the dashboard")
        assert studies() == ["digits"]
    finally:
        server.terminate()
        server.wait()


def test_an_interrupted_sweep_gives_its_trials_back_and_the_same_command_goes_on(shell: Shell) -> None:
    """As many runs as trials, each finished in the end, and no process left behind."""
    words = (BESOM, "sweep", "digits", "hydra.sweeper.n_trials=4", "trainer.max_epochs=8", TO_THE_END)
    process = shell.start(*words)
    eventually(lambda: list(shell.folder.glob("multirun/*/*/*/checkpoints/last.ckpt")), "a first epoch")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "go back to the queue" in out
    eventually(lambda: no_process_of(shell), "the last process to end")
    states = [trial.state.name for trial in study(shell, "digits").trials]
    assert "WAITING" in states
    assert set(states) <= {"WAITING", "COMPLETE"}
    assert "RUNNING" not in [run.info.status for run in shell.runs()]
    done = shell.run(*words)
    assert done.returncode == 0, done.stderr
    assert [trial.state.name for trial in study(shell, "digits").trials] == ["COMPLETE"] * 4
    _, children = split(shell.runs())
    assert [run.info.status for run in children] == ["FINISHED"] * 4


def test_a_trial_that_reports_without_a_pause_is_interrupted_too(shell: Shell) -> None:
    shell.write("app.py", RESTLESS)
    process = shell.start(
        sys.executable, "app.py", "-m", "hydra/sweeper=besom", "hydra.sweeper.n_trials=1", "+x=choice(0,1)"
    )
    eventually(lambda: list(shell.folder.glob("multirun/*/*/0/reported")), "a report")
    process.send_signal(signal.SIGINT)
    try:
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert [trial.state.name for trial in study(shell, "app").trials] == ["WAITING"]


def test_a_larger_budget_runs_only_what_is_missing_under_the_same_parent(shell: Shell) -> None:
    assert shell.besom("sweep", "digits", *SMALL).returncode == 0
    before = {run.info.run_id for run in shell.runs()}
    assert shell.besom("sweep", "digits", *SMALL, "hydra.sweeper.n_trials=4").returncode == 0
    parent, children = split(shell.runs())
    assert len(children) == 4
    assert before == {parent.info.run_id, *(run.info.run_id for run in children[:3])}


def test_the_other_direction_is_refused_for_a_study_that_is_there(shell: Shell) -> None:
    assert app(shell, "x=interval(-1,1)", "hydra.sweeper.n_trials=1").returncode == 0
    done = app(shell, "x=interval(-1,1)", "hydra.sweeper.direction=maximize")
    assert done.returncode == 2
    assert "study 'app'" in done.stderr
    assert "choose another hydra.sweeper.study_name" in done.stderr


def test_a_sweep_file_of_the_users_own_and_a_conf_folder_come_first(shell: Shell) -> None:
    shell.write(
        "conf/model/cnn.yaml", (Path(__file__).parents[2] / "conf/model/cnn.yaml").read_text().replace("32", "4")
    )
    shell.write(
        "mine/digits.yaml",
        """\
# @package _global_
defaults: [override /hydra/sweeper: besom]
hydra: {sweeper: {n_trials: 1, params: {optimizer.lr: 'interval(0.001, 0.002)'}}}
trainer: {max_epochs: 1}
""",
    )
    done = shell.besom("sweep", "mine/digits.yaml")
    assert done.returncode == 0, done.stderr
    _, [run] = split(shell.runs())
    assert run.data.params["model.width"] == "4"
    assert run.data.tags["besom.study"] == "digits", "a sweep without a study_name is named by its file"


def test_any_hydra_app_is_swept_unchanged(shell: Shell) -> None:
    done = app(shell, "x=interval(-5,5)", "y=choice(0.0,1.0)", "hydra.sweeper.n_trials=6", "hydra.sweeper.n_jobs=2")
    assert done.returncode == 0, done.stderr
    found = study(shell).trials
    assert len(found) == 6
    for trial in found:
        assert trial.value == pytest.approx(trial.params["x"] ** 2 + trial.params["y"] ** 2)
    parent, children = split(shell.runs())
    assert len(children) == 6
    assert parent.data.metrics["best"] == min(trial.value for trial in found)
    assert "repeat it:  python app.py x=" in done.stdout


def test_what_a_trial_does_to_its_process_touches_no_other(shell: Shell) -> None:
    """Each end is a failure with its reason, in the study and in MLflow; the sweep goes on to its budget."""
    ends = "ends=choice(well,exit,segfault,exception,text,not_a_number)"
    patient = "hydra.sweeper.max_failure_rate=null"
    done = app(shell, ends, "hydra.sweeper.n_trials=30", "hydra.sweeper.sampler.seed=1", patient)
    assert done.returncode == 0, done.stderr
    found = study(shell).trials
    assert len(found) == 30
    assert {trial.params["ends"] for trial in found} == {
        "well",
        "exit",
        "segfault",
        "exception",
        "text",
        "not_a_number",
    }
    says = {
        "exit": "exit code 3",
        "segfault": "SIGSEGV",
        "exception": "RuntimeError: a mistake",
        "text": "returned 'far'",
        "not_a_number": "returned nan",
    }
    _, children = split(shell.runs())
    for trial, run in zip(found, children, strict=True):
        ended = trial.params["ends"]
        if ended == "well":
            assert (trial.state.name, run.info.status) == ("COMPLETE", "FINISHED")
        else:
            assert (trial.state.name, run.info.status) == ("FAIL", "FAILED")
            assert says[ended] in trial.user_attrs["besom.reason"]
            assert says[ended] in run.data.tags["besom.reason"]


def test_a_sweep_in_which_nothing_completes_exits_1_with_the_first_reason(shell: Shell) -> None:
    done = app(shell, "ends=choice(exception)", "hydra.sweeper.n_trials=2")
    assert done.returncode == 1
    assert "RuntimeError: a mistake" in done.stderr


def test_a_pruned_trial_is_finished_in_mlflow_and_said_to_be_pruned(shell: Shell) -> None:
    done = app(
        shell, "x=range(50)", "hydra/sweeper/pruner=median", "hydra.sweeper.n_trials=15", "hydra.sweeper.sampler.seed=0"
    )
    assert done.returncode == 0, done.stderr
    found = study(shell).trials
    pruned = [trial.number for trial in found if trial.state == optuna.trial.TrialState.PRUNED]
    assert pruned
    _, children = split(shell.runs())
    for number in pruned:
        assert children[number].info.status == "FINISHED"
        assert children[number].data.tags["besom.outcome"] == "pruned"


def test_what_a_trial_prints_is_in_its_folder(shell: Shell) -> None:
    assert app(shell, "x=choice(3.5)", "hydra.sweeper.n_trials=1").returncode == 0
    [log] = shell.folder.glob("multirun/*/*/0/output.log")
    assert "this trial has x 3.5" in log.read_text()
