"""MLflow goes away, loses its answers, is killed: the sweep goes on, and in the end each trial has its run, once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from doors import BESOM, Shell, eventually
from mlflow_servers import Fault, MlflowServer, Proxy

from besom.tracking.run_log import read
from sweeps import Sweep, assert_whole, study


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def proxy(server: MlflowServer) -> Iterator[Proxy]:
    proxy = Proxy(server.port)
    yield proxy
    proxy.close()


@pytest.fixture
def shell(shell: Shell, server: MlflowServer, request: pytest.FixtureRequest) -> Shell:
    """Its runs are in an experiment of the test's own, and read past the proxy."""
    shell.env["MLFLOW_EXPERIMENT_NAME"] = request.node.name
    shell.experiment = request.node.name
    shell.tracking_uri = server.uri
    return shell


def recorded_at(proxy: Proxy) -> str:
    return f"hydra.sweeper.tracking_uri={proxy.uri}"


def has_ended(shell: Shell, n_trials: int) -> bool:
    return sum(trial.state.is_finished() for trial in study(shell).trials) == n_trials


def assert_recorded(shell: Shell, n_trials: int) -> None:
    """Every value of the trials' logs is in MLflow, once."""
    assert_whole(shell, n_trials)
    runs = {run.data.tags["besom.trial"]: run for run in shell.runs() if "besom.trial" in run.data.tags}
    for log in shell.folder.glob("multirun/*/*/*/run.jsonl"):
        run = runs[log.parent.name]
        said = [
            (key, value, entry["step"], entry["t"])
            for entry, _ in read(log)
            if entry["kind"] == "metrics"
            for key, value in entry["values"].items()
        ]
        kept = [
            (point.key, point.value, point.step, point.timestamp)
            for key in {key for key, *_ in said}
            for point in shell.client.get_metric_history(run.info.run_id, key)
        ]
        assert sorted(kept) == sorted(said)


def test_trials_end_while_mlflow_is_away_and_are_recorded_when_it_is_back(shell: Shell, proxy: Proxy) -> None:
    sweep = Sweep(shell, "+how=until told", "hydra.sweeper.n_trials=3", recorded_at(proxy))
    sweep.wait_for_attempt(0)
    proxy.fault = lambda method, path: "refused"
    shell.write("go", "")
    eventually(lambda: has_ended(shell, 3), "all trials")
    eventually(lambda: proxy.faults, "MLflow to be asked")
    proxy.fault = lambda method, path: "none"
    code, said = sweep.end()
    assert code == 0, said
    assert_recorded(shell, 3)


def test_trials_train_to_their_end_while_mlflow_keeps_them_waiting_for_an_answer(shell: Shell, proxy: Proxy) -> None:
    sweep = Sweep(shell, "+how=until told", "hydra.sweeper.n_trials=3", recorded_at(proxy))
    sweep.wait_for_attempt(0)
    proxy.fault = lambda method, path: "late"
    shell.write("go", "")
    eventually(lambda: has_ended(shell, 3), "all trials")
    eventually(lambda: proxy.faults, "MLflow to be asked")
    proxy.fault = lambda method, path: "none"
    proxy.release.set()
    code, said = sweep.end()
    assert code == 0, said
    assert_recorded(shell, 3)


def test_what_mlflow_has_done_and_not_answered_is_not_done_twice(shell: Shell, proxy: Proxy) -> None:
    asked: dict[str, int] = {}

    def first_of_each_kind(method: str, path: str) -> str:
        """And every third after it."""
        if method == "GET":
            return "none"
        asked[path] = asked.get(path, -1) + 1
        return "unanswered" if asked[path] % 3 == 0 else "none"

    proxy.fault = first_of_each_kind  # type: ignore[assignment]
    code, said = Sweep(shell, "hydra.sweeper.n_trials=3", recorded_at(proxy)).end()
    assert code == 0, said
    assert any("runs/create" in path for path in asked)
    assert_recorded(shell, 3)
    assert len(shell.runs()) == 4


def test_a_server_killed_and_started_again_has_everything(shell: Shell, server: MlflowServer, proxy: Proxy) -> None:
    sweep = Sweep(
        shell, "+how=first until told", "hydra.sweeper.n_trials=4", recorded_at(proxy), "hydra.sweeper.n_jobs=2"
    )
    sweep.wait_for_attempt(0)
    server.kill()
    eventually(lambda: has_ended(shell, 3), "the other trials")
    server.start()
    shell.write("go", "")
    code, said = sweep.end()
    assert code == 0, said
    assert_recorded(shell, 4)


def test_a_sweep_whose_end_mlflow_does_not_see_says_how_to_record_it(shell: Shell, proxy: Proxy) -> None:
    sweep = Sweep(shell, "+how=until told", "hydra.sweeper.n_trials=2", recorded_at(proxy))
    sweep.wait_for_attempt(0)
    proxy.fault = lambda method, path: "refused"
    shell.write("go", "")
    code, said = sweep.end()
    assert code == 0, said
    assert "besom doctor app --fix" in said
    proxy.fault = lambda method, path: "none"
    done = shell.run(BESOM, "doctor", "app", "--fix")
    assert done.returncode == 0, done.stdout + done.stderr
    assert_recorded(shell, 2)


@pytest.mark.parametrize("fault", ["refused", "late"])
def test_a_study_begins_while_mlflow_is_away(shell: Shell, proxy: Proxy, fault: Fault) -> None:
    proxy.fault = lambda method, path: fault
    sweep = Sweep(shell, "+how=first until told", "hydra.sweeper.n_trials=3", recorded_at(proxy))
    sweep.wait_for_attempt(0)
    assert proxy.faults
    proxy.fault = lambda method, path: "none"
    proxy.release.set()
    shell.write("go", "")
    code, said = sweep.end()
    assert code == 0, said
    assert "what it finds is recorded when MLflow is back" in said
    assert_recorded(shell, 3)


def test_a_study_that_has_never_met_its_mlflow_is_recorded_later(shell: Shell, proxy: Proxy) -> None:
    proxy.fault = lambda method, path: "refused"
    code, said = Sweep(shell, "hydra.sweeper.n_trials=2", recorded_at(proxy)).end()
    assert code == 0, said
    assert shell.runs() == []
    proxy.fault = lambda method, path: "none"
    told = shell.run(BESOM, "doctor", "app")
    assert told.returncode == 1
    assert "the study has no run in MLflow" in told.stdout
    done = shell.run(BESOM, "doctor", "app", "--fix")
    assert done.returncode == 0, done.stdout + done.stderr
    assert_recorded(shell, 2)


def test_a_study_goes_on_while_mlflow_is_away(shell: Shell, proxy: Proxy) -> None:
    assert Sweep(shell, "hydra.sweeper.n_trials=1", recorded_at(proxy)).end()[0] == 0
    proxy.fault = lambda method, path: "refused"
    code, said = Sweep(shell, "hydra.sweeper.n_trials=2", recorded_at(proxy)).end()
    assert code == 0, said
    proxy.fault = lambda method, path: "none"
    assert shell.run(BESOM, "doctor", "app", "--fix").returncode == 0
    assert_recorded(shell, 2)


TRAIN = ("train", "trainer.max_epochs=2", "trainer.accelerator=cpu", "model.width=2")


def test_a_run_whose_end_mlflow_did_not_see_is_recorded_later(shell: Shell, proxy: Proxy) -> None:
    def first_answers(method: str, path: str) -> str:
        return "none" if method == "GET" or "experiments" in path else "refused"

    proxy.fault = first_answers  # type: ignore[assignment]
    done = shell.besom(*TRAIN, f"tracking.uri={proxy.uri}")
    assert done.returncode == 0, done.stderr
    assert shell.runs() == []
    proxy.fault = lambda method, path: "none"
    (folder,) = shell.folder.glob("outputs/*/*")
    assert f"when it is back: besom doctor {folder}" in done.stderr
    for _ in range(2):  # the second time adds nothing
        mended = shell.besom("doctor", str(folder))
        assert mended.returncode == 0, mended.stderr
        (run,) = shell.runs()
        assert run.info.status == "FINISHED"
        history = shell.client.get_metric_history(run.info.run_id, "val/acc")
        assert [point.step for point in history] == [0, 1]
        assert run.data.metrics["objective"] == max(point.value for point in history)


def test_a_run_begins_while_mlflow_is_away(shell: Shell, proxy: Proxy) -> None:
    proxy.fault = lambda method, path: "refused"
    done = shell.besom(*TRAIN, f"tracking.uri={proxy.uri}")
    assert done.returncode == 0, done.stderr
    assert "is recorded when MLflow is back" in done.stderr
    proxy.fault = lambda method, path: "none"
    (folder,) = shell.folder.glob("outputs/*/*")
    assert shell.besom("doctor", str(folder)).returncode == 0
    (run,) = shell.runs()
    assert run.info.status == "FINISHED"


def test_a_killed_run_is_recorded_as_failed(shell: Shell, server: MlflowServer) -> None:
    training = shell.start(BESOM, *TRAIN, "trainer.max_epochs=10000", f"tracking.uri={server.uri}")
    eventually(lambda: [run for run in shell.runs() if "val/acc" in run.data.metrics], "the first epoch")
    (folder,) = shell.folder.glob("outputs/*/*")
    refused = shell.besom("doctor", str(folder))
    assert refused.returncode == 2
    assert f"its run goes on, in process {training.pid}" in refused.stderr
    training.kill()
    training.communicate()
    mended = shell.besom("doctor", str(folder))
    assert mended.returncode == 0, mended.stderr
    (run,) = shell.runs()
    assert (run.info.status, run.data.tags["besom.reason"]) == ("FAILED", "its process was killed")


def test_a_folder_without_a_run_is_refused(shell: Shell) -> None:
    done = shell.besom("doctor", ".")
    assert done.returncode == 2
    assert "no run of `besom train` was begun there" in done.stderr
