from __future__ import annotations

import re
from typing import Any

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hypothesis import assume, given
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from besom.errors import InputError
from besom.space.parse import parse
from besom.space.space import Space, as_text, label


def _dimension(written: str) -> BaseDistribution:
    return parse({}, [f"x={written}"]).dimensions["x"]


def _read(override: str) -> Any:
    """The value as Hydra's own parser reads it."""
    value = OverridesParser.create().parse_override(override).value()
    return value.text if isinstance(value, QuotedString) else value


# ── the grammar ───────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("written", "choices"),
    [
        ("choice(relu,gelu)", ("relu", "gelu")),
        ("relu,gelu", ("relu", "gelu")),
        ("choice(2,2.5,true)", (2, 2.5, True)),
        ("1,2.5,false,null", (1, 2.5, False, None)),
        ("choice(only)", ("only",)),
        ("sort(choice(3,1,2))", (1, 2, 3)),
        ("choice(torch.nn.ReLU,my/path)", ("torch.nn.ReLU", "my/path")),
    ],
)
def test_a_choice_is_a_category_each(written, choices):
    assert _dimension(written) == CategoricalDistribution(choices)


@pytest.mark.parametrize(
    ("written", "low", "high", "step"),
    [
        ("range(1,4)", 1, 3, 1),
        ("range(4)", 0, 3, 1),
        ("range(0,10,5)", 0, 5, 5),
        ("range(0,11,5)", 0, 10, 5),
        ("range(0,10,step=3)", 0, 9, 3),
        ("range(5,1,-1)", 2, 5, 1),
        ("range(10,0,-5)", 5, 10, 5),
        ("range(10,0,-3)", 1, 10, 3),
        ("int(range(1,4))", 1, 3, 1),
        ("int(range(1.5,4))", 1, 3, 1),
        ("shuffle(range(1,4))", 1, 3, 1),
    ],
)
def test_a_range_of_integers_ends_before_its_stop(written, low, high, step):
    assert _dimension(written) == IntDistribution(low, high, step=step)


@pytest.mark.parametrize(
    ("written", "low", "high", "step"),
    [
        ("range(0,1,0.25)", 0.0, 0.75, 0.25),
        ("range(0.5,3)", 0.5, 2.5, 1.0),
        ("range(1,0,-0.25)", 0.25, 1.0, 0.25),
        ("range(0,1,0.1)", 0.0, 0.9, 0.1),
        ("range(0,1,0.3)", 0.0, 0.9, 0.3),
        ("range(0,0.7,0.1)", 0.0, 0.6, 0.1),
        ("float(range(1,4))", 1.0, 3.0, 1.0),
    ],
)
def test_a_range_of_floats_ends_before_its_stop(written, low, high, step):
    assert _dimension(written) == FloatDistribution(low, high, step=step)


tenths = st.integers(-20, 20).map(lambda number: number / 10)


@given(tenths, tenths, st.integers(1, 9).map(lambda number: number / 10))
def test_a_range_of_floats_holds_what_hydra_itself_would_run(start, stop, step):
    """Which by rounding includes the stop at times, as in `range(0,0.1,0.1)`."""
    assume(start < stop)
    written = f"range({start},{stop},{step})"

    dimension = _dimension(written)

    assert isinstance(dimension, FloatDistribution)
    steps = round((dimension.high - dimension.low) / step)
    runs = [float(run) for run in OverridesParser.create().parse_override(f"x={written}").sweep_string_iterator()]
    assert [dimension.low + number * step for number in range(steps + 1)] == pytest.approx(runs)


@pytest.mark.parametrize(
    ("written", "distribution"),
    [
        ("interval(0,1)", FloatDistribution(0, 1)),
        ("interval(-0.5,1e3)", FloatDistribution(-0.5, 1000)),
        ("interval(1,1)", FloatDistribution(1, 1)),
        ("tag(log,interval(1e-4,1e-1))", FloatDistribution(1e-4, 1e-1, log=True)),
        ("int(interval(1,128))", IntDistribution(1, 128)),
        ("int(tag(log,interval(1,128)))", IntDistribution(1, 128, log=True)),
        ("tag(log,int(interval(1,128)))", IntDistribution(1, 128, log=True)),
    ],
)
def test_an_interval_holds_both_its_ends(written, distribution):
    assert _dimension(written) == distribution


def test_params_and_the_command_line_make_one_space():
    space = parse({"lr": "tag(log, interval(1e-4, 1e-1))", "width": 32}, ["depth=1,2", "seed=3"])

    assert set(space.dimensions) == {"lr", "depth"}
    assert space.fixed == ("width=32", "seed=3")


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (3, 3),
        (1e-05, 1e-05),
        (True, True),
        (None, None),
        ("relu", "relu"),
        ([64, 32], [64, 32]),
        (["a b", "c,d"], ["a b", "c,d"]),
        ([None, True], [None, True]),
        (["1", "it's", "null"], ["1", "it's", "null"]),
        ("{patience: 3, min_delta: 0.0}", {"patience": 3, "min_delta": 0.0}),
    ],
)
def test_a_plain_value_among_the_params_is_fixed(value, read):
    (override,) = parse({"x": value}, []).fixed

    assert _as_plain(_read(override)) == read


def _as_plain(value: Any) -> Any:
    return [_as_plain(item) for item in value] if isinstance(value, list) else getattr(value, "text", value)


@pytest.mark.parametrize(
    "override",
    [
        "seed=3",
        "+tags={a: 1}",
        "++x=1",
        "~early_stopping",
        "run_name='a, b'",
        "uri=${oc.env:HOME}",
        "x=",
        "db@src=sqlite",
    ],
)
def test_a_fixed_override_is_kept_as_it_was_typed(override):
    assert parse({}, [override]) == Space({}, (override,))


# ── the command line wins ─────────────────────────────────────────────────────────────────────────────────────────────
def test_a_sweep_on_the_command_line_replaces_that_of_the_params():
    space = parse({"lr": "interval(0,1)"}, ["lr=choice(0.1,0.2)"])

    assert space == Space({"lr": CategoricalDistribution((0.1, 0.2))})


def test_a_sweep_on_the_command_line_replaces_a_fixed_param():
    space = parse({"lr": 0.1}, ["lr=0.1,0.2"])

    assert space == Space({"lr": CategoricalDistribution((0.1, 0.2))})


@pytest.mark.parametrize("override", ["lr=0.5", "++lr=0.5", "~lr"])
def test_a_fixed_value_on_the_command_line_replaces_a_sweep(override):
    assert parse({"lr": "interval(0,1)"}, [override]) == Space({}, (override,))


def test_a_fixed_value_on_the_command_line_replaces_a_fixed_param():
    assert parse({"seed": 1}, ["seed=2"]) == Space({}, ("seed=2",))


def test_the_last_of_two_on_the_command_line_wins():
    assert parse({}, ["lr=1,2", "lr=3"]) == Space({}, ("lr=3",))


def test_one_group_at_two_places_is_two_dimensions():
    space = parse({"db@source": "sqlite,mysql"}, ["db@target=sqlite,mysql"])

    assert set(space.dimensions) == {"db@source", "db@target"}


def test_a_group_fixed_at_one_place_is_still_searched_at_another():
    space = parse({"db@source": "sqlite,mysql"}, ["db@target=sqlite"])

    assert set(space.dimensions) == {"db@source"}
    assert space.fixed == ("db@target=sqlite",)


# ── what is refused ───────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "written",
    [
        "choice()",
        "choice(1,2",
        "choices(1,2)",
        "interval(1)",
        "interval(2,1)",
        "interval(nan,1)",
        "interval(0,inf)",
        "tag(log,interval(0,1))",
        "tag(log,interval(-1,1))",
        "tag(log,int(interval(0,8)))",
        "range(5,5)",
        "range(5,1)",
        "range(1,5,-1)",
        "range(0,10,0)",
        "int(range(0,4,0.75))",
        "glob(*)",
    ],
)
def test_what_cannot_be_searched_is_refused_by_its_line(written):
    with pytest.raises(InputError, match=f"^{re.escape(f'optimizer.lr={written}: ')}"):
        parse({}, [f"optimizer.lr={written}"])


def test_what_cannot_be_searched_is_refused_among_the_params_too():
    with pytest.raises(InputError, match=re.escape("lr=interval(2,1): not a space to search: ")):
        parse({"lr": "interval(2,1)"}, [])


@pytest.mark.parametrize("line", ["optimizer.lr", "x=[1,2", "x={a:1", "x=a=b"])
def test_what_is_no_override_is_refused_by_its_line(line):
    with pytest.raises(InputError, match=f"^{re.escape(line)}: cannot be read: "):
        parse({}, [line])


def test_a_line_of_the_params_that_cannot_be_read_is_said_to_be_theirs():
    with pytest.raises(InputError, match=re.escape("hydra.sweeper.params: lr=choice(1,: cannot be read: ")):
        parse({"lr": "choice(1,"}, [])


# ── back to overrides ─────────────────────────────────────────────────────────────────────────────────────────────────
@given(st.integers() | st.floats(allow_nan=False) | st.booleans() | st.none())
def test_hydra_reads_a_scalar_as_it_was_suggested(value):
    read = _read(f"x={as_text(value)}")

    assert (type(read), read) == (type(value), value)


scalars = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()


@given(st.lists(scalars, min_size=1, max_size=5, unique=True))
def test_hydra_reads_a_choice_of_scalars_as_it_was_written(values):
    dimension = _dimension(f"choice({','.join(map(as_text, values))})")

    assert isinstance(dimension, CategoricalDistribution)
    assert [_read(f"x={as_text(choice)}") for choice in dimension.choices] == values


printable = st.characters(exclude_categories=["C", "Z"]) | st.just(" ")


def _first_choice(written: str) -> Any:
    """The first choice as a trial would be given it."""
    dimension = _dimension(written)
    assert isinstance(dimension, CategoricalDistribution)
    return _read(f"x={as_text(dimension.choices[0])}")


@given(st.text(printable, max_size=10))
def test_hydra_reads_a_quoted_word_of_a_list_as_it_was_written(word):
    assert _first_choice(f"{QuotedString(word, Quote.single).with_quotes()},other") == word


@pytest.mark.parametrize(
    "word",
    [
        "",
        "a b",
        " a ",
        "a,b",
        "[1]",
        "{a}",
        "x=y",
        "(",
        "a:b",
        "back\\slash",
        "${seed}",
        "it's",
        '"',
        "ü",
        "#",
        "1",
        "null",
    ],
)
def test_hydra_reads_a_quoted_choice_as_it_was_written(word):
    assert _first_choice(f"choice({QuotedString(word, Quote.single).with_quotes()},other)") == word


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("choice([1,2],[3])", [1, 2]),
        ("[1,2],[3]", [1, 2]),
        ("choice([null,true],[])", [None, True]),
        ("choice({a:1,b:[2]},{})", {"a": 1, "b": [2]}),
        ("choice(a\\,b,c)", "a,b"),
    ],
)
def test_hydra_reads_a_choice_of_lists_or_mappings_as_it_was_written(written, read):
    assert _first_choice(written) == read


def test_a_trial_is_what_is_fixed_and_then_its_own_values():
    space = parse({}, ["seed=3", "model.activation=relu,gelu", "optimizer.lr=interval(0,1)"])

    overrides = space.overrides({"model.activation": "gelu", "optimizer.lr": 1e-05})

    assert overrides == ["seed=3", "model.activation=gelu", "optimizer.lr=1e-05"]


def test_a_key_that_adds_is_kept_as_one():
    space = parse({}, ["+note=a,b"])

    assert space.overrides({"+note": "a"}) == ["+note=a"]


def test_a_label_names_the_trial_and_what_it_tries():
    point = {"model.activation": "gelu", "+optimizer.lr": 0.0031234, "optimizer.bias": None}
    assert label(12, point) == "12: activation=gelu lr=0.00312 bias=null"


def test_a_label_is_short_and_on_one_line_whatever_is_tried():
    assert label(3, {}) == "3"
    assert label(3, {"note": "two\nlines"}) == "3: note=two lines"
    long = label(3, {f"key{n}": "a long value" for n in range(20)})
    assert len(long) == 80
    assert long.endswith("…")


# ── asking the sampler ────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def study():
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))


SPACE = parse(
    {
        "activation": "choice(relu,gelu)",
        "width": "range(16,64,16)",
        "depth": "int(interval(1,3))",
        "units": "tag(log,int(interval(1,128)))",
        "dropout": "range(0,0.5,0.25)",
        "momentum": "interval(0.5,0.9)",
        "lr": "tag(log,interval(1e-4,1e-1))",
    },
    [],
)


def test_every_suggested_value_lies_in_its_dimension(study):
    points = [SPACE.suggest(study.ask()) for _ in range(50)]

    def seen(key: str) -> set[Any]:
        return {point[key] for point in points}

    assert seen("activation") == {"relu", "gelu"}
    assert seen("width") == {16, 32, 48}
    assert seen("depth") == {1, 2, 3}
    assert seen("dropout") == {0.0, 0.25}
    assert all(1 <= units <= 128 for units in seen("units"))
    assert all(0.5 <= momentum <= 0.9 for momentum in seen("momentum"))
    assert all(1e-4 <= rate <= 1e-1 for rate in seen("lr"))


def test_a_logarithmic_dimension_is_drawn_by_magnitude(study):
    rates = [SPACE.suggest(study.ask())["lr"] for _ in range(100)]

    small = [rate for rate in rates if rate < 10**-2.5]  # half of the magnitudes, 3% of the interval
    assert 30 <= len(small) <= 70


def test_every_dimension_is_asked_for_in_the_order_it_was_written(study):
    assert list(SPACE.suggest(study.ask())) == list(SPACE.dimensions)


def test_a_trial_keeps_the_point_it_has(study):
    trial = study.ask()

    assert SPACE.suggest(trial) == SPACE.suggest(trial)


def test_a_trial_that_was_enqueued_gets_its_point(study):
    study.enqueue_trial({"lr": 0.001, "activation": "gelu"})

    point = SPACE.suggest(study.ask())

    assert (point["lr"], point["activation"]) == (0.001, "gelu")


def test_a_suggested_point_makes_overrides_that_hydra_reads_back(study):
    point = SPACE.suggest(study.ask())

    read = {override.partition("=")[0]: _read(override) for override in SPACE.overrides(point)}

    assert read == point
