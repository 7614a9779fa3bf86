from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import product

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from rich.console import Console

from besom.cli.best import best
from besom.cli.status import status
from besom.study.attrs import N_TRIALS, PREPARER, SLOTS, SUPERVISOR, TRACKING
from besom.study.command import Command
from besom.study.lease import Lease, LeaseMonitor
from besom.study.objective import objectives
from besom.study.queue import Queue
from besom.study.snapshot import StudySnapshot
from besom.study.study import StopRequest, Study
from besom.terminal.lines import Lines, one_line
from besom.terminal.pace import idle_share, to_go_s
from besom.terminal.table import TerminalSize, picture
from besom.terminal.words import brief, fitting, number, span, sparkline

SPACE = {
    "model.activation": CategoricalDistribution(("relu", "gelu")),
    "optimizer": CategoricalDistribution(("a_rather_long_name_of_an_optimizer",)),
    "optimizer.lr": FloatDistribution(1e-5, 1, log=True),
}


@pytest.fixture
def study(tmp_path):
    return _study(tmp_path, "maximize", "val/acc")


def _study(folder, direction, metric):
    about = {key: str(distribution) for key, distribution in SPACE.items()}
    return Study.create(f"sqlite:///{folder}/optuna.db", "digits", objectives(direction, metric), folder, about)


@pytest.fixture
def swept(study):
    """By this process, which is alive."""
    with study.supervised(LeaseMonitor(30)):
        yield study


def plan(study, n_trials, slots):
    study.remember(N_TRIALS, n_trials)
    study.remember(SLOTS, slots)


def begin(study, slot="0", reports=()):
    claim = Queue(study).claim(1000, lambda number: RandomSampler(seed=number), NopPruner(), slot)
    for name, distribution in SPACE.items():
        claim.trial._suggest(name, distribution)
    for step, value in enumerate(reports):
        claim.trial.report(value, step)
    return claim


def drawn(study, width=80, height=24):
    console = Console(width=width, color_system=None)
    with console.capture() as shown:
        console.print(picture(StudySnapshot.of(study), TerminalSize(width, height), datetime.now()))
    return [line.rstrip() for line in shown.get().splitlines()]


# ── the table ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_slot_shows_its_trial_with_epoch_value_and_curve(swept):
    plan(swept, n_trials=9, slots=2)
    begin(swept, "1", reports=(0.1, 0.2, 0.9))

    [_, head, idle, row, *_] = drawn(swept, width=140)

    assert head.split() == ["slot", "trial", "epoch", "value", "so", "far", "for", "parameters"]
    assert idle.split() == ["0", "idle"]
    assert row.split()[:5] == ["1", "0", "2", "0.9000", "▁▂█"]
    assert "activation=gelu" in row
    assert "lr=" in row


def test_a_value_never_stands_without_its_name(swept):
    """Of a conditional space: each trial has other parameters."""
    plan(swept, n_trials=9, slots=2)
    begin(swept)
    claim = Queue(swept).claim(1000, lambda number: RandomSampler(seed=number), NopPruner(), "1")
    claim.trial.suggest_float("optimizer.momentum [optimizer=sgd]", 0.25, 0.25)

    for width in (60, 80, 100, 140):
        [_, head, one, other, *_] = drawn(swept, width=width)
        assert head.endswith("parameters")
        assert "activation=gelu" in one
        assert "momentum=0.25" in other


def test_a_curve_gives_way_before_a_value_is_cut(swept):
    plan(swept, n_trials=9, slots=1)
    begin(swept, reports=[n / 30 for n in range(30)])
    [_, _, row, *_] = drawn(swept, width=125)

    assert "a_rather_long_name_of_an_optimizer lr=" in row
    assert "…" not in row
    assert "▁▂▃▃▄▅▆▆▇█" in row


@pytest.mark.parametrize(
    ("about", "waits"),
    [
        ({TRACKING: "sqlite:///mlflow.db"}, "MLflow"),
        ({TRACKING: None}, "a worker"),
        ({PREPARER: Lease.mine().as_attr()}, "besom.prepare"),
    ],
)
def test_a_slot_that_starts_says_what_it_waits_for(swept, about, waits):
    plan(swept, n_trials=9, slots=1)
    for key, value in about.items():
        swept.remember(key, value)

    assert f"starting: waits for {waits}" in drawn(swept, width=80)[2]


def test_in_a_session_that_goes_on_with_a_study_slots_start_too(study):
    plan(study, n_trials=9, slots=1)
    Queue(study).complete(begin(study), (0.5,))

    with study.supervised(LeaseMonitor(30)):
        assert "starting: waits for a worker" in drawn(study, width=100)[2]


def test_trials_that_share_the_best_value_are_counted_beside_it(swept):
    plan(swept, n_trials=9, slots=1)
    for value in (0.75, 0.5, 0.75, 0.75):
        Queue(swept).complete(begin(swept), (value,))

    assert any("best val/acc 0.7500  trial 0  and 2 more share it" in line for line in drawn(swept))


@pytest.mark.parametrize("slots", [1, 16])
def test_a_picture_fits_its_terminal(swept, slots):
    plan(swept, n_trials=40, slots=slots)
    Queue(swept).complete(begin(swept, reports=(0.5,)), (0.5,))
    for slot in range(slots):
        begin(swept, str(slot), reports=(0.1, math.inf, -12345.678))

    for width, height in product((30, 80, 100, 140), (12, 24)):
        lines = drawn(swept, width, height)
        assert len(lines) < height or slots == 1
        assert max(map(len, lines)) <= width


def test_slots_for_which_there_is_no_room_are_counted_the_idle_ones_first(swept):
    plan(swept, n_trials=40, slots=16)
    for slot in (2, 9, 15):
        begin(swept, str(slot))

    lines = drawn(swept, height=12)

    assert "and 12 slots more: 0 at work, 12 idle" in lines
    assert [line.split()[0] for line in lines[2:6]] == ["0", "2", "9", "15"]


def test_a_slot_of_a_worker_that_joined_stands_behind_the_sweeps_own(swept):
    plan(swept, n_trials=40, slots=1)
    begin(swept, "host-4711/10")
    begin(swept, "host-4711/9")

    assert [line.split()[0] for line in drawn(swept)[2:5]] == ["0", "host-4711/9", "host-4711/10"]


def test_the_best_and_the_counts_are_below(swept):
    plan(swept, n_trials=9, slots=1)
    for value in (0.5, 0.75):
        Queue(swept).complete(begin(swept), (value,))
    Queue(swept).prune(begin(swept))
    Queue(swept).fail(begin(swept), "exception", "a mistake")

    *_, best, how_far, counts = drawn(swept)

    assert best.startswith("best val/acc 0.7500  trial 1  ")
    assert "4/9" in how_far
    assert "to go" in how_far
    assert "idle" in how_far
    assert counts == "2 complete  1 pruned  1 failed  5 left"


def test_several_objectives_show_the_size_of_the_pareto_front(tmp_path):
    study = _study(tmp_path, ["maximize", "minimize"], ["val/acc", "size"])
    plan(study, n_trials=9, slots=1)
    for values in ((0.5, 10), (0.9, 20), (0.4, 30)):
        Queue(study).complete(begin(study), values)

    assert drawn(study)[0] == "Pareto front: 2 trials, beaten by none in all objectives"


def test_a_study_that_nobody_sweeps_has_no_slots(study):
    plan(study, n_trials=1, slots=4)
    Queue(study).complete(begin(study), (0.5,))

    best, how_far, counts = drawn(study)

    assert best.startswith("best val/acc 0.5000")
    assert how_far.endswith("1/1")
    assert counts.endswith("0 left")


# ── besom status ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_without_a_name_the_study_last_begun_is_shown_below_a_line_for_each_other(study, tmp_path, capsys):
    plan(study, n_trials=4, slots=1)
    Queue(study).complete(begin(study), (0.5,))
    later = Study.create(study.url, "birds", objectives("maximize", "val/acc"), tmp_path / "birds", {})
    plan(later, n_trials=2, slots=1)

    status(study.url, None, follow=False)

    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == "study digits: 1 of 4 trials"
    assert second == "study birds: interrupted, 2 of 2 trials to go; the same command goes on"


def test_a_study_whose_supervisor_died_says_how_to_go_on(study, tmp_path, capsys):
    plan(study, n_trials=4, slots=1)
    gone = replace(Lease.mine(), started=0)  # another process had this number
    study.remember(SUPERVISOR, gone.as_attr())
    words = ("--multirun", "sweeps=cells", "hydra/sweeper=besom", "optimizer=sgd")
    Command(("-m", "besom.train"), words, str(tmp_path), str(tmp_path / "mine")).remember(study)

    status(study.url, "digits", follow=False)

    says = "its supervisor died, 4 of 4 trials to go; go on with: "
    assert (
        f"study digits: {says}cd {tmp_path} && besom sweep mine/cells.yaml optimizer=sgd\n" in capsys.readouterr().out
    )


def test_a_sweep_that_has_settled_says_so(study, capsys):
    plan(study, n_trials=4, slots=1)
    study.request_stop(StopRequest("settled", "the best has not moved"))

    status(study.url, "digits", follow=False)

    assert "study digits: stopped: the best has not moved, 4 of 4 trials to go" in capsys.readouterr().out


def test_the_first_that_asks_a_sweep_to_stop_is_heeded(swept):
    swept.request_stop(StopRequest("asked", "besom stop, from here"))
    swept.request_stop(StopRequest("interrupted"))

    assert swept.stop_request() == StopRequest("asked", "besom stop, from here")
    assert swept.stop_request().at_once


# ── besom best ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_of_several_objectives_the_pareto_front_is_listed(tmp_path, capsys):
    study = _study(tmp_path, ["maximize", "minimize"], ["val/acc", "size"])
    plan(study, n_trials=9, slots=1)
    for values in ((0.5, 10), (0.9, math.inf), (0.4, 30)):
        Queue(study).complete(begin(study), values)

    best(study.url, "digits", None, "json")

    front = json.loads(capsys.readouterr().out)
    assert [one["number"] for one in front] == [0, 1]
    assert front[1]["values"] == {"val/acc": 0.9, "size": "inf"}


def test_parameters_stand_in_columns_of_their_own_where_there_is_room(study, capsys):
    plan(study, n_trials=1, slots=1)
    Queue(study).complete(begin(study), (0.5,))

    best(study.url, None, 1, "table")

    says, head, row, command = capsys.readouterr().out.splitlines()
    assert says == "study digits: the best of 1 complete trials"
    assert head.split() == ["rank", "trial", "val/acc", "took", "activation", "optimizer", "lr"]
    assert row.split()[:3] == ["1", "0", "0.5000"]
    assert command.startswith("repeat the first:")


def test_where_there_is_no_room_the_parameters_give_way_and_no_number(study, capsys, monkeypatch):
    plan(study, n_trials=1, slots=1)
    Queue(study).complete(begin(study), (0.5,))
    monkeypatch.setattr("besom.cli.best.PAGE", 60)

    best(study.url, None, 1, "table")

    _, head, row, _ = capsys.readouterr().out.splitlines()
    assert head.split() == ["rank", "trial", "val/acc", "took", "parameters"]
    assert row.split()[:3] == ["1", "0", "0.5000"]
    assert "activation=" in row
    assert len(row) <= 60


# ── how it gets on ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_time_to_go_is_that_of_the_trials_left_shared_by_the_slots(swept):
    plan(swept, n_trials=10, slots=4)
    for _ in range(2):
        Queue(swept).complete(begin(swept), (0.5,))
    now, snapshot = datetime.now(), StudySnapshot.of(swept)
    took = sum((trial.datetime_complete - trial.datetime_start).total_seconds() for trial in snapshot.trials) / 2

    assert to_go_s(snapshot, now) == pytest.approx(8 * took / 4)


def test_before_a_trial_has_ended_no_time_is_foretold(swept):
    plan(swept, n_trials=10, slots=4)
    begin(swept)

    assert to_go_s(StudySnapshot.of(swept), datetime.now()) is None


def test_a_slot_without_a_trial_is_idle(swept):
    plan(swept, n_trials=10, slots=2)
    begin(swept, "0")

    in_an_hour = datetime.now() + timedelta(hours=1)

    assert idle_share(StudySnapshot.of(swept), in_an_hour) == pytest.approx(0.5)


def test_a_worker_that_joined_takes_nothing_from_the_idle_share(swept):
    plan(swept, n_trials=10, slots=1)
    begin(swept, "0")
    begin(swept, "host-4711/0")

    assert idle_share(StudySnapshot.of(swept), datetime.now() + timedelta(hours=1)) == pytest.approx(0, abs=1e-3)


# ── words ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_finished_trials_line_gives_up_its_parameters_before_its_end(study):
    Queue(study).complete(begin(study), (0.5,))
    [trial] = study.trials()

    whole = one_line(trial, study.objectives())
    narrow = one_line(trial, study.objectives(), 60)

    assert "model.activation=gelu optimizer=a_rather_long_name_of_an_optimizer optimizer.lr=" in whole
    assert whole.startswith("trial 0 complete  val/acc 0.5000  ")
    assert len(narrow) <= 60
    assert narrow.endswith(" s")


def test_each_finished_trial_has_a_line_of_one_format(study):
    queue = Queue(study)
    queue.complete(begin(study), (0.5,))
    queue.prune(begin(study, reports=(0.9, 0.25)))
    queue.prune(begin(study))
    queue.fail(begin(study), "nan", "it returned\nnan")

    for width in (None, 140):
        lines = [one_line(trial, study.objectives(), width) for trial in study.trials()]
        parts = [line.split("  ") for line in lines]
        assert [line[:2] for line in parts] == [
            ["trial 0 complete", "val/acc 0.5000"],
            ["trial 1 pruned", "val/acc 0.2500 at step 1"],
            ["trial 2 pruned", "without a value"],
            ["trial 3 failed", "nan: it returned nan"],
        ]
        for _, _, tried, took in parts:
            assert re.fullmatch(r"\d+\.\d s", took)
            assert tried.startswith("activation=" if width else "model.activation=")


def test_the_reason_of_a_failure_is_told_in_full(study):
    Queue(study).fail(begin(study), "exception", "word " * 40)

    assert "word " * 40 in one_line(study.trials()[0], study.objectives(), 60)


def test_two_keys_with_one_last_word_keep_what_tells_them_apart():
    assert brief({"a.lr": 1, "b.lr": 2, "b.width": 3}) == {"a.lr": 1, "b.lr": 2, "width": 3}


def test_rows_of_one_table_are_all_written_in_one_way():
    assert fitting([{"net.lr": 1}, {"net.width": 100_000}], 14) == ["lr=1", "width=100000"]
    assert fitting([{"net.lr": 1}, {"net.width": 100_000_000}], 14) == ["lr=1", "width=1000000…"]
    assert fitting([{"net.lr": 1}, {"net.width": 100_000}], 8) == ["lr=1", "width=1…"]


@pytest.mark.parametrize(
    ("values", "curve"),
    [
        ((), ""),
        ((5.0,), "▅"),
        ((1.0, 1.0), "▅▅"),
        ((0.0, math.nan, 1.0), "▁?█"),
        ((math.inf,), "?"),
        (tuple(range(100)), "▁▂▃▃▄▅▆▆▇█"),
    ],
)
def test_a_curve_has_the_shape_of_its_values(values, curve):
    assert sparkline(values, 10) == curve


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.98611, "0.9861"), (1302.0, "1302"), (1e-7, "1e-07"), (-123456.0, "-1.23e+05"), (0.0, "0.0000")],
)
def test_a_number_is_short(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (89, "89 s"), (90, "2 min"), (7200, "2.0 h"), (200_000, "2.3 days")]
)
def test_a_span_has_the_unit_that_suits_it(seconds, text):
    assert span(seconds) == text


ORDER = "\x1b[2J\u202e\x9b1m"


@pytest.mark.parametrize("watched", [False, True])
def test_a_terminals_orders_in_names_values_and_reasons_are_shown_as_text(watched, tmp_path, capsys, monkeypatch):
    asked = objectives("maximize", f"acc{ORDER}")
    study = Study.create(f"sqlite:///{tmp_path}/optuna.db", f"s{ORDER}", asked, tmp_path, {})
    plan(study, n_trials=3, slots=1)
    Queue(study).complete(begin(study), (0.5,))
    Queue(study).fail(begin(study), "exception", f"reason{ORDER}")
    study.request_stop(StopRequest("failing", f"why{ORDER}"))
    monkeypatch.setattr("besom.cli.status.is_watched", lambda: watched)

    status(study.url, study.name, follow=False)
    best(study.url, study.name, None, "table")
    lines = Lines(study)
    lines._shown.clear()
    lines.refresh()

    out = capsys.readouterr().out
    assert not {"\x1b", "\u202e", "\x9b"} & {*out}
    assert r"s\x1b[2J\u202e\x9b1m" in out
    assert r"reason\x1b[2J" in out
