from __future__ import annotations

import inspect
import re

import pytest
import torch
from hydra.utils import get_object
from torch import nn

from besom.config.load import load, shipped
from besom.config.schema import ACTIVATIONS
from besom.errors import InputError

OPTIONS = sorted(f"{file.parent.name}={file.stem}" for file in shipped("conf").glob("*/*.yaml"))
TORCHS = [option for option in OPTIONS if option.startswith(("optimizer=", "scheduler=", "loss="))]


@pytest.fixture
def needs(tmp_path):
    """What an option cannot do without."""

    def needs(option: str) -> list[str]:
        return [f"data.source.folder={tmp_path}"] if option == "data=image_folder" else []

    return needs


# ── what fits ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_default_config_fits(compose):
    settings = load(compose())

    assert settings.data.source.name == "digits"
    assert settings.model.name == "CNN"
    assert settings.objective.metric == "val/acc"


@pytest.mark.parametrize("option", OPTIONS)
def test_every_shipped_option_fits(option, compose, needs):
    load(compose(option, *needs(option)))


@pytest.mark.parametrize(
    "group", ["data", "experiment", "loss", "model", "optimizer", "scheduler", "tracking", "trainer"]
)
def test_every_group_has_an_option(group):
    assert any(option.startswith(f"{group}=") for option in OPTIONS)


@pytest.mark.parametrize("option", TORCHS)
def test_the_class_that_an_option_names_takes_every_key_of_it(option, compose):
    group, _, _ = option.partition("=")
    section = getattr(load(compose(option)), group)

    taken = inspect.signature(get_object(section.target)).parameters

    assert set(section.arguments()) <= set(taken)


def test_arguments_are_a_classs_own_keywords_only(compose):
    scheduler = load(compose("scheduler=step")).scheduler

    assert scheduler.arguments() == {"step_size": 5, "gamma": 0.1}


@pytest.mark.parametrize("rate", [1e-12, 0.1, 1, 1e12])
def test_every_positive_number_is_a_learning_rate(rate, compose):
    assert load(compose(f"optimizer.lr={rate}")).optimizer.lr == rate  # type: ignore[attr-defined]


@pytest.mark.parametrize("devices", ["1", "[0,1]", "auto"])
def test_devices_are_a_count_a_list_or_auto(devices, compose):
    load(compose(f"trainer.devices={devices}"))


def test_the_store_is_mlflows_own_default(compose):
    assert load(compose()).tracking.uri == "sqlite:///mlflow.db"


def test_mlflows_own_environment_variables_are_respected(compose, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "birds")

    tracking = load(compose()).tracking

    assert (tracking.uri, tracking.experiment) == ("http://host:5000", "birds")


# ── the user's own classes ────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("section", ["data.source", "model", "loss", "optimizer", "scheduler"])
def test_a_users_own_target_takes_any_key(section, compose):
    settings = load(compose(f"{section}._target_=torch.nn.Mine", f"+{section}.whatever=[1,two]"))

    own = settings
    for name in section.split("."):
        own = getattr(own, name)
    assert own.arguments()["whatever"] == [1, "two"]  # type: ignore[attr-defined]


def test_a_users_module_is_found_in_the_working_directory(compose, tmp_path, monkeypatch):
    (tmp_path / "my_nets.py").write_text("raise AssertionError('it is not imported to be found')")
    monkeypatch.syspath_prepend(tmp_path)

    assert load(compose("model._target_=my_nets.Wide")).model.target == "my_nets.Wide"


def test_a_users_own_scheduler_steps_by_epoch_unless_it_says_otherwise(compose):
    own = "scheduler._target_=torch.optim.lr_scheduler.ExponentialLR"

    assert load(compose(own, "~scheduler.interval")).scheduler.interval == "epoch"
    assert load(compose(own, "scheduler.interval=step")).scheduler.interval == "step"


# ── what is refused ───────────────────────────────────────────────────────────────────────────────────────────────────
REFUSED = {
    # overrides: what the message must hold
    ("optimizer.lr=-1",): "optimizer.lr=-1: Input should be greater than 0",
    ("optimizer.lr=0",): "optimizer.lr=0: Input should be greater than 0",
    ("optimizer.lr=abc",): "optimizer.lr=abc: Input should be a valid number",
    ("optimizer.lr=true",): "optimizer.lr=True: Input should be a valid number",
    ("optimizer.lr=nan",): "optimizer.lr=nan: ",
    ("optimizer.lr=inf",): "optimizer.lr=inf: must be a finite number",
    ("optimizer.weight_decay=-0.1",): "optimizer.weight_decay=-0.1: ",
    ("optimizer.weight_decay=inf",): "optimizer.weight_decay=inf: must be a finite number",
    ("optimizer.betas=[0.9]",): "optimizer.betas=[0.9]: List should have at least 2 items",
    ("optimizer.betas=[0.9,0.9,0.9]",): "optimizer.betas=[0.9, 0.9, 0.9]: List should have at most 2 items",
    ("optimizer.betas=[0.9,1]",): "optimizer.betas.1=1: Input should be less than 1",
    ("optimizer=sgd", "optimizer.momentum=0"): "optimizer: nesterov=true needs a momentum above 0",
    ("optimizer=sgd", "+optimizer.momntum=0"): "optimizer.momntum: no such key; did you mean 'momentum'?",
    ("+optimizer.lrr=1",): "optimizer.lrr: no such key; did you mean 'lr'?",
    ("+nonsense=1",): "nonsense: no such key; choose one of: data, loss, ",
    ("model.activation=rellu",): "model.activation=rellu: no such activation; did you mean 'relu'",
    ("model.depth=0",): "model.depth=0: ",
    ("model.hidden=[64,0]",): "model.hidden.1=0: ",
    ("model.dropout=1",): "model.dropout=1: Input should be less than 1",
    ("model.norm=layer",): "model.norm=layer: Input should be 'batch', 'group', 'instance' or 'none'",
    ("model.pool=min",): "model.pool=min: Input should be 'max', 'avg' or 'none'",
    ("loss=focal", "loss.gamma=-1"): "loss.gamma=-1: ",
    ("loss.label_smoothing=1.5",): "loss.label_smoothing=1.5: ",
    ("scheduler=step", "scheduler.step_size=0"): "scheduler.step_size=0: ",
    ("scheduler.interval=batch",): "scheduler.interval=batch: Input should be 'epoch' or 'step'",
    ("data.batch_size=0",): "data.batch_size=0: Input should be greater than or equal to 1",
    ("data.batch_size=2.5",): "data.batch_size=2.5: Input should be a valid integer",
    ("data.val_split=0",): "data.val_split=0: ",
    ("data.test_split=1",): "data.test_split=1: ",
    ("data.val_split=0.8", "data.test_split=0.2"): "val_split=0.8 and test_split=0.2 leave nothing to train on",
    ("data=image_folder",): "data.source.folder: missing; give it a value: data.source.folder=...",
    ("data=image_folder", "data.source.folder=nowhere"): "data.source.folder=nowhere: no such folder",
    ("data=image_folder", "data.source.folder=.", "data.source.channels=2"): "data.source.channels=2: ",
    ("data=image_folder", "data.source.folder=.", "data.source.size=[64]"): "data.source.size=[64]: ",
    ("data=image_folder", "data.source.folder=.", "data.source.size=8"): (
        "data.source.size=8: a list is meant: data.source.size=[8, ...]"
    ),
    ("trainer.max_epochs=0",): "trainer.max_epochs=0: Input should be greater than or equal to 1",
    ("trainer.accelerator=tpu",): "trainer.accelerator=tpu: ",
    ("trainer.precision=8",): "trainer.precision=8: ",
    ("trainer.gradient_clip_val=0",): "trainer.gradient_clip_val=0: ",
    ("trainer.early_stopping={patience: 0, min_delta: 0}",): "trainer.early_stopping.patience=0: ",
    ("objective.mode=maximum",): "objective.mode=maximum: Input should be 'max' or 'min'",
    ("seed=-1",): "seed=-1: ",
    ("seed=4294967296",): "seed=4294967296: Input should be less than 4294967296",
    ("tracking.experiment=''",): "tracking.experiment=: ",
    ("+tracking.tags.version=1",): "tracking.tags.version=1: Input should be a valid string",
    ("~optimizer.lr",): "optimizer.lr: missing; give it a value",
    ("~optimizer._target_",): "optimizer._target_: missing; give it a value",
    ("~optimizer",): "optimizer: missing; give it a value",
    ("optimizer.lr=???",): "optimizer.lr: missing; give it a value: optimizer.lr=...",
    ("optimizer.lr=${nowhere}",): "optimizer.lr: Interpolation key 'nowhere' not found",
    ("optimizer.lr=${oc.env:BESOM_NOT_SET}",): "optimizer.lr: ",
    ("model._target_=5",): "model._target_=5: Input should be a valid string",
    ("model._target_=[1]",): "model._target_=[1]: Input should be a valid string",
    ("model._target_=no_such_module.Net",): "_target_=no_such_module.Net: no module 'no_such_module'",
    ("optimizer._target_=Adam",): "_target_=Adam: no module 'Adam'",
    ("scheduler._target_=.StepLR",): "_target_=.StepLR: no module",
}


@pytest.mark.parametrize(("overrides", "message"), REFUSED.items(), ids=[" ".join(key) for key in REFUSED])
def test_a_value_that_does_not_fit_is_refused_by_key_and_value(overrides, message, compose):
    cfg = compose(*overrides)

    with pytest.raises(InputError, match=re.escape(message)):
        load(cfg)


def test_a_value_that_may_be_of_several_types_is_refused_once_and_by_its_own_key(compose):
    cfg = compose("trainer.devices=0")

    with pytest.raises(InputError, match=r"^the config does not fit:\n  trainer\.devices=0: [^\n]+$"):
        load(cfg)


def test_all_mistakes_are_named_in_one_message(compose):
    cfg = compose("optimizer.lr=-1", "model.depth=0", "+data.batchsize=64")

    with pytest.raises(InputError, match=r"(?s)data\.batchsize: .*model\.depth=0: .*optimizer\.lr=-1: "):
        load(cfg)


def test_a_folder_that_is_not_there_is_shown_as_it_was_looked_for(compose, tmp_path):
    cfg = compose("data=image_folder", "data.source.folder=pictures")

    with pytest.raises(InputError, match=re.escape(f"looked in {tmp_path / 'pictures'}")):
        load(cfg)


# ── activations ───────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_by_name_is_one_of_torchs(name):
    activation = getattr(nn, ACTIVATIONS[name])()

    activated = activation(torch.linspace(-3, 3, 7))

    assert activated.shape == (7,)
    assert activated.isfinite().all()


@pytest.mark.parametrize("activation", ["silu", "my_nets.Snake"])
def test_an_activation_is_a_name_or_a_dotted_path(activation, compose):
    assert load(compose(f"model.activation={activation}")).model.activation == activation  # type: ignore[attr-defined]
