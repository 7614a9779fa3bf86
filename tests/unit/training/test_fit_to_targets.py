"""A bare `_target_` in the place of an option, and a LightningModule that makes its own parts."""

from __future__ import annotations

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from besom.config.hydra_compat import VERSION_BASE
from besom.config.load import load, shipped
from besom.errors import InputError
from besom.training import fit
from besom.training.app import Check
from besom.training.fit_to_targets import fit_to_targets
from besom.training.instantiate import build_data, build_module

MINE = """
import torch, pytorch_lightning as pl
from torch import nn

class Net(nn.Sequential):
    def __init__(self, input_shape, num_classes, dropout=0.5, size=8):
        super().__init__(nn.Flatten(), nn.Linear(64, size), nn.Dropout(dropout), nn.Linear(size, num_classes))
        self.given = dropout, size

class Anything(nn.Sequential):
    def __init__(self, num_classes, **more):
        super().__init__(nn.Flatten(), nn.Linear(64, num_classes))
        self.given = more

class Module(pl.LightningModule):
    def __init__(self, num_classes, lr=0.1):
        super().__init__()
        self.net, self.lr = nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes)), lr
    def training_step(self, batch, index):
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss
    def validation_step(self, batch, index):
        self.log("val_loss", nn.functional.cross_entropy(self.net(batch[0]), batch[1]))
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.lr)

class Declares(Module):
    def __init__(self, num_classes, optimizer, loss, scheduler):
        super().__init__(num_classes)
        self.make, self.loss, self.schedule = optimizer, loss, scheduler
"""


@pytest.fixture
def app(tmp_path, monkeypatch):
    """The config of `besom train OVERRIDE...`, and Hydra's part of it, with `mine.py` in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "mine", raising=False)
    (tmp_path / "mine.py").write_text(MINE)

    def app(*overrides):
        with initialize_config_dir(str(shipped("conf")), **VERSION_BASE):
            config = compose(
                "train",
                list(overrides),
                return_hydra_config=True,
            )
        config.hydra.runtime.cwd, config.hydra.job.config_name = str(tmp_path), "train"
        return config

    return app


def fitted(config):
    """As in a run: without Hydra's part."""
    task = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
    return fit_to_targets(task, config.hydra)


def built(config):
    settings = load(fitted(config)[0])
    return build_module(settings, build_data(settings))


# ── a bare target ─────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_network_of_ones_own_needs_no_file(app):
    assert built(app("model._target_=mine.Net", "+model.size=16")).network.given == (0.1, 16)


def test_what_is_left_out_and_what_is_kept_is_said(app):
    _, [said] = fitted(app("model._target_=mine.Net"))

    assert said == (
        "model._target_=mine.Net in the place of model=cnn: keeps dropout=0.1 and is not given activation, depth, "
        "hidden, kernel_size, norm, pool, width, which it does not take"
    )


def test_what_is_given_to_a_class_that_does_not_take_it_is_refused(app):
    with pytest.raises(
        InputError, match=r"model\._target_=mine\.Net cannot be built.*does not take model\.depth: neither"
    ):
        built(app("model._target_=mine.Net", "model.depth=3"))


def test_a_class_that_takes_anything_is_given_what_its_user_gives(app):
    assert built(app("model._target_=mine.Anything", "model.width=7", "+model.size=16")).network.given == {
        "width": 7,
        "size": 16,
    }


def test_an_option_of_ones_own_is_taken_as_it_is(app, tmp_path):
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "mine.yaml").write_text("_target_: mine.Net\ndepth: 3\n")

    with pytest.raises(InputError, match="'depth'"):
        built(app("model=mine"))


@pytest.mark.parametrize(
    ("words", "optimizer", "defaults"),
    [
        (["optimizer._target_=torch.optim.RMSprop"], torch.optim.RMSprop, {"lr": 0.001, "weight_decay": 0.0}),
        (["optimizer._target_=torch.optim.SGD", "optimizer.lr=0.3"], torch.optim.SGD, {"lr": 0.3, "momentum": 0.9}),
        (["optimizer._target_=torch.optim.Adamax"], torch.optim.Adamax, {"lr": 0.001, "betas": [0.9, 0.999]}),
        (["optimizer={_target_: torch.optim.ASGD, lr: 0.2}"], torch.optim.ASGD, {"lr": 0.2}),
    ],
)
def test_a_bare_optimizer_is_built_of_the_keys_that_it_takes(words, optimizer, defaults, app):
    module = built(app(*words))
    made = module.make_optimizer(module.parameters(), None)

    assert type(made) is optimizer
    assert {key: made.defaults[key] for key in defaults} == defaults


@pytest.mark.parametrize(
    ("words", "loss"),
    [
        (["loss._target_=torch.nn.MultiMarginLoss"], torch.nn.MultiMarginLoss),
        (["loss._target_=torch.nn.CrossEntropyLoss", "loss=focal"], torch.nn.CrossEntropyLoss),
    ],
)
def test_a_bare_loss_is_built(words, loss, app):
    assert type(built(app(*words)).loss) is loss


@pytest.mark.parametrize("scheduler", ["CosineAnnealingLR", "ReduceLROnPlateau", "CosineAnnealingWarmRestarts"])
def test_a_bare_scheduler_is_built(scheduler, app):
    more = ["+scheduler.T_0=3"] if scheduler.endswith("Restarts") else []
    module = built(app(f"scheduler._target_=torch.optim.lr_scheduler.{scheduler}", *more))
    made = module._make_schedule(module.make_optimizer(module.parameters(), None), 10)

    assert type(made["scheduler"]).__name__ == scheduler


def test_a_wrong_key_of_a_known_class_is_refused_as_ever(app):
    with pytest.raises(InputError, match=r"optimizer\.betas: no such key"):
        load(fitted(app("optimizer._target_=torch.optim.RMSprop", "optimizer.betas=[0.9,0.9]"))[0])


def test_nothing_is_imported_or_said_of_the_usual_config(app):
    config = app("optimizer=sgd", "model.width=8")
    task = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])

    assert fit_to_targets(task, config.hydra) == (task, [])


# ── a LightningModule ─────────────────────────────────────────────────────────────────────────────────────────────────
WITHOUT_EFFECT = [
    ["optimizer.lr=0.3"],
    ["optimizer=sgd"],
    ["optimizer={lr: 0.3}"],
    ["loss=focal"],
    ["+loss.weight=2"],
    ["scheduler.factor=0.5"],
    ["trainer.fused=true"],
    ["+experiment=mine"],
]


@pytest.mark.parametrize("words", WITHOUT_EFFECT, ids=lambda words: words[0])
def test_what_a_lightning_module_would_ignore_is_refused(words, app, tmp_path):
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text("# @package _global_\noptimizer:\n  lr: 0.3\n")
    words = [word.replace("+experiment", "experiment") for word in words]

    with pytest.raises(InputError, match=r"mine\.Module is a LightningModule that makes its own") as refused:
        fitted(app("model._target_=mine.Module", "objective.metric=val_loss", *words))

    key = "optimizer.lr=0.3" if "experiment" in words[0] else words[0]
    assert str(refused.value).startswith(key)


@pytest.mark.parametrize("words", WITHOUT_EFFECT[:4], ids=lambda words: words[0])
def test_a_sweep_is_told_before_its_first_trial(words, app):
    with pytest.raises(InputError, match="without effect"):
        Check().check(app("model._target_=mine.Module", "objective.metric=val_loss", "tracking=none", *words))


def test_a_module_that_declares_the_parts_is_given_them(app):
    module = built(
        app(
            "model._target_=mine.Declares", "objective.metric=val_loss", "optimizer=sgd", "optimizer.lr=0.3",
            "loss=focal", "loss.gamma=3", "scheduler=step", "trainer.fused=false",
        )
    )  # fmt: skip
    optimizer = module.make(module.parameters())

    assert (type(optimizer), optimizer.defaults["lr"]) == (torch.optim.SGD, 0.3)
    assert optimizer.defaults["fused"] is False
    assert module.loss.gamma == 3
    assert module.schedule(optimizer, 10)["scheduler"].step_size == 5


def test_a_module_whose_config_gives_a_part_makes_it_itself(app):
    words = ["model._target_=mine.Declares", "+model={optimizer: null, loss: null, scheduler: null}"]

    with pytest.raises(InputError, match="without effect"):
        fitted(app(*words, "objective.metric=val_loss", "optimizer.lr=0.3"))


def test_a_module_that_is_its_own_hears_nothing_of_defaults(app):
    assert built(app("model._target_=mine.Module", "objective.metric=val_loss", "+model.lr=0.3")).lr == 0.3


def test_a_test_of_a_module_that_has_none_is_refused(app):
    with pytest.raises(InputError, match=r"test=true: mine\.Module has no test_step"):
        built(app("model._target_=mine.Module", "objective.metric=val_loss", "test=true"))


# ── what is logged ────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "words", [["objective.metric=val/accuracy"], ["objective.metric=val/accuracy", "model._target_=mine.Net"]]
)
def test_a_metric_that_no_network_logs_is_refused_before_a_sweep(words, app):
    with pytest.raises(InputError, match=r"objective\.metric=val/accuracy is never logged; did you mean 'val/acc'"):
        Check().check(app("tracking=none", *words))


def test_what_a_module_of_ones_own_logs_is_found_out_before_a_sweep(app, monkeypatch):
    config = app("model._target_=mine.Module", "objective.metric=val_los")
    monkeypatch.setattr(HydraConfig.instance(), "cfg", config)

    with pytest.raises(InputError, match=r"objective\.metric=val_los is never logged; did you mean 'val_loss'"):
        fit.prepare(OmegaConf.masked_copy(config, [key for key in config if key != "hydra"]))


# ── data ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_batch_of_more_than_the_training_data_is_refused(app):
    assert build_data(load(fitted(app("data.batch_size=1077"))[0])).parts.sizes["train"] == 1077
    with pytest.raises(InputError, match=r"data\.batch_size=1078 is more than the 1077 pictures to train on"):
        build_data(load(fitted(app("data.batch_size=1078"))[0]))
