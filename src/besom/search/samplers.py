"""Optuna's samplers and pruners, built from `hydra.sweeper.sampler` and `.pruner`; what they cannot do is said first.

A sampler is made anew for each trial, by whichever worker has claimed it, so nothing may depend on what it remembers.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping, Sequence
from decimal import Decimal
from importlib.util import find_spec
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, QMCSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from besom.config.hydra_compat import build
from besom.errors import InputError
from besom.space.grammar import as_sweep
from besom.space.space import Dimension, Space, Value

# Optuna's own two end by `Study.stop`, which fails outside `Study.optimize`, and its grid takes no enqueued trials: who
# names them gets EveryPoint
EVERY_POINT = ("besom.search.samplers.EveryPoint", "optuna.samplers.GridSampler", "optuna.samplers.BruteForceSampler")
NEEDS = {CmaEsSampler: "cmaes", GPSampler: "torch", QMCSampler: "scipy"}  # imported by Optuna only in a later trial
MAX_SEED = 2**31 - 1  # NumPy takes twice as much, but the trial's number is added


def make_sampler(config: Mapping[str, Any], space: Space, trial: int) -> BaseSampler:
    """The sampler for the trial of that number.

    Every trial has a seed of its own, made of the one in `config`: with one for all, trials asked for at the same time
    would get the same point.

    Raises:
        InputError: the sampler cannot be built.
    """
    seed = _seed(config)
    target = config.get("_target_")
    if target in EVERY_POINT:
        return EveryPoint(space, seed or 0)
    own: dict[str, Any] = {} if seed is None else {"seed": seed + trial}
    if own and target == "optuna.samplers.QMCSampler":  # its sequence is one for all; what it leaves to chance is not
        own = {"independent_sampler": {"_target_": "optuna.samplers.RandomSampler", **own}}
    sampler: BaseSampler = _built("sampler", {**config, **own})
    return sampler


def make_pruner(config: Mapping[str, Any] | None) -> BasePruner:
    """The pruner; without a config one that never prunes.

    Raises:
        InputError: it cannot be built.
    """
    if not config:
        return NopPruner()
    pruner: BasePruner = _built("pruner", config)
    return pruner


def size(config: Mapping[str, Any], space: Space) -> int | None:
    """How many points there are before the sampler has tried them all; None for one that has no end."""
    return _count(space, {}) if config.get("_target_") in EVERY_POINT else None


def check(
    config: Mapping[str, Any],
    space: Space,
    pruner_config: Mapping[str, Any] | None,
    directions: int = 1,
    *,
    is_shared: bool = False,
) -> None:
    """Refuse, before trial 0, what the sampler or the pruner could not do in a later one.

    `is_shared`: the storage is a server, to which others may write.

    Raises:
        InputError: one of them cannot be built, or not for this space or this number of objectives.
    """
    sampler, pruner = make_sampler(config, space, trial=0), make_pruner(pruner_config)
    name = f"hydra.sweeper.sampler: {type(sampler).__name__}"
    if isinstance(sampler, QMCSampler) and config.get("scramble") and _seed(config) is None:
        raise InputError(f"{name} scrambles its sequence by a seed, one for all trials: set hydra.sweeper.sampler.seed")
    if isinstance(sampler, CmaEsSampler) and is_shared:
        raise InputError(
            f"{name} keeps its state in the storage as a pickle, and who may write to a server could run code in each "
            "worker: use it with a storage of your own, hydra.sweeper.storage=sqlite:///optuna.db, or choose tpe"
        )
    if isinstance(sampler, CmaEsSampler) and directions > 1:
        raise InputError(f"{name} follows one objective, and there are {directions}: choose nsgaii or tpe")
    if isinstance(sampler, CmaEsSampler) and not any(map(_is_number, space.dimensions.values())):
        raise InputError(f"{name} searches numbers, and this space has choices alone: choose tpe or grid")
    if isinstance(sampler, (CmaEsSampler, GPSampler, QMCSampler)) and (child := _child(space)):
        raise InputError(f"{name} searches no conditional space, and would draw {child} at random: choose tpe")
    for kind, package in NEEDS.items():
        if isinstance(sampler, kind) and find_spec(package) is None:
            raise InputError(f"{name} needs the package {package}: pip install {package}")
    if directions > 1 and not isinstance(pruner, NopPruner):
        raise InputError(
            f"hydra.sweeper.pruner: {type(pruner).__name__} compares trials by one objective, "
            f"and there are {directions}: choose hydra/sweeper/pruner=none"
        )


def _is_number(searched: BaseDistribution) -> bool:
    return not isinstance(searched, CategoricalDistribution) and not searched.single()


def _child(space: Space) -> str | None:
    return next((dimension.path for dimension in space.everything() if dimension.when), None)


class EveryPoint(BaseSampler):
    """Each point of a finite space once, conditional spaces too; in shuffled order, so that an early end is no loss.

    Trial n takes the n-th point and asks nobody, so no two workers can take the same one; after the last comes the
    first again. A trial that was enqueued with values keeps them: with k of those first, `size + k` trials try it all.

    Raises:
        InputError: the space has no end.
    """

    def __init__(self, space: Space, seed: int = 0) -> None:
        for dimension in space.everything():
            _options(dimension)
        self._space = space
        self._size = _count(space, {})
        self._seed = seed

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        point = self.point(trial.number % self._size)
        if param_name in point:
            return point[param_name]
        # the values it was enqueued with have led this trial into another branch
        there = next(d for d in self._space.everything() if self._space.name(d) == param_name)
        return _options(there)[0]

    def point(self, number: int) -> dict[str, Value]:
        """By Optuna's names."""
        return _point(self._space, _shuffled(self._size, number, self._seed))


# ── counting points ───────────────────────────────────────────────────────────────────────────────────────────────────
def _options(dimension: Dimension) -> Sequence[Value]:
    match dimension.distribution:
        case CategoricalDistribution(choices=choices):
            return choices
        case IntDistribution(low=low, high=high, step=step):
            return range(low, high + 1, step)
        case FloatDistribution(low=low, high=high) if low == high:
            return [low]
        case FloatDistribution(low=low, high=high, step=float(step)):
            start, stride = Decimal(str(low)), Decimal(str(step))  # as they were written: 3 x 0.1 is 0.3
            return [float(start + stride * n) for n in range(round((high - low) / step) + 1)]
        case endless:
            raise InputError(
                f"hydra.sweeper.sampler: {dimension.path}={as_sweep(endless)} has no end of points to try them all: "
                "write range(start, stop, step), or choose hydra/sweeper/sampler=tpe"
            )


def _count(space: Space, chosen: Mapping[str, Value]) -> int:
    """Points that begin with what is chosen."""
    dimension = _next(space, chosen)
    if dimension is None:
        return 1
    key, options = dimension.key, _options(dimension)
    if any(key in branch.when for branch in space.branches):
        return sum(_count(space, {**chosen, key: option}) for option in options)
    return len(options) * _count(space, {**chosen, key: options[0]})


def _point(space: Space, index: int) -> dict[str, Value]:
    """The point of that index in the order of its options, the first dimension slowest; by Optuna's names."""
    chosen: dict[str, Value] = {}
    point: dict[str, Value] = {}
    while dimension := _next(space, chosen):
        key, options = dimension.key, _options(dimension)
        if any(key in branch.when for branch in space.branches):
            for option in options:
                if index < (block := _count(space, {**chosen, key: option})):
                    break
                index -= block
        else:
            place, index = divmod(index, _count(space, {**chosen, key: options[0]}))
            option = options[place]
        chosen[key] = point[space.name(dimension)] = option
    return point


def _next(space: Space, chosen: Mapping[str, Value]) -> Dimension | None:
    return next((dimension for dimension in space.walk(chosen) if dimension.key not in chosen), None)


def _shuffled(size: int, place: int, seed: int) -> int:
    """What stands at that place of `range(size)` shuffled: Fisher and Yates, no further than is asked."""
    draw, moved = random.Random(seed), dict[int, int]()
    for here in range(place + 1):
        there = draw.randrange(here, size)
        moved[here], moved[there] = moved.get(there, there), moved.get(here, here)
    return moved[place]


# ── building ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def _seed(config: Mapping[str, Any]) -> int | None:
    seed = config.get("seed")
    if seed is None:
        return None
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= MAX_SEED:
        raise InputError(f"hydra.sweeper.sampler.seed={seed}: must be a whole number from 0 to {MAX_SEED}")
    return seed


def _built(what: str, config: Mapping[str, Any]) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # once for each trial, and the user has chosen it
            return build(config)
    except Exception as error:  # whatever the class makes of its arguments
        raise InputError(f"hydra.sweeper.{what}: {config.get('_target_')}: {error.__cause__ or error}") from error
