from __future__ import annotations

from dataclasses import fields

import pytest

from besom.cli import main
from besom.config.load import shipped
from hydra_plugins.besom_sweeper.sweeper import BesomSweeperConf

NOT_SHORT = {"defaults", "_target_", "_recursive_", "join", "experiment"}  # Hydra's, besom's own, a group of besom's


@pytest.mark.parametrize("field", fields(BesomSweeperConf), ids=lambda field: field.name)
def test_each_setting_of_a_sweep_is_short_on_besoms_command_line(field):
    if field.name in NOT_SHORT:
        assert list(main._short([f"{field.name}=x"])) == [f"{field.name}=x"]
        return
    sign = "/" if field.name in ("sampler", "pruner", "terminator") else "."
    assert list(main._short([f"{field.name}=x"])) == [f"hydra{sign}sweeper{sign}{field.name}=x"]


def test_no_key_of_besoms_config_is_hidden_by_a_short_one(compose):
    settings, _ = main._settings()
    assert settings.isdisjoint(map(str, compose()))
    assert settings.isdisjoint(path.name for path in shipped("conf").iterdir())


@pytest.mark.parametrize(
    ("words", "are"),
    [
        (["-n", "5"], ["hydra.sweeper.n_trials=5"]),
        (["-n5"], ["hydra.sweeper.n_trials=5"]),
        (["-n=5"], ["hydra.sweeper.n_trials=5"]),
        (["-j", "2"], ["hydra.sweeper.n_jobs=2"]),
        (["--n-trials", "5"], ["hydra.sweeper.n_trials=5"]),
        (["--n_trials=5"], ["hydra.sweeper.n_trials=5"]),
        (["--storage", "sqlite:///a=b.db"], ["hydra.sweeper.storage=sqlite:///a=b.db"]),
        (["sampler.seed=3"], ["hydra.sweeper.sampler.seed=3"]),
        (["pruner=null"], ["hydra.sweeper.pruner=null"]),
        (["--cfg", "job", "-c=job", "optimizer=sgd", "model.width=3", "seed=1,2"],) * 2,
        (["hydra.sweeper.n_trials=5", "+n_trials=5", "~timeout"],) * 2,
    ],
    ids=lambda words: words[0],
)
def test_short_settings_stand_for_hydras(words, are):
    assert list(main._short(words)) == are


@pytest.mark.parametrize(
    ("arguments", "name", "rest"),
    [
        ([], "digits", []),
        (["mine"], "mine", []),
        (["mine", "-n", "5"], "mine", ["hydra.sweeper.n_trials=5"]),
        (["-n", "5", "mine", "seed=1,2"], "mine", ["hydra.sweeper.n_trials=5", "seed=1,2"]),
        (["n_trials=5"], "digits", ["hydra.sweeper.n_trials=5"]),
        (["optimizer=sgd", "--config-dir", "there"], "digits", ["optimizer=sgd", "--config-dir", "there"]),
    ],
)
def test_a_sweeps_name_may_stand_behind_its_settings(arguments, name, rest, monkeypatch):
    ran: list[str] = []
    monkeypatch.setattr(main, "_train", ran.extend)
    main._sweep(arguments)
    assert ran == ["--multirun", f"sweeps={name}", "hydra/sweeper=besom", *rest]


def test_what_only_shows_the_config_is_no_sweep(monkeypatch):
    ran: list[str] = []
    monkeypatch.setattr(main, "_train", ran.extend)
    main._sweep(["digits", "--cfg", "job"])
    assert ran == ["sweeps=digits", "hydra/sweeper=besom", "--cfg", "job"]


def test_a_letter_without_its_value_is_refused(capsys):
    with pytest.raises(SystemExit) as exit_:
        list(main._short(["digits", "-n"]))
    assert exit_.value.code == 2
    assert "-n: a value is missing" in capsys.readouterr().err
