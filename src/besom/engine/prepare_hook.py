"""What a worker asks an app in a trial's process, in place of a trial: light, for it is loaded there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

ANSWER = "settled.json"  # in the folder of the job


@dataclass(frozen=True)
class PrepareHook:
    """In place of the app's task function: calls what `besom.prepare` and `besom.fingerprint` have named.

    The answer: `overrides` for all trials and what is `said` of them; and a line for each of the `data` (None: not
    asked).
    """

    prepare: str | None
    data: str | None = None

    def __call__(self, config: DictConfig) -> float:
        overrides, said = _found(self.prepare)(config) if self.prepare else ((), "")
        data = {str(key): str(value) for key, value in _found(self.data)(config).items()} if self.data else None
        answer = Path(HydraConfig.get().runtime.output_dir) / ANSWER
        answer.write_text(json.dumps({"overrides": list(overrides), "said": said, "data": data}))
        return 0.0


def _found(function: str) -> Any:
    module, _, name = function.rpartition(".")
    return getattr(import_module(module), name)
