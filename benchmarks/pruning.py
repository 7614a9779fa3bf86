"""What the digits sweep finds, and how long it takes, with its pruner and without one.

python benchmarks/pruning.py [SEEDS]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, stdev

import optuna
from optuna.trial import TrialState
from sweep_vs_floor import BESOM, environment
from table import heading, table

PRUNERS = {
    "every trial to its end": ["hydra/sweeper/pruner=none"],
    "hyperband": ["hydra/sweeper/pruner=hyperband"],
    "asha": ["hydra/sweeper/pruner=asha"],
}


def swept(pruner: list[str], seed: int) -> tuple[float, float, int]:
    """Seconds, the best value, and how many trials were pruned."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seeds = [f"hydra.sweeper.sampler.seed={seed}", f"seed={seed}"]
        begin = time.monotonic()
        words = [BESOM, "sweep", "digits", *pruner, *seeds]
        subprocess.run(words, cwd=folder, check=True, capture_output=True, env=environment(folder))
        took = time.monotonic() - begin
        study = optuna.load_study(study_name="digits", storage=f"sqlite:///{folder}/optuna.db")
        pruned = sum(trial.state == TrialState.PRUNED for trial in study.trials)
        return took, study.best_value, pruned


def main(seeds: int) -> None:
    print(heading("pruning"))
    found = {name: [swept(pruner, seed) for seed in range(seeds)] for name, pruner in PRUNERS.items()}
    rows = []
    floor = mean(took for took, *_ in found["every trial to its end"])
    for name, sweeps in found.items():
        seconds, best, pruned = (list(column) for column in zip(*sweeps, strict=True))
        spread = f"{mean(best):.4f} +- {stdev(best):.4f}" if seeds > 1 else f"{best[0]:.4f}"
        rows.append([name, f"{mean(seconds):.0f}", f"{mean(pruned):.1f}", spread, f"{mean(seconds) / floor:.2f}"])
    print(table([f"digits, 20 trials, {seeds} seeds", "seconds", "pruned", "best val/acc", "ratio"], rows))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
