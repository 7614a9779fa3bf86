from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from optuna.pruners import NopPruner
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import Trial, TrialState

from besom.errors import InputError
from besom.locks import absolute
from besom.sweep.study import PARENT_RUN, REASON, Counts, Direction, Study


def _sampler(number: int) -> BaseSampler:
    return RandomSampler(seed=number)


def _claim(study: Study, n_trials: int = 100) -> Trial | None:
    return study.claim(n_trials, _sampler, NopPruner())


def _claimed(study: Study) -> Trial:
    trial = _claim(study)
    assert trial
    return trial


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/optuna.db"


@pytest.fixture
def study(url, tmp_path):
    return Study.create(url, "digits", "maximize", tmp_path / "multirun")


def _complete(study: Study, *values: float) -> None:
    study.top_up(len(study.trials()) + len(values))
    for value in values:
        study.complete(_claimed(study), value)


# ── the same study, again ─────────────────────────────────────────────────────────────────────────────────────────────
def test_a_new_study_has_no_trials(study):
    assert study.counts() == Counts(complete=0, pruned=0, failed=0, running=0, waiting=0)
    assert study.best() is None


def test_a_study_made_again_is_the_one_that_is_there(study, url, tmp_path):
    _complete(study, 0.5)

    again = Study.create(url, "digits", "maximize", tmp_path / "elsewhere")

    assert again.counts().complete == 1


def test_a_study_keeps_its_first_folder(study, url, tmp_path):
    again = Study.create(url, "digits", "maximize", tmp_path / "elsewhere")

    assert again.folder == tmp_path / "multirun"


@pytest.mark.parametrize(
    ("there", "asked", "message"),
    [
        ("maximize", "minimize", "maximizes its objective, but this sweep minimizes: choose another"),
        ("minimize", "maximize", "minimizes its objective, but this sweep maximizes: choose another"),
    ],
)
def test_another_direction_is_refused(there, asked, message, url, tmp_path):
    Study.create(url, "digits", there, tmp_path)

    with pytest.raises(InputError, match=rf"^study 'digits' in .* {message} hydra\.sweeper\.study_name$"):
        Study.create(url, "digits", asked, tmp_path)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_a_study_knows_its_direction(direction, url, tmp_path):
    Study.create(url, "digits", direction, tmp_path)

    assert Study(url, "digits").direction == direction


def test_two_studies_of_one_storage_are_kept_apart(study, url, tmp_path):
    other = Study.create(url, "birds", "maximize", tmp_path)

    _complete(study, 0.5)

    assert other.counts().complete == 0


# ── the budget ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_new_study_owes_its_whole_budget(study):
    assert study.top_up(5) == 5
    assert study.counts().waiting == 5


def test_what_is_owed_is_queued_once(study):
    study.top_up(5)

    assert study.top_up(5) == 5
    assert len(study.trials()) == 5


def test_a_larger_budget_adds_the_difference(study):
    _complete(study, 0.1, 0.2)

    assert study.top_up(5) == 3
    assert study.counts() == Counts(complete=2, pruned=0, failed=0, running=0, waiting=3)


def test_trials_that_were_pruned_or_failed_or_run_count_as_paid(study):
    study.top_up(3)
    study.prune(_claimed(study))
    study.fail(_claimed(study), "it crashed")
    _claimed(study)

    assert study.top_up(4) == 1
    assert study.counts() == Counts(complete=0, pruned=1, failed=1, running=1, waiting=1)


def test_finished_trials_are_those_that_ended_however_they_did(study):
    study.top_up(5)
    study.complete(_claimed(study), 0.5)
    study.prune(_claimed(study))
    study.fail(_claimed(study), "it crashed")
    _claimed(study)

    assert study.counts().finished == 3


def test_a_smaller_budget_leaves_some_waiting(study):
    study.top_up(5)

    assert [_claim(study, n_trials=2) is not None for _ in range(3)] == [True, True, False]
    assert study.counts() == Counts(complete=0, pruned=0, failed=0, running=2, waiting=3)


# ── claiming ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_trials_are_claimed_by_number(study):
    study.top_up(3)

    assert [_claimed(study).number for _ in range(3)] == [0, 1, 2]


def test_a_claimed_trial_is_running(study):
    study.top_up(1)
    _claimed(study)

    assert study.counts() == Counts(complete=0, pruned=0, failed=0, running=1, waiting=0)


def test_a_spent_budget_has_nothing_to_claim(study):
    _complete(study, 0.5)

    assert _claim(study, n_trials=1) is None


def test_a_trial_draws_from_the_sampler_of_its_number(study):
    study.top_up(2)
    points = [_claimed(study).suggest_float("lr", 0, 1) for _ in range(2)]

    study.top_up(4)
    again = [study.claim(4, lambda number: RandomSampler(seed=number - 2), NopPruner()) for _ in range(2)]

    assert [trial.suggest_float("lr", 0, 1) for trial in again if trial] == points
    assert points[0] != points[1]


TRIALS, WORKERS = 20, 4


def _pull(url: str, all_ready: Barrier, claimed: SimpleQueue[int]) -> None:
    """A worker: claims and completes until nothing is left."""
    study = Study(url, "digits")
    all_ready.wait()
    while trial := _claim(study, TRIALS):
        study.complete(trial, float(trial.number))
        claimed.put(trial.number)


def _drained(claimed: SimpleQueue[int]) -> Iterator[int]:
    while not claimed.empty():
        yield claimed.get()


def test_workers_that_claim_at_once_take_each_trial_once(study, url):
    study.top_up(TRIALS + 5)  # five above the budget
    context = multiprocessing.get_context("spawn")
    all_ready, claimed = context.Barrier(WORKERS), context.SimpleQueue()
    workers = [context.Process(target=_pull, args=(url, all_ready, claimed)) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert [worker.exitcode for worker in workers] == [0] * WORKERS
    assert sorted(_drained(claimed)) == list(range(TRIALS))
    assert study.counts() == Counts(complete=TRIALS, pruned=0, failed=0, running=0, waiting=5)


def _create(url: str, folder: Path, both_ready: Barrier) -> None:
    both_ready.wait()
    Study.create(url, "digits", "maximize", folder).top_up(1)


def test_two_processes_that_make_one_fresh_study_make_one(url, tmp_path):
    context = multiprocessing.get_context("spawn")
    both_ready = context.Barrier(2)
    makers = [context.Process(target=_create, args=(url, tmp_path / name, both_ready)) for name in ("one", "other")]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()

    assert [maker.exitcode for maker in makers] == [0, 0]
    assert Study(url, "digits").folder in (tmp_path / "one", tmp_path / "other")


# ── how a trial ends ──────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_trial_given_back_is_claimed_again_with_its_number_and_point(study):
    study.top_up(1)
    first = _claimed(study)
    rate = first.suggest_float("lr", 0, 1)

    study.requeue(first)
    again = study.claim(1, lambda _: RandomSampler(seed=99), NopPruner())

    assert again
    assert again.number == first.number
    assert again.suggest_float("lr", 0, 1) == rate


def test_a_trial_given_back_is_owed_again(study):
    study.top_up(1)

    study.requeue(_claimed(study))

    assert study.counts() == Counts(complete=0, pruned=0, failed=0, running=0, waiting=1)


def test_a_trial_given_back_keeps_what_was_written_into_it(study):
    study.top_up(1)
    trial = _claimed(study)
    trial.set_user_attr("besom.run", "abc")

    study.requeue(trial)

    assert _claimed(study).user_attrs == {"besom.run": "abc"}


def test_a_complete_trial_has_its_value(study):
    _complete(study, 0.75)

    (trial,) = study.trials((TrialState.COMPLETE,))
    assert trial.value == 0.75


def test_a_failed_trial_keeps_its_reason(study):
    study.top_up(1)

    study.fail(_claimed(study), "ValueError: the loss is NaN")

    (trial,) = study.trials((TrialState.FAIL,))
    assert trial.user_attrs[REASON] == "ValueError: the loss is NaN"


def test_a_pruned_trial_keeps_its_last_report(study):
    study.top_up(1)
    trial = _claimed(study)
    trial.report(0.25, step=0)

    study.prune(trial)

    (pruned,) = study.trials((TrialState.PRUNED,))
    assert pruned.intermediate_values == {0: 0.25}


@pytest.mark.parametrize(("direction", "number"), [("maximize", 1), ("minimize", 2)])
def test_the_best_trial_is_best_by_the_studys_direction(direction: Direction, number, url, tmp_path):
    study = Study.create(url, "digits", direction, tmp_path)
    _complete(study, 0.5, 0.9, 0.1, 0.9, 0.1)

    best = study.best()

    assert best
    assert best.number == number  # of equal ones the first


def test_only_a_complete_trial_can_be_the_best(study):
    study.top_up(3)
    study.complete(_claimed(study), -1.0)
    study.fail(_claimed(study), "it crashed")
    pruned = _claimed(study)
    pruned.report(1.0, step=0)
    study.prune(pruned)

    best = study.best()

    assert best
    assert best.number == 0


# ── what another connection sees ──────────────────────────────────────────────────────────────────────────────────────
def test_a_request_to_stop_is_seen_by_another_connection(study, url):
    worker = Study(url, "digits")
    assert not worker.stop_requested()

    study.request_stop()

    assert worker.stop_requested()


def test_a_stopped_study_may_start_again(study, url):
    worker = Study(url, "digits")
    study.request_stop()

    study.allow_start()

    assert not worker.stop_requested()


def test_trials_of_another_connection_are_counted(study, url):
    worker = Study(url, "digits")
    study.top_up(2)

    worker.complete(_claimed(worker), 0.5)

    assert study.counts() == Counts(complete=1, pruned=0, failed=0, running=0, waiting=1)


def test_what_a_study_remembers_another_connection_recalls(study, url):
    study.remember(PARENT_RUN, "abc")

    assert Study(url, "digits").recall(PARENT_RUN) == "abc"


def test_what_was_never_remembered_is_none(study):
    assert study.recall(PARENT_RUN) is None


# ── storages ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_relative_storage_means_the_same_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert absolute("sqlite:///optuna.db") == f"sqlite:///{tmp_path}/optuna.db"


@pytest.mark.parametrize("url", ["sqlite:////var/lib/optuna.db", "postgresql://me@host/optuna"])
def test_a_storage_that_means_the_same_everywhere_stays(url):
    assert absolute(url) == url


def test_a_storage_made_absolute_keeps_its_driver_and_options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert absolute("sqlite+pysqlite:///optuna.db?timeout=60") == f"sqlite+pysqlite:///{tmp_path}/optuna.db?timeout=60"


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"^hydra\.sweeper\.storage=.*: no such folder: .*/missing; make it first$"):
        Study.create(f"sqlite:///{tmp_path}/missing/optuna.db", "digits", "maximize", tmp_path)


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path):
    file = tmp_path / "notes.db"
    file.write_text("dear diary")

    with pytest.raises(InputError, match=r"^hydra\.sweeper\.storage=.*notes\.db: cannot be opened: .*not a database"):
        Study.create(f"sqlite:///{file}", "digits", "maximize", tmp_path)

    assert file.read_text() == "dear diary"


def test_a_storage_of_no_known_kind_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"^hydra\.sweeper\.storage=optuna\.db: cannot be opened: "):
        Study.create("optuna.db", "digits", "maximize", tmp_path)


def test_a_refused_storage_does_not_show_its_password(tmp_path):
    with pytest.raises(InputError, match="cannot be opened") as refused:
        Study.create("nosuchdb://me:secret@host/optuna", "digits", "maximize", tmp_path)

    assert "secret" not in str(refused.value)
