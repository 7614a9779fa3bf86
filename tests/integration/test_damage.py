"""Whatever is damaged, foreign or without a bound: one message or a repair, and never a traceback."""

from __future__ import annotations

import sys

import pytest
from doors import Shell

from sweeps import study

pytestmark = pytest.mark.usefixtures("stocked")

APP = """
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
