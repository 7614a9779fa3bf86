"""How long a search takes until it has found a good CNN: with besom's pruning, and glued by hand without.

python benchmarks/time_to_quality.py [SEEDS]

Two trials at a time, one thread each; a trial is found when an epoch of it has reached the accuracy.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, median

import optuna
from contenders.points import (
    BATCH,
    ENOUGH,
    LONG,
    TRAIN,
    VAL,
    WIDE_ACTIVATIONS,
    WIDE_DECAYS,
    WIDE_OPTIMIZERS,
    WIDE_RATES,
    WORKERS,
)
from mlflow import MlflowClient
from sweep_vs_floor import BESOM, HELD_OUT, HERE, PART, environment
from table import heading, table
from warped_digits import write

SWEEP = f"""
# @package _global_
defaults:
  - override /data: mnist
  - override /hydra/sweeper: besom
  - override /hydra/sweeper/pruner: asha
hydra:
  sweeper:
    study_name: quality
    n_trials: 1000
    n_jobs: {WORKERS}
    threads_per_trial: 1
    params:
      model.activation: choice({",".join(WIDE_ACTIVATIONS)})
      optimizer: choice({",".join(WIDE_OPTIMIZERS)})
      optimizer.lr: tag(log, interval({WIDE_RATES[0]}, {WIDE_RATES[1]}))
      optimizer.weight_decay: tag(log, interval({WIDE_DECAYS[0]}, {WIDE_DECAYS[1]}))
data:
  batch_size: {BATCH}
  val_split: {PART}
model: {{depth: 3, width: 32, hidden: [128], dropout: 0.0}}
trainer: {{max_epochs: {LONG}, num_threads: 1, tune_step: auto, accelerator: cpu}}
"""
LOOK_S = 0.5


def besom(folder: Path, seed: int) -> float:
    (folder / "quality.yaml").write_text(SWEEP)
    words = [BESOM, "sweep", "quality.yaml", "data.source.root=data", f"seed={seed}"]
    begin = time.monotonic()
    with _started([*words, f"hydra.sweeper.sampler.seed={seed}"], folder) as sweep:
        while not _found(f"sqlite:///{folder}/optuna.db"):
            assert sweep.poll() is None, "the sweep has ended"
            time.sleep(LOOK_S)
        return time.monotonic() - begin


def by_hand(folder: Path, seed: int) -> float:
    begin = time.monotonic()
    optuna.create_study(study_name="by_hand", storage=f"sqlite:///{folder}/study.db", direction="maximize")
    MlflowClient(f"sqlite:///{folder}/by_hand.db").create_experiment("by_hand")
    said = folder / "said"
    with contextlib.ExitStack() as stack:
        for number in range(WORKERS):
            script = str(HERE / "contenders" / "until_good.py")
            words = [sys.executable, script, "data", str(number), str(seed)]
            stack.enter_context(_started(words, folder, said))
        while "found" not in said.read_text():
            time.sleep(LOOK_S)
        return time.monotonic() - begin


def _found(storage: str) -> bool:
    """Whether an epoch of any trial was good enough."""
    try:
        study = optuna.load_study(study_name="quality", storage=storage)
    except KeyError:  # not made yet
        return False
    return any(max(trial.intermediate_values.values(), default=0) >= ENOUGH for trial in study.trials)


@contextlib.contextmanager
def _started(words: list[str], folder: Path, said: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    with (said or folder / "said").open("a") as output:
        process = subprocess.Popen(
            words, cwd=folder, env=environment(folder), stdout=output, stderr=subprocess.DEVNULL, start_new_session=True
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def main(seeds: int) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what it has started ends with it
    print(heading("time_to_quality"))
    seconds: dict[str, list[float]] = {"by hand, without a pruner": [], "besom, with asha": []}
    with tempfile.TemporaryDirectory() as parent:
        data = write(Path(parent) / "pictures", train=TRAIN + VAL, test=HELD_OUT)
        for seed in range(seeds):
            for name, search in zip(seconds, (by_hand, besom), strict=True):
                folder = Path(parent) / f"{search.__name__}-{seed}"
                folder.mkdir()
                (folder / "data").symlink_to(data)
                seconds[name].append(search(folder, seed))
                print(f"seed {seed}, {name}: {seconds[name][-1]:.0f} s", file=sys.stderr, flush=True)
    floor = seconds["by hand, without a pruner"]
    rows = [
        [
            name,
            f"{mean(took):.0f}",
            f"{median(took):.0f}",
            " ".join(f"{one:.0f}" for one in took),
            f"{mean(took) / mean(floor):.2f}",
            f"{median(took) / median(floor):.2f}",
        ]
        for name, took in seconds.items()
    ]
    header = ["seconds: mean", "median", "of each seed", "ratio of means", "of medians"]
    print(table([f"until a trial has val/acc >= {ENOUGH}", *header], rows))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
