from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from besom.config.directions import against_its_name, default_mode, mode_of
from besom.config.load import load
from besom.study.objective import objectives, said_of_directions
from hydra_plugins.besom_sweeper.sweeper import _NEVER_NULL, BesomSweeperConf, _filled

LESS = """
    val/loss loss val_loss valLoss train_loss2 test_error error_rate err n_errors mse val/MSE mae rmse RMSE perplexity
    val/ppl nll wer val/cer latency_ms time_s runtime MeanSquaredError valloss cross_entropy bce negative_log_likelihood
    memory_mb parameters fid log_loss neg_accuracy 1-acc
"""
MORE = """
    val/acc accuracy valAccuracy top1 top5_acc f1 F1Score auroc val/AUC mAP mAP50 miou dice bleu R2 precision recall
    reward episode_return score psnr neg_mean_squared_error neg_log_loss tokens_per_second fps log_likelihood
"""


@pytest.mark.parametrize("metric", LESS.split())
def test_less_of_it_is_better(metric):
    assert (mode_of(metric), default_mode(metric)) == ("min", "min")


@pytest.mark.parametrize("metric", MORE.split())
def test_more_of_it_is_better(metric):
    assert (mode_of(metric), default_mode(metric)) == ("max", "max")


@pytest.mark.parametrize("metric", ["objective", "y", "train/lr", "glossary", "timestep", "epoch"])
def test_a_name_that_says_nothing_is_taken_as_more_is_better(metric):
    assert (mode_of(metric), default_mode(metric)) == (None, "max")


# ── of besom's own app ────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("words", "mode"),
    [
        ([], "max"),
        (["objective.metric=val/loss"], "min"),
        (["objective.metric=val/loss", "objective.mode=null"], "min"),
        (["objective={metric: val/loss, reduce: last}"], "min"),
        (["objective.metric=val/loss", "objective.mode=max"], "max"),
    ],
)
def test_the_mode_follows_the_metrics_name_unless_it_is_given(words, mode, compose):
    assert load(compose(*words)).objective.mode == mode


@pytest.mark.parametrize("words", [["objective.metric=val/loss"], ["objective.metric=val/loss", "objective.mode=null"]])
def test_the_plateau_scheduler_watches_in_the_same_direction(words, compose):
    assert load(compose("scheduler=plateau", *words)).scheduler.mode == "min"  # type: ignore[attr-defined]
    assert load(compose("scheduler=plateau")).scheduler.mode == "max"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("metric", "mode", "says"),
    [
        ("val/loss", "max", "objective.mode=max takes the largest val/loss for the best, though by its name less is"),
        ("val/acc", "min", "objective.mode=min takes the smallest val/acc for the best, though by its name more is"),
    ],
)
def test_a_mode_that_contradicts_the_name_is_warned_of(metric, mode, says):
    assert says in str(against_its_name(metric, mode, "objective.mode", mode))


def test_of_a_name_that_says_nothing_there_is_no_warning():
    assert against_its_name("y", "min", "objective.mode", "min") is None


# ── of a sweep ────────────────────────────────────────────────────────────────────────────────────────────────────────
def _asked(app, **given):
    config = OmegaConf.create({**app, "hydra": {"sweeper": {**_defaults(), **given}}})
    sweeper = config.hydra.sweeper
    return OmegaConf.to_container(config.hydra.sweeper)["direction"] and sweeper.direction, sweeper.metric


def _defaults():
    return {"direction": BesomSweeperConf.direction, "metric": BesomSweeperConf.metric}


@pytest.mark.parametrize(
    ("app", "given", "direction"),
    [
        ({}, {}, "minimize"),  # as the official Optuna sweeper
        ({"objective": {"metric": "val/loss", "mode": "min"}}, {}, "minimize"),
        ({"objective": {"metric": "val/acc", "mode": "max"}}, {}, "maximize"),
        ({"objective": {"metric": "x", "mode": None}}, {}, "maximize"),
        ({"objective": "fast"}, {}, "minimize"),
        ({}, {"metric": "accuracy"}, "maximize"),
        ({}, {"metric": "loss"}, "minimize"),
        ({}, {"metric": "loss", "direction": "maximize"}, "maximize"),
        ({}, {"direction": None, "metric": None}, "minimize"),
    ],
)
def test_a_sweeps_direction_is_the_given_one_or_the_apps_or_the_metrics(app, given, direction):
    [objective] = objectives(*_asked(app, **given))
    assert objective.direction == direction


@pytest.mark.parametrize(
    ("direction", "metric", "mode", "says"),
    [
        ("maximize", "loss", None, "hydra.sweeper.direction=maximize takes the largest loss for the best"),
        ("minimize", "accuracy", None, "hydra.sweeper.direction=minimize takes the smallest accuracy for the best"),
        ("max", "val/loss", "max", "objective.mode=max takes the largest val/loss for the best"),
        (["minimize", "minimize"], ["loss", "accuracy"], None, "takes the smallest accuracy"),
        ("minimize", "y", "max", "hydra.sweeper.direction=minimize, but objective.mode=max"),
        (None, "accuracy", None, "hydra.sweeper.direction=maximize, by the name of hydra.sweeper.metric=accuracy"),
    ],
)
def test_what_a_sweeps_direction_may_not_be_meant_to_be_is_said_once(direction, metric, mode, says):
    [line] = said_of_directions(direction, objectives(direction, metric), mode)
    assert says in line


@pytest.mark.parametrize(
    ("direction", "metric", "mode"),
    [("minimize", "loss", None), (None, "objective", None), (None, "loss", None), ("max", "val/acc", "max")],
)
def test_of_a_direction_that_fits_nothing_is_said(direction, metric, mode):
    assert list(said_of_directions(direction, objectives(direction, metric), mode)) == []


# ── nulls ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_null_stands_for_the_default_where_a_sweep_cannot_be_without():
    app = OmegaConf.create({"objective": {"metric": "val/f1", "mode": "max"}, "hydra": {"job": {"name": "app"}}})
    app.hydra.sweeper = OmegaConf.structured(BesomSweeperConf)
    for key in _NEVER_NULL:
        app.hydra.sweeper[key] = None

    filled = _filled({key: app.hydra.sweeper[key] for key in (*_NEVER_NULL, "timeout")}, app)

    assert filled["storage"] == "sqlite:///optuna.db"
    assert filled["study_name"] == "app"
    assert (filled["direction"], filled["metric"]) == ("max", "val/f1")
    assert (filled["params"], filled["enqueue"], filled["retry_on"]) == ({}, [], [])
    assert (filled["resume"], filled["isolation"]) == ("continue", "process")
    assert filled["timeout"] is None
