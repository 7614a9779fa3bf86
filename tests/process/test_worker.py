"""`besom worker` joins a sweep that runs."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
from doors import BESOM, Shell, eventually

from besom.engine.join import start
from besom.errors import InputError
from besom.study.attrs import COMMAND
from besom.study.study import Study
from sweeps import Sweep, assert_whole, processes_in, study

pytestmark = pytest.mark.usefixtures("stocked")


@pytest.fixture
def sweep(shell: Shell) -> Sweep:
    """One trial at a time; it runs."""
    sweep = Sweep(shell, "+how=until told", "hydra.sweeper.n_trials=3")
    sweep.wait_for_attempt(0)
    return sweep


def test_a_worker_joins_a_running_sweep_from_elsewhere(
    shell: Shell, sweep: Sweep, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = Shell(tmp_path_factory.mktemp("elsewhere"))
    storage = f"sqlite:///{shell.folder / 'optuna.db'}"
    worker = elsewhere.start(BESOM, "worker", "--yes", "--storage", storage, "app", "hydra.sweeper.n_jobs=2")
    sweep.wait_for_attempt(1)
    sweep.wait_for_attempt(2)
    shell.write("go", "")
    out, err = worker.communicate()
    assert worker.returncode == 0, err
    assert "study app: 2 more at a time" in out
    code, said = sweep.end()
    assert code == 0, said
    assert_whole(shell, 3)


def test_a_worker_that_is_stopped_gives_its_trial_back_and_the_sweep_goes_on(shell: Shell, sweep: Sweep) -> None:
    worker = shell.start(BESOM, "worker", "--yes", "app")
    sweep.wait_for_attempt(1)
    worker.send_signal(signal.SIGINT)
    _, err = worker.communicate()
    assert worker.returncode == 130, err
    assert study(shell).trials[1].state.name == "WAITING"
    assert study(shell).trials[0].state.name == "RUNNING"
    shell.write("go", "")
    code, said = sweep.end()
    assert code == 0, said
    assert_whole(shell, 3)
    assert study(shell).trials[1].user_attrs["besom.ends"] == ["interrupted"]


def test_a_worker_uses_the_code_of_its_own_folder(
    shell: Shell, sweep: Sweep, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = Shell(tmp_path_factory.mktemp("elsewhere"))
    code = (shell.folder / "app.py").read_text()
    elsewhere.write("app.py", code.replace("    here =", "    Path('here').touch()\n    here ="))
    worker = elsewhere.start(BESOM, "worker", "--yes", "app", BESOM_STORAGE=f"sqlite:///{shell.folder / 'optuna.db'}")
    sweep.wait_for_attempt(1)
    shell.write("go", "")
    elsewhere.write("go", "")
    _, err = worker.communicate()
    assert worker.returncode == 0, err
    assert (elsewhere.folder / "here").exists()
    assert sweep.end()[0] == 0
    assert_whole(shell, 3)


def test_who_cannot_join_is_told_why(
    shell: Shell, sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = f"sqlite:///{shell.folder / 'optuna.db'}"
    for words, says in (
        (["ap"], "no study 'ap'"),
        (["app", "--storage", f"sqlite:///{tmp_path}/no/such.db"], "no such folder"),
        (["app", "--storage", storage, "+x=interval(0,2)"], "searches another space"),
    ):
        done = shell.run(BESOM, "worker", "--yes", *words)
        assert done.returncode == 2, done.stderr
        assert says in done.stderr
        assert "Traceback" not in done.stderr
    monkeypatch.setenv("BESOM_STORAGE", "")  # what `start` sets is set back
    kept = Study(storage, "app")
    command = kept.recall(COMMAND)
    for code in (
        *("--experimental-rerun=job.pickle", "--config-d=/tmp", "-cd=/tmp", "--config-name=../theirs"),
        *("model=../../theirs", "+m=[a,../../theirs]", "model@a.b=../../theirs", "hydra/callbacks=theirs"),
        *("+a._target_=os.system", "+a=${oc.decode:'{_target_: os.system}'}", "model.activation=${n}"),
    ):
        kept.remember(COMMAND, {**command, "arguments": [*command["arguments"], code]})
        with pytest.raises(InputError, match=re.escape(f"{code}: a worker does not take from a storage")):
            start(storage, "app", [])  # which asks before it runs anything, and nobody can answer here
    done = shell.run(BESOM, "worker", "--yes", "app")
    assert done.returncode == 2, done.stdout
    assert f"besom: {code}: a worker does not take from a storage what names code to run" in done.stderr
    kept.remember(COMMAND, {**command, "arguments": [*command["arguments"], "+data.folder=../here"]})
    assert "+data.folder=../here" in shell.run(BESOM, "worker", "app").stdout
    kept.remember(COMMAND, {**command, "arguments": [*command["arguments"], "+folder=../here"], "sweeps": "/theirs"})
    given_too = shell.run(BESOM, "worker", "app", "+folder=../here")
    assert "as its storage has it: BESOM_SWEEPS=/theirs python app.py" in given_too.stdout
    kept.remember(COMMAND, command)
    unasked = shell.run(BESOM, "worker", "app")  # nobody can answer here
    assert unasked.returncode == 2
    assert "study app, as its storage has it: python app.py -m" in unasked.stdout
    assert "besom worker --yes" in unasked.stderr
    shell.write("go", "")
    assert sweep.end()[0] == 0
    late = shell.run(BESOM, "worker", "--yes", "app")
    assert late.returncode == 2
    assert "study 'app' is not being swept" in late.stderr
    eventually(lambda: not processes_in(shell.folder), "the last process to end")
