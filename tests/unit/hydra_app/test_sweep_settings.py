from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, open_dict, read_write

from besom.errors import InputError
from besom.hydra_app.sweep_settings import link, refuse_another, trial_name
from besom.space.parse import parse, said_again

CONFIG = """
defaults: [_self_, {preset: none}, {override hydra/sweeper: besom}]
lr: 0.1
"""
PRESETS = {
    "none": "{}",
    "launcher": "# @package _global_\ndefaults: [{override /hydra/launcher: local}]",
    "params": "# @package _global_\nhydra: {sweeper: {params: {lr: '1,2'}}}",
    "budget": "# @package _global_\nhydra: {sweeper: {n_trials: 7}}",
    "folder": "# @package _global_\nhydra: {sweep: {dir: elsewhere}}",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "preset").mkdir()
    (tmp_path / "config.yaml").write_text(CONFIG)
    for name, text in PRESETS.items():
        (tmp_path / "preset" / f"{name}.yaml").write_text(text)
    return tmp_path


def composed(folder: Path, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(folder), version_base="1.3"):
        return compose("config", ["hydra.sweep.dir=out", *overrides], return_hydra_config=True)


@pytest.mark.parametrize(
    ("preset", "brings"),
    [
        ("launcher", "hydra/launcher=local"),
        ("params", r"hydra\.sweeper\.params"),
        ("budget", r"hydra\.sweeper\.n_trials"),
    ],
)
def test_no_trial_brings_what_the_sweep_has_chosen(folder: Path, preset: str, brings: str) -> None:
    with pytest.raises(InputError, match=f"it brings {brings}, but a sweep has one"):
        refuse_another(composed(folder, f"preset={preset}"), composed(folder))


def test_no_trial_has_another_sweeper(folder: Path) -> None:
    with pytest.raises(InputError, match="it brings hydra/sweeper=basic"):
        refuse_another(composed(folder, "hydra/sweeper=basic"), composed(folder))


def test_a_sweep_has_one_folder(folder: Path) -> None:
    refuse_another(composed(folder), composed(folder))
    sweep = composed(folder, "hydra.sweep.dir=out/${lr}")
    with pytest.raises(InputError, match=r"it makes hydra.sweep.dir out/2, and the sweep's is out/0\.1"):
        refuse_another(composed(folder, "hydra.sweep.dir=out/${lr}", "lr=2"), sweep)
    early = composed(folder, "hydra.sweep.dir=out/${hydra.job.id}")
    with pytest.raises(InputError, match=r"hydra.sweep.dir=out/\${hydra.job.id}: a sweep has one folder"):
        refuse_another(composed(folder), early)


@pytest.mark.parametrize(
    ("asked", "name"),
    [("${hydra.job.num}", "7"), ("${hydra.job.id}", "7"), ("lr_${lr}", "lr_0.1"), ("a/${lr}", "a/0.1")],
)
def test_a_trials_folder_has_the_name_that_hydra_would_give_it(folder: Path, asked: str, name: str) -> None:
    assert trial_name(numbered(composed(folder, f"hydra.sweep.subdir={asked}"))) == name


@pytest.mark.parametrize("asked", ["3", "8/${lr}", "workers/${lr}", "../${lr}", "/tmp/${lr}", "a" * 300, "${no}"])
def test_a_name_that_would_be_anothers_is_refused(folder: Path, asked: str) -> None:
    with pytest.raises(InputError, match=r"hydra\.sweep\.subdir"):
        trial_name(numbered(composed(folder, f"hydra.sweep.subdir={asked}")))


def numbered(config: DictConfig) -> DictConfig:
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.job.num, config.hydra.job.id = 7, "7"
    return config


def test_two_trials_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    for number in "01":
        (tmp_path / number).mkdir()
    assert [link(tmp_path / "0", "a/b"), link(tmp_path / "0", "a/b")] == ["a/b", "a/b"]
    assert link(tmp_path / "1", "a/b") == "a/b_1"
    assert (tmp_path / "a" / "b_1").resolve() == tmp_path / "1"
    (tmp_path / "c").mkdir()
    (tmp_path / "c_1").mkdir()
    with pytest.raises(InputError, match="something else of that name"):
        link(tmp_path / "1", "c")


def test_of_a_key_given_twice_the_last_holds_and_a_search_that_does_not_is_told() -> None:
    for words, left, fixed in [
        (["+a={x:1},{x:2}", "+a={y:3},{y:4}"], ["{y:3}", "{y:4}"], ()),
        (["+a=1", "+a=1,2"], [1, 2], ()),
        (["a=1,2", "a=3"], None, ("a=3",)),
        (["a=1", "a=2", "b=1,2"], None, ("a=2",)),
        (["~a", "+a=1,2"], [1, 2], ("~a",)),
        (["a=1", "++a=2", "b=1,2"], None, ("a=1", "++a=2")),
    ]:
        space = parse({}, words)
        assert space.fixed == fixed, words
        if left:
            assert [list(searched.choices) for searched in space.dimensions.values()] == [left]  # type: ignore[attr-defined]
    assert list(said_again(["a=1,2", "b=1,2", "a=3"])) == [
        "a=1,2 is not searched: a=3 stands behind it, and the last one counts"
    ]
    assert list(said_again(["a=1", "a=2", "b=1,2"])) == []
