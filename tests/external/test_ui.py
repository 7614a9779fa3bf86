"""`besom ui`: MLflow's own server, lean, for this machine only, opened at the study."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, opened
from doors import BESOM, Shell, eventually
from mlflow.entities import Run

APP = """
import besom, hydra

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    besom.report(cfg.x / 2, 0)
    besom.report(cfg.x, 1)
    return cfg.x

if __name__ == "__main__":
    main()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(port: int, path: str = "/", host: str | None = None) -> int:
    """The HTTP status of an answer; 0 where nobody answers."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code
    except OSError:
        return 0


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    shell = Shell(tmp_path_factory.mktemp("swept"))
    shell.write("app.py", APP)
    sweep = ("hydra/sweeper=besom", "+x=interval(0,1)", "hydra.sweeper.n_trials=4", "hydra.sweeper.study_name=mine")
    asked = "hydra.sweeper.question='Which x is best?'"
    done = shell.run(sys.executable, "app.py", "-m", *sweep, asked)
    assert done.returncode == 0, done.stderr
    return shell


@pytest.fixture(scope="module")
def served(swept: Shell) -> Iterator[tuple[subprocess.Popen[str], int]]:
    port = free_port()
    server = subprocess.Popen(
        [BESOM, "ui", "mine", "--port", str(port)],
        cwd=swept.folder,
        env=swept.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        eventually(lambda: ask(port, "/health") == 200, "MLflow's server")
        yield server, port
    finally:
        stop(server)


@pytest.fixture(scope="module")
def links(served: tuple[subprocess.Popen[str], int]) -> list[str]:
    """Those that the command has printed."""
    server, _ = served
    assert server.stdout
    lines = [server.stdout.readline() for _ in range(3)]
    return [found[0] for line in lines if (found := re.search(r"http://\S+", line))]


def stop(server: subprocess.Popen[str]) -> None:
    os.killpg(server.pid, signal.SIGINT)
    server.communicate()


def test_the_links_printed_lead_to_the_table_of_trials_and_to_the_studys_run(links: list[str], swept: Shell) -> None:
    table, page = links
    found = re.fullmatch(r"http://besom.localhost:\d+/#/experiments/(\d+)/runs/(\w+)\?workflowType=.*", page)
    assert found, page
    run = swept.client.get_run(found[2])
    assert run.info.experiment_id == found[1]
    assert run.info.run_name == "mine"
    assert table.endswith(
        f"/#/experiments/{found[1]}/runs?viewStateShareKey={found[2]}&workflowType=machine_learning"
    ), table


def test_two_processes_serve_it(served: tuple[subprocess.Popen[str], int]) -> None:
    server, _ = served
    [worker] = children(server.pid)
    assert children(worker) == []


def test_it_answers_only_to_this_machines_names(served: tuple[subprocess.Popen[str], int]) -> None:
    _, port = served
    assert ask(port) == 200
    assert ask(port, host=f"localhost:{port}") == 200
    assert ask(port, host=f"besom.localhost:{port}") == 200
    assert ask(port, host="10.evil.com") == 403


def test_a_port_in_use_is_refused_with_another(swept: Shell, served: tuple[subprocess.Popen[str], int]) -> None:
    _, port = served
    done = swept.besom("ui", "--port", str(port))
    assert done.returncode == 2
    assert f"port {port} is in use" in done.stderr
    assert f"--port {port + 1}" in done.stderr


def test_an_unknown_study_is_refused_with_the_near_one(swept: Shell) -> None:
    done = swept.besom("ui", "mind")
    assert done.returncode == 2
    assert done.stderr.startswith("besom: no study 'mind'")
    assert "did you mean 'mine'" in done.stderr


def test_of_a_server_only_the_link_is_printed(swept: Shell, served: tuple[subprocess.Popen[str], int]) -> None:
    _, port = served
    done = swept.besom("ui", "mine", MLFLOW_TRACKING_URI=f"http://127.0.0.1:{port}")
    assert done.returncode == 0, done.stderr
    assert re.findall(r"http://\S+/#/experiments/\d+/runs\W", done.stdout) == [
        f"http://127.0.0.1:{port}/#/experiments/1/runs?",
        f"http://127.0.0.1:{port}/#/experiments/1/runs/",
    ]


def test_where_nothing_has_been_recorded_no_store_is_made(shell: Shell) -> None:
    for command in (("ui",), ("ui", "mine"), ("tensorboard", "mine"), ("reproduce", "mine/0")):
        done = shell.besom(*command)
        assert done.returncode == 2, command
        assert f"there is no {shell.folder}/mlflow.db: nothing has been recorded here" in done.stderr
        assert "Go to the folder of a sweep" in done.stderr
    assert list(shell.folder.iterdir()) == []


# ── in a browser ──────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with opened(tmp_path_factory.mktemp("screenshots")) as browser:
        yield browser


@pytest.fixture(scope="module")
def page(swept: Shell, served: tuple[subprocess.Popen[str], int]) -> str:
    """The address of the study's run, without what stands behind the question mark."""
    _, port = served
    (study,) = (run for run in swept.runs() if "besom.trial" not in run.data.tags)
    return f"http://127.0.0.1:{port}/#/experiments/{study.info.experiment_id}/runs/{study.info.run_id}"


TRAINING = "?workflowType=machine_learning"


def test_the_table_shows_objective_parameters_outcome_and_duration_without_a_click(
    swept: Shell, links: list[str], browser: Browser
) -> None:
    browser.open(links[0])
    trials = sorted((run for run in swept.runs() if "besom.trial" in run.data.tags), key=_objective)
    browser.wait_for(*(str(run.info.run_name) for run in trials))
    browser.keep("table")
    headers = browser.texts("[role=columnheader]")
    for title in ("Run Name", "objective", "besom.outcome", "Duration", "x"):
        assert title in headers, headers
    names = [text for text in browser.texts("[role=gridcell] a") if ": x=" in text]
    assert names == [run.info.run_name for run in trials]  # the best first, and the study's own run not among them
    assert "Assistant" not in browser.wait_for("besom.outcome")
    assert browser.errors() == []


def test_the_studys_page_has_its_question_its_best_trial_and_its_trials(
    swept: Shell, page: str, browser: Browser
) -> None:
    browser.open(page + TRAINING)
    best = min((run for run in swept.runs() if "besom.trial" in run.data.tags), key=_objective)
    names = [str(run.info.run_name) for run in swept.runs()]
    shown = browser.wait_for("Which x is best?", "Child runs", f"Best: trial {best.data.tags['besom.trial']}", *names)
    for name in ("completed", "pruned", "failed", "best"):
        assert name in shown
    browser.keep("study")
    assert browser.errors() == []


def test_the_link_in_the_note_leads_to_the_best_trial(swept: Shell, page: str, browser: Browser) -> None:
    browser.open(page + TRAINING)
    browser.wait_for("Best: trial")
    best = min((run for run in swept.runs() if "besom.trial" in run.data.tags), key=_objective)
    browser.click("Show more")
    browser.click(f"trial {best.data.tags['besom.trial']}")
    browser.wait_for(str(best.info.run_name), "reported_best")
    browser.keep("trial")
    assert browser.errors() == []


def test_the_report_is_drawn_among_the_studys_artifacts(page: str, browser: Browser) -> None:
    browser.open(f"{page}/artifacts/report.html{TRAINING}")
    browser.enter("iframe")
    browser.wait_for("Which x is best?", "Optimisation history", "Timeline of slots")
    assert browser.wait_for_elements(".js-plotly-plot .main-svg") >= 3
    browser.keep("report")
    assert browser.errors() == []


def _objective(run: Run) -> float:
    return float(run.data.metrics["objective"])
