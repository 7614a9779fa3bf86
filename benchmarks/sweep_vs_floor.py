"""A whole sweep of twelve trials on 28x28 pictures, against a bare loop, and against the same glued by hand.

python benchmarks/sweep_vs_floor.py [SEEDS]

All train the same twelve points for three epochs, two at a time, one thread each; each process's start counts, but not
what is done once on a machine: an empty MLflow database.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import mean, median

import optuna
from contenders.points import ACTIVATIONS, BATCH, EPOCHS, OPTIMIZERS, POINTS, RATES, TRAIN, VAL, WORKERS
from mlflow import MlflowClient
from table import heading, table
from warped_digits import write

from besom.system.cache import cache_folder

HERE = Path(__file__).parent
BESOM = str(Path(sys.executable).parent / "besom")
HELD_OUT = 500  # pictures of the makers' test set, which nobody looks at
PART = VAL / (TRAIN + VAL + HELD_OUT)
NETWORK = ["model.depth=3", "model.width=32", "model.hidden=[128]", "model.dropout=0.0"]
SWEEP = f"""
# @package _global_
defaults:
  - override /data: mnist
  - override /hydra/sweeper: besom
  - override /hydra/sweeper/sampler: grid
hydra:
  sweeper:
    study_name: floor
    n_trials: {len(POINTS)}
    n_jobs: {WORKERS}
    threads_per_trial: 1
    params:
      model.activation: choice({",".join(ACTIVATIONS)})
      optimizer: choice({",".join(OPTIMIZERS)})
      optimizer.lr: choice({",".join(map(str, RATES))})
data:
  batch_size: {BATCH}
  val_split: {PART}
model: {{depth: 3, width: 32, hidden: [128], dropout: 0.0}}
trainer: {{max_epochs: {EPOCHS}, num_threads: 1, tune_step: auto, accelerator: cpu}}
"""


_chosen: list[str] = []  # by besom, how a step is computed


@dataclass
class Contender:
    sweep: Callable[[Path, int], list[float]]  # in a folder, with a seed: the value of each trial
    seconds: list[float] = field(default_factory=list)
    best: list[float] = field(default_factory=list)

    def run(self, data: Path, seed: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "data").symlink_to(data)
            begin = time.monotonic()
            values = self.sweep(Path(folder), seed)
            self.seconds.append(time.monotonic() - begin)
        assert len(values) >= len(POINTS), values
        self.best.append(max(values))


def bare(folder: Path, seed: int, numerics: Sequence[str] = ()) -> list[float]:
    """`numerics`: what besom has chosen for its own sweep, as overrides."""
    return _side_by_side(folder, [("bare.py", "data", str(number), str(seed), *numerics) for number in range(WORKERS)])


def by_hand(folder: Path, seed: int) -> list[float]:
    # two processes that make fresh databases at once destroy each other's tables
    optuna.create_study(study_name="by_hand", storage=f"sqlite:///{folder}/study.db", direction="maximize")
    MlflowClient(f"sqlite:///{folder}/by_hand.db").create_experiment("by_hand")
    return _side_by_side(folder, [("by_hand.py", "data", str(seed))] * WORKERS)


def besom(folder: Path, seed: int, pruner: str = "none") -> list[float]:
    (folder / "floor.yaml").write_text(SWEEP)
    words = [BESOM, "sweep", "floor.yaml", f"data.source.root={folder}/data", f"seed={seed}"]
    words += [f"hydra/sweeper/pruner={pruner}"]
    subprocess.run(words, cwd=folder, check=True, capture_output=True, env=environment(folder))
    study = optuna.load_study(study_name="floor", storage=f"sqlite:///{folder}/optuna.db")
    _chosen[:] = study.user_attrs["besom.prepared"]["overrides"]
    return [max(trial.intermediate_values.values()) for trial in study.trials]


def _side_by_side(folder: Path, commands: list[tuple[str, ...]]) -> list[float]:
    started = [
        subprocess.Popen(
            [sys.executable, str(HERE / "contenders" / script), *words],
            cwd=folder, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )
        for script, *words in commands
    ]  # fmt: skip
    said = [process.communicate()[0] for process in started]
    assert not any(process.returncode for process in started), said
    return [float(line) for out in said for line in out.split()]


def environment(folder: Path) -> dict[str, str]:
    """Of an earlier run an empty MLflow database alone is left: besom decodes the pictures anew."""
    cache = folder / "cache"
    cache.mkdir(exist_ok=True)
    for database in cache_folder().glob("mlflow-*.db"):
        shutil.copy(database, cache)
    return {**os.environ, "OMP_NUM_THREADS": "1", "BESOM_CACHE": str(cache)}


def main(seeds: int) -> None:
    contenders = {
        "besom": Contender(besom),
        "bare fp32 loop": Contender(bare),
        "bare loop, besom's numerics": Contender(partial(bare, numerics=_chosen)),
        "by hand": Contender(by_hand),
        "besom, with asha": Contender(partial(besom, pruner="asha")),
    }
    with tempfile.TemporaryDirectory() as folder:
        data = write(Path(folder), train=TRAIN + VAL, test=HELD_OUT)
        for seed in range(seeds):
            for name, contender in contenders.items():
                contender.run(data, seed)
                print(f"seed {seed}, {name}: {contender.seconds[-1]:.0f} s", file=sys.stderr, flush=True)
    floors = [contenders["bare fp32 loop"], contenders["bare loop, besom's numerics"]]
    print(heading("sweep_vs_floor"))
    rows = [
        [name, f"{median(one.seconds):.1f}", f"{mean(one.best):.4f}", *(_ratio(one, floor) for floor in floors)]
        for name, one in contenders.items()
    ]
    print(f"besom's numerics: {' '.join(_chosen)}")
    title = f"{len(POINTS)} trials of {EPOCHS} epochs, {WORKERS} at a time"
    print(table([title, "seconds", "best val/acc", "/ fp32", "/ same numerics"], rows))


def _ratio(one: Contender, floor: Contender) -> str:
    return f"{median(ours / theirs for ours, theirs in zip(one.seconds, floor.seconds, strict=True)):.2f}"


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
