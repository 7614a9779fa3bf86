"""Numbers and choices laid along an axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from besom.reporting.look import parameter, plain, shortened
from besom.space.space import as_text

INFINITE = 1e100  # and more: no axis has room for it
# characters of a label along an axis, beside one, and in its margin
LEVEL, UPRIGHT, MARGIN = 34, 30, 8
MANY_CHOICES = 6
STRETCH = 4.0  # a few bad values may not squeeze all others into less than this part of an axis


@dataclass(frozen=True)
class Axis:
    """Of one parameter, by Optuna's name: a number lies where it is, a choice at its place in the list."""

    name: str
    choices: tuple[Any, ...] | None  # None: numbers
    log: bool
    low: float  # of what the trials have
    high: float

    @classmethod
    def of(cls, name: str, trials: Sequence[FrozenTrial]) -> Axis:
        searched = trials[-1].distributions[name]
        values = [trial.params[name] for trial in trials]
        if isinstance(searched, CategoricalDistribution):
            return cls(name, searched.choices, False, 0.0, len(searched.choices) - 1.0)
        assert isinstance(searched, (FloatDistribution, IntDistribution))
        return cls(name, None, searched.log, float(min(values)), float(max(values)))

    def at(self, value: Any) -> float:
        if self.choices is None:
            return float(value)
        # 1 and True are one key of a mapping, and equal; Optuna takes no space with both
        return float(self.choices.index(value))

    def level(self, value: Any) -> float:
        """Where it is drawn: on a logarithmic axis the exponent."""
        return math.log10(self.at(value)) if self.log else self.at(value)

    @property
    def ends(self) -> tuple[float, float]:
        """As levels."""
        return (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)

    def labels(self, length: int) -> list[str]:
        """Of its choices, each of at most so many characters."""
        return [plain(shortened(as_text(choice), length)) for choice in self.choices or ()]

    def as_plotly(self, *, upright: bool = False) -> dict[str, Any]:
        """For a chart of about 250 pixels: labels that neither run into each other nor into the next chart."""
        low, high = self.ends
        margin = 0.5 if self.choices else (high - low) * 0.05 or 0.5
        shown = {
            "title": {"text": plain(shortened(parameter(self.name, 99), UPRIGHT if upright else LEVEL))},
            "range": [low - margin, high + margin],
            "tickangle": 0,
        }
        if self.choices:
            return {**shown, **self._choice_ticks(len(self.choices), upright=upright)}
        return {**shown, "type": "log", **self._log_ticks()} if self.log else {**shown, "nticks": 5}

    def _choice_ticks(self, count: int, *, upright: bool) -> dict[str, Any]:
        """Many choices stand on end."""
        fits = max(4, LEVEL // count - 1)
        many = not upright and count > MANY_CHOICES
        texts = self.labels(MARGIN if upright or many else fits)
        return {"tickvals": list(range(count)), "ticktext": texts, "tickangle": 90 if many else 0}

    def _log_ticks(self) -> dict[str, Any]:
        """Plotly would write 2, 3, 4 ... between two powers of ten, which run into each other on a narrow chart."""
        low, high = self.ends
        between = (1, 2, 5) if high - low < 1.2 else (1, 3) if high - low < 2 else (1,)
        powers = range(math.floor(low), math.ceil(high) + 1, math.ceil((high - low) / 6) or 1)
        ticks = [(part, power) for power in powers for part in between if low <= math.log10(part) + power <= high]
        if len(ticks) < 2:
            return {"nticks": 4}
        texts = [f"{part * 10.0**power:g}" if abs(power) < 4 else f"{part}e{power}" for part, power in ticks]
        return {"tickvals": [part * 10.0**power for part, power in ticks], "ticktext": texts}


def axes(trials: Sequence[FrozenTrial]) -> dict[str, Axis]:
    """Of all parameters that a trial has, in the order in which they are met."""
    having: dict[str, list[FrozenTrial]] = {}
    for trial in trials:
        for name in trial.params:
            having.setdefault(name, []).append(trial)
    return {name: Axis.of(name, members) for name, members in having.items()}


def drawable(value: float) -> bool:
    return abs(value) < INFINITE  # not so for nan


def window(values: Sequence[float]) -> tuple[float, float]:
    """The ends of an axis for them; outliers beyond are left to those who zoom out."""
    import numpy as np

    low, high = float(min(values)), float(max(values))
    inner_low, inner_high = (float(end) for end in np.quantile(values, (0.1, 0.9)))
    inner = inner_high - inner_low
    if inner > 0 and high - low > STRETCH * inner:
        low, high = max(low, inner_low - inner), min(high, inner_high + inner)
    margin = (high - low) * 0.06 or abs(high) * 0.06 or 1.0
    return low - margin, high + margin


def beyond(values: Sequence[float], ends: tuple[float, float]) -> int:
    return sum(not ends[0] <= value <= ends[1] for value in values)


def far_off(count: int, what: str) -> str:
    """What to say of those beyond the axis."""
    if not count:
        return ""
    lie = f"One {what} far off lies" if count == 1 else f"{count} {what}s far off lie"
    return f" {lie} beyond the axis: a double-click shows all."


def whole(last: int) -> dict[str, Any]:
    """An axis of trials or steps: there is nothing between two of them, where plotly would write 0.5."""
    return {"dtick": 1} if last <= 8 else {}
