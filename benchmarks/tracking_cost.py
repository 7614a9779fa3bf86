"""What recording costs: a digits trial of 10 epochs with MLflow and without, in turns.

python benchmarks/tracking_cost.py
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import optuna
from table import heading, table

BESOM = str(Path(sys.executable).parent / "besom")
REPEATS, TRIALS, EPOCHS = 3, 8, 10
RECORDED, UNRECORDED = "tracking=mlflow", "tracking=none"
TRAINING = ("trainer.num_threads=1", f"trainer.max_epochs={EPOCHS}")

# the same point, again and again
SWEEP = """
# @package _global_
defaults:
  - override /hydra/sweeper: besom
hydra:
  sweeper:
    study_name: bench
    sampler: {seed: 0}
    params: {seed: "range(0,1000)"}
"""
# a run of `besom train` that says how long Lightning has waited for its logger
TIMED = """
import runpy, sys, time
from besom.training.lightning_logger import RunLogger

log_metrics, spent = RunLogger.log_metrics, []

def timed(*given, **named):
    begin = time.perf_counter()
    log_metrics(*given, **named)
    spent.append(time.perf_counter() - begin)

RunLogger.log_metrics = timed
try:
    runpy.run_module("besom.train", run_name="__main__", alter_sys=True)
finally:
    print("logged for", sum(spent), "s")
"""


def trial_s(slots: int, tracking: str) -> float:
    """From its claim to its end in the study; a worker's first trial waits for torch's import, and is left out."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "bench.yaml").write_text(SWEEP)
        size = (f"hydra.sweeper.n_trials={TRIALS * slots}", f"hydra.sweeper.n_jobs={slots}")
        run(folder, BESOM, "sweep", "bench.yaml", tracking, *size, "hydra.sweeper.threads_per_trial=1", *TRAINING)
        trials = optuna.load_study(study_name="bench", storage=f"sqlite:///{folder}/optuna.db").trials
    settled = sorted(trials, key=lambda trial: trial.datetime_start)[slots:]
    return median(trial.duration.total_seconds() for trial in settled)


def train_s(tracking: str) -> float:
    """The whole process, which imports MLflow or does not."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.monotonic()
        run(folder, BESOM, "train", tracking, *TRAINING)
        return time.monotonic() - begin


def logging_ms() -> float:
    """Of an epoch, in the process that trains."""
    with tempfile.TemporaryDirectory() as folder:
        said = run(folder, sys.executable, "-c", TIMED, RECORDED, *TRAINING)
    return 1000 * float(re.findall(r"logged for (\S+) s", said)[0]) / EPOCHS


def in_turns(once: Callable[[str], float]) -> tuple[float, float, float]:
    """Seconds with and without, and the median of the pairs' ratios: a machine may be slower for a while."""
    pairs = [(once(RECORDED), once(UNRECORDED)) for _ in range(REPEATS)]
    recorded, unrecorded = zip(*pairs, strict=True)
    return median(recorded), median(unrecorded), median(one / other for one, other in pairs)


def run(folder: str, *words: str) -> str:
    return subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True).stdout


def main() -> None:
    rows = []
    for name, once in (
        ("a trial, 1 slot", partial(trial_s, 1)),
        ("a trial, 2 slots", partial(trial_s, 2)),
        ("besom train, with its imports", train_s),
    ):
        recorded, unrecorded, ratio = in_turns(once)
        rows.append([name, f"{recorded:.2f}", f"{unrecorded:.2f}", f"{ratio:.3f}"])
    waited = median(logging_ms() for _ in range(REPEATS))
    print(heading(f"What recording costs: digits, {EPOCHS} epochs, one thread"))
    print(table(["", "recorded, s", "not recorded, s", "ratio"], rows))
    print(f"\nlogging holds up an epoch for {waited:.2f} ms")


if __name__ == "__main__":
    main()
