"""Lightning's end of the run's log: a logger that only writes down. `RunUploader` carries it to MLflow."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from besom.tracking.run_log import RunLog


class RunLogger(Logger):
    """Metrics keep the step they are logged with: besom's own are by epoch, a user's module decides for itself."""

    def __init__(self, log: RunLog) -> None:
        super().__init__()
        self._log = log

    @property
    def name(self) -> str:
        return "besom"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        values = {key: float(value) for key, value in metrics.items() if key != "epoch"}
        if values:
            self._log.metrics(values, step or 0)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_: Any, **__: Any) -> None:
        """The composed config is logged already; what a user's module saves of itself is part of it."""
