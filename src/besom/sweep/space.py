"""The search space, written in Hydra's own sweep grammar: `choice`, `range`, `interval`, `tag(log, ...)`, `int(...)`.

Pure: text in, Optuna distributions out, and back to overrides that a user can paste.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, Quote, QuotedString, RangeSweep
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


def parse(params: Mapping[str, Any], arguments: Sequence[str], loader: ConfigLoader | None = None) -> Space:
    """The space of `hydra.sweeper.params` and the command line; the command line wins.

    >>> parse({"lr": "tag(log, interval(1e-4, 1e-1))"}, ["depth=1,2", "seed=3"]).fixed
    ('seed=3',)

    `loader` knows the options of config groups, for `glob(*)`.

    Raises:
        InputError: a line cannot be parsed, or what it describes is empty.
    """
    parser = OverridesParser.create(config_loader=loader)
    typed = _parse_lines(parser, arguments, "")
    named = {override.key_or_group for override in typed}
    lines = [f"{key}={_as_line(value)}" for key, value in params.items()]
    given = _parse_lines(parser, lines, "hydra.sweeper.params: ")
    overrides = [override for override in given if override.key_or_group not in named] + typed
    last = {override.key_or_group: override for override in overrides}  # of two of one key the last holds
    searched = [override for override in last.values() if override.is_sweep_override()]
    return Space(
        dimensions={override.get_key_element(): _distribution(override) for override in searched},
        fixed=tuple(str(override.input_line) for override in overrides if not override.is_sweep_override()),
    )


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


def _parse_lines(parser: OverridesParser, lines: Sequence[str], where: str) -> list[Override]:
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
    """A value of a YAML file; a string is in the grammar already."""
    return as_text(value) if isinstance(value, (str, *SCALARS)) else _element(value)


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
    except (ValueError, HydraException) as error:  # Optuna's words on the limits, ours on emptiness, Hydra's on globs
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
    return _word(option) if isinstance(option, str) else _element(option)


def _word(text: str) -> str:
    """`choice('1', b)` comes to us without its quotes: a text that reads as something else gets them back."""
    plain = _element(text)
    try:
        if OverridesParser.create().parse_override(f"key={plain}").value() == text:
            return plain
    except HydraException:
        pass  # not readable without quotes
    return QuotedString(text, Quote.single).with_quotes()


def _element(value: Any) -> str:
    return Override._get_value_element_as_str(value)


def _range(sweep: RangeSweep) -> BaseDistribution:
    """Hydra's stop is exclusive, Optuna's inclusive."""
    count = len(list(cast(Any, sweep.range())))
    if count == 0:
        raise ValueError(f"the range from {sweep.start} to {sweep.stop} (exclusive) is empty")
    start, step = (Decimal(str(number)) for number in (sweep.start, sweep.step))  # 0.9 is 3 x 0.3, but not in binary
    ends = (start, start + step * (count - 1))
    if all(isinstance(number, int) for number in (sweep.start, sweep.stop, sweep.step)):
        return IntDistribution(int(min(ends)), int(max(ends)), step=int(abs(step)))
    return FloatDistribution(float(min(ends)), float(max(ends)), step=float(abs(step)))


def _interval(sweep: IntervalSweep) -> BaseDistribution:
    low, high, log = cast(float, sweep.start), cast(float, sweep.end), "log" in sweep.tags
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("both ends must be finite numbers")
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(low, high, log=log)
