from __future__ import annotations

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from besom.engine.study_description import MAX_NOTE, note
from besom.engine.study_run import over_time
from besom.study.attrs import N_TRIALS, OVERRIDES, PROGRAM, QUESTION, RUN
from besom.study.objective import objectives
from besom.study.queue import Claim, Queue
from besom.study.snapshot import StudySnapshot
from besom.study.study import Study
from besom.tracking.mlflow_store import TRAINING

LR = FloatDistribution(1e-4, 1e-1, log=True)
ACTIVATION = CategoricalDistribution(["relu", "a|b"])


@pytest.fixture
def study(tmp_path):
    return begun(tmp_path, "maximize", "val/acc")


def begun(tmp_path, direction, metric) -> Study:
    space = {"lr": "tag(log, interval(0.0001, 0.1))"}
    study = Study.create(f"sqlite:///{tmp_path}/optuna.db", "digits", objectives(direction, metric), tmp_path, space)
    for key, value in {N_TRIALS: 10, PROGRAM: "besom train", QUESTION: "Which one is best?"}.items():
        study.remember(key, value)
    return study


def claimed(study: Study) -> Claim:
    claim = Queue(study).claim(100, lambda number: RandomSampler(seed=number), NopPruner())
    assert claim
    claim.trial.suggest_float("lr", LR.low, LR.high, log=True)
    claim.trial.suggest_categorical("model.activation", ACTIVATION.choices)
    claim.trial.set_user_attr(OVERRIDES, [f"lr={claim.trial.params['lr']}"])
    claim.trial.set_user_attr(RUN, f"run{claim.number}")
    return claim


def swept(study: Study, *ends: float | str | tuple[float, ...]) -> StudySnapshot:
    for end in ends:
        match end:
            case "pruned":
                Queue(study).prune(claimed(study))
            case str(kind):
                Queue(study).fail(claimed(study), kind, "no reason")
            case tuple(values):
                Queue(study).complete(claimed(study), values)
            case value:
                Queue(study).complete(claimed(study), (value,))
    return StudySnapshot.of(study)


def test_the_note_names_the_question_the_best_trial_and_its_command(study):
    text = note(swept(study, 0.5, 0.75), "1", "parent")

    question, links, best = text.split("\n\n")[:3]
    assert question == "Which one is best?"
    assert links.startswith("[all trials in a table](#/experiments/1/runs?viewStateShareKey=parent&")
    assert best.startswith(f"**Best: [trial 1](#/experiments/1/runs/run1{TRAINING}), val/acc 0.7500**")
    assert f"besom train lr={study.trials()[1].params['lr']}" in text


def test_the_note_lists_the_ten_best_the_best_first(study):
    text = note(swept(study, *(n / 100 for n in range(12))), "1", "parent")

    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")][2:]
    assert [row[1] for row in rows] == [f"[{n}](#/experiments/1/runs/run{n}{TRAINING})" for n in range(11, 1, -1)]


def test_the_note_counts_the_ends_and_the_time_they_took(study):
    text = note(swept(study, 0.5, "pruned", "nan"), "1", "parent")

    assert "3 of 10 trials: 1 complete (" in text
    assert "1 pruned (" in text
    assert "1 failed (" in text
    assert "% of the time)" in text


def test_a_note_before_the_first_complete_trial_says_so(study):
    assert "No trial is complete yet." in note(swept(study, "pruned"), "1", "parent")
    assert TrialState.PRUNED in {trial.state for trial in study.trials()}


def test_the_note_of_several_objectives_shows_the_pareto_front(tmp_path):
    study = begun(tmp_path, ["maximize", "minimize"], ["acc", "size"])

    text = note(swept(study, (0.5, 10.0), (0.4, 20.0), (0.9, 30.0)), "1", "parent")

    assert "**Pareto front: 2 trials that no other beats in all objectives**" in text
    assert f"| 1 | [0](#/experiments/1/runs/run0{TRAINING}) | 0.5 | 10 |" in text
    assert "[1](#/experiments" not in text


def test_no_word_of_the_user_breaks_the_table(study):
    text = note(swept(study, *(n / 10 for n in range(8))), "1", "parent")

    assert "a\\|b" in text


def test_a_note_is_never_longer_than_mlflow_takes(study):
    snapshot = swept(study, 0.5)
    study.remember(QUESTION, "why? " * 10_000)

    assert len(note(StudySnapshot.of(study), "1", "parent")) <= MAX_NOTE < 8000
    assert snapshot.question


def test_the_page_follows_the_study_over_time(study):
    points = over_time(swept(study, 0.5, "pruned", 0.25, "nan", 0.75))

    assert [step for step, _, _ in points] == [1, 2, 3, 4, 5]
    assert [values["best"] for *_, values in points] == [0.5, 0.5, 0.5, 0.5, 0.75]
    assert [values["completed"] for *_, values in points] == [1, 1, 2, 2, 3]
    assert points[-1][2] == {"completed": 3, "pruned": 1, "failed": 1, "best": 0.75}


def test_what_the_page_has_said_of_a_trial_it_says_again(study):
    before = over_time(swept(study, 0.5, "pruned"))

    assert over_time(swept(study, 0.75))[:2] == before
