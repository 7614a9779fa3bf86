from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
from optuna.pruners import NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState
from sqlalchemy import Engine, event

from besom.errors import InputError
from besom.study.attrs import ENDS, KIND, PARENT_RUN, REASON
from besom.study.lease import Lease, LeaseLost, LeaseMonitor
from besom.study.objective import Direction, Objective, objectives
from besom.study.queue import Claim, Queue
from besom.study.study import Counts, StopRequest, Study
from besom.system.locks import absolute

SPACE = {"lr": "FloatDistribution(0, 1)"}


def after(*directions: Direction) -> tuple[Objective, ...]:
    return objectives(directions, [f"number {n}" for n in range(len(directions))])


def _sampler(number: int) -> BaseSampler:
    return RandomSampler(seed=number)


def _claim(study: Study, n_trials: int = 100) -> Claim | None:
    return Queue(study).claim(n_trials, _sampler, NopPruner())


def _claimed(study: Study) -> Claim:
    claim = _claim(study)
    assert claim
    return claim


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/optuna.db"


@pytest.fixture
def study(url, tmp_path):
    return Study.create(url, "digits", after("maximize"), tmp_path / "multirun", SPACE)


def _complete(study: Study, *values: float) -> None:
    for value in values:
        Queue(study).complete(_claimed(study), (value,))


# ── the same study, again ─────────────────────────────────────────────────────────────────────────────────────────────
def test_a_new_study_has_no_trials(study):
    assert study.counts() == Counts(complete=0, pruned=0, failed=0, running=0, waiting=0)
    assert study.best() == []


def test_a_study_made_again_is_the_one_that_is_there(study, url, tmp_path):
    _complete(study, 0.5)

    again = Study.create(url, "digits", after("maximize"), tmp_path / "elsewhere", SPACE)

    assert again.counts().complete == 1


def test_a_study_keeps_its_first_folder(study, url, tmp_path):
    again = Study.create(url, "digits", after("maximize"), tmp_path / "elsewhere", SPACE)

    assert again.folder == tmp_path / "multirun"


@pytest.mark.parametrize(
    ("there", "asked", "message"),
    [
        (("maximize",), ("minimize",), "maximized, but this sweep has minimized: choose another"),
        (("minimize",), ("maximize",), "minimized, but this sweep has maximized: choose another"),
        (("minimize",), ("minimize", "maximize"), "minimized, but this sweep has minimized, maximized: choose another"),
    ],
)
def test_another_direction_is_refused(there, asked, message, url, tmp_path):
    Study.create(url, "digits", after(*there), tmp_path, SPACE)

    with pytest.raises(InputError, match=rf"^study 'digits' in .* {message} hydra\.sweeper\.study_name$"):
        Study.create(url, "digits", after(*asked), tmp_path, SPACE)


def test_another_objective_is_refused_with_the_difference(url, tmp_path):
    Study.create(url, "digits", objectives("maximize", "val/acc"), tmp_path, SPACE)

    with pytest.raises(InputError, match=r"- objective: maximize val/acc\n  \+ objective: maximize val/f1\n"):
        Study.create(url, "digits", objectives("maximize", "val/f1"), tmp_path, SPACE)


def test_two_studies_of_one_storage_are_kept_apart(study, url, tmp_path):
    other = Study.create(url, "birds", after("maximize"), tmp_path, SPACE)

    _complete(study, 0.5)

    assert other.counts().complete == 0


# ── the budget ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_new_study_owes_its_whole_budget(study):
    assert study.remaining(5) == 5


def test_a_trial_is_owed_until_it_has_an_end(study):
    _complete(study, 0.1)
    Queue(study).prune(_claimed(study))
    Queue(study).fail(_claimed(study), "exception", "it crashed")
    _claimed(study)

    assert study.remaining(5) == 2
    assert study.counts() == Counts(complete=1, pruned=1, failed=1, running=1, waiting=0)


def test_finished_and_running_trials_spend_the_budget(study):
    _complete(study, 0.1)

    assert [_claim(study, n_trials=3) is not None for _ in range(3)] == [True, True, False]


def test_more_trials_than_the_budget_owe_nothing(study):
    _complete(study, 0.1, 0.2)

    assert study.remaining(1) == 0


# ── claiming ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_trials_are_claimed_by_number(study):
    assert [_claimed(study).number for _ in range(3)] == [0, 1, 2]


def test_a_claimed_trial_is_running(study):
    _claimed(study)

    assert study.counts() == Counts(complete=0, pruned=0, failed=0, running=1, waiting=0)


def test_a_spent_budget_has_nothing_to_claim(study):
    _complete(study, 0.5)

    assert _claim(study, n_trials=1) is None


def test_a_trial_draws_from_the_sampler_of_its_number(study):
    points = [_claimed(study).trial.suggest_float("lr", 0, 1) for _ in range(2)]

    again = [Queue(study).claim(4, lambda number: RandomSampler(seed=number - 2), NopPruner()) for _ in range(2)]

    assert [claim.trial.suggest_float("lr", 0, 1) for claim in again if claim] == points
    assert points[0] != points[1]


TRIALS, WORKERS = 20, 4


def _pull(url: str, all_ready: Barrier, claimed: SimpleQueue[int]) -> None:
    """A worker: claims and completes until nothing is left."""
    study = Study(url, "digits")
    all_ready.wait()
    while claim := _claim(study, TRIALS):
        Queue(study).complete(claim, (float(claim.number),))
        claimed.put(claim.number)


def _drained(claimed: SimpleQueue[int]) -> Iterator[int]:
    while not claimed.empty():
        yield claimed.get()


def test_workers_that_claim_at_once_take_each_trial_once(study, url):
    context = multiprocessing.get_context("spawn")
    all_ready, claimed = context.Barrier(WORKERS), context.SimpleQueue()
    workers = [context.Process(target=_pull, args=(url, all_ready, claimed)) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert [worker.exitcode for worker in workers] == [0] * WORKERS
    assert sorted(_drained(claimed)) == list(range(TRIALS))
    assert study.counts() == Counts(complete=TRIALS, pruned=0, failed=0, running=0, waiting=0)


def _create(url: str, folder: Path, both_ready: Barrier) -> None:
    both_ready.wait()
    Study.create(url, "digits", after("maximize"), folder, SPACE)


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
    first = _claimed(study)
    rate = first.trial.suggest_float("lr", 0, 1)

    Queue(study).requeue(first, "interrupted")
    again = Queue(study).claim(1, lambda _: RandomSampler(seed=99), NopPruner())

    assert again
    assert again.number == first.number
    assert again.trial.suggest_float("lr", 0, 1) == rate


def test_a_trial_given_back_is_taken_before_a_new_one(study):
    first, _ = _claimed(study), _claimed(study)

    Queue(study).requeue(first, "interrupted")

    assert [_claimed(study).number for _ in range(2)] == [0, 2]


def test_a_trial_given_back_keeps_what_was_written_into_it_and_why(study):
    claim = _claimed(study)
    claim.trial.set_user_attr("besom.run", "abc")

    Queue(study).requeue(claim, "lost")

    attrs = _claimed(study).trial.user_attrs
    assert (attrs["besom.run"], attrs[ENDS]) == ("abc", ["lost"])


@pytest.mark.parametrize(("end", "left"), [("interrupted", 2), ("lost", 1), ("killed", 1), ("exception", 1)])
def test_an_interruption_spends_no_retry(study, end, left):
    Queue(study).requeue(_claimed(study), end)

    assert Queue(study).retries_left(_claimed(study), max_retries=2) == left


def test_a_complete_trial_has_its_value(study):
    _complete(study, 0.75)

    (trial,) = study.trials((TrialState.COMPLETE,))
    assert trial.value == 0.75


def test_a_failed_trial_keeps_its_reason(study):
    Queue(study).fail(_claimed(study), "nan", "the loss is NaN")

    (trial,) = study.trials((TrialState.FAIL,))
    assert (trial.user_attrs[KIND], trial.user_attrs[REASON]) == ("nan", "the loss is NaN")


def test_a_pruned_trial_keeps_its_last_report(study):
    claim = _claimed(study)
    claim.trial.report(0.25, step=0)

    Queue(study).prune(claim)

    (pruned,) = study.trials((TrialState.PRUNED,))
    assert pruned.intermediate_values == {0: 0.25}


@pytest.mark.parametrize(("direction", "number"), [("maximize", 1), ("minimize", 2)])
def test_the_best_trial_is_best_by_the_studys_direction(direction: Direction, number, url, tmp_path):
    study = Study.create(url, "digits", after(direction), tmp_path, SPACE)
    _complete(study, 0.5, 0.9, 0.1, 0.9, 0.1)

    [best] = study.best()

    assert best.number == number  # of equal ones the first


def test_only_a_complete_trial_can_be_the_best(study):
    Queue(study).complete(_claimed(study), (-1.0,))
    Queue(study).fail(_claimed(study), "exception", "it crashed")
    pruned = _claimed(study)
    pruned.trial.report(1.0, step=0)
    Queue(study).prune(pruned)

    [best] = study.best()

    assert best.number == 0


def test_of_several_objectives_the_best_are_those_that_none_beats_in_all(url, tmp_path):
    study = Study.create(url, "digits", after("maximize", "minimize"), tmp_path, SPACE)
    for values in ((0.9, 10.0), (0.8, 20.0), (0.7, 5.0), (0.95, 30.0), (0.7, 6.0)):
        Queue(study).complete(_claimed(study), values)

    assert [trial.number for trial in study.best()] == [0, 2, 3]


def test_a_trial_that_ran_out_of_memory_teaches_the_sampler_to_keep_away(url, tmp_path):
    """Half of the space does not fit; a sampler that learns nothing of it would go there every other time."""
    study = Study.create(url, "digits", after("maximize"), tmp_path, SPACE)
    asked = []
    for number in range(40):
        claim = Queue(study).claim(100, lambda number: TPESampler(seed=number), NopPruner())
        assert claim
        width = claim.trial.suggest_float("width", 0, 1)
        if number >= 20:
            asked.append(width)
        if width > 0.5:  # where the objective is best
            Queue(study).fail(claim, "oom", "MemoryError")
        else:
            Queue(study).complete(claim, (width,))

    assert sum(width > 0.7 for width in asked) <= 4  # as against nearly all
    assert {trial.state for trial in study.trials()} == {TrialState.COMPLETE, TrialState.FAIL}


# ── death ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def _take_from(study: Study, max_retries: int = 2) -> list[int]:
    """As another worker does that has not heard from the holder for a whole lease."""
    watch = LeaseMonitor(lease_s=0)
    assert Queue(study).reap(watch, max_retries) == []
    return Queue(study).reap(watch, max_retries)


def test_a_holder_that_beats_keeps_its_trial(study):
    claim, watch = _claimed(study), LeaseMonitor(lease_s=0)
    lease = claim.lease
    for _ in range(3):
        Queue(study).reap(watch, 2)
        Queue(study).renew(claim, lease := lease.renewed())

    Queue(study).complete(claim, (0.5,))

    assert study.counts().complete == 1


def test_a_trial_whose_holder_is_silent_waits_again(study):
    _claimed(study)

    assert _take_from(study) == [0]
    assert study.counts().waiting == 1


def test_a_trial_that_was_lost_too_often_has_failed(study):
    for _ in range(3):
        _claimed(study)
        _take_from(study)

    (trial,) = study.trials((TrialState.FAIL,))
    assert (trial.user_attrs[KIND], trial.user_attrs[ENDS]) == ("lost", ["lost", "lost", "lost"])


@pytest.mark.parametrize(
    "say",
    [
        lambda study, claim: Queue(study).complete(claim, (1.0,)),
        lambda study, claim: Queue(study).prune(claim),
        lambda study, claim: Queue(study).fail(claim, "nan", "it is NaN"),
        lambda study, claim: Queue(study).requeue(claim, "interrupted"),
        lambda study, claim: Queue(study).renew(claim, claim.lease.renewed()),
    ],
    ids=["complete", "prune", "fail", "requeue", "renew"],
)
@pytest.mark.parametrize("taken_up", [False, True], ids=["it waits", "another has it"])
def test_what_a_holder_says_too_late_is_refused(study, say, taken_up):
    late = _claimed(study)
    _take_from(study)
    if taken_up:
        _claimed(study)
    before = study.counts()

    with pytest.raises(LeaseLost, match="trial 0 was taken from this worker"):
        say(study, late)

    assert study.counts() == before


def _claim_and_die(url: str) -> None:
    _claimed(Study(url, "digits"))


def test_a_dead_process_of_this_machine_is_seen_at_once(study, url):
    process = multiprocessing.get_context("spawn").Process(target=_claim_and_die, args=(url,))
    process.start()
    process.join()

    assert Queue(study).reap(LeaseMonitor(lease_s=3600), 2) == [0]


def test_a_live_process_of_this_machine_is_not_taken_for_dead():
    assert not Lease.mine().is_dead()


class _Clock:
    def __init__(self, monkeypatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("besom.study.lease.time.monotonic", lambda: self.now)

    def looks(self, watch: LeaseMonitor, lease: Lease, *gaps_s: float) -> list[bool]:
        """Whether the holder was taken for dead, after each gap."""
        found = []
        for gap_s in gaps_s:
            self.now += gap_s
            found.append(watch.has_expired("trial 0", lease))
        return found


def _elsewhere() -> Lease:
    return Lease("another machine", machine="", pid=1, started=0)


def test_a_holder_elsewhere_that_is_silent_for_a_lease_is_taken_for_dead(monkeypatch):
    clock, watch = _Clock(monkeypatch), LeaseMonitor(lease_s=30)

    assert clock.looks(watch, _elsewhere(), 0, 7, 7, 7, 7, 7) == [False] * 5 + [True]


def test_that_nobody_could_look_for_an_hour_is_no_silence_of_the_holder(monkeypatch):
    """The storage was away: the holder, too, could not have been heard."""
    clock, watch = _Clock(monkeypatch), LeaseMonitor(lease_s=30)
    lease = _elsewhere()

    assert clock.looks(watch, lease, 0, 7, 7, 3600) == [False] * 4
    assert clock.looks(watch, lease.renewed(), 1, 7, 7, 3600) == [False] * 4


def test_who_looks_seldom_finds_the_dead_too(monkeypatch):
    """A worker looks between its trials."""
    clock, watch = _Clock(monkeypatch), LeaseMonitor(lease_s=30)

    assert clock.looks(watch, _elsewhere(), *[600] * 5) == [False] * 4 + [True]


# ── what another connection sees ──────────────────────────────────────────────────────────────────────────────────────
def test_a_request_to_stop_is_seen_by_another_connection(study, url):
    worker = Study(url, "digits")
    assert worker.stop_request() is None

    study.request_stop(StopRequest("settled", "enough"))

    assert worker.stop_request() == StopRequest("settled", "enough")


def test_the_first_request_to_stop_stands(study):
    study.request_stop(StopRequest("refused", "two numbers"))
    study.request_stop(StopRequest("interrupted"))

    assert study.stop_request() == StopRequest("refused", "two numbers")


def test_a_stopped_study_may_start_again(study, url):
    worker = Study(url, "digits")
    study.request_stop(StopRequest("interrupted"))

    with study.supervised(LeaseMonitor(lease_s=60)):
        assert worker.stop_request() is None


def test_a_study_has_one_supervisor(study, url):
    """A live process of this machine is believed at once."""
    second = Study(url, "digits").supervised(LeaseMonitor(lease_s=60))
    with (
        study.supervised(LeaseMonitor(lease_s=60)),
        pytest.raises(InputError, match=r"study 'digits' is being swept by process \d+ on"),
    ):
        second.__enter__()

    with Study(url, "digits").supervised(LeaseMonitor(lease_s=60)):
        pass


def test_trials_of_another_connection_are_counted(study, url):
    worker = Study(url, "digits")

    Queue(worker).complete(_claimed(worker), (0.5,))

    assert study.counts() == Counts(complete=1, pruned=0, failed=0, running=0, waiting=0)


def test_what_nobody_has_written_to_is_not_read_again(study, url):
    worker, asked = Study(url, "digits"), []
    study.counts(), study.stop_request()
    with _listening(asked.append):
        study.counts(), study.stop_request(), study.supervisor()
        assert asked == []

        worker.remember(PARENT_RUN, "abc")
        asked.clear()

        assert study.recall(PARENT_RUN) == "abc"
        assert asked != []


@contextmanager
def _listening(hear: Callable[[str], object]) -> Iterator[None]:
    """To every statement that a database is sent."""

    def before(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        hear(statement)

    event.listen(Engine, "before_cursor_execute", before)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", before)


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
        Study.create(f"sqlite:///{tmp_path}/missing/optuna.db", "digits", after("maximize"), tmp_path, SPACE)


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path):
    file = tmp_path / "notes.db"
    file.write_text("dear diary")

    with pytest.raises(InputError, match=r"^hydra\.sweeper\.storage=.*notes\.db: cannot be opened: .*not a database"):
        Study.create(f"sqlite:///{file}", "digits", after("maximize"), tmp_path, SPACE)

    assert file.read_text() == "dear diary"


def test_a_storage_of_no_known_kind_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"^hydra\.sweeper\.storage=optuna\.db: cannot be opened: "):
        Study.create("optuna.db", "digits", after("maximize"), tmp_path, SPACE)


def test_a_refused_storage_does_not_show_its_password(tmp_path):
    with pytest.raises(InputError, match=r"kept in SQLite \(.*\) or PostgreSQL") as refused:
        Study.create("nosuchdb://me:secret@host/optuna", "digits", after("maximize"), tmp_path, SPACE)

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "attr",
    [
        {"host": "box", "pid": 4711, "started": 1764240000.5, "token": "abc", "beat": 7, "slot": "0"},  # an older besom
        {**Lease.mine().as_attr(), "colour": "green"},
        {**Lease.mine().as_attr(), "pid": "4711"},
        ["box", 4711],
        "box:4711",
        42,
    ],
)
def test_a_lease_of_another_shape_ends_when_it_does_not_change(attr, monkeypatch):
    clock, watch, lease = _Clock(monkeypatch), LeaseMonitor(lease_s=30), Lease.from_attr(attr)
    assert lease is not None

    assert not lease.is_here()
    assert clock.looks(watch, lease, 0, 7, 7, 7, 7, 7) == [False] * 5 + [True]


@pytest.mark.parametrize("beat", [["", 1], [1], "3", {"token": 3}, 3, ["abc", "x"]])
def test_a_beat_of_another_shape_is_no_beat(beat):
    lease = Lease.mine()

    assert Lease.from_attr(lease.as_attr(), beat) == lease
