"""The search space: what a trial may be, as Optuna's distributions on one side and Hydra's overrides on the other.

Written in Hydra's sweep grammar (`grammar.py`). In `hydra.sweeper.params` it may be conditional: a mapping is a choice
of one of its keys, which brings what stands under it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

from besom.errors import InputError, near
from besom.sweep.grammar import as_choice, as_sweep, choices, distribution, parse_lines, place, written
from besom.sweep.value import Value, as_text, short

__all__ = ["Branch", "Dimension", "Space", "Value", "as_text", "label", "parse", "short"]

PARAMS, ENQUEUE = "hydra.sweeper.params: ", "hydra.sweeper.enqueue: "
When = Mapping[str, Value]  # choices, each with the option that must be chosen there


@dataclass(frozen=True)
class Dimension:
    """What is searched under one key, wherever all of `when` is chosen."""

    key: str
    distribution: BaseDistribution
    when: When

    @property
    def path(self) -> str:
        """`optimizer.momentum [optimizer=sgd]`"""
        return f"{self.key}{_condition(self.when)}"


@dataclass(frozen=True)
class Branch:
    """What is searched and what is fixed only where all of `when` is chosen."""

    when: When
    dimensions: Mapping[str, BaseDistribution]
    fixed: tuple[str, ...] = ()

    def is_taken(self, chosen: Mapping[str, Value]) -> bool:
        return all(key in chosen and chosen[key] == option for key, option in self.when.items())


@dataclass(frozen=True)
class Space:
    """What every trial searches (`dimensions`) and shares (`fixed`, as overrides), and what only some options bring.

    Optuna keeps one distribution to a name in a study. A key that is searched differently in two branches therefore
    has a name for each, `optimizer.lr [optimizer=sgd]`; the names of all other keys are the keys.
    """

    dimensions: Mapping[str, BaseDistribution]
    fixed: tuple[str, ...] = ()
    branches: tuple[Branch, ...] = ()  # each behind the one that has its choice

    def suggest(self, trial: Trial) -> dict[str, Value]:
        """Ask the sampler for a point, a choice before what it brings; a trial that has one already keeps it."""
        chosen: dict[str, Value] = {}
        for dimension in self.walk(chosen):
            chosen[dimension.key] = _ask(trial, self.name(dimension), dimension.distribution)
        return chosen

    def overrides(self, values: Mapping[str, Value]) -> list[str]:
        """Everything that makes a trial: paste it behind the app's name."""
        brought = [line for branch in self.branches if branch.is_taken(values) for line in branch.fixed]
        return [*self.fixed, *brought, *(f"{key}={as_text(value)}" for key, value in values.items())]

    def values(self, params: Mapping[str, Any]) -> dict[str, Value]:
        """The point of a trial that Optuna has kept, from its `params`; what it was never asked for is left out."""
        chosen: dict[str, Value] = {}
        for dimension in self.walk(chosen):
            if (name := self.name(dimension)) in params:
                chosen[dimension.key] = params[name]
        return chosen

    def distributions_of(self, params: Mapping[str, Any]) -> dict[str, BaseDistribution] | None:
        """Of the point of a trial of another study, by Optuna's names; None: it is no point of this space."""
        chosen: dict[str, Value] = {}
        found: dict[str, BaseDistribution] = {}
        for dimension in self.walk(chosen):
            name = self.name(dimension)
            if name not in params or not _holds(dimension.distribution, params[name]):
                return None
            chosen[dimension.key], found[name] = params[name], dimension.distribution
        return found if len(found) == len(params) else None

    def known_point(self, point: Mapping[str, Any]) -> dict[str, Value]:
        """A point to try first, by Optuna's names, for `enqueue_trial`; what it leaves open the sampler fills in.

        Raises:
            InputError: a key that is not searched, a value out of its limits, a child of an option not chosen.
        """
        asked = {_plain(key): value for key, value in point.items()}
        chosen: dict[str, Value] = {}
        params: dict[str, Value] = {}
        for dimension in self.walk(chosen):
            if (key := _plain(dimension.key)) in asked:
                chosen[dimension.key] = params[self.name(dimension)] = _within(dimension, asked.pop(key))
        for key, value in asked.items():
            raise InputError(f"{ENQUEUE}{key}={written(value)}: {self._why_not(key)}")
        return params

    def describe(self) -> dict[str, str]:
        """The whole space to read and to compare, line by line; a study keeps it to know a changed space by.

        >>> parse({"optimizer": {"sgd": {"momentum": "interval(0, 0.9)"}, "adam": None}}, []).describe()
        {'optimizer': 'choice(sgd, adam)', 'momentum [optimizer=sgd]': 'interval(0.0, 0.9)'}
        """
        lines = {dimension.path: as_sweep(dimension.distribution) for dimension in self.everything()}
        for branch in self.branches:
            for line in branch.fixed:
                key, _, value = line.partition("=")
                lines[f"{key}{_condition(branch.when)}"] = value
        return lines

    def all_distributions(self) -> dict[str, BaseDistribution]:
        """By Optuna's names, whatever is chosen."""
        return {self.name(dimension): dimension.distribution for dimension in self.everything()}

    def everything(self) -> Iterator[Dimension]:
        """All dimensions there are, of all branches."""
        for key, searched in self.dimensions.items():
            yield Dimension(key, searched, {})
        for branch in self.branches:
            for key, searched in branch.dimensions.items():
                yield Dimension(key, searched, branch.when)

    def walk(self, chosen: Mapping[str, Value]) -> Iterator[Dimension]:
        """The dimensions of one point, a branch behind its choice; the caller writes into `chosen` as it goes."""
        pending = list(self.branches)
        for key, searched in self.dimensions.items():
            yield Dimension(key, searched, {})
            for branch in list(pending):
                if branch.is_taken(chosen):
                    pending.remove(branch)
                    yield from (Dimension(child, brought, branch.when) for child, brought in branch.dimensions.items())

    def name(self, dimension: Dimension) -> str:
        """Optuna's name for it."""
        return dimension.path if dimension.key in self._ambiguous else dimension.key

    @cached_property
    def _ambiguous(self) -> frozenset[str]:
        first: dict[str, BaseDistribution] = {}
        return frozenset(
            dimension.key
            for dimension in self.everything()
            if first.setdefault(dimension.key, dimension.distribution) != dimension.distribution
        )

    def _why_not(self, key: str) -> str:
        """What to say of a key in a point that does not come to it."""
        if places := [dimension.when for dimension in self.everything() if _plain(dimension.key) == key]:
            needed = " or with ".join(_pairs(when) for when in places)
            return f"is searched only with {needed}, which this point does not choose"
        fixed = [*self.fixed, *(line for branch in self.branches for line in branch.fixed)]
        if lines := [line for line in fixed if _plain(line.partition("=")[0]) == key]:
            return f"is not searched, but fixed by {lines[0]}; leave it out"
        return f"is not searched{near(key, (dimension.key for dimension in self.everything()))}"


def parse(params: Mapping[str, Any], arguments: Sequence[str], loader: ConfigLoader | None = None) -> Space:
    """The space of `hydra.sweeper.params` and the command line.

    The command line wins: its override of a key takes the place of all that the params say of it, in whatever branch.
    A choice that it narrows or fixes keeps what the options left to it bring.

    >>> parse({"lr": "tag(log, interval(1e-4, 1e-1))"}, ["depth=1,2", "seed=3"]).fixed
    ('seed=3',)

    `loader` knows the options of config groups, for `glob(*)`.

    Raises:
        InputError: a line cannot be parsed, what it describes is empty, or two lines would set one key.
    """
    typed = [_part(line) for line in parse_lines(arguments, loader=loader)]
    last = {part.place: part for part in typed}  # of two of one key the last holds
    given = [part for part in _read(params, {}, "", loader) if part.place not in last]
    left = [narrowed for part in given if (narrowed := _narrowed(part, last)) is not None]
    _refuse_doubles(left)
    return _assembled([*left, *(part for part in typed if part.searched is None or part is last[part.place])])


def label(values: Mapping[str, Value]) -> str:
    """A short name for a point, for tables: `gelu adamw 0.0031`."""
    return " ".join(map(short, values.values()))


# ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class _Part:
    """One line of a space: searched, or fixed; everywhere, or in a branch."""

    line: Override
    searched: BaseDistribution | None
    when: When
    where: str  # it stands, for messages

    @property
    def key(self) -> str:
        return self.line.get_key_element()

    @property
    def place(self) -> str:
        return place(self.line)


def _part(line: Override, when: When | None = None, where: str = "") -> _Part:
    return _Part(line, distribution(line, where) if line.is_sweep_override() else None, when or {}, where)


def _read(params: Mapping[str, Any], when: When, path: str, loader: ConfigLoader | None) -> Iterator[_Part]:
    """The lines of a mapping of params, of its branches too, each behind its choice."""
    where = f"{PARAMS}{path}: " if path else PARAMS
    for key, value in params.items():
        match value:
            case Mapping():
                yield from _read_choice(key, value, when, path, loader)
            case str() | bool() | int() | float() | None | list() | tuple():
                yield _part(_line(key, value, where, loader), when, where)
            case _:
                raise InputError(f"{where}{key}={value!r}: neither a space nor a value that Hydra can write")


def _line(key: str, value: Any, where: str, loader: ConfigLoader | None) -> Override:
    try:
        (line,) = parse_lines([f"{key}={written(value)}"], where, loader)
    except InputError as error:
        if isinstance(value, str) and value.count("(") > value.count(")"):
            hint = "in YAML's {...} a comma ends a value: put it in quotes, or write each key on a line of its own"
            raise InputError(f"{error}; {hint}") from error
        raise
    return line


def _read_choice(
    key: str, given: Mapping[Any, Any], when: When, path: str, loader: ConfigLoader | None
) -> Iterator[_Part]:
    """A choice over the mapping's keys, and then what each of them brings."""
    where = f"{PARAMS}{path}: " if path else PARAMS
    (line,) = parse_lines([f"{key}=null"], where)
    options = {name: _option(key, name, where) for name in given}
    if not options:
        raise InputError(f"{where}{key}: an empty mapping is a choice without options; name at least one")
    if len(set(options.values())) < len(options):
        raise InputError(f"{where}{key}: an option stands here twice: {', '.join(map(str, options))}")
    try:
        yield _Part(line, choices(list(options.values())), when, where)
    except ValueError as error:
        raise InputError(f"{where}{key}: not a space to search: {error}") from error
    for name, children in given.items():
        inner = ".".join(filter(None, (path, key, written(name))))
        if children is not None and not isinstance(children, Mapping):
            raise InputError(
                f"{PARAMS}{inner}: {written(children)} is not what an option can bring: "
                "write a mapping of keys to spaces or values, or null (a fixed mapping is written as a text, '{a: 1}')"
            )
        yield from _read(children or {}, {**when, line.get_key_element(): options[name]}, inner, loader)


def _option(key: str, name: Any, where: str) -> Value:
    """A key of a YAML mapping as `choice(...)` would take it."""
    (line,) = parse_lines([f"{key}={written(name)}"], where)
    if line.is_sweep_override():
        raise InputError(f"{where}{key}: {name} is no option but several")
    return as_choice(line.value())


def _narrowed(part: _Part, typed: Mapping[str, _Part]) -> _Part | None:
    """The part as it stands beside the command line; None where its option cannot be chosen any more."""
    when: dict[str, Value] = {}
    for key, option in part.when.items():
        match typed.get(_plain(key)):
            case None:
                when[key] = option
            case _Part(line, None):
                if line.is_delete() or as_choice(line.value()) != option:
                    return None
            case _Part(_, CategoricalDistribution(choices=left)) if option not in left:
                return None
            case choice:
                when[choice.key] = option
    return replace(part, when=when)


def _refuse_doubles(parts: Sequence[_Part]) -> None:
    """No point may meet one key twice."""
    for one, other in combinations(parts, 2):
        if one.place == other.place and all(other.when.get(key, option) == option for key, option in one.when.items()):
            outer, inner = sorted((one, other), key=lambda part: len(part.when))
            there = f"with {_pairs(outer.when)}" if outer.when else "at the top level"
            raise InputError(f"{inner.where}{inner.key}: stands {there} too, so that one trial would set it twice")


def _assembled(parts: Sequence[_Part]) -> Space:
    """Parts under the same options make a branch; those under none are the space's own."""
    branches: dict[tuple[tuple[str, Value], ...], list[_Part]] = {(): []}
    for part in parts:
        branches.setdefault(tuple(part.when.items()), []).append(part)
    everywhere, *others = (
        Branch(
            dict(when),
            {part.key: part.searched for part in members if part.searched},
            tuple(str(part.line.input_line) for part in members if not part.searched),
        )
        for when, members in branches.items()
    )
    return Space(everywhere.dimensions, everywhere.fixed, tuple(others))


# ── small words ───────────────────────────────────────────────────────────────────────────────────────────────────────
def _ask(trial: Trial, name: str, searched: BaseDistribution) -> Value:
    match searched:
        case CategoricalDistribution():
            return trial.suggest_categorical(name, searched.choices)
        case IntDistribution():
            return trial.suggest_int(name, searched.low, searched.high, step=searched.step, log=searched.log)
        case FloatDistribution():
            return trial.suggest_float(name, searched.low, searched.high, step=searched.step, log=searched.log)
        case _:
            raise AssertionError(f"a distribution that the space does not make: {searched}")


def _holds(searched: BaseDistribution, value: Value) -> bool:
    if isinstance(searched, CategoricalDistribution):  # by type too: 1 and true are equal
        return any(type(option) is type(value) and option == value for option in searched.choices)
    return isinstance(value, (int, float)) and not isinstance(value, bool) and searched._contains(value)


def _within(dimension: Dimension, value: Any) -> Value:
    """A value that a person wrote, as the dimension has it."""
    match dimension.distribution:
        case CategoricalDistribution(choices=options):
            forms = [value, as_choice(value) if isinstance(value, str) else written(value)]
            for option in options:
                if any(type(form) is type(option) and form == option for form in forms):
                    return option
        case IntDistribution() | FloatDistribution() as numbers:
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if is_number and numbers.low <= value <= numbers.high and numbers._contains(value):
                return int(value) if isinstance(numbers, IntDistribution) else float(value)
    raise InputError(f"{ENQUEUE}{dimension.key}={written(value)}: outside {as_sweep(dimension.distribution)}")


def _plain(key: str) -> str:
    """A key as people name it: Hydra's `+` says how it is set."""
    return key.lstrip("+")


def _condition(when: When) -> str:
    return f" [{_pairs(when)}]" if when else ""


def _pairs(when: When) -> str:
    return ", ".join(f"{_plain(key)}={as_text(option)}" for key, option in when.items())
