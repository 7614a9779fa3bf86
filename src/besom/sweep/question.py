"""What a worker asks an app in a trial's process, in place of a trial: light, for it is loaded there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

ANSWER = "settled.json"  # in the folder of the job


@dataclass(frozen=True)
class Question:
    """In place of the app's task function: calls what `besom.prepare` has named."""

    function: str

    def __call__(self, config: DictConfig) -> float:
        module, _, name = self.function.rpartition(".")
        overrides, said = getattr(import_module(module), name)(config)
        answer = Path(HydraConfig.get().runtime.output_dir) / ANSWER
        answer.write_text(json.dumps({"overrides": list(overrides), "said": said}))
        return 0.0
