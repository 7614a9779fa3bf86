"""What a sweep is after: one number of a trial, or several that are weighed against each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from besom.config.directions import against_its_name, mode_of
from besom.errors import InputError

Direction = Literal["maximize", "minimize"]
DIRECTIONS: dict[Any, Direction] = {
    "max": "maximize",
    "min": "minimize",
    "maximize": "maximize",
    "minimize": "minimize",
}


@dataclass(frozen=True)
class Objective:
    name: str  # for people: `val/acc`
    direction: Direction
    key: str = "objective"  # under which a run has its value


def objectives(direction: Any, metric: Any) -> tuple[Objective, ...]:
    """From `hydra.sweeper.direction` and `.metric`: a word each, or a list each.

    >>> [objective.key for objective in objectives(["maximize", "minimize"], "objective")]
    ['objective_0', 'objective_1']

    A direction that is null follows the metric's name, and is `minimize` where that says nothing.

    >>> [objective.direction for objective in objectives(None, ["accuracy", "loss", "y"])]
    ['maximize', 'minimize', 'minimize']

    Raises:
        InputError: an unknown direction, or lists of two lengths.
    """
    if metric is None:
        metric = "objective"
    if direction is None and _is_list(metric):
        direction = [None] * len(metric)
    if not _is_list(direction):
        if _is_list(metric):
            raise InputError(
                f"hydra.sweeper.metric names {len(metric)} objectives, but hydra.sweeper.direction={direction} is one: "
                "list a direction for each"
            )
        return (Objective(str(metric), _direction(direction, metric)),)
    names = list(metric) if _is_list(metric) else [f"{metric}_{n}" for n in range(len(direction))]
    if len(names) != len(direction) or not names:
        raise InputError(
            f"hydra.sweeper.direction lists {len(direction)} and hydra.sweeper.metric {len(names)} objectives: "
            "list one for each number that a trial returns"
        )
    if len(names) == 1:
        return (Objective(str(names[0]).removesuffix("_0"), _direction(direction[0], names[0])),)
    return tuple(
        Objective(str(name), _direction(given, name), f"objective_{n}")
        for n, (name, given) in enumerate(zip(names, direction, strict=True))
    )


def said_of_directions(direction: Any, objectives: Sequence[Objective], mode: Any = None) -> Iterator[str]:
    """What a user must know of them: `direction` as it was given, `mode` that of the app's own `objective`, if any.

    >>> list(said_of_directions(None, objectives(None, "accuracy")))
    ['hydra.sweeper.direction=maximize, by the name of hydra.sweeper.metric=accuracy']
    """
    given = list(direction) if _is_list(direction) else [direction] * len(objectives)
    for one, objective in zip(given, objectives, strict=True):
        short = "max" if objective.direction == "maximize" else "min"
        from_the_app = mode is not None and one == mode
        key, word = ("objective.mode", mode) if from_the_app else ("hydra.sweeper.direction", objective.direction)
        if one is None:
            if mode_of(objective.name) == "max":
                yield f"hydra.sweeper.direction=maximize, by the name of hydra.sweeper.metric={objective.name}"
        elif warning := against_its_name(objective.name, short, key, word):
            yield warning
        elif mode is not None and DIRECTIONS.get(mode, objective.direction) != objective.direction:
            yield (
                f"hydra.sweeper.direction={objective.direction}, but objective.mode={mode}, by which a trial keeps its "
                "best checkpoint and value: leave one of them out"
            )


def described(values: Sequence[float], objectives: Sequence[Objective]) -> str:
    """`val/acc 0.9861`, or `acc 0.9861 parameters 1302.0000`"""
    return " ".join(f"{objective.name} {value:.4f}" for objective, value in zip(objectives, values, strict=True))


def _is_list(given: Any) -> bool:
    return isinstance(given, Sequence) and not isinstance(given, str)


def _direction(given: Any, metric: Any) -> Direction:
    if given is None:
        return DIRECTIONS[mode_of(str(metric)) or "min"]
    if not isinstance(given, str) or given not in DIRECTIONS:
        raise InputError(f"hydra.sweeper.direction={given}: choose maximize or minimize")
    return DIRECTIONS[given]
