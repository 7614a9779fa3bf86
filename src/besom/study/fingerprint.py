"""What a study's trials share and the space does not say: all fixed settings, by which a changed sweep is known.

What changes no result does not count: the budget, the slots and the tracking, which are Hydra's and besom's own keys,
and keys that name a place to write to.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig

from besom.config.redaction import redacted
from besom.space.space import Space, Value, pairs, plain

NOT_MEASURED = frozenset({"hydra", "tracking"})  # sections
# last words of keys, in any section
PLACES = frozenset(
    f"{what}_{where}"
    for what in ("output", "out", "log", "logs", "save", "checkpoint", "ckpt", "cache", "run", "work")
    for where in ("dir", "path", "folder", "root")
) | {"output", "outdir", "logdir", "workdir", "num_workers", "n_workers", "verbose", "progress_bar", "run_name"}

Composed = Sequence[tuple[Mapping[str, Value], DictConfig]]  # points of the space, each with its config


def fingerprint(space: Space, composed: Composed) -> dict[str, str]:
    """Each fixed setting by its dotted key; one that comes with an option has the option beside it.

    Interpolations stand as they are written, and secrets are hidden: a change of either's value is not seen.
    """
    searched = {plain(dimension.key).replace("/", ".") for dimension in space.everything()}
    found: dict[str, dict[str, list[Mapping[str, Value]]]] = defaultdict(lambda: defaultdict(list))
    for point, config in composed:
        options = {key: value for key, value in point.items() if plain(key) in config.hydra.runtime.choices}
        for key, value in _flat(redacted(config)):
            if key not in searched:
                found[key][json.dumps(value, sort_keys=True, default=str)].append(options)
    return dict(sorted(_named(found, len(composed))))


def _named(found: Mapping[str, Mapping[str, list[Mapping[str, Value]]]], points: int) -> Iterator[tuple[str, str]]:
    for key, values in found.items():
        if len(values) == 1 and sum(map(len, values.values())) == points:
            yield key, next(iter(values))
            continue
        for value, choices in values.items():
            for options in choices:
                yield (f"{key} [{pairs(options)}]" if options else key), value


def _flat(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        key = f"{prefix}{name}"
        if (not prefix and name in NOT_MEASURED) or str(name).lower() in PLACES:
            continue
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{key}.")
        else:
            yield key, value
