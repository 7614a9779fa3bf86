from __future__ import annotations

import re
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler

from besom.errors import InputError
from besom.space.grammar import as_sweep
from besom.space.parse import parse
from besom.space.space import Space

OPTIMIZER = {
    "sgd": {
        "optimizer.lr": "tag(log, interval(0.01, 1))",
        "optimizer.nesterov": {True: {"optimizer.momentum": "interval(0.5, 0.9)"}, False: None},
        "optimizer.dampening": 0,
    },
    "adamw": {"optimizer.lr": "tag(log, interval(1e-4, 0.1))", "optimizer.betas": [0.9, 0.99]},
    "adam": None,
    "rmsprop": {},
}
PARAMS: dict[str, Any] = {"width": "choice(16,32)", "optimizer": OPTIMIZER, "seed": 3}
SPACE = parse(PARAMS, [])


def _study() -> optuna.Study:
    return optuna.create_study(sampler=RandomSampler(seed=0))


def _points(space: Space, count: int = 40) -> list[dict[str, Any]]:
    study = _study()
    return [space.suggest(study.ask()) for _ in range(count)]


# ── one branch at a time ──────────────────────────────────────────────────────────────────────────────────────────────
def test_only_the_chosen_branch_is_sampled():
    brings = {tuple(point): None for point in _points(SPACE)}

    assert set(brings) == {
        ("width", "optimizer", "optimizer.lr", "optimizer.nesterov", "optimizer.momentum"),
        ("width", "optimizer", "optimizer.lr", "optimizer.nesterov"),
        ("width", "optimizer", "optimizer.lr"),
        ("width", "optimizer"),
    }


def test_a_key_of_two_branches_is_drawn_from_that_of_the_chosen_one():
    rates = {point["optimizer"]: point["optimizer.lr"] for point in _points(SPACE) if "optimizer.lr" in point}

    assert 0.01 <= rates["sgd"] <= 1
    assert 1e-4 <= rates["adamw"] <= 0.1


def test_a_fixed_value_of_a_branch_is_set_only_there():
    assert SPACE.overrides({"width": 16, "optimizer": "sgd", "optimizer.lr": 0.1, "optimizer.nesterov": False}) == [
        "seed=3",
        "optimizer.dampening=0",
        "width=16",
        "optimizer=sgd",
        "optimizer.lr=0.1",
        "optimizer.nesterov=false",
    ]
    assert SPACE.overrides({"width": 16, "optimizer": "adam"}) == ["seed=3", "width=16", "optimizer=adam"]


@pytest.mark.parametrize(
    ("name", "option"), [("sgd", "sgd"), (1, 1), ("1", 1), (True, True), ("true", True), (0.5, 0.5), ("null", None)]
)
def test_an_option_is_read_as_choice_reads_it(name, option):
    space = parse({"x": {name: {"y": "1,2"}, "other": None}}, [])

    assert space.dimensions["x"] == CategoricalDistribution((option, "other"))
    assert {tuple(point) for point in _points(space, 20) if point["x"] == option} == {("x", "y")}


@st.composite
def _written(draw: st.DrawFn, depth: int = 0, path: str = "k") -> dict[str, Any]:
    """Params with a key of its own at every place."""
    params: dict[str, Any] = {}
    for number in range(draw(st.integers(1, 3))):
        key = f"{path}{number}"
        if depth < 3 and draw(st.booleans()):
            options = [f"o{option}" for option in range(draw(st.integers(1, 3)))]
            params[key] = {
                option: draw(st.none() | _written(depth=depth + 1, path=f"{key}_{option}_")) for option in options
            }
        else:
            params[key] = "choice(1,2)"
    return params


def _expected(params: dict[str, Any], point: dict[str, Any]) -> set[str]:
    keys = set(params)
    for key, value in params.items():
        if isinstance(value, dict) and (children := value[point[key]]):
            keys |= _expected(children, point)
    return keys


@given(_written(), st.integers(0, 1000))
def test_a_point_of_any_nesting_has_the_keys_of_its_options_each_behind_its_choice(params, seed):
    space = parse(params, [])
    study = optuna.create_study(sampler=RandomSampler(seed=seed))

    point = space.suggest(study.ask())

    assert set(point) == _expected(params, point)
    order = list(point)
    assert all(order.index(key.rsplit("_", 2)[0]) < order.index(key) for key in point if "_" in key)


# ── names for Optuna ──────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_key_searched_differently_in_two_branches_has_two_names():
    assert SPACE.all_distributions() == {
        "width": CategoricalDistribution((16, 32)),
        "optimizer": CategoricalDistribution(("sgd", "adamw", "adam", "rmsprop")),
        "optimizer.lr [optimizer=sgd]": FloatDistribution(0.01, 1, log=True),
        "optimizer.nesterov": CategoricalDistribution((True, False)),
        "optimizer.momentum": FloatDistribution(0.5, 0.9),
        "optimizer.lr [optimizer=adamw]": FloatDistribution(1e-4, 0.1, log=True),
    }


def test_a_key_searched_alike_in_two_branches_has_one_name():
    space = parse({"optimizer": {"sgd": {"lr": "interval(0,1)"}, "adam": {"lr": "interval(0,1)"}}}, [])

    assert list(space.all_distributions()) == ["optimizer", "lr"]


def test_choices_that_differ_by_branch_can_be_asked_for_in_one_study():
    space = parse({"net": {"cnn": {"depth": "choice(1,2)"}, "mlp": {"depth": "choice(3,4)"}}}, [])

    assert {(point["net"], point["depth"]) for point in _points(space)} == {
        ("cnn", 1),
        ("cnn", 2),
        ("mlp", 3),
        ("mlp", 4),
    }


def test_a_finished_trial_gives_its_point_back():
    study = _study()
    points = []
    for _ in range(20):
        trial = study.ask()
        points.append(SPACE.suggest(trial))
        study.tell(trial, 0.0)

    assert [SPACE.values(trial.params) for trial in study.trials] == points


def test_a_trial_that_was_cut_short_gives_back_what_it_has():
    assert SPACE.values({"width": 16, "optimizer": "sgd"}) == {"width": 16, "optimizer": "sgd"}


# ── the command line wins ─────────────────────────────────────────────────────────────────────────────────────────────
def _described(*arguments: str) -> dict[str, str]:
    return parse({"optimizer": OPTIMIZER}, arguments).describe()


def test_a_choice_fixed_on_the_command_line_keeps_what_its_option_brings():
    space = parse({"optimizer": OPTIMIZER}, ["optimizer=sgd"])

    assert list(space.dimensions) == ["optimizer.lr", "optimizer.nesterov"]
    assert space.fixed == ("optimizer.dampening=0", "optimizer=sgd")


@pytest.mark.parametrize("argument", ["optimizer=adam", "optimizer=lion", "~optimizer"])
def test_a_choice_fixed_to_an_option_that_brings_nothing_leaves_nothing(argument):
    assert parse({"optimizer": OPTIMIZER}, [argument]) == Space({}, (argument,))


def test_a_choice_narrowed_on_the_command_line_keeps_what_the_options_left_bring():
    assert _described("optimizer=adam,adamw,lion") == {
        "optimizer": "choice(adam, adamw, lion)",
        "optimizer.lr [optimizer=adamw]": "tag(log, interval(0.0001, 0.1))",
        "optimizer.betas [optimizer=adamw]": "[0.9,0.99]",
    }


@pytest.mark.parametrize("argument", ["optimizer.lr=0.1", "++optimizer.lr=0.1", "optimizer.lr=interval(0,1)"])
def test_a_key_given_on_the_command_line_is_gone_from_every_branch(argument):
    assert [path for path in _described(argument) if path.startswith("optimizer.lr [")] == []


def test_a_fixed_value_of_a_branch_gives_way_to_the_command_line():
    space = parse({"optimizer": OPTIMIZER}, ["optimizer.dampening=0.5"])

    assert space.overrides({"optimizer": "sgd"}) == ["optimizer.dampening=0.5", "optimizer=sgd"]


def test_a_choice_inside_a_branch_that_moves_to_the_command_line_still_opens_its_own_there():
    space = parse({"optimizer": OPTIMIZER}, ["optimizer.nesterov=true,false"])

    for point in _points(space):
        opened = point["optimizer"] == "sgd" and point["optimizer.nesterov"]
        assert ("optimizer.momentum" in point) == opened


# ── what is refused ───────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"x": {}}, "x: an empty mapping is a choice without options"),
        ({"x": {"a": {"y": {}}}}, "x.a: y: an empty mapping is a choice without options"),
        ({"x": {"a": 3}}, "x.a: 3 is not what an option can bring"),
        ({"x": {"a": ["y"]}}, "x.a: [y] is not what an option can bring"),
        ({"x": {"a": {"y": "interval(2,1)"}}}, "x.a: y=interval(2,1): not a space to search"),
        ({"x": {"a": {"y": {"b": {"z": "range(1,1)"}}}}}, "x.a.y.b: z=range(1,1): not a space to search"),
        ({"x": {"a": {"y": b"raw"}}}, "x.a: y=b'raw': neither a space nor a value"),
        ({"x": {"a": {"x": "1,2"}}}, "x.a: x: stands at the top level too"),
        ({"x": {"a": {"y": {"b": {"x": 1}}}}}, "x.a.y.b: x: stands at the top level too"),
        ({"x": {"a": {"y": {"b": {"y": 1}}}}}, "x.a.y.b: y: stands with x=a too"),
        ({"x": {"a": {"y": 1}}, "y": "1,2"}, "x.a: y: stands at the top level too"),
        ({"y": "1,2", "x": {"a": {"y": 1}}}, "x.a: y: stands at the top level too"),
        ({"x": {"a": {"k": 1}}, "y": {"b": {"k": 2}}}, "y.b: k: stands with x=a too"),
        ({"x": {"a,b": None}}, "x: a,b is no option but several"),
        ({"x": {1: None, "1": None}}, "x: an option stands here twice"),
        ({"x": {"a": {"y": "interval(0"}}}, "quotes"),
    ],
)
def test_a_conditional_space_that_means_nothing_is_refused_by_its_path(params, message):
    with pytest.raises(InputError, match=f"^hydra.sweeper.params: .*{re.escape(message)}"):
        parse(params, [])


def test_two_choices_that_optuna_takes_for_one_are_refused():
    with pytest.raises(InputError, match="Optuna takes 1 and true for one choice"):
        parse({}, ["x=choice(1,true)"])


# ── described ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_space_is_described_line_by_line():
    assert SPACE.describe() == {
        "width": "choice(16, 32)",
        "optimizer": "choice(sgd, adamw, adam, rmsprop)",
        "optimizer.lr [optimizer=sgd]": "tag(log, interval(0.01, 1.0))",
        "optimizer.nesterov [optimizer=sgd]": "choice(true, false)",
        "optimizer.momentum [optimizer=sgd, optimizer.nesterov=true]": "interval(0.5, 0.9)",
        "optimizer.dampening [optimizer=sgd]": "0",
        "optimizer.lr [optimizer=adamw]": "tag(log, interval(0.0001, 0.1))",
        "optimizer.betas [optimizer=adamw]": "[0.9,0.99]",
    }


whole = st.integers(1, 1000)
tenths = st.integers(1, 100).map(lambda number: number / 10)
halves = st.integers(1, 100).map(lambda number: number / 2)  # of tenths in ranges, Hydra rounds some to one step more


@given(
    st.builds(lambda a, b, s: IntDistribution(a, a + b * s, step=s), whole, whole, st.integers(1, 9))
    | st.builds(lambda a, b: IntDistribution(a, a + b, log=True), whole, whole)
    | st.builds(lambda a, b, log: FloatDistribution(a, a + b, log=log), tenths, tenths, st.booleans())
    | st.builds(lambda a, b, s: FloatDistribution(a, a + b, step=s), halves, whole, st.sampled_from([0.25, 0.5, 1.0]))
    | st.builds(CategoricalDistribution, st.lists(st.integers() | st.just("sgd"), min_size=1, unique=True))
)
def test_what_a_description_says_is_read_as_the_same_distribution(searched: BaseDistribution):
    assert parse({}, [f"x={as_sweep(searched)}"]).dimensions["x"] == searched


# ── known points ──────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("point", "params"),
    [
        ({}, {}),
        ({"width": 32}, {"width": 32}),
        ({"optimizer": "sgd", "optimizer.lr": 1}, {"optimizer": "sgd", "optimizer.lr [optimizer=sgd]": 1.0}),
        (
            {"optimizer.momentum": 0.5, "optimizer.nesterov": True, "optimizer": "sgd"},
            {"optimizer": "sgd", "optimizer.nesterov": True, "optimizer.momentum": 0.5},
        ),
    ],
)
def test_a_known_point_is_given_by_optunas_names(point, params):
    assert SPACE.known_point(point) == params


def test_a_known_point_is_what_a_trial_gets_and_the_sampler_fills_it_in():
    study = _study()
    study.enqueue_trial(SPACE.known_point({"optimizer": "adamw", "optimizer.lr": 0.001}))

    point = SPACE.suggest(study.ask())

    assert (point["optimizer"], point["optimizer.lr"]) == ("adamw", 0.001)
    assert point["width"] in (16, 32)


@pytest.mark.parametrize(
    ("written", "value", "choice"),
    [
        ("choice([1,2],[3])", [1, 2], "[1,2]"),
        ("choice('1',b)", "1", "'1'"),
        ("choice(a,b)", "a", "a"),
        ("1,null", None, None),
        ("int(interval(1,9))", 3.0, 3),
        ("range(0,1,0.1)", 0.3, 0.3),
    ],
)
def test_a_known_value_is_found_as_the_space_has_it(written, value, choice):
    assert parse({}, [f"+x={written}"]).known_point({"x": value}) == {"+x": choice}


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ({"optimzer": "sgd"}, "optimzer=sgd: is not searched; did you mean 'optimizer'"),
        ({"optimizer": "sdg"}, "optimizer=sdg: outside choice(sgd, adamw, adam, rmsprop)"),
        ({"optimizer": "sgd", "optimizer.lr": 5}, "optimizer.lr=5: outside tag(log, interval(0.01, 1.0))"),
        ({"optimizer": "sgd", "optimizer.lr": "big"}, "optimizer.lr=big: outside tag(log, interval(0.01, 1.0))"),
        ({"width": True}, "width=true: outside choice(16, 32)"),
        ({"seed": 4}, "seed=4: is not searched, but fixed by seed=3; leave it out"),
        (
            {"optimizer": "adam", "optimizer.nesterov": True},
            "optimizer.nesterov=true: is searched only with optimizer=sgd",
        ),
        ({"optimizer.lr": 0.1}, "optimizer.lr=0.1: is searched only with optimizer=sgd or with optimizer=adamw, which"),
    ],
)
def test_a_known_point_outside_the_space_is_refused(point, message):
    with pytest.raises(InputError, match=f"^{re.escape(f'hydra.sweeper.enqueue: {message}')}"):
        SPACE.known_point(point)
