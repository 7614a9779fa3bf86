"""What happens in a run besides training: its begin is announced, its objective is followed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from besom import trial
from besom.config import schema
from besom.errors import InputError, near


class Begin(Callback):
    """Calls `begin` once everything is built and a first validation has run without an error."""

    def __init__(self, begin: Callable[[], None]) -> None:
        self._begin = begin
        self.has_begun = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.has_begun = True
        if trainer.is_global_zero:
            self._begin()


class Objective(Callback):
    """Follows the objective's metric, reports it to the sweep each epoch, and reduces it in the end.

    Raises:
        InputError: the metric is not among those logged; found by the first validation, a metric of training by the
            first epoch's end.

    """

    def __init__(self, objective: schema.Objective) -> None:
        self._objective = objective
        self._by_epoch: dict[int, float] = {}

    def state_dict(self) -> dict[str, Any]:
        """In every checkpoint: a retried attempt remembers the epochs before it."""
        return {"by_epoch": dict(self._by_epoch)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._by_epoch = state_dict["by_epoch"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Raises ValueError: a checkpoint of later epochs has not their values."""
        if trainer.current_epoch > 1 and not self._by_epoch:
            raise ValueError(f"it has not the values of its {trainer.current_epoch} epochs")

    def on_sanity_check_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._objective.metric.startswith("val"):
            self._latest(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        value = self._latest(trainer)
        self._by_epoch[trainer.current_epoch] = value
        trial.report(value, trainer.current_epoch)

    def _latest(self, trainer: pl.Trainer) -> float:
        metric, logged = self._objective.metric, trainer.callback_metrics
        if metric not in logged:
            raise InputError(f"objective.metric={metric} is never logged{near(metric, logged)}")
        return float(logged[metric])

    def epoch(self) -> int:
        """The epoch that gave the objective; of equal ones the first."""
        if self._objective.reduce == "last":
            return max(self._by_epoch)
        best = max if self._objective.mode == "max" else min
        return best(self._by_epoch, key=self._by_epoch.__getitem__)

    def has_value(self) -> bool:
        return bool(self._by_epoch)

    def value(self) -> float:
        return self._by_epoch[self.epoch()]

    def __str__(self) -> str:
        of = f"{self._objective.reduce} of {len(self._by_epoch)} epochs, epoch {self.epoch()}"
        return f"{self._objective.metric} {self.value():.4f} ({of})"
