"""Hydra's, OmegaConf's and YAML's errors, in one line each that says what would be right."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException
from hydra.types import RunMode

from besom.config.hydra_compat import VERSION_BASE
from besom.config.load import shipped
from besom.errors import BesomError, InputError
from besom.hydra_app.errors import as_input_error

UNREADABLE = {
    "optimizer.lr=intervall(0,1)": "there is no function 'intervall'; did you mean 'interval'?",
    "optimizer=choise(sgd,adam)": "there is no function 'choise'; did you mean 'choice'?",
    "x=tag(log,intervl(1,2))": "there is no function 'intervl'; did you mean 'interval'",
    "x=rnge(1,2)": "there is no function 'rnge'; did you mean 'range'?",
    "x=log(1,2)": "a logarithmic scale is tag(log, interval(...))",
    "x=loguniform(1,2)": "a logarithmic scale is tag(log, interval(...))",
    "x=uniform(1,2)": "there is no function 'uniform'; choose one of: ",
    "x=interval(1)": "interval(1) cannot be: missing a required argument: 'end'; write interval(LOW, HIGH)",
    "x=interval(1,b)": "end: str is incompatible with",
    "x=choice()": "choice() cannot be: empty choice is not legal; write choice(A, B, ...)",
    "x=interval(1,2": "a bracket is opened and not closed",
    "model.hidden=[1,2": "a bracket is opened and not closed",
    "x={a:1": "a bracket is opened and not closed",
    "x=1)": "a bracket is closed and was never opened",
    "nonsense": "write it as key=value",
    "x=a=b": "quote a value",
    "x='a": "quote a value",
}


@pytest.mark.parametrize("override", UNREADABLE)
def test_an_override_that_cannot_be_read_says_why(override):
    with pytest.raises(OverrideParseException) as refused:
        OverridesParser.create().parse_overrides([override])

    said = str(as_input_error(refused.value))

    assert said.startswith(f"{override}: ")
    assert UNREADABLE[override] in said
    assert "\n" not in said


def test_a_secret_is_not_repeated():
    with pytest.raises(OverrideParseException) as refused:
        OverridesParser.create().parse_overrides(["db.password=hunter2(1)"])
    assert "hunter2" not in str(as_input_error(refused.value)).partition(": ")[0]


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """What `besom train OVERRIDE...` would say of its config."""
    monkeypatch.chdir(tmp_path)

    def refused(*overrides: str, sweep: bool = False) -> str:
        words = [*(["hydra/sweeper=besom"] if sweep else []), *overrides]
        monkeypatch.setattr(sys, "argv", ["besom.train", *words])
        with pytest.raises(Exception) as error, initialize_config_dir(str(shipped("conf")), **VERSION_BASE):  # noqa: PT011
            compose("train", words, return_hydra_config=True)
        assert isinstance(error.value, Exception)
        found = error.value if isinstance(error.value, BesomError) else as_input_error(error.value)
        assert isinstance(found, InputError), error.value
        return str(found)

    return refused


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["hydra.sweeper.n_trial=5"], "hydra.sweeper.n_trial: no such key; did you mean 'n_trials'?"),
        (["hydra.sweeper.storag=x"], "did you mean 'storage'?"),
        (["hydra.sweeper.sampler.sed=1"], "did you mean 'seed'?"),
        (["n_trial=5"], "n_trial: no such key; did you mean 'n_trials'?"),
        (["hydra/sweeper/prunner=asha"], "did you mean 'pruner'?"),
        (["hydra/sweeper/pruner=ashaa"], "hydra/sweeper/pruner=ashaa: no such option; did you mean 'asha'?"),
        (["hydra.launchr.n=1"], "did you mean 'launcher'"),
        (["hydra.sweep.dirr=x"], "did you mean 'dir'"),
        (["hydra.sweeper.n_trials=null"], "hydra.sweeper.n_trials=null: it cannot be null"),
        (["hydra.sweeper.n_trials=many"], "hydra.sweeper.n_trials=many: "),
        (["+seed=1"], "+seed: there is such a key already; change it without the +: seed=..."),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_wrong_key_of_a_sweep_is_refused_with_the_near_one(overrides, says, refused):
    said = refused(*overrides, sweep=True)
    assert says in said
    assert "\n" not in said


def test_a_key_that_the_sweeper_would_refuse_is_not_offered_with_a_plus(refused):
    assert "+hydra" not in refused("hydra.sweeper.n_trial=5", sweep=True)


# ── a file of a sweep ─────────────────────────────────────────────────────────────────────────────────────────────────
HEAD = "# @package _global_\n"
FILES = {
    "": "mine.yaml is empty: a sweep's file begins with the line '# @package _global_'",
    "# only a comment\n": "mine.yaml is empty",
    "hydra: {sweeper: {n_trials: 3}}\n": "a sweep's file begins with the line '# @package _global_'",
    "- a\n- b\n": "mine.yaml: this is no mapping of keys to values",
    f"{HEAD}seed: [1,\n": "mine.yaml, line 3: this is no YAML: ",
    f"{HEAD}hydra: {{sweeper: {{n_trial: 5}}}}\n": "hydra.sweeper.n_trial: no such key; did you mean 'n_trials'?",
    f"{HEAD}hydra: {{sweeper: {{n_trials: null}}}}\n": "mine.yaml: hydra.sweeper.n_trials: it cannot be null",
    f"{HEAD}defaults:\n  - override /optimizer: admw\n": "optimizer=admw: no such option; did you mean 'adamw'",
}


@pytest.mark.parametrize("text", FILES)
def test_a_sweeps_file_that_is_none_says_what_to_write(text, refused, tmp_path):
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.yaml").write_text(text)

    said = refused("sweeps=mine", sweep=True)

    assert FILES[text] in said
    assert "\n" not in said


def test_besoms_own_sweeps_are_all_files_of_sweeps(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file in shipped("sweeps").glob("*.yaml"):
        with initialize_config_dir(str(shipped("conf")), **VERSION_BASE):
            compose("train", [f"sweeps={file.stem}", "hydra/sweeper=besom"], return_hydra_config=True)


# ── one run ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("optimizer.lr=interval(0,1)", "is a search, and this is one run: give one value, or search it: besom sweep"),
        ("optimizer.lr=0.1,0.2", "several values for one run; a list is 'optimizer.lr=[0.1,0.2]'"),
    ],
)
def test_a_search_without_a_sweep_says_who_searches(override, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = create_config_search_path(f"file://{Path(shipped('conf'))}")
    loader = Hydra.create_main_hydra2("train", path).config_loader
    try:
        with pytest.raises(Exception) as error:  # noqa: PT011
            loader.load_configuration("train", [override], RunMode.RUN)
    finally:
        GlobalHydra.instance().clear()
    assert says in str(as_input_error(error.value))
