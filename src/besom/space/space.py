"""The search space: what a trial may be, as Optuna's distributions on one side and Hydra's overrides on the other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

from besom.errors import InputError, near
from besom.space.grammar import as_choice, as_sweep, written
from besom.space.value import Value, as_pairs, as_text, brief, short

__all__ = ["Branch", "Dimension", "Space", "Value", "as_text", "label", "short"]

ENQUEUE = "hydra.sweeper.enqueue: "
MAX_LABEL = 80  # characters
# how `as_sweep` writes what is searched; only a list of choices with a null among them has no word before it
SEARCHED = re.compile(r"(choice|range|interval|int|tag)\(|[^\[{'\"]*, ")
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
        asked = {plain(key): value for key, value in point.items()}
        chosen: dict[str, Value] = {}
        params: dict[str, Value] = {}
        for dimension in self.walk(chosen):
            if (key := plain(dimension.key)) in asked:
                chosen[dimension.key] = params[self.name(dimension)] = _within(dimension, asked.pop(key))
        for key, value in asked.items():
            raise InputError(f"{ENQUEUE}{key}={written(value)}: {self._why_not(key)}")
        return params

    def describe(self) -> dict[str, str]:
        """The whole space to read and to compare, line by line; a study keeps it to know a changed space by.

        >>> from besom.space.parse import parse
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
        if places := [dimension.when for dimension in self.everything() if plain(dimension.key) == key]:
            needed = " or with ".join(pairs(when) for when in places)
            return f"is searched only with {needed}, which this point does not choose"
        fixed = [*self.fixed, *(line for branch in self.branches for line in branch.fixed)]
        if lines := [line for line in fixed if plain(line.partition("=")[0]) == key]:
            return f"is not searched, but fixed by {lines[0]}; leave it out"
        return f"is not searched{near(key, (dimension.key for dimension in self.everything()))}"


def label(number: int, values: Mapping[str, Value]) -> str:
    """A trial's name in a table: its number and its searched values, cut where they are many.

    >>> label(7, {"optimizer": "adamw", "optimizer.lr": 0.0031234})
    '7: optimizer=adamw lr=0.00312'
    """
    searched = as_pairs(brief({plain(key): value for key, value in values.items()}))
    whole = f"{number}: {searched}" if searched else str(number)
    return whole if len(whole) <= MAX_LABEL else f"{whole[: MAX_LABEL - 1]}…"


def searched(described: Mapping[str, str]) -> list[str]:
    """The keys that are searched, from what `Space.describe` has said; what a branch only fixes is left out.

    >>> searched({"+net": "choice(cnn, mlp)", "width [net=mlp]": "range(8, 64, 8)", "depth [net=mlp]": "2"})
    ['net', 'width']
    """
    lines = {path: text for path, text in described.items() if SEARCHED.match(text) or path.partition(" [")[0] == path}
    return list(dict.fromkeys(plain(path.partition(" [")[0]) for path in lines))


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


def plain(key: str) -> str:
    """A key as people name it: Hydra's `+` says how it is set."""
    return key.lstrip("+")


def _condition(when: When) -> str:
    return f" [{pairs(when)}]" if when else ""


def pairs(when: When) -> str:
    return ", ".join(f"{plain(key)}={as_text(option)}" for key, option in when.items())
