from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import hydra
import pytest
from hydra import initialize_config_dir
from hypothesis import HealthCheck, settings
from omegaconf import DictConfig

from besom.config.hydra_compat import VERSION_BASE
from besom.config.load import shipped

# a busy machine is no failure
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

Compose = Callable[..., DictConfig]


@pytest.fixture
def compose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compose:
    """The config that `besom train OVERRIDE...` would compose, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(variable, raising=False)

    def compose(*overrides: str) -> DictConfig:
        with initialize_config_dir(str(shipped("conf")), **VERSION_BASE):
            return hydra.compose("train", list(overrides))

    return compose
