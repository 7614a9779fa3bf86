"""What the trials of a sweep have used of their machine is on their runs; and TensorBoard shows what MLflow has."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doors import BESOM, Shell, eventually
from mlflow.entities import Run
from servers import free_port
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from besom.tracking.run_log import read

# each trial works for a while; one fails
APP = """
import time
import hydra

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    held = b"x" * 100_000_000  # written to: memory that is only asked for is not there yet
    while time.process_time() < 0.4:
        pass
    if cfg.kind == "bad":
        raise ValueError("bad")
    return cfg.x * (2 if cfg.twice else 1)

if __name__ == "__main__":
    main()
"""
SWEEP = (
    *("hydra/sweeper=besom", "hydra/sweeper/sampler=brute_force", "hydra.sweeper.study_name=mine"),
    *("+x=choice(0.5,1.5)", "+twice=choice(true,false)", "+kind=choice(good,bad)", "hydra.sweeper.n_jobs=2"),
    "hydra.sweeper.max_failure_rate=null",
)
N_TRIALS = 5  # of 8 points, 4 of which fail
MEMORY, CPU = "system/system_memory_usage_megabytes", "system/cpu_utilization_percentage"


@pytest.fixture(scope="module")
def swept(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    shell = Shell(tmp_path_factory.mktemp("swept"))
    shutil.copy(migrated, shell.folder / "mlflow.db")
    shell.write("app.py", APP)
    asked = (f"hydra.sweeper.n_trials={N_TRIALS}", "hydra.sweeper.system_metrics=0.1")
    done = shell.run(sys.executable, "app.py", "-m", *SWEEP, *asked)
    assert done.returncode == 0, done.stderr
    return shell


@pytest.fixture(scope="module")
def trials(swept: Shell) -> list[Run]:
    found = [run for run in swept.runs() if "besom.trial" in run.data.tags]
    return sorted(found, key=lambda run: int(run.data.tags["besom.trial"]))


def recorded(shell: Shell, run: Run) -> dict[str, list[tuple[int, int, float]]]:
    """Of each metric, what MLflow has: step, milliseconds, value."""
    return {
        key: [
            (point.step, point.timestamp, point.value)
            for point in shell.client.get_metric_history(run.info.run_id, key)
        ]
        for key in run.data.metrics
    }


# ── system metrics ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_trials_run_has_what_it_has_used(swept: Shell, trials: list[Run]) -> None:
    for run in trials:
        memory, cpu = (recorded(swept, run)[key] for key in (MEMORY, CPU))
        assert [step for step, *_ in memory] == list(range(len(memory)))
        assert max(value for *_, value in memory) > 100
        assert max(value for *_, value in cpu) > 0


def test_even_a_trial_that_fails_is_looked_at(trials: list[Run]) -> None:
    failed = [run for run in trials if run.info.status == "FAILED"]
    assert failed
    assert all(MEMORY in run.data.metrics for run in failed)


def test_every_sample_in_a_trials_log_is_in_mlflow(swept: Shell, trials: list[Run]) -> None:
    for run in trials:
        [log] = swept.folder.glob(f"multirun/*/*/{run.data.tags['besom.trial']}/run.jsonl")
        said = sorted(
            (key, entry["step"], entry["t"], value)
            for entry, _ in read(log)
            if entry["kind"] == "metrics"
            for key, value in entry["values"].items()
        )
        assert said == sorted((key, *point) for key, points in recorded(swept, run).items() for point in points)


# ── TensorBoard ───────────────────────────────────────────────────────────────────────────────────────────────────────
def events(folder: Path) -> dict[str, list[tuple[int, float, Any]]]:
    """Of each of its time series what TensorBoard reads: step, seconds, value."""
    accumulator = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    accumulator.Reload()
    return {
        tag: [
            (event.step, event.wall_time, float(make_ndarray(event.tensor_proto))) for event in accumulator.Tensors(tag)
        ]
        for tag in accumulator.Tags()["tensors"]
        if not tag.startswith("_hparams_")
    }


@pytest.fixture(scope="module")
def written(swept: Shell) -> Path:
    done = swept.besom("tensorboard", "mine", "-o", "events")
    assert done.returncode == 0, done.stderr
    assert f"{N_TRIALS} trials of study mine are in events" in done.stdout
    return swept.folder / "events"


def test_the_event_files_have_every_value_of_mlflow_at_its_step_and_time(
    swept: Shell, written: Path, trials: list[Run]
) -> None:
    for run in trials:
        expected = {
            key: [(step, t / 1000, float(np.float32(value))) for step, t, value in points]
            for key, points in recorded(swept, run).items()
        }
        assert events(written / f"trial-{run.data.tags['besom.trial']}") == expected


def test_written_again_they_are_replaced_and_nothing_else_is(swept: Shell, written: Path) -> None:
    (written / "notes.txt").write_text("mine")
    (written / "trial-99").mkdir()
    (written / "trial-99" / "events.out.tfevents.1.elsewhere").write_text("")
    before = len(list(written.rglob("events.*.besom")))
    done = swept.besom("tensorboard", "mine", "-o", "events")
    assert done.returncode == 0, done.stderr
    assert len(list(written.rglob("events.*.besom"))) == before == 1 + N_TRIALS
    assert (written / "notes.txt").read_text() == "mine"
    assert list((written / "trial-99").iterdir())


@pytest.fixture(scope="module")
def served(swept: Shell) -> Iterator[str]:
    """The URL of a TensorBoard that has read all runs."""
    port = free_port()
    server = subprocess.Popen(
        [BESOM, "tensorboard", "mine", "--port", str(port)],
        cwd=swept.folder,
        env=swept.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}"
    eventually(lambda: len(asked(url, "/data/runs") or ()) == N_TRIALS + 1, "TensorBoard to have read all runs")
    yield url
    os.killpg(server.pid, signal.SIGINT)
    server.wait()


def asked(url: str, path: str, **question: Any) -> Any:
    """What TensorBoard's page is told; None where nobody answers."""
    body = json.dumps(question).encode() if question else None
    request = urllib.request.Request(url + path, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)
    except OSError:
        return None


def test_tensorboard_has_a_run_for_each_trial(served: str) -> None:
    assert sorted(asked(served, "/data/runs")) == [".", *(f"trial-{number}" for number in range(N_TRIALS))]


def test_its_hparams_tab_has_the_points_and_the_objective(served: str, trials: list[Run]) -> None:
    experiment = asked(served, "/data/plugin/hparams/experiment", experimentName="", includeMetrics=True)
    assert {info["name"]: info["type"] for info in experiment["hparamInfos"]} == {
        "x": "DATA_TYPE_FLOAT64",
        "twice": "DATA_TYPE_BOOL",
        "kind": "DATA_TYPE_STRING",
    }
    assert [info["name"]["tag"] for info in experiment["metricInfos"]] == ["objective"]
    groups = asked(
        served,
        "/data/plugin/hparams/session_groups",
        experimentName="",
        startIndex=0,
        sliceSize=100,
        allowedStatuses=["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"],
        colParams=[{"hparam": name} for name in ("x", "twice", "kind")] + [{"metric": {"tag": "objective"}}],
        includeMetrics=True,
    )["sessionGroups"]
    shown = {
        group["name"]: (
            group["hparams"],
            [value["value"] for value in group.get("metricValues", ())],
            group["sessions"][0]["status"],
        )
        for group in groups
    }
    assert shown == {
        f"trial-{run.data.tags['besom.trial']}": (
            {
                "x": float(run.data.params["x"]),
                "twice": run.data.params["twice"] == "true",
                "kind": run.data.params["kind"],
            },
            [run.data.metrics["objective"]] if "objective" in run.data.metrics else [],
            "STATUS_SUCCESS" if run.info.status == "FINISHED" else "STATUS_FAILURE",
        )
        for run in trials
    }


# ── what it refuses ───────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_port_in_use_is_refused_with_another(swept: Shell, served: str) -> None:
    port = int(served.rpartition(":")[2])
    done = swept.besom("tensorboard", "mine", "--port", str(port))
    assert done.returncode == 2
    assert f"besom tensorboard mine --port {port + 1}" in done.stderr


def test_an_unknown_study_is_refused_with_the_near_one(swept: Shell) -> None:
    done = swept.besom("tensorboard", "mind", "-o", "nowhere")
    assert done.returncode == 2
    assert done.stderr.startswith("besom: no study 'mind'")
    assert "did you mean 'mine'" in done.stderr
    assert not (swept.folder / "nowhere").exists()


def test_where_nothing_is_recorded_it_says_so_and_makes_nothing(shell: Shell) -> None:
    done = shell.besom("tensorboard", "mine")
    assert done.returncode == 2
    assert "nothing has been recorded here" in done.stderr
    assert list(shell.folder.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_refused(swept: Shell) -> None:
    done = swept.besom("tensorboard", "mine", "-o", "app.py")
    assert done.returncode == 2
    assert "app.py cannot be written" in done.stderr
    assert "-o FOLDER" in done.stderr


def test_without_tensorboard_its_extra_is_named(shell: Shell) -> None:
    without = "import sys; sys.modules['tensorboard'] = None; from besom.cli.main import main; main()"
    done = shell.run(sys.executable, "-c", without, "tensorboard", "mine")
    assert done.returncode == 2
    assert "pip install 'besom[tb]'" in done.stderr
    assert list(shell.folder.iterdir()) == []
