"""Before trial 0: every end of the space is composed and checked once, so that no trial fails of a word misspelt."""

from __future__ import annotations

from collections.abc import Iterator

from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from besom.errors import InputError
from besom.sweep.space import Space, Value, as_text


def rehearse(space: Space, context: HydraContext, config: DictConfig) -> None:
    """Compose each choice and each bound beside the first of all others.

    An app may check what is composed: each of its Hydra callbacks that has a method `check(config)` is asked.

    Raises:
        InputError: the app's config has no such key or option, or the app refuses the value.
    """
    first = {key: _ends(distribution)[0] for key, distribution in space.dimensions.items()}
    for point in _points(space, first):
        where = "in the search space at " + " ".join(f"{key}={as_text(value)}" for key, value in point.items())
        try:
            composed = context.config_loader.load_sweep_config(config, space.overrides(point))
            for callback in context.callbacks.callbacks:
                if check := getattr(callback, "check", None):
                    check(composed)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        except (HydraException, OmegaConfBaseException) as error:
            reasons = [str(cause).strip().splitlines()[0] for cause in (error, error.__cause__) if cause]
            raise InputError(f"{where}: {' '.join(reasons)}") from error


def _points(space: Space, first: dict[str, Value]) -> Iterator[dict[str, Value]]:
    for key, distribution in space.dimensions.items():
        for value in _ends(distribution):
            yield {**first, key: value}


def _ends(distribution: BaseDistribution) -> list[Value]:
    match distribution:
        case CategoricalDistribution():
            return list(distribution.choices)
        case IntDistribution() | FloatDistribution():
            return [distribution.low, distribution.high]
        case _:
            raise AssertionError(f"a distribution that the space does not make: {distribution}")
