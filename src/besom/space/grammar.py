"""Hydra's sweep grammar: `choice`, `range`, `interval`, `tag(log, ...)`, `int(...)`, and the values they stand for.

Pure: text in, Optuna distributions out, and back to text that Hydra reads.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from decimal import Decimal
from itertools import combinations, pairwise
from typing import Any, cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override, Quote, QuotedString, RangeSweep
from hydra.errors import HydraException
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from besom.errors import InputError
from besom.space.value import SCALARS, Value, as_text


# ── values ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def written(value: Any) -> str:
    """A value of a YAML file in the grammar; a string is in the grammar already."""
    return as_text(value) if isinstance(value, (str, *SCALARS)) else _element(_quoted(value))


def as_choice(option: Any) -> Value:
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


def _quoted(value: Any) -> Any:
    """Inside a list or mapping, YAML's "1" and "null" are texts, and Hydra reads them as such only in quotes."""
    match value:
        case str():
            plain = re.fullmatch(r"[A-Za-z_][\w./-]*", value) and _word(value) == value
            return value if plain else QuotedString(value, Quote.single)
        case list():
            return [_quoted(item) for item in value]
        case dict():
            return {key: _quoted(item) for key, item in value.items()}
        case _:
            return value


def _element(value: Any) -> str:
    return Override._get_value_element_as_str(value)


# ── overrides ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def parse_lines(lines: Sequence[str], where: str = "", loader: ConfigLoader | None = None) -> list[Override]:
    """`loader` knows the options of config groups, for `glob(*)`.

    Raises:
        InputError: a line is no override; its message begins with `where`.
    """
    parser = OverridesParser.create(config_loader=loader)
    parsed = []
    for line in lines:
        try:
            parsed.append(override := parser.parse_override(line))
        except HydraException as error:
            raise InputError(f"{where}{line}: cannot be read: {_detail(error)}") from error
        override.config_loader = loader
    return parsed


def _detail(error: HydraException) -> str:
    """Hydra repeats the line, says what is wrong with it, and ends with a link: the middle one."""
    lines = str(error).strip().splitlines()
    return lines[min(1, len(lines) - 1)]


def place(override: Override) -> str:
    """What an override is about, whether it sets, adds or deletes it: a key, or a group at its package."""
    return override.get_key_element().lstrip("+~")


# ── distributions ─────────────────────────────────────────────────────────────────────────────────────────────────────
def distribution(override: Override, where: str = "") -> BaseDistribution:
    """What a sweep override searches.

    Raises:
        InputError: nothing, or nothing that Optuna can search; its message begins with `where`.
    """
    sweep = override.value()
    try:
        match sweep:
            case RangeSweep():
                return _range(sweep, list(override.sweep_iterator()))
            case IntervalSweep():
                return _interval(sweep)
            case _:  # choices, written as choice(...), as a,b,c or as a glob over a group
                return choices([as_choice(option) for option in _options(override)])
    except (ValueError, HydraException) as error:  # Optuna's words on the limits, ours on emptiness, Hydra's on globs
        raise InputError(f"{where}{override.input_line}: not a space to search: {error}") from error


def _options(override: Override) -> list[Any]:
    """Raises ValueError: a glob matches none."""
    options = list(override.sweep_iterator())
    if isinstance(override.value(), Glob) and not options:
        loader, group = override.config_loader, override.key_or_group
        there = loader.get_group_options(group) if loader else []
        raise ValueError(
            f"no option of {group!r} matches; it has {', '.join(there)}"
            if there
            else f"there is no config group {group!r}, of whose options glob takes some"
        )
    return options


def choices(options: Sequence[Value]) -> CategoricalDistribution:
    """Raises ValueError: there are none, or two that Optuna cannot tell apart."""
    if not options:
        raise ValueError("no choices; name at least one")
    for one, other in combinations(options, 2):
        if one == other and type(one) is not type(other):
            raise ValueError(f"Optuna takes {as_text(one)} and {as_text(other)} for one choice; write only one of them")
    return CategoricalDistribution(options)


def _range(sweep: RangeSweep, points: Sequence[Any]) -> BaseDistribution:
    """Of its points, to which an `int(...)` around it is done. Hydra's stop is exclusive, Optuna's inclusive."""
    if not points:
        raise ValueError(f"the range from {sweep.start} to {sweep.stop} (exclusive) is empty")
    if not all(isinstance(point, int) for point in points):
        start, step = (Decimal(str(number)) for number in (sweep.start, sweep.step))  # 0.9 is 3 x 0.3; not in binary
        ends = (start, start + step * (len(points) - 1))
        return FloatDistribution(float(min(ends)), float(max(ends)), step=float(abs(step)))
    steps = {after - before for before, after in pairwise(sorted(points))} or {1}
    if len(steps) > 1 or 0 in steps:
        raise ValueError(f"whole numbers in uneven steps ({', '.join(map(str, points))}); name them: choice(...)")
    return IntDistribution(min(points), max(points), step=steps.pop())


def _interval(sweep: IntervalSweep) -> BaseDistribution:
    low, high, log = cast(float, sweep.start), cast(float, sweep.end), "log" in sweep.tags
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("both ends must be finite numbers")
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(low, high, log=log)


def as_sweep(searched: BaseDistribution) -> str:
    """A distribution in the grammar again; what is read from it is equal, but for Hydra's rounding of float ranges.

    >>> as_sweep(FloatDistribution(1e-4, 1e-1, log=True)), as_sweep(IntDistribution(16, 48, step=16))
    ('tag(log, interval(0.0001, 0.1))', 'range(16, 64, 16)')
    """
    match searched:
        case CategoricalDistribution():
            options = ", ".join(map(as_text, searched.choices))
            return options if None in searched.choices else f"choice({options})"  # Hydra's choice(...) takes no null
        case IntDistribution() if searched.step != 1:
            return f"range({searched.low}, {searched.high + searched.step}, {searched.step})"
        case FloatDistribution() if searched.step is not None:
            stop = float(Decimal(str(searched.high)) + Decimal(str(searched.step)))
            return f"range({searched.low}, {stop}, {searched.step})"
        case IntDistribution() | FloatDistribution():
            interval = f"interval({searched.low}, {searched.high})"
            tagged = f"tag(log, {interval})" if searched.log else interval
            return f"int({tagged})" if isinstance(searched, IntDistribution) else tagged
        case _:
            raise AssertionError(f"a distribution that the grammar does not make: {searched}")
