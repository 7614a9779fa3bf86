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
