"""Whatever is damaged, foreign or without a bound: one message or a repair, and never a traceback."""

from __future__ import annotations

import os
import sys

import pytest
from doors import Shell, eventually

from sweeps import UNRECORDED, Sweep, processes_in, study

pytestmark = pytest.mark.usefixtures("stocked")

APP = """
import os
import sys
import hydra

TEXTS = {"bytes": "caf\\udce9", "nul": "a\\0b", "long": "x" * 20_000_000, "well": ""}

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    if text := TEXTS[cfg.how]:
        raise ValueError(text)
    return 1.0

if __name__ == "__main__":
    main()
"""


def test_exceptions_of_any_text_end_their_runs_and_stand_in_the_report(shell: Shell) -> None:
    shell.write("app.py", APP)
    words = ("hydra/sweeper=besom", "hydra/sweeper/sampler=grid", "hydra.sweeper.max_failure_rate=null")
    done = shell.run(sys.executable, "app.py", "-m", *words, "+how=choice(bytes,nul,long,well)")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout + done.stderr) < 10_000
    of_trials = [run for run in shell.runs() if "besom.trial" in run.data.tags]
    assert sorted(run.info.status for run in of_trials) == ["FAILED", "FAILED", "FAILED", "FINISHED"]
    reasons = {trial.params["+how"]: trial.user_attrs.get("besom.reason", "") for trial in study(shell).trials}
    assert reasons["bytes"] == "ValueError: caf\\udce9"
    assert reasons["nul"] == "ValueError: a\\x00b"
    assert len(reasons["long"]) <= 64 * 1024
    [whole] = shell.folder.glob("multirun/*/*/*/exception.txt")
    assert str(whole) in reasons["long"]
    assert whole.stat().st_size > 20_000_000
    for verb in ("doctor", "report", "status", "best"):
        said = shell.besom(verb, "app")
        assert said.returncode == 0, said.stdout + said.stderr
        assert len(said.stdout) < 10_000, verb
    assert (shell.folder / "report.html").stat().st_size < 10_000_000


def test_a_storage_damaged_amid_a_sweep_ends_it_with_one_message(shell: Shell) -> None:
    sweep = Sweep(shell, "+how=until told", "hydra.sweeper.n_trials=4", "hydra.sweeper.n_jobs=2", UNRECORDED)
    sweep.wait_for_attempt(0)
    sweep.wait_for_attempt(1)
    file = shell.folder / "optuna.db"
    with file.open("r+b") as content:
        content.seek(4096)
        content.write(os.urandom(file.stat().st_size - 4096))

    code, said = sweep.end()

    assert code == 2, said
    assert "Traceback" not in said
    assert said.count(f"{file} is damaged") == 1, said
    eventually(lambda: not processes_in(shell.folder), "its processes to end")
    for verb in ("status", "best", "report", "doctor", "stop", "worker"):
        refused = shell.besom(verb, "app")
        assert refused.returncode == 2, verb
        assert refused.stderr.startswith("besom: "), verb
        assert f"{file} is damaged" in refused.stderr, verb
        assert len(refused.stderr.splitlines()) == 1, verb


def test_a_damaged_store_of_mlflow_is_one_message(shell: Shell) -> None:
    shell.write("app.py", APP)
    words = (sys.executable, "app.py", "-m", "hydra/sweeper=besom", "+how=choice(well)")
    assert shell.run(*words, "hydra.sweeper.n_trials=1").returncode == 0
    file = shell.folder / "mlflow.db"
    whole = file.read_bytes()
    for damaged in (os.urandom(len(whole)), whole[:4096] + os.urandom(len(whole) - 4096), whole[: len(whole) // 2]):
        file.write_bytes(damaged)
        for asked in (("doctor", "app"), ("tensorboard", "app", "-o", "events"), ("reproduce", "app/0")):
            refused = shell.besom(*asked)
            assert refused.returncode == 2, refused.stderr
            assert "Traceback" not in refused.stderr, asked
            assert str(file) in refused.stderr, asked
            assert "is damaged" in refused.stderr, asked
        begun = shell.run(*words, "hydra.sweeper.n_trials=2", "hydra.sweeper.study_name=other")
        assert begun.returncode == 2, begun.stderr
        assert "is damaged" in begun.stderr


ENDLESS = """
import sys
import hydra

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    print("the first line", flush=True)
    for _ in range(400):
        sys.stdout.write("x" * 999_999 + chr(10))
    print("the last line")
    return 1.0

if __name__ == "__main__":
    main()
"""


def test_of_output_without_a_bound_the_begin_and_the_end_are_kept(shell: Shell) -> None:
    shell.write("app.py", ENDLESS)
    done = shell.run(sys.executable, "app.py", "-m", "hydra/sweeper=besom", "+x=choice(1)", UNRECORDED)
    assert done.returncode == 0, done.stderr
    [output] = shell.folder.glob("multirun/*/*/0/output.log")
    assert output.stat().st_size <= 100_000_000
    content = output.read_bytes()
    assert content.startswith(b"the first line\n")
    assert content.endswith(b"the last line\n")
    assert b"bytes of output are left out here" in content
