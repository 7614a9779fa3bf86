"""The report in a real browser, on a narrow page and on a wide one: what is written can be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from browser import Browser, opened
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from besom.reporting.html import page
from besom.study.objective import objectives
from besom.study.snapshot import StudySnapshot
from besom.study.study import Counts

SEARCHED = {
    "optimizer": CategoricalDistribution(("sgd", "adamw", "rmsprop_with_a_long_name")),
    "optimizer.momentum [optimizer=sgd]": FloatDistribution(0, 1),
    "optimizer.weight_decay": FloatDistribution(1e-6, 1, log=True),
    "model.classifier.dropout_probability": FloatDistribution(0, 1),
    "model.activation": CategoricalDistribution(("relu", "gelu", "tanh", "silu", "mish", "elu", "selu", "celu")),
    "data.batch_size": FloatDistribution(16, 256),
    "optimizer.lr": FloatDistribution(1e-5, 1, log=True),
}
# the boxes of all texts of a chart, but of the values along the parallel coordinates' axes, which stand in its lines
TEXTS = """
    return [...document.querySelectorAll('.chart')].map(chart => [
        chart.closest('article').querySelector('h2').textContent,
        [...chart.querySelectorAll('[class*="title"] text, text[class*="title"], [class*="tick"] text, .legendtext')]
            .filter(one => one.textContent.trim())
            .map(one => [one.textContent, one.getBoundingClientRect()])
            .map(([text, box]) => [text, box.left, box.top, box.right, box.bottom])])
"""


def snapshot(folder: Path) -> StudySnapshot:
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    for number in range(40):
        asked = study.ask()
        for name, distribution in SEARCHED.items():
            if "[" not in name or asked.params["optimizer"] == "sgd":
                asked._suggest(name, distribution)
        state = {1: TrialState.PRUNED, 2: TrialState.FAIL}.get(number % 4, TrialState.COMPLETE)
        params = dict(asked.params)
        study.add_trial(
            create_trial(
                state=state,
                value=params["data.batch_size"] / 256 if state == TrialState.COMPLETE else None,
                params=params,
                distributions={name: SEARCHED[name] for name in params},
                intermediate_values={0: 0.1, 1: number / 80},
            )
        )
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    counts, aims = Counts.of(trials), objectives("maximize", "val/acc")
    best = [study.best_trial]
    return StudySnapshot("digits", "", "", aims, {}, len(trials), folder, trials, counts, best, None, 1, None, study)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    (folder / "report.html").write_text(page(snapshot(folder)), encoding="utf-8")
    return folder / "report.html"


@pytest.fixture(scope="module", params=[400, 1200])
def browser(request: pytest.FixtureRequest, report: Path) -> Iterator[Browser]:
    with opened(report.parent, f"{request.param},1000") as browser:
        browser.set_size(request.param, 1000)
        browser.open(f"file://{report}")
        browser.wait_for("data.batch_size", "Contours")
        charts = "[...document.querySelectorAll('.chart')]"
        browser.wait_until(f"return {charts}.every(chart => chart.querySelector('.main-svg'))")
        yield browser


def test_no_text_of_a_chart_lies_on_another(browser: Browser) -> None:
    for title, boxes in browser.driver.execute_script(TEXTS):
        assert boxes, title
        for n, (text, left, top, right, bottom) in enumerate(boxes):
            for other, *there in boxes[n + 1 :]:
                apart = right <= there[0] + 1 or there[2] <= left + 1 or bottom <= there[1] + 2 or there[3] <= top + 2
                assert apart, f"{title}: {text!r} and {other!r}"


def test_every_axis_of_the_parallel_coordinates_has_its_name(browser: Browser) -> None:
    named = next(boxes for title, boxes in browser.driver.execute_script(TEXTS) if title == "Parallel coordinates")
    texts = " ".join(text for text, *_ in named)
    for name in SEARCHED:
        assert name.rpartition(".")[2].partition("_")[0].partition(" ")[0] in texts, name


def test_the_page_itself_is_not_wider_than_the_window(browser: Browser) -> None:
    browser.keep("report")
    assert browser.driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.errors() == []
