from __future__ import annotations

import math

import pytest

import besom
from besom import trial


class Listening:
    """A sweep's end of the seam that writes down what it hears."""

    def __init__(self, verdict: bool = False) -> None:
        self.heard: list[tuple[float, int]] = []
        self._verdict = verdict

    def report(self, value: float, step: int) -> bool:
        self.heard.append((value, step))
        return self._verdict


@pytest.fixture(autouse=True)
def outside_a_sweep(monkeypatch):
    """Puts back whatever a test makes listen."""
    monkeypatch.setattr(trial, "_listener", None)


def test_outside_a_sweep_a_report_does_nothing():
    assert besom.report(0.5, step=0) is None


@pytest.mark.parametrize(("value", "step"), [(0.5, -1), (math.nan, 0), (math.inf, 0)])
def test_outside_a_sweep_no_report_is_refused(value, step):
    besom.report(value, step)


def test_nobody_listens_before_a_sweep_does():
    assert not trial.in_sweep()


def test_once_a_sweep_listens_the_process_is_a_trials():
    trial.listen(Listening())

    assert trial.in_sweep()


def test_a_process_that_ddp_starts_in_a_trial_is_the_trials_too(monkeypatch):
    monkeypatch.setenv(trial.TRIAL, "1")
    monkeypatch.setenv("LOCAL_RANK", "1")

    assert trial.in_sweep()


def test_a_command_that_a_trial_starts_is_a_run_of_its_own(monkeypatch):
    monkeypatch.setenv(trial.TRIAL, "1")
    monkeypatch.delenv("LOCAL_RANK", raising=False)

    assert not trial.in_sweep()


def test_a_report_reaches_the_sweep():
    sweep = Listening()
    trial.listen(sweep)

    besom.report(0.5, step=0)
    besom.report(0.75, step=1)

    assert sweep.heard == [(0.5, 0), (0.75, 1)]


def test_a_reported_value_arrives_as_a_plain_float():
    class Scalar:  # as numpy and torch have them
        def __float__(self) -> float:
            return 0.25

    sweep = Listening()
    trial.listen(sweep)

    besom.report(Scalar(), step=0)  # type: ignore[arg-type]

    assert [type(value) for value, _ in sweep.heard] == [float]


def test_the_sweeps_verdict_prunes_the_trial():
    trial.listen(Listening(verdict=True))

    with pytest.raises(besom.TrialPruned, match=r"at step 3 with value 0\.5"):
        besom.report(0.5, step=3)


def test_nan_is_not_passed_on():
    sweep = Listening(verdict=True)
    trial.listen(sweep)

    besom.report(math.nan, step=0)

    assert sweep.heard == []


def test_infinity_is_passed_on_for_it_can_be_compared():
    sweep = Listening()
    trial.listen(sweep)

    besom.report(math.inf, step=0)

    assert sweep.heard == [(math.inf, 0)]


def test_a_negative_step_is_refused():
    trial.listen(Listening())

    with pytest.raises(ValueError, match="a step is a whole number from 0 to 2147483647, but got -1"):
        besom.report(0.5, step=-1)


def test_a_value_that_is_no_number_is_refused():
    trial.listen(Listening())

    with pytest.raises(ValueError, match="'high'"):
        besom.report("high", step=0)  # type: ignore[arg-type]


def test_preload_marks_the_task_and_leaves_it_as_it_was():
    def task() -> str:
        return "done"

    marked = besom.preload("torch", "my_project.training")(task)

    assert marked is task
    assert marked.besom_preload == ("torch", "my_project.training")  # type: ignore[attr-defined]
