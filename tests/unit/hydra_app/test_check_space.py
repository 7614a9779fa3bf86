from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from besom.config.hydra_compat import VERSION_BASE
from besom.errors import InputError
from besom.hydra_app.check_space import check_space
from besom.hydra_app.job import App
from besom.hydra_app.program import Program
from besom.space.parse import parse

PARAMS = {
    "width": "choice(16,32)",
    "optimizer": {
        "sgd": {
            "optimizer.lr": "interval(0.1,1)",
            "optimizer.nesterov": {True: {"optimizer.momentum": 0.5}, False: None},
        },
        "adam": {"optimizer.lr": "interval(0.01,0.1)"},
    },
}


class Seen:
    """A Hydra callback, as an app would have one."""

    def __init__(self) -> None:
        self.configs: list[DictConfig] = []

    def check(self, config: DictConfig) -> None:
        self.configs.append(config)


def _rehearsed(params: dict[str, Any], app: Path) -> list[DictConfig]:
    (app / "optimizer").mkdir()
    (app / "config.yaml").write_text("defaults: [{optimizer: sgd}, _self_]\nwidth: 8\n")
    (app / "optimizer" / "sgd.yaml").write_text("lr: 1\nnesterov: false\nmomentum: 0\n")
    (app / "optimizer" / "adam.yaml").write_text("lr: 1\n")
    with initialize_config_dir(str(app), **VERSION_BASE):
        loader = GlobalHydra.instance().config_loader()
        callbacks, seen = Callbacks(), Seen()
        callbacks.callbacks = [seen]
        config = loader.load_configuration("config", [], RunMode.MULTIRUN)
        context = HydraContext(config_loader=loader, callbacks=callbacks)
        check_space(parse(params, []), App(lambda config: 0.0, context, config, Program.running()))
    return seen.configs


def test_every_option_is_composed_with_what_it_brings_and_every_end_once(tmp_path):
    configs = _rehearsed(PARAMS, tmp_path)

    assert [(config.width, dict(config.optimizer)) for config in configs] == [
        (16, {"lr": 0.1, "nesterov": True, "momentum": 0.5}),
        (32, {"lr": 0.1, "nesterov": True, "momentum": 0.5}),
        (16, {"lr": 0.01}),
        (16, {"lr": 1.0, "nesterov": True, "momentum": 0.5}),
        (16, {"lr": 0.1, "nesterov": False, "momentum": 0}),
        (16, {"lr": 0.1}),
    ]


def test_a_key_that_only_one_branch_gets_wrong_is_found(tmp_path):
    params = {"optimizer": {"sgd": None, "adam": {"optimizer.momentum": "interval(0,1)"}}}

    with pytest.raises(
        InputError, match=r"^in the search space at optimizer=adam optimizer\.momentum=0\.0: .*momentum"
    ):
        _rehearsed(params, tmp_path)
