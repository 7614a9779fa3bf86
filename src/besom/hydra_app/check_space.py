"""Before trial 0: every end of the space is composed and checked once, so that no trial fails of a word misspelt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from besom.errors import InputError, first_line
from besom.hydra_app.job import App
from besom.hydra_app.sweep_settings import refuse_another
from besom.space.space import Space, Value, as_text


def check_space(space: Space, app: App) -> list[tuple[dict[str, Value], DictConfig]]:
    """Compose each choice, with what it brings, and each bound, beside the first of all others: each with its config.

    An app may check what is composed: each of its Hydra callbacks that has a method `check(config)` is asked.

    Raises:
        InputError: the app's config has no such key or option, or the app refuses the value.
    """
    rehearsed = []
    for point in _points(space):
        where = "in the search space at " + " ".join(f"{key}={as_text(value)}" for key, value in point.items())
        try:
            composed = app.loader.load_sweep_config(app.config, space.overrides(point))
            refuse_another(composed, app.config)
            for callback in app.context.callbacks.callbacks:
                if check := getattr(callback, "check", None):
                    check(composed)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        except (HydraException, OmegaConfBaseException) as error:
            reasons = [first_line(cause) for cause in (error, error.__cause__) if cause]
            raise InputError(f"{where}: {' '.join(reasons)}") from error
        rehearsed.append((point, composed))
    return rehearsed


def _points(space: Space) -> Iterator[dict[str, Value]]:
    """Each end of each dimension once, and each option with all that it brings, beside the first of all others."""
    seen = set()
    for dimension in space.everything():
        for value in _ends(dimension.distribution):
            point = _filled(space, {**dimension.when, dimension.key: value})
            # most dimensions' first ends are one point; by their text, since 1 and true are equal
            if (text := " ".join(space.overrides(point))) not in seen:
                seen.add(text)
                yield point


def first_point(space: Space) -> dict[str, Value]:
    """The first value of each key."""
    return _filled(space, {})


def _filled(space: Space, asked: Mapping[str, Value]) -> dict[str, Value]:
    """The point with these values, and the first of whatever else it has."""
    point: dict[str, Value] = {}
    for dimension in space.walk(point):
        point[dimension.key] = asked.get(dimension.key, _ends(dimension.distribution)[0])
    return point


def _ends(distribution: BaseDistribution) -> list[Value]:
    match distribution:
        case CategoricalDistribution():
            return list(distribution.choices)
        case IntDistribution() | FloatDistribution():
            return [distribution.low, distribution.high]
        case _:
            raise AssertionError(f"a distribution that the space does not make: {distribution}")
