"""A study, as MLflow has it: its trials' runs, what they searched and what they logged."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from besom.tracking.mlflow_store import Store, as_key

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run

Hyperparameter = float | bool | str


@dataclass(frozen=True)
class Recorded:
    """What MLflow has of a study."""

    store: Store
    run: Run  # the study's

    @cached_property
    def trials(self) -> list[Run]:
        """By number."""
        asked = f"tags.`mlflow.parentRunId` = '{self.run.info.run_id}'"
        runs = self.store.search(asked, [self.run.info.experiment_id])
        return sorted((run for run in runs if "besom.trial" in run.data.tags), key=number_of)

    @cached_property
    def points(self) -> list[dict[str, Hyperparameter]]:
        """Of each trial the parameters that are searched; one that is a number in each trial is a number."""
        keys = self._searched()
        texts = {key: [run.data.params[key] for run in self.trials if key in run.data.params] for key in keys}
        reads = {key: _reader(values) for key, values in texts.items()}
        return [
            {key: read(run.data.params[key]) for key, read in reads.items() if key in run.data.params}
            for run in self.trials
        ]

    def objectives(self) -> list[str]:
        return sorted(
            {key for run in self.trials for key in run.data.metrics if re.fullmatch(r"objective(_\d+)?", key)}
        )

    def metrics(self, run: Run) -> Iterator[Metric]:
        for key in sorted(run.data.metrics):
            yield from self.store.client.get_metric_history(run.info.run_id, key)

    def _searched(self) -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(self.store.client.download_artifacts(self.run.info.run_id, "space.yaml", folder))
            lines = yaml.safe_load(file.read_text())["space"]
        # two branches may search one key differently, `optimizer.lr [optimizer=sgd]`
        return sorted({as_key(line.partition(" [")[0].lstrip("+")) for line in lines})


def number_of(run: Run) -> int:
    return int(run.data.tags["besom.trial"])


def _reader(texts: Sequence[str]) -> Any:
    """What makes of these what they stand for: numbers, truth values, or words."""
    if all(map(_is_number, texts)):
        return float
    if set(texts) <= {"true", "false"}:
        return lambda text: text == "true"
    return str


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
