"""A trial's config is what Hydra composes for it, though the files are read once for all trials."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from besom.config.hydra_compat import VERSION_BASE
from besom.config.load import shipped
from besom.hydra_app.job import TrialsLoader

TRIALS = (
    ["optimizer.lr=0.1"],
    ["optimizer.lr=0.2"],  # the same files again
    ["optimizer=sgd", "optimizer.momentum=0.5"],
    ["~model.dropout", "+model.more={a: [1, 2]}"],
    ["optimizer=sgd", "optimizer.lr=0.3", "model.hidden=[8, 9]"],
    ["optimizer.lr=0.1"],  # nothing of what came between is left in it
    ["data=mnist", "hydra.searchpath=[]"],
    ["hydra.job.chdir=true", "sweeps=optimizers"],
    ["~model.dropout", "model.hidden=[1]"],
    ["model.dropout=0.5", "~model.dropout", "+model.dropout=0.25"],  # each builds on the one before it
    ["hydra.job.name=${optimizer.lr}", "optimizer.lr=0.5", "optimizer.lr=0.6"],
    ["optimizer={lr: 0.7}", "+more='${oc.env:HOME}'", "hydra.sweep.subdir=a"],
    ["+more='a=b,c'"],
)
REFUSED = (
    ["optimizer.nothing=1"],
    ["+optimizer.lr=0.1"],
    ["optimizer=nothing"],
    ["optimizer.lr=0.1", "~nothing"],
    ["optimizer@other=sgd"],
    ["optimizer.lr=0.1,0.2"],
    ["hydra.job.chdir=nothing"],
)


@pytest.fixture
def hydra_itself() -> Iterator[Any]:
    with initialize_config_dir(str(shipped("conf")), **VERSION_BASE):
        yield GlobalHydra.instance().config_loader()


def whole(config: DictConfig) -> Any:
    """With each node's type and flags: a struct takes no further key."""
    return OmegaConf.to_container(config, resolve=False), list(nodes(config))


def nodes(config: Any, at: str = "") -> Iterator[Any]:
    for key in config if isinstance(config, DictConfig) else range(len(config)):
        node = config._get_node(key)
        yield f"{at}.{key}", type(node).__name__, node._metadata.ref_type, node._metadata.flags
        if OmegaConf.is_config(node) and not (node._is_none() or node._is_missing() or node._is_interpolation()):
            yield from nodes(node, f"{at}.{key}")


def test_each_trials_config_is_as_hydra_composes_it(hydra_itself: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(shipped("conf")).parent)
    sweep = hydra_itself.load_configuration("train", ["hydra/sweeper=besom"], RunMode.MULTIRUN)
    ours = TrialsLoader(hydra_itself)
    for overrides in TRIALS:
        composed = ours.load_sweep_config(sweep, overrides)
        assert whole(composed) == whole(hydra_itself.load_sweep_config(sweep, overrides)), overrides
        composed.seed = 999  # whatever a job does to it
        composed.model.hidden.append(7)


def test_a_name_that_is_a_trials_own_stays_so(hydra_itself: Any) -> None:
    """Hydra gives a job that has none the name of its script, and one is none where it cannot be resolved."""
    sweep = hydra_itself.load_configuration("train", ["hydra.job.name=run_${x}"], RunMode.MULTIRUN)
    ours = TrialsLoader(hydra_itself)
    assert [ours.load_sweep_config(sweep, [f"+x={x}"]).hydra.job.name for x in (1, 2, 3)] == ["run_1", "run_2", "run_3"]


@pytest.mark.parametrize("overrides", REFUSED, ids=" ".join)
def test_what_hydra_refuses_is_refused_in_its_words(hydra_itself: Any, overrides: list[str]) -> None:
    sweep = hydra_itself.load_configuration("train", ["hydra/sweeper=besom"], RunMode.MULTIRUN)
    with pytest.raises(Exception) as theirs:  # noqa: PT011 - whatever Hydra raises
        hydra_itself.load_sweep_config(sweep, overrides)
    with pytest.raises(theirs.type) as ours:
        TrialsLoader(hydra_itself).load_sweep_config(sweep, overrides)
    assert str(ours.value) == str(theirs.value)
