"""The search space, written in Hydra's own sweep grammar: `choice`, `range`, `interval`, `tag(log, ...)`, `int(...)`.

Pure: text in, Optuna distributions out, and back to overrides that a user can paste.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, QuotedString, RangeSweep
from hydra.errors import HydraException
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

from besom.errors import InputError

Value = str | int | float | bool | None
SCALARS = (bool, int, float, type(None))


@dataclass(frozen=True)
class Space:
    """What is searched (`dimensions`) and what every trial shares (`fixed`, as overrides)."""

    dimensions: Mapping[str, BaseDistribution]
    fixed: tuple[str, ...] = ()

    def suggest(self, trial: Trial) -> dict[str, Value]:
        """Ask the sampler for a point; a trial that has one already keeps it."""
        suggested: dict[str, Value] = {}
        for key, distribution in self.dimensions.items():
            match distribution:
                case CategoricalDistribution():
                    suggested[key] = trial.suggest_categorical(key, distribution.choices)
                case IntDistribution():
                    suggested[key] = trial.suggest_int(
                        key, distribution.low, distribution.high, step=distribution.step, log=distribution.log
                    )
                case FloatDistribution():
                    suggested[key] = trial.suggest_float(
                        key, distribution.low, distribution.high, step=distribution.step, log=distribution.log
                    )
        return suggested

    def overrides(self, values: Mapping[str, Value]) -> list[str]:
        """Everything that makes a trial: paste it behind the app's name."""
        return [*self.fixed, *(f"{key}={as_text(value)}" for key, value in values.items())]


def parse(params: Mapping[str, Any], arguments: Sequence[str]) -> Space:
    """The space of `hydra.sweeper.params` and the command line; the command line wins.

    >>> parse({"lr": "tag(log, interval(1e-4, 1e-1))"}, ["depth=1,2", "seed=3"]).fixed
    ('seed=3',)

    Raises:
        InputError: a line cannot be parsed, or what it describes is empty.

    """
    lines = {key: f"{key}={_as_line(value)}" for key, value in params.items()}
    parsed = [*_parse_lines(list(lines.values()), "hydra.sweeper.params: "), *_parse_lines(arguments, "")]
    dimensions: dict[str, BaseDistribution] = {}
    fixed: dict[str, str] = {}
    for override in parsed:
        key = override.get_key_element()
        if override.is_sweep_override():
            dimensions[key] = _distribution(override)
            fixed.pop(key, None)
        else:
            fixed[key] = str(override.input_line)
            dimensions.pop(key, None)
    return Space(dimensions, tuple(fixed.values()))


def as_text(value: Value) -> str:
    """A value in Hydra's override grammar. Choices that are no plain scalars are kept as that text already.

    >>> as_text(None), as_text(True), as_text(1e-05)
    ('null', 'true', '1e-05')
    """
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case float():
            return repr(value)
        case _:
            return str(value)


def label(values: Mapping[str, Value]) -> str:
    """A short name for a point, for tables: `gelu adamw 0.0031`."""
    return " ".join(map(short, values.values()))


def short(value: Value) -> str:
    """For people; `as_text` is exact."""
    return f"{value:.3g}" if isinstance(value, float) else as_text(value)


def _parse_lines(lines: Sequence[str], where: str) -> list[Override]:
    parser = OverridesParser.create()
    parsed = []
    for line in lines:
        try:
            parsed.append(parser.parse_override(line))
        except HydraException as error:
            raise InputError(f"{where}{line}: cannot be read: {_detail(error)}") from error
    return parsed


def _detail(error: HydraException) -> str:
    """Hydra repeats the line, says what is wrong with it, and ends with a link: the middle one."""
    lines = str(error).strip().splitlines()
    return lines[min(1, len(lines) - 1)]


def _as_line(value: Any) -> str:
    return as_text(value) if isinstance(value, (str, *SCALARS)) else str(value)


def _distribution(override: Override) -> BaseDistribution:
    line, sweep = override.input_line, override.value()
    try:
        match sweep:
            case RangeSweep():
                return _range(sweep)
            case IntervalSweep():
                return _interval(sweep)
            case _:  # choices, written as choice(...), as a,b,c or as a glob over a group
                return _choices(override)
    except ValueError as error:  # Optuna's words on the limits; ours on emptiness
        raise InputError(f"{line}: not a space to search: {error}") from error


def _choices(override: Override) -> BaseDistribution:
    options = [_as_choice(option) for option in override.sweep_iterator()]
    if not options:
        raise ValueError("no choices; name at least one")
    return CategoricalDistribution(options)


def _as_choice(option: Any) -> Value:
    """Optuna's categories are scalars; lists, mappings and quoted strings go in as the text Hydra would take back."""
    if isinstance(option, SCALARS):
        return option
    if isinstance(option, QuotedString):
        return option.with_quotes()
    return Override._get_value_element_as_str(option)


def _range(sweep: RangeSweep) -> BaseDistribution:
    """Hydra's stop is exclusive, Optuna's inclusive."""
    values = list(cast(Any, sweep.range()))
    if not values:
        raise ValueError(f"the range from {sweep.start} to {sweep.stop} (exclusive) is empty")
    low, high, step = min(values), max(values), abs(sweep.step)
    if not all(isinstance(value, int) for value in values):
        return FloatDistribution(low, high, step=step)
    return IntDistribution(low, high, step=int(step))


def _interval(sweep: IntervalSweep) -> BaseDistribution:
    log = "log" in sweep.tags
    if isinstance(sweep.start, int) and isinstance(sweep.end, int):
        return IntDistribution(sweep.start, sweep.end, log=log)
    return FloatDistribution(cast(float, sweep.start), cast(float, sweep.end), log=log)
