"""The search space, read from `hydra.sweeper.params` and the command line.

Written in Hydra's sweep grammar (`grammar.py`). In `hydra.sweeper.params` it may be conditional: a mapping is a choice
of one of its keys, which brings what stands under it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from optuna.distributions import BaseDistribution, CategoricalDistribution

from besom.errors import InputError
from besom.space.grammar import as_choice, choices, distribution, parse_lines, place, written
from besom.space.space import Branch, Space, Value, When, pairs, plain

PARAMS = "hydra.sweeper.params: "


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
    return _assembled([*left, *(part for part in typed if _counts(part, last[part.place]))])


def said_again(arguments: Sequence[str], loader: ConfigLoader | None = None) -> Iterator[str]:
    """What to say of each search on the command line in whose place a later override of its key stands."""
    lines = parse_lines(arguments, loader=loader)
    last = {place(line): line for line in lines}
    for line in lines:
        if line.is_sweep_override() and (later := last[place(line)]) is not line:
            yield f"{line.input_line} is not searched: {later.input_line} stands behind it, and the last one counts"


def _counts(part: _Part, last: _Part) -> bool:
    """Of two of one key only the last, as in Hydra's own sweeps; one that deletes may make way for the next."""
    return part is last or (part.searched is None and (part.line.is_delete() or part.key != last.key))


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
        match typed.get(plain(key)):
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
            there = f"with {pairs(outer.when)}" if outer.when else "at the top level"
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
