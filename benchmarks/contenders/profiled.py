"""One trial, by hand or besom's, under Lightning's own profiler: prints the seconds of each of its actions as JSON.

python benchmarks/contenders/profiled.py by_hand|besom FOLDER [OVERRIDE...]
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import pytorch_lightning as pl
from by_hand import Classifier, fit, quietly
from points import EPOCHS
from pytorch_lightning.profilers import SimpleProfiler


def main(which: str, folder: str, *overrides: str) -> None:
    profiler, began = SimpleProfiler(), 0.0
    lightnings = pl.Trainer

    def trainer(**options: Any) -> pl.Trainer:
        nonlocal began
        began = time.monotonic()
        return lightnings(profiler=profiler, **options)

    pl.Trainer = trainer  # both ask for it by this name
    if which == "by_hand":
        quietly(0)
        fit(Classifier("relu", "adamw", 0.003), EPOCHS, folder)
    else:
        sys.argv = ["besom", *overrides]
        from besom.train import main as besom

        besom()
    spent = {action: sum(seconds) for action, seconds in profiler.recorded_durations.items()}
    print(json.dumps({"all": time.monotonic() - began, **spent}))


if __name__ == "__main__":
    main(*sys.argv[1:])
