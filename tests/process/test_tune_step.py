"""How steps are computed: chosen once for a study, and as good as plain fp32."""

from __future__ import annotations

import pytest
from doors import Shell

from sweeps import study

pytestmark = pytest.mark.usefixtures("stocked")
SWEEP = ("sweep", "digits", "trainer.tune_step=auto", "hydra.sweeper.n_jobs=1", "trainer.max_epochs=1")


def test_what_was_chosen_is_on_the_studys_page_and_in_all_trials_of_all_its_sessions(shell: Shell) -> None:
    first = shell.besom(*SWEEP, "hydra.sweeper.n_trials=2")
    assert first.returncode == 0, first.stderr
    (said,) = [line for line in first.stdout.splitlines() if line.startswith("all trials: ")]
    assert "ms a step on cpu" in said

    again = shell.besom(*SWEEP, "hydra.sweeper.n_trials=3")
    assert again.returncode == 0, again.stderr
    assert said in again.stdout

    parent, *trials = shell.runs()
    assert said.removeprefix("all trials: ") in parent.data.tags["mlflow.note.content"]
    keys = ("trainer.precision", "trainer.memory_format", "trainer.fused", "trainer.tune_step")
    (chosen,) = {tuple(run.data.params[key] for key in keys) for run in trials}
    assert len(trials) == 3
    assert chosen[0] in ("32-true", "bf16-mixed")
    assert chosen[1] in ("contiguous", "channels_last")
    assert chosen[3] == "null"
    assert len(study(shell, "digits").trials) == 3


def test_bf16_and_channels_last_learn_as_well_as_fp32(shell: Shell) -> None:
    fast = ("trainer.precision=bf16-mixed", "trainer.memory_format=channels_last", "trainer.fused=true")
    scores = []
    for numerics in ((), fast):
        done = shell.besom("train", "trainer.max_epochs=5", *numerics, "tracking=none")
        assert done.returncode == 0, done.stderr
        scores.append(float(done.stdout.split("val/acc ")[1].split()[0]))
    assert scores[0] > 0.95
    assert abs(scores[0] - scores[1]) < 0.02  # 7 of 360 pictures
