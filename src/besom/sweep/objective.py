"""What a sweep is after: one number of a trial, or several that are weighed against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

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

    Raises:
        InputError: an unknown direction, or lists of two lengths.
    """
    if not _is_list(direction):
        if _is_list(metric):
            raise InputError(
                f"hydra.sweeper.metric names {len(metric)} objectives, but hydra.sweeper.direction={direction} is one: "
                "list a direction for each"
            )
        return (Objective(str(metric), _direction(direction)),)
    names = list(metric) if _is_list(metric) else [f"{metric}_{n}" for n in range(len(direction))]
    if len(names) != len(direction) or not names:
        raise InputError(
            f"hydra.sweeper.direction lists {len(direction)} and hydra.sweeper.metric {len(names)} objectives: "
            "list one for each number that a trial returns"
        )
    if len(names) == 1:
        return (Objective(str(names[0]).removesuffix("_0"), _direction(direction[0])),)
    return tuple(
        Objective(str(name), _direction(given), f"objective_{n}")
        for n, (name, given) in enumerate(zip(names, direction, strict=True))
    )


def described(values: Sequence[float], objectives: Sequence[Objective]) -> str:
    """`val/acc 0.9861`, or `acc 0.9861 parameters 1302.0000`"""
    return " ".join(f"{objective.name} {value:.4f}" for objective, value in zip(objectives, values, strict=True))


def _is_list(given: Any) -> bool:
    return isinstance(given, Sequence) and not isinstance(given, str)


def _direction(given: Any) -> Direction:
    if given not in DIRECTIONS:
        raise InputError(f"hydra.sweeper.direction={given}: choose maximize or minimize")
    return DIRECTIONS[given]
