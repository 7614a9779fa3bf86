"""The apps that the benchmarks sweep, and how: through the command line, as users do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import optuna

# as a trial of deep learning begins: torch and Lightning are needed, and nothing is done with them
NOTHING = """
import besom
import hydra

@hydra.main(version_base="1.3", config_path=None)
@besom.preload("torch", "pytorch_lightning")
def main(cfg):
    import torch, pytorch_lightning
    besom.report(cfg.x, 0)
    return cfg.x

if __name__ == "__main__":
    main()
"""
# every third trial takes ten times as long
UNEVEN = """
import time
import besom
import hydra
from hydra.core.hydra_config import HydraConfig

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    work = 2.0 if HydraConfig.get().job.num % 3 == 0 else 0.2
    time.sleep(work)
    return work

if __name__ == "__main__":
    main()
"""


def run_alone(folder: Path, app: str, *words: str) -> None:
    (folder / "app.py").write_text(app)
    subprocess.run([sys.executable, "app.py", *words], cwd=folder, check=True, capture_output=True)


def sweep(folder: Path, app: str, *words: str) -> list[optuna.trial.FrozenTrial]:
    """Its trials, by number."""
    run_alone(folder, app, "-m", "hydra/sweeper=besom", "+x=interval(0,1)", "hydra.sweeper.study_name=bench", *words)
    return optuna.load_study(study_name="bench", storage=f"sqlite:///{folder}/optuna.db").trials


def slot_seconds(trials: list[optuna.trial.FrozenTrial], slots: int) -> float:
    """From the first claim to the last end, times the slots; workers that are still starting count as idle."""
    begin = min(trial.datetime_start for trial in trials if trial.datetime_start)
    end = max(trial.datetime_complete for trial in trials if trial.datetime_complete)
    return slots * (end - begin).total_seconds()
