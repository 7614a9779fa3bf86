"""What `besom reproduce` refuses, before it starts anything: runs made with MlflowClient, and the command line."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from mlflow import MlflowClient

from besom.cli.main import main
from besom.tracking import environment

Refused = Callable[..., str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(migrated, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    # absolute: a process keeps its connection to what it first called sqlite:///mlflow.db
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    return tmp_path


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """The one message of `besom reproduce ...`; nothing else is printed, and no folder is made."""

    def run(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["besom", "reproduce", *words])
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        assert left.value.code == 2
        assert said.out == ""
        assert said.err.startswith("besom: ")
        assert said.err.count("besom: ") == 1
        assert not Path("outputs").exists()
        return said.err

    return run


def client() -> MlflowClient:
    return MlflowClient(os.environ["MLFLOW_TRACKING_URI"])


def recorded(
    tags: Mapping[str, str] | None = None, experiment: str = "besom", status: str | None = "FINISHED", config: str = ""
) -> str:
    """A run of a moment ago, by this very code."""
    there = client().get_experiment_by_name(experiment)
    number = there.experiment_id if there else client().create_experiment(experiment, str(Path("files").absolute()))
    run = client().create_run(number, tags={**environment.tags(), **(tags or {})})
    if config:
        client().log_text(run.info.run_id, config, "config.yaml")
    if status:
        client().set_terminated(run.info.run_id, status)
    return str(run.info.run_id)


def other(run_id: str) -> str:
    """Six characters that begin no id: the run's own, the first one changed."""
    return ("0" if run_id[0] != "0" else "1") + run_id[1:6]


def test_an_unknown_run_is_refused_with_the_near_one_and_where_was_looked(refused: Refused) -> None:
    run = recorded()
    said = refused(other(run))
    assert f"no run '{other(run)}' in experiment 'besom' of sqlite:///" in said
    assert f"did you mean '{run[:6]}'" in said


def test_too_little_of_an_id_is_refused(refused: Refused) -> None:
    assert "at least 6 of its characters" in refused(recorded()[:5])


def test_what_is_no_id_is_refused(refused: Refused) -> None:
    assert "no run 'nonsense%': give a run's id" in refused("nonsense%")


def test_where_nothing_is_recorded_nothing_is_made(refused: Refused, folder: Path) -> None:
    (folder / "mlflow.db").unlink()
    assert f"there is no {folder / 'mlflow.db'}" in refused("abcdef")
    assert list(folder.iterdir()) == []


def test_a_beginning_that_several_runs_share_is_refused_with_their_ids(refused: Refused, folder: Path) -> None:
    runs = [recorded(), recorded()]
    with sqlite3.connect(folder / "mlflow.db") as tables:  # two ids that begin alike
        for number, run in enumerate(runs):
            tables.execute("PRAGMA foreign_keys = OFF")
            for table in ("runs", "tags"):
                tables.execute(f"UPDATE {table} SET run_uuid = ? WHERE run_uuid = ?", (f"abcdef{number}{run[7:]}", run))
    said = refused("abcdef")
    assert "abcdef is how the ids of 2 runs begin; give more of one: " in said
    assert f"abcdef0{runs[0][7:]}" in said


def test_a_run_of_another_experiment_is_refused_with_its_name(refused: Refused) -> None:
    run = recorded(experiment="vision")
    said = refused(run[:8])
    assert f"{run[:8]} is in the MLflow experiment 'vision'" in said
    assert "MLFLOW_EXPERIMENT_NAME=vision" in said


def test_a_studys_own_run_is_refused_with_what_to_name(refused: Refused) -> None:
    assert "is the study 'digits' itself: name one of its trials, such as digits/0" in refused(
        recorded({"besom.study": "digits"})
    )


def test_a_studys_name_is_refused_with_what_to_name(refused: Refused) -> None:
    recorded({"besom.study": "digits"})
    assert "digits is a study: name one of its trials, such as digits/0" in refused("digits")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("digits/7", ["study 'digits' has no trial 7", "it has 0 to 1, 3"]),
        ("digts/0", ["no study 'digts' in experiment 'besom'", "did you mean 'digits'"]),
        ("other/0", ["study 'other' is in the MLflow experiment 'vision'"]),
    ],
)
def test_an_unknown_trial_is_refused_with_those_there_are(refused: Refused, name: str, says: list[str]) -> None:
    for number in (0, 1, 3):
        recorded({"besom.study": "digits", "besom.trial": str(number)})
    recorded({"besom.study": "other", "besom.trial": "0"}, experiment="vision")
    said = refused(name)
    for part in says:
        assert part in said


def test_a_run_that_goes_on_is_refused(refused: Refused) -> None:
    assert "is RUNNING: wait for its end" in refused(recorded(status=None))


def test_a_config_that_is_none_is_refused(refused: Refused) -> None:
    assert "its config.yaml cannot be read: " in refused(recorded(config="a: [1"))
    assert "its config.yaml is no config" in refused(recorded(config="- 1\n"))


def test_of_another_apps_trial_the_command_that_repeats_it_is_said(refused: Refused, folder: Path) -> None:
    parent = recorded({"besom.study": "app", "besom.folder": str(folder / "multirun")})
    recorded(
        {
            "besom.study": "app",
            "besom.trial": "0",
            "mlflow.parentRunId": parent,
            "mlflow.source.name": "python app.py",
        }
    )
    said = refused("app/0")
    assert "it was made by python app.py, and its trial's folder" in said
    overrides = folder / "multirun" / "0" / ".hydra" / "overrides.yaml"
    overrides.parent.mkdir(parents=True)
    overrides.write_text("- x=0.5\n- name='a b'\n")
    assert "it was made by python app.py; repeat it with: python app.py x=0.5 " in refused("app/0")


def test_a_run_of_no_sweep_and_without_a_config_is_refused_with_who_made_it(refused: Refused) -> None:
    said = refused(recorded({"mlflow.source.name": "notebook.ipynb"}))
    assert "has no config.yaml among its artifacts: it was made by notebook.ipynb" in said


def test_an_option_is_refused_where_there_are_only_values(refused: Refused) -> None:
    said = refused(recorded(config="seed: 0"), "optimizer=sgd")
    assert "optimizer=sgd: in a frozen config there are no options to choose, only values: optimizer.KEY=..." in said


def test_other_code_is_refused_with_all_that_differs(refused: Refused) -> None:
    then = {"version.torch": "2.0.0", "mlflow.source.git.commit": "0123456789abcdef", "git.dirty": "maybe"}
    said = refused(recorded(then, config="seed: 0"))
    assert "was made by other code:" in said
    assert f"torch: 2.0.0 then, {environment.tags()['version.torch']} now" in said
    assert "git commit: 0123456789abcdef then, " in said
    assert "changes not committed: maybe then, " in said
    assert "go back to that (git checkout 0123456789), or train with what is here: besom reproduce " in said
    assert "--force" in said


def test_a_store_of_a_newer_mlflow_is_refused(refused: Refused, folder: Path) -> None:
    with sqlite3.connect(folder / "mlflow.db") as tables:
        tables.execute("UPDATE alembic_version SET version_num = 'fedcba987654'")
    said = refused("abcdef")
    assert "its tables are of a newer MLflow (schema fedcba987654) than the one installed here" in said
    assert "pip install -U mlflow" in said
