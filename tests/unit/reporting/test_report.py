"""The report of a study, whatever the study is like."""

from __future__ import annotations

import csv
import math
import random
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from besom.cli import main
from besom.engine.study_description import note
from besom.reporting import write
from besom.reporting.chart import Chart, NothingToShow
from besom.reporting.contours import contours
from besom.reporting.html import page
from besom.reporting.importances import importance, importances
from besom.reporting.parallel import parallel
from besom.reporting.slices import slices
from besom.reporting.tables import best_yaml, trials_csv
from besom.reporting.timeline import timeline
from besom.reporting.values import history, pareto
from besom.space.parse import parse
from besom.space.space import as_text
from besom.study.attrs import ENDS, LEASE, N_TRIALS, OVERRIDES, PROGRAM, QUESTION
from besom.study.lease import Lease
from besom.study.objective import Objective, objectives
from besom.study.queue import Queue
from besom.study.snapshot import StudySnapshot, point, seconds
from besom.study.study import Counts, Study
from besom.terminal.lines import summary

SPACE = parse(
    {
        "width": "tag(log, int(interval(8, 128)))",
        "norm": "true, null, 'a b'",
        "optimizer": {
            "sgd": {"optimizer.lr": "tag(log, interval(0.01, 1))", "optimizer.momentum": "interval(0, 0.9)"},
            "adamw": {"optimizer.lr": "tag(log, interval(1e-4, 0.1))"},
        },
    },
    [],
)
ONE = objectives("maximize", "val/acc")
TWO = objectives(["maximize", "minimize"], ["val/acc", "parameters"])
EVIL = "</script><script>alert(1)</script>"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """12 trials of a conditional space, of which 2 are pruned, 2 have failed, and the last runs for the second time."""
    folder = tmp_path_factory.mktemp("digits")
    study = Study.create(f"sqlite:///{folder}/optuna.db", "digits", ONE, folder / "multirun", SPACE.describe())
    for key, value in ((N_TRIALS, 20), (PROGRAM, "besom train"), (QUESTION, "Which optimizer reads digits best?")):
        study.remember(key, value)
    for _ in range(13):
        _attempt(study)
    return study


@pytest.fixture(scope="module")
def tradeoff() -> StudySnapshot:
    chance = random.Random(0)
    searched = SPACE.all_distributions()
    trials = [
        _trial([0.9 + n / 100, 100.0 + n % 5], {"width": 8 + n, "optimizer.momentum": chance.random() / 2}, searched)
        for n in range(16)
    ]
    return _of(trials, TWO)


def _attempt(study: Study) -> None:
    slot = str(len(study.trials()) % 2)
    claim = Queue(study).claim(100, lambda number: RandomSampler(seed=number), NopPruner(), slot)
    assert claim
    values = SPACE.suggest(claim.trial)
    claim.trial.set_user_attr(OVERRIDES, SPACE.overrides(values))
    for step in set(range(2)) - set(Queue(study).reported(claim)):
        claim.trial.report(1 - 1 / (step + claim.number + 1), step)
    match claim.number:
        case 3 | 4:
            Queue(study).prune(claim)
        case 5 | 6:
            Queue(study).fail(claim, "exception", "ValueError: too wide,\nsaid “numpy”")
        case 11 if not claim.trial.user_attrs.get(ENDS):
            Queue(study).requeue(claim, "lost")
        case 11:
            pass  # it runs
        case number:
            Queue(study).complete(claim, [1 - 1 / (number + 3)])


def _of(trials: Sequence[FrozenTrial], aims: Sequence[Objective] = ONE, word: str = "study") -> StudySnapshot:
    """What a study with these trials has found; one in memory, since a database takes longer than a report."""
    study = optuna.create_study(directions=[aim.direction for aim in aims])
    study.add_trials(trials)
    trials = study.get_trials(deepcopy=False)
    states = [trial.state for trial in trials]
    counts = Counts(*(states.count(state) for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)), 0, 0)
    best = study.best_trials if len(aims) > 1 else [study.best_trial] if counts.complete else []
    return StudySnapshot(
        word, word, word, tuple(aims), {word: word}, len(trials), Path(word), trials, counts, best, None, 1, None, study
    )


def _trial(
    values: Sequence[float] | None = None,
    params: dict[str, object] | None = None,
    searched: dict[str, BaseDistribution] | None = None,
    state: TrialState = TrialState.COMPLETE,
    **attrs: object,
) -> FrozenTrial:
    params = params or {}
    known = {name: (searched or {}).get(name, FloatDistribution(0, 1)) for name in params}
    return create_trial(state=state, values=values, params=params, distributions=known, user_attrs=attrs)


# ── the table ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_table_of_trials_equals_what_optuna_has(digits: Study) -> None:
    rows = list(csv.DictReader(trials_csv(StudySnapshot.of(digits)).splitlines(keepends=True)))
    trials = digits.as_optuna().get_trials(deepcopy=False)
    words = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}
    keys = {"width", "norm", "optimizer", "optimizer.lr", "optimizer.momentum"}
    assert len(rows) == len(trials) == 12
    for row, trial in zip(rows, trials, strict=True):
        assert (int(row["number"]), row["state"]) == (trial.number, words[trial.state.name])
        assert [float(text) for text in filter(None, [row["val/acc"]])] == (trial.values or [])
        assert {key: row[key] for key in keys if row[key]} == {key: as_text(v) for key, v in point(trial).items()}
        assert row["start"] == trial.datetime_start.isoformat()
        assert row["end"] == (trial.datetime_complete.isoformat() if trial.datetime_complete else "")
        assert (float(row["seconds"]) if row["seconds"] else None) == seconds(trial)


def test_the_table_says_where_how_often_and_why(digits: Study) -> None:
    rows = list(csv.DictReader(trials_csv(StudySnapshot.of(digits)).splitlines(keepends=True)))
    assert [row["slot"] for row in rows[:4]] == ["0", "1", "0", "1"]
    assert [row["attempts"] for row in (rows[0], rows[5], rows[11])] == ["1", "1", "2"]
    assert rows[5]["reason"] == "exception: ValueError: too wide,\nsaid “numpy”"


def test_a_column_has_one_meaning() -> None:
    """A parameter may be called like another column."""
    snapshot = _of([_trial([0.1], {"number": 0.2, "slot": 0.3, "val/acc": 0.4})])
    [row] = csv.DictReader(trials_csv(snapshot).splitlines())
    assert (row["number"], row["slot"], row["val/acc"]) == ("0", "", "0.1")
    assert (row["params.number"], row["params.slot"], row["params.val/acc"]) == ("0.2", "0.3", "0.4")


# ── the best ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_best_can_be_used_at_once(digits: Study) -> None:
    snapshot = StudySnapshot.of(digits)
    best = yaml.safe_load(best_yaml(snapshot))
    assert best["number"] == snapshot.best[0].number == 10
    assert best["values"] == {"val/acc": snapshot.best[0].value}
    assert best["overrides"] == snapshot.best[0].user_attrs[OVERRIDES]
    assert best["command"].startswith("besom train width=")
    assert SPACE.known_point(best["params"]) == snapshot.best[0].params


def test_of_several_objectives_the_best_are_the_front(tradeoff: StudySnapshot) -> None:
    front = yaml.safe_load(best_yaml(tradeoff))
    assert [one["number"] for one in front] == [trial.number for trial in tradeoff.best]
    assert set(front[0]["values"]) == {"val/acc", "parameters"}


def test_objectives_that_are_called_alike_are_told_apart() -> None:
    snapshot = _of([_trial([0.1, 0.2])], objectives(["maximize", "maximize"], ["acc", "acc"]))
    [best] = yaml.safe_load(best_yaml(snapshot))
    assert best["values"] == {"objective_0": 0.1, "objective_1": 0.2}
    assert trials_csv(snapshot).startswith("number,state,objective_0,objective_1,")


@pytest.mark.parametrize(("aims", "nothing"), [(ONE, {}), (TWO, [])])
def test_before_the_first_complete_trial_there_is_no_best(aims, nothing) -> None:
    text = best_yaml(_of([], aims))
    assert yaml.safe_load(text) == nothing
    assert "no trial is complete yet" in text


# ── the page ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_page_shows_the_study_with_all_charts(digits: Study) -> None:
    text = page(StudySnapshot.of(digits))
    for part in (
        *("Which optimizer reads digits best?", "maximize <b>val/acc</b>", "Best: trial 10", "besom train width="),
        *("best so far", "where 2 were pruned", "the best tenth", "slot 0", "slot 1", "ValueError: too wide"),
        *("optimizer.lr [optimizer=sgd]", "tag(log, interval(0.01, 1.0))", "At ∅ a trial has no such parameter."),
    ):
        assert part in text
    assert text.count('class="chart"') == 6
    assert "It takes 15 complete trials to tell parameters apart; there are 7." in text
    assert "could not be made" not in text


def test_several_objectives_have_a_front_and_each_its_importances(tradeoff: StudySnapshot) -> None:
    text = page(tradeoff)
    for part in (
        "Pareto front",
        "dominated",
        "Contours of val/acc",
        "Contours of parameters",
        "Parameter importances of val/acc",
    ):
        assert part in text
    assert "With several objectives Optuna takes no values while a trial runs." in text
    assert "Optimisation history" not in text
    assert "could not be made" not in text


def test_the_page_loads_nothing(digits: Study) -> None:
    text = page(StudySnapshot.of(digits))
    assert not re.findall(
        r"https?://|//\w+\.\w|\bsrc=|@import|url\(|\bfetch\(|XMLHttpRequest", text.replace("data:,", "")
    )
    assert re.findall(r'href="([^"]*)"', text) == ["data:,"]
    assert "default-src 'none'" in text


def test_nothing_that_users_have_named_is_markup() -> None:
    params = {EVIL: 0.5, f"{EVIL} [{EVIL}={EVIL}]": EVIL}
    searched = {EVIL: FloatDistribution(0, 1), f"{EVIL} [{EVIL}={EVIL}]": CategoricalDistribution([EVIL, "b"])}
    trials = [_trial([n / 8], {**params, EVIL: n / 8}, searched, **{OVERRIDES: [f"x={EVIL}"]}) for n in range(8)]
    trials.append(_trial(state=TrialState.FAIL, **{"besom.kind": EVIL, "besom.reason": EVIL, LEASE: _lease(EVIL)}))
    text = page(_of(trials, objectives("minimize", EVIL), EVIL))
    assert "alert(1)" in text
    assert "could not be made" not in text
    assert not re.findall(r"<script>alert|</script>\s*<script>alert", text)
    assert text.count("</script>") == text.count("<script")


def _lease(slot: str) -> dict[str, object]:
    return Lease("host", "", 1, 1, slot=slot).as_attr()


MIXED = {
    "lr": FloatDistribution(1e-6, 1, log=True),
    "width": IntDistribution(1, 1000, log=True),
    "norm": CategoricalDistribution([True, None, "a", 0.5]),
}


def _mixed(n: int) -> dict[str, object]:
    return {"lr": 10.0 ** -(n % 6), "width": 1 + 90 * n, "norm": [True, None, "a", 0.5][n % 4]}


STUDIES = {
    "no trial": ([], ["No trial is complete yet.", "No trial has been begun."]),
    "one trial": ([_trial([0.5], {"x": 0.1})], ["there is one.", "The complete trial"]),
    "only failures": (
        [_trial(state=TrialState.FAIL, **{"besom.kind": "nan", "besom.reason": "it returned nan"})] * 3,
        ["No trial is complete yet.", "nan: it returned nan"],
    ),
    "one value": ([_trial([0.5], {"x": n / 19}) for n in range(19)], ["No parameter stands out"]),
    "one point": ([_trial([n / 9], {"x": 0.5}) for n in range(9)], ["No parameter has had two values."]),
    "no parameter": ([_trial([n / 9]) for n in range(9)], ["No parameter has had two values."]),
    "infinite": (
        [_trial([math.inf if n % 3 else n / 9], {"x": n / 18}) for n in range(18)],
        ["Not shown: 12 with an infinite value.", "Best: trial 1"],
    ),
    "all infinite": ([_trial([-math.inf], {"x": n / 9}) for n in range(5)], ["No complete trial has a finite value."]),
    "huge": ([_trial([(-1) ** n * 1e308], {"x": n / 9}) for n in range(9)], ["No complete trial has a finite value."]),
    "one huge": ([_trial([1e308**n], {"x": n / 2}) for n in (0, 1)], ["Not shown: 1 with an infinite value."]),
    "one far off": (
        [_trial([-1e6 if n == 7 else n / 20], {"x": n / 20}) for n in range(20)],
        ["One trial far off lies"],
    ),
    "mixed": ([_trial([n / 9], _mixed(n), MIXED) for n in range(9)], ["null", "1e-5"]),
    "two apart": ([_trial([n / 9], {"xy"[n % 2]: n / 9}) for n in range(9)], ["At ∅", "It takes two parameters"]),
    "no mathematics": ([_trial([n / 9], {"$x^{": n / 9}) for n in range(9)], ["$x^{"]),
}


@pytest.mark.parametrize("kind", STUDIES)
def test_every_study_has_a_report(kind: str, tmp_path: Path) -> None:
    trials, says = STUDIES[kind]
    made = write(_of(trials), tmp_path)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "could not be made" not in text
    for part in says:
        assert part in text
    assert all(path.stat().st_size for path in made)


def test_the_main_charts_are_pictures_too(digits: Study, tradeoff: StudySnapshot, tmp_path: Path) -> None:
    texts = {"report.html", "trials.csv", "best.yaml"}
    for snapshot, drawn in (
        (StudySnapshot.of(digits), {"history.png", "timeline.png"}),
        (tradeoff, {"pareto_front.png", "importances.png", "timeline.png"}),
    ):
        made = write(snapshot, tmp_path)
        assert {path.name for path in made} == texts | drawn
        assert all(path.read_bytes().startswith(b"\x89PNG") for path in made if path.suffix == ".png")


# ── trials that did not complete ──────────────────────────────────────────────────────────────────────────────────────
def _early(state: TrialState, reported: dict[int, float], x: float, **attrs: object) -> FrozenTrial:
    trial = create_trial(
        state=state,
        params={"x": x, "y": x / 2},
        distributions=dict.fromkeys("xy", FloatDistribution(0, 1)),
        intermediate_values=reported,
        user_attrs=attrs,
    )
    trial.datetime_start = trial.datetime_complete = datetime(2026, 11, 20, 22, 0)
    return trial


@pytest.fixture
def mixed() -> StudySnapshot:
    """Six complete trials; two pruned ones, one of them without a value; two failed ones, one of them without."""
    complete = [_trial([n / 9], {"x": n / 9, "y": (n % 4) / 4}) for n in range(6)]
    return _of(
        [
            *complete,
            _early(TrialState.PRUNED, {0: 0.1, 3: 0.2, 1: 0.9}, 0.3),
            _early(TrialState.PRUNED, {}, 0.4),
            _early(TrialState.FAIL, {0: 0.3}, 0.5, **{"besom.kind": "nan", "besom.reason": "it returned nan"}),
            _early(TrialState.FAIL, {}, 0.6, **{"besom.kind": "oom", "besom.reason": "no memory"}),
        ]
    )


def _drawn(chart: Chart, name: str) -> list[Any]:
    assert chart.figure is not None
    return [trace for trace in chart.figure.data if (trace.name or "").startswith(name)]


def test_the_history_has_pruned_and_failed_trials_at_their_last_value_in_their_own_style(mixed: StudySnapshot) -> None:
    chart = history(mixed)
    [complete], [pruned], [failed] = (_drawn(chart, word) for word in ("complete (6)", "pruned (2)", "failed (2)"))
    assert list(pruned.x) == [6, 7]
    assert pruned.y[0] == 0.2
    assert list(failed.x) == [8, 9]
    assert failed.y[0] == 0.3
    low, _ = chart.figure.layout.yaxis.range
    assert low <= pruned.y[1] == failed.y[1] < 0  # within the axis, below all values
    assert len({complete.marker.symbol, pruned.marker.symbol, failed.marker.symbol}) == 3
    assert "trial 9 failed: oom: no memory, without a value" in failed.customdata
    assert "at the lower edge" in chart.says


def test_a_history_needs_no_complete_trial() -> None:
    chart = history(_of([_early(TrialState.PRUNED, {0: 0.5}, 0.5)] * 3))
    assert _drawn(chart, "pruned (3)")


@pytest.mark.parametrize("make", [slices, contours])
def test_each_small_chart_has_pruned_and_failed_trials(mixed: StudySnapshot, make: Callable[..., list[Chart]]) -> None:
    [chart] = make(mixed)
    assert len(_drawn(chart, "pruned (2)")) == len(_drawn(chart, "failed (2)")) == (2 if make is slices else 1)


def test_pruned_and_failed_trials_have_lines_among_the_parallel_coordinates(mixed: StudySnapshot) -> None:
    chart = parallel(mixed)
    [pruned], [failed] = _drawn(chart, "pruned (2)"), _drawn(chart, "failed (2)")
    assert (pruned.line.dash, failed.line.dash) == ("dash", "dot")


def test_each_axis_of_the_parallel_coordinates_is_named_and_has_room_for_its_name() -> None:
    names = [f"group_{n}.a_rather_long_name_of_a_parameter" for n in range(10)]
    chart = parallel(_of([_trial([n / 9], dict.fromkeys(names, n / 9)) for n in range(9)]))
    assert chart.figure is not None
    axis = chart.figure.layout.xaxis
    assert len(axis.ticktext) == len(axis.tickvals) == 11
    assert axis.ticklabeloverflow == "allow"
    assert axis.range[1] >= 10.5
    lines = [line for text in axis.ticktext for line in re.sub("</?b>", "", text).split("<br>")]
    assert max(map(len, lines)) * 7 <= chart.least_px / 11


def test_failures_are_grouped_by_kind_above_the_charts(mixed: StudySnapshot) -> None:
    trials = [
        _early(TrialState.FAIL, {}, 0.5, **{"besom.kind": kind, "besom.reason": reason})
        for kind, reason in (
            *(("exception", f"ValueError: {n}") for n in range(40)),
            *[("exception", "KeyError: 'x'")] * 2,
            *[("oom", "no memory")] * 3,
        )
    ]
    text = page(_of([*mixed.trials[:6], *trials]))
    rows = re.findall(r'<td class="n">(\d+)</td><td class="kind">(.*?)</td><td class="reason">(.*?)</td>', text)
    assert [(count, kind) for count, kind, _ in rows] == [
        ("40", "exception ValueError"),
        ("3", "oom"),
        ("2", "exception KeyError"),
    ]
    assert rows[0][2] == "ValueError: 0 (and 39 other reasons)"
    assert text.index('class="kind"') < text.index("Optimisation history")
    assert "other reasons: trials.csv has them all" in text


# ── importances ───────────────────────────────────────────────────────────────────────────────────────────────────────
KNOWN = {"lr": FloatDistribution(1e-5, 1, log=True)} | {
    name: FloatDistribution(0, 1) for name in ("a", "b", "momentum")
}


def _planted(count: int, *, momentum: int = 0, aims: Sequence[Objective] = ONE) -> StudySnapshot:
    """The first objective is set by `lr` alone, the second by `a`; `momentum` trials have one more."""
    chance = random.Random(0)
    trials = []
    for n in range(count):
        params = {"lr": 10 ** chance.uniform(-5, 0), "a": chance.random(), "b": chance.random()}
        if n < momentum:
            params["momentum"] = chance.random()
        values = [-abs(math.log10(params["lr"]) + 2.5), params["a"]][: len(aims)]
        trials.append(_trial(values, dict(params), dict(KNOWN)))
    return _of(trials, aims)


@pytest.mark.parametrize("count", [30, 120])
def test_both_ways_of_judging_find_the_parameter_that_mattered(count: int) -> None:
    found = importances(_planted(count))
    assert [one.method for one in found] == ["fANOVA", "PED-ANOVA"]
    for one in found:
        assert one.shares["lr"] > 0.6
        assert sum(one.shares.values()) == pytest.approx(1)


def test_below_15_complete_trials_no_parameter_is_said_to_matter() -> None:
    with pytest.raises(NothingToShow, match="It takes 15 complete trials to tell parameters apart; there are 14"):
        importances(_planted(14))
    assert importances(_planted(15))


def test_each_objective_has_importances_of_its_own() -> None:
    charts = importance(_planted(60, aims=TWO))
    assert [chart.title for chart in charts] == [
        "Parameter importances of val/acc",
        "Parameter importances of parameters",
    ]
    found = {(one.objective.name, one.method): one.shares for one in importances(_planted(60, aims=TWO))}
    for method in ("fANOVA", "PED-ANOVA"):
        assert max(found["val/acc", method], key=found["val/acc", method].__getitem__) == "lr"
        assert max(found["parameters", method], key=found["parameters", method].__getitem__) == "a"


def test_a_conditional_parameter_is_judged_on_the_trials_that_have_it() -> None:
    snapshot = _planted(60, momentum=20)
    for one in importances(snapshot):
        assert set(one.shares) == {"lr", "a", "b", "momentum"}
        assert one.shares["momentum"] < 0.3
    [chart] = importance(snapshot)
    assert chart.figure is not None
    assert "momentum (20 trials)" in chart.figure.layout.yaxis.ticktext
    assert "judged on those alone" in chart.says


def test_a_conditional_parameter_of_too_few_trials_is_not_judged() -> None:
    snapshot = _planted(60, momentum=9)
    assert all("momentum" not in one.shares for one in importances(snapshot))
    assert "Too few trials have: momentum (9)." in importance(snapshot)[0].says


def test_for_many_trials_only_the_fast_way_is_taken_and_said() -> None:
    snapshot = _planted(201)
    assert [one.method for one in importances(snapshot)] == ["PED-ANOVA"]
    assert "fANOVA is left out with more than 200 trials." in importance(snapshot)[0].says


# ── ties ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_trials_that_share_the_best_value_are_named_as_ties() -> None:
    snapshot = _of([_trial([value], {"x": n / 9}) for n, value in enumerate((0.5, 0.9917, 0.9917, 0.1, 0.9917))])
    said = "3 trials share val/acc 0.9917: 1, 2, 4"
    for text in (page(snapshot), summary(snapshot, recorded=False), note(snapshot, "1", "parent"), best_yaml(snapshot)):
        assert said in text
    assert [snapshot.rank(trial) for trial in snapshot.ranked()] == [1, 1, 1, 4, 5]
    assert "trials share" not in page(_of([_trial([n / 9], {"x": n / 9}) for n in range(9)]))


def test_of_more_ties_than_can_be_read_the_first_are_named() -> None:
    said = "40 trials share val/acc 0.5000: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 28 more"
    assert said in summary(_of([_trial([0.5])] * 40), recorded=False)


def test_equal_points_of_a_front_are_one_and_named() -> None:
    points = [*[[0.9, 100.0]] * 15, [0.5, 50.0], [0.4, 200.0]]
    snapshot = _of([_trial(values, {"x": n / 20}) for n, values in enumerate(points)], TWO)
    chart = pareto(snapshot)
    [front] = _drawn(chart, "Pareto front (16)")
    assert sorted(zip(front.x, front.text, strict=True)) == [(0.5, ""), (0.9, "×15")]
    assert any(text.startswith("15 trials: 0, 1, 2") for text in front.customdata)
    assert "The front has 16 trials at 2 points" in chart.says
    text = page(snapshot)
    assert "16 trials on the Pareto front, at 2 points" in text
    assert "15 trials share val/acc 0.9" in text
    lines = summary(snapshot, recorded=False)
    assert lines.count("repeat it:") == 2
    assert "15 trials share val/acc 0.9000 parameters 100.0000: 0, 1, 2" in lines
    assert "15 trials share" in note(snapshot, "1", "parent")


# ── the timeline ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_slot_is_idle_where_it_runs_no_trial_while_the_sweep_goes_on() -> None:
    found = timeline(_of([_run("0", 0, 10), _run("1", 0, 5)]))
    assert (found.busy_s, found.idle_s, found.idle_share) == (15, 5, 0.25)


def test_the_time_between_two_sessions_is_nobodys() -> None:
    found = timeline(_of([_run("0", 0, 10), _run("0", 7210, 7220)]))
    assert (found.busy_s, found.idle_s) == (20, 0)
    assert [bar.begin for bar in found.bars] == [0, 10]
    assert found.pauses == (10,)


def test_slots_are_counted_from_when_they_joined() -> None:
    found = timeline(_of([_run("0", 0, 40), _run("host-7/0", 20, 40), *(_run("10", 0, 40), _run("2", 0, 40))]))
    assert found.idle_s == 0
    assert found.slots == ["0", "2", "10", "host-7/0"]


def _run(slot: str, start: float, end: float) -> FrozenTrial:
    trial = _trial([0.5], {"x": 0.5}, **{LEASE: _lease(slot)})
    began = datetime(2026, 11, 20, 22, 0)
    trial.datetime_start = began + timedelta(seconds=start)
    trial.datetime_complete = began + timedelta(seconds=end)
    return trial


# ── its cost ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_page_of_a_thousand_trials_stays_under_5_mb() -> None:
    assert len(page(_thousand()).encode()) < 5_000_000


def _thousand() -> StudySnapshot:
    """Each with 6 parameters and 20 intermediate values."""
    chance = random.Random(0)
    searched = {f"group.parameter_{n}": FloatDistribution(0, 1) for n in range(6)}
    trials = [
        create_trial(
            state=TrialState.PRUNED if number % 3 == 1 else TrialState.COMPLETE,
            value=chance.random(),
            params={name: chance.random() for name in searched},
            distributions=searched,
            user_attrs={LEASE: _lease(str(number % 8))},
            intermediate_values={step: chance.random() for step in range(20)},
        )
        for number in range(1000)
    ]
    return _of(trials)


def test_until_it_is_asked_for_the_report_loads_nothing_heavy() -> None:
    heavy = ("plotly", "matplotlib", "pandas", "jinja2", "scipy")
    spy = f"import sys, besom.reporting; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", spy], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# ── the command ───────────────────────────────────────────────────────────────────────────────────────────────────────
def _besom(monkeypatch: pytest.MonkeyPatch, folder: Path, *words: str) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.delenv("BESOM_STORAGE", raising=False)
    monkeypatch.setattr(sys, "argv", ["besom", "report", *words])
    monkeypatch.setattr(sys, "path", list(sys.path))
    main.main()


def test_besom_report_writes_the_page_and_says_where(
    digits: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _besom(monkeypatch, tmp_path, "digits", "--storage", digits.url)
    assert capsys.readouterr().out == f"the report of study digits: {tmp_path}/report.html\n"
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page(StudySnapshot.of(digits))
    _besom(monkeypatch, digits.folder.parent, "-o", str(tmp_path / "mine.csv"))
    assert (tmp_path / "mine.csv").read_text(encoding="utf-8") == trials_csv(StudySnapshot.of(digits))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("digts",), "no study 'digts' in .*; did you mean 'digits'"),
        (("digits", "-o", "no/such/folder.html"), r"no/such/folder\.html cannot be written \(No such file .*-o FILE"),
        (("digits", "--storage", "sqlite:///nowhere.db"), "there is no .*nowhere.db: nothing has been swept here"),
    ],
)
def test_a_report_that_cannot_be_made_is_refused(
    words, says, digits: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        _besom(monkeypatch, digits.folder.parent, *words)
    assert re.search(f"^besom: {says}", capsys.readouterr().err)
    assert not list(digits.folder.parent.rglob("*.html"))
