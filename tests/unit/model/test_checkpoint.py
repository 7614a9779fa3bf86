"""A checkpoint is read by itself: without a config, and without a chance for what it names."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir

from besom.config.hydra_compat import VERSION_BASE
from besom.config.load import load, shipped
from besom.config.redaction import HIDDEN
from besom.data import ImageData, read_pictures
from besom.errors import InputError
from besom.model import CNN, Classifier
from besom.model.checkpoint import without_secrets
from besom.training.fit import _quiet
from besom.training.instantiate import build_data, build_module

WORDS = ("model.width=8", "model.activation=gelu", "loss=focal", "scheduler=one_cycle", "trainer.max_epochs=1")


def _settings(*words: str):
    with initialize_config_dir(str(shipped("conf")), **VERSION_BASE):
        return load(compose("train", [*WORDS, *words]))


def _train(module: Classifier, data: ImageData, folder: Path) -> pl.Trainer:
    _quiet()
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=folder, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    return trainer


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Classifier, ImageData]:
    """The file of a classifier that has trained for an epoch; it; and its data."""
    folder = tmp_path_factory.mktemp("trained")
    settings = _settings()
    data = build_data(settings)
    module = build_module(settings, data)
    trainer = _train(module, data, folder)
    trainer.save_checkpoint(folder / "best.ckpt")
    return folder / "best.ckpt", module, data


@pytest.fixture
def changed(trained, tmp_path):
    """The same file, with other hyperparameters."""

    def changed(**values):
        content = torch.load(trained[0], weights_only=True)
        content["hyper_parameters"].update(values)
        torch.save(content, tmp_path / "changed.ckpt")
        return tmp_path / "changed.ckpt"

    return changed


# ── what is in it ─────────────────────────────────────────────────────────────────────────────────────────────────────
def test_it_predicts_as_it_did_in_training_with_the_same_normalisation(trained):
    path, module, data = trained
    raw = data.whole.images[:50]

    found = Classifier.load_from_checkpoint(path)

    with torch.no_grad():
        expected = module.eval()(data.normalised(raw, "contiguous")).softmax(1)
    assert torch.equal(found.normalised(raw), data.normalised(raw, "contiguous"))
    assert torch.allclose(found.predict(raw), expected, atol=1e-6)
    assert not found.training


def test_it_says_what_it_is(trained):
    path, _, data = trained

    found = Classifier.load_from_checkpoint(str(path))

    assert isinstance(found.network, CNN)
    assert (found.classes, found.input_shape) == ([str(n) for n in range(10)], (1, 8, 8))
    assert found.hparams["network"]["_target_"] == "besom.model.CNN"
    assert found.hparams["network"]["width"] == 8
    assert found.hparams["mean"] == data.parts.mean.tolist()
    assert found.hparams["std"] == data.parts.std.tolist()


def test_it_holds_plain_values_beside_the_weights(trained):
    values = torch.load(trained[0], weights_only=True)["hyper_parameters"]
    assert type(values) is dict
    pickle.loads(pickle.dumps(values))


def test_a_fresh_script_loads_it_without_a_config(trained, tmp_path):
    code = (
        "import torch; from besom.model import Classifier; "
        f"model = Classifier.load_from_checkpoint({str(trained[0])!r}); "
        "print(tuple(model.predict(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)).shape))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "(2, 10)\n", "")
    assert list(tmp_path.iterdir()) == []


def test_it_can_be_trained_on(trained, tmp_path):
    path, _, data = trained
    found = Classifier.load_from_checkpoint(path)
    _train(found.train(), data, tmp_path)
    assert type(found.optimizers().optimizer) is torch.optim.AdamW


def test_pictures_are_read_as_for_training(trained, tmp_path):
    from PIL import Image

    Image.new("RGB", (40, 20), "white").save(tmp_path / "a.png")
    found = Classifier.load_from_checkpoint(trained[0])

    images = read_pictures([tmp_path / "a.png"], found.input_shape)

    assert (images.shape, images.dtype) == ((1, 1, 8, 8), torch.uint8)
    assert found.predict(images).sum().item() == pytest.approx(1)


def test_pictures_of_another_size_are_refused(trained):
    with pytest.raises(InputError, match=r"pictures of \[B, 1, 8, 8\], but got \[2, 3, 8, 8\]"):
        Classifier.load_from_checkpoint(trained[0]).predict(torch.zeros(2, 3, 8, 8))


def test_a_secret_among_the_arguments_is_not_written_down(changed):
    kept = without_secrets({"_target_": "besom.model.CNN", "password": "hunter2", "hidden": [8]}, "network")
    assert kept == {"_target_": "besom.model.CNN", "password": HIDDEN, "hidden": [8]}
    with pytest.raises(InputError, match="password was a secret"):
        Classifier.load_from_checkpoint(changed(network=kept))


# ── what it must not do ───────────────────────────────────────────────────────────────────────────────────────────────
STRANGERS = [
    {"_target_": "os.system", "command": "touch touched"},
    {"_target_": "subprocess.Popen", "args": "touch touched", "shell": True},
    {"_target_": "evil.Net"},
    {"_target_": "torch.nn.Sequential", "_args_": [{"_target_": "os.system", "command": "touch touched"}]},
    {"_target_": "torch.load", "f": "evil.ckpt"},
    {"_target_": "torch.hub.load", "repo_or_dir": "a/b", "model": "c"},
    {"_target_": "torch.nn.init.zeros_", "tensor": None},
    {"_target_": "torch.nn.functional.relu", "input": None},
    {"_target_": "torch.nnevil.Net"},
    {"_target_": "besom.cli.main"},
    {"_target_": "besom.model.CNN", "activation": "evil.Activation"},
    {"_target_": "besom.model.network.CNN", "activation": "evil.Activation"},
    {"_target_": "besom.model.network.ConvBlock", "in_channels": 1, "out_channels": 1, "activation": "evil.Activation"},
    {"_target_": "besom.model.network._activation", "name": "evil.Activation"},
    {"_target_": "besom.model.classifier.Iterable"},
]


@pytest.mark.parametrize("stranger", STRANGERS, ids=lambda stranger: stranger["_target_"])
@pytest.mark.parametrize("part", ["network", "loss"])
def test_what_is_no_network_or_not_known_is_never_run(stranger, part, changed, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil.py").write_text("open('touched', 'w')")
    whole = Classifier.load_from_checkpoint(trained[0]).hparams["network"]
    if stranger["_target_"].endswith("ConvBlock"):
        whole = {name: whole[name] for name in ("kernel_size", "norm", "pool")}
    node = {**whole, **stranger} if "activation" in stranger else stranger

    with pytest.raises(InputError):
        Classifier.load_from_checkpoint(changed(**{part: node}))

    assert not (tmp_path / "touched").exists()


def test_what_it_refers_to_is_not_looked_up(changed, trained, monkeypatch):
    monkeypatch.setenv("SECRET", "hunter2")
    whole = Classifier.load_from_checkpoint(trained[0]).hparams["loss"]

    found = Classifier.load_from_checkpoint(changed(loss={**whole, "gamma": "${oc.env:SECRET}"}))

    assert found.loss.gamma == "${oc.env:SECRET}"


def test_a_network_of_ones_own_is_loaded_when_its_package_is_trusted(changed, trained, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_nets", raising=False)
    (tmp_path / "my_nets.py").write_text("from besom.model import CNN\nclass Net(CNN): pass\n")
    whole = Classifier.load_from_checkpoint(trained[0]).hparams["network"]
    path = changed(network={**whole, "_target_": "my_nets.Net"})

    with pytest.raises(InputError, match=r"my_nets\.Net.*trust=\['my_nets'\]"):
        Classifier.load_from_checkpoint(path)

    assert type(Classifier.load_from_checkpoint(path, trust=["my_nets"]).network).__name__ == "Net"
    assert type(Classifier.load_from_checkpoint(path, trust="my_nets").network).__name__ == "Net"


def test_code_in_the_file_itself_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'touched'}",)

    torch.save({"state_dict": {}, "hyper_parameters": Evil()}, tmp_path / "evil.ckpt")

    with pytest.raises(InputError, match="holds more than weights and plain values"):
        Classifier.load_from_checkpoint(tmp_path / "evil.ckpt")

    assert not (tmp_path / "touched").exists()


# ── what is none ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.ckpt: there is no such checkpoint"):
        Classifier.load_from_checkpoint(tmp_path / "nowhere.ckpt")


@pytest.mark.parametrize("cut", [0, 100, 2000])
def test_a_damaged_file_is_refused(cut, trained, tmp_path):
    (tmp_path / "cut.ckpt").write_bytes(trained[0].read_bytes()[:cut])
    with pytest.raises(InputError, match=r"cut\.ckpt"):
        Classifier.load_from_checkpoint(tmp_path / "cut.ckpt")


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"network.head.weight": torch.zeros(1)}, "an older besom wrote it"),
        ({"net.weight": torch.zeros(1)}, r"MyModule\.load_from_checkpoint"),
    ],
)
def test_an_old_checkpoint_and_one_of_another_class_say_what_to_do(state, says, tmp_path):
    torch.save({"state_dict": state}, tmp_path / "old.ckpt")
    with pytest.raises(InputError, match=says):
        Classifier.load_from_checkpoint(tmp_path / "old.ckpt")


def test_weights_that_do_not_fit_say_so(changed, trained):
    whole = Classifier.load_from_checkpoint(trained[0]).hparams["network"]
    with pytest.raises(InputError, match=r"its weights do not fit besom\.model\.CNN"):
        Classifier.load_from_checkpoint(changed(network={**whole, "width": 16}))
