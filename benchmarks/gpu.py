"""What a GPU is used for: steps a second of one trial, against Lightning by hand; and several trials on one GPU.

python benchmarks/gpu.py [EPOCHS] [ACCELERATOR]

Without a GPU it says so, and ends; `cpu` as ACCELERATOR only shows that the benchmark runs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import optuna
import torch
from contenders.points import BATCH, TRAIN, VAL
from mlflow import MlflowClient
from sweep_vs_floor import BESOM, HELD_OUT, HERE, NETWORK, PART
from table import heading, table
from warped_digits import write

TOGETHER = (1, 2, 4, 8)  # trials on one GPU
TRIALS = {"cuda": 24, "cpu": 4}
DATA = {
    "digits": ["data=mnist", "data.source.root=data", f"data.val_split={PART}"],
    "photographs": [
        "data=fake",
        f"data.source.n={TRAIN + VAL + HELD_OUT}",
        f"data.val_split={PART}",
        f"data.test_split={HELD_OUT / (TRAIN + VAL + HELD_OUT)}",
    ],
}
SWEEP = """
# @package _global_
defaults:
  - override /data: mnist
  - override /hydra/sweeper: besom
  - override /hydra/sweeper/sampler: random
hydra:
  sweeper:
    sampler: {seed: 0}
    params:
      optimizer.lr: tag(log, interval(1e-4, 1e-2))
"""


def besom(what: str, folder: Path, epochs: int, accelerator: str) -> float:
    options = [*DATA[what], *NETWORK, "model.activation=relu", "optimizer=adamw", "optimizer.lr=0.003"]
    trainer = [f"trainer.max_epochs={epochs}", f"trainer.accelerator={accelerator}", "trainer.tune_step=auto"]
    _run([BESOM, "train", *options, f"data.batch_size={BATCH}", *trainer], folder)
    return _steps_a_second(f"sqlite:///{folder}/mlflow.db", "besom")


def by_hand(what: str, folder: Path, epochs: int, accelerator: str) -> float:
    MlflowClient(f"sqlite:///{folder}/by_hand.db").create_experiment("by_hand")
    script = str(HERE / "contenders" / "eager.py")
    _run([sys.executable, script, what, "data", str(epochs), accelerator], folder)
    return _steps_a_second(f"sqlite:///{folder}/by_hand.db", "by_hand")


def together(count: int, folder: Path, epochs: int, accelerator: str) -> float:
    """Trials a minute, from the first one's begin to the last one's end."""
    (folder / f"shared{count}.yaml").write_text(SWEEP)
    slots = "n_jobs" if accelerator == "cpu" else "trials_per_gpu"
    options = [*DATA["digits"], *NETWORK, f"data.batch_size={BATCH}", f"trainer.max_epochs={epochs}"]
    options += [f"trainer.accelerator={accelerator}", "trainer.tune_step=auto"]
    sweep = {slots: count, "study_name": count, "n_trials": TRIALS[accelerator]}
    more = [f"hydra.sweeper.{key}={value}" for key, value in sweep.items()]
    _run([BESOM, "sweep", f"shared{count}.yaml", *options, *more], folder)
    trials = optuna.load_study(study_name=str(count), storage=f"sqlite:///{folder}/optuna.db").trials
    begun = [trial.datetime_start for trial in trials if trial.datetime_start]
    ended = [trial.datetime_complete for trial in trials if trial.datetime_complete]
    return 60 * len(ended) / (max(ended) - min(begun)).total_seconds()


def _steps_a_second(store: str, experiment: str) -> float:
    """In training and validation alike, from the first epoch's end to the last one's, as MLflow was told of them."""
    client = MlflowClient(store)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    (run,) = client.search_runs([found.experiment_id])
    at = sorted(metric.timestamp for metric in client.get_metric_history(run.info.run_id, "val/acc"))
    return (len(at) - 1) * -(-TRAIN // BATCH) / ((at[-1] - at[0]) / 1000)


def _run(words: list[str], folder: Path) -> None:
    environment = {**os.environ, "BESOM_CACHE": str(folder / "cache")}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def main(epochs: int, accelerator: str) -> None:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"the CPU, asked for {accelerator}"
    print(f"{heading('gpu')}on {device}\n")
    rows = []
    with tempfile.TemporaryDirectory() as parent:
        data = write(Path(parent) / "pictures", train=TRAIN + VAL, test=HELD_OUT)
        for what, name in (("digits", "28x28"), ("photographs", "32x32x3")):
            folder = _folder(Path(parent) / what, data)
            floor = by_hand(what, folder, epochs, accelerator)
            ours = besom(what, folder, epochs, accelerator)
            rows += [[f"{name}: Lightning by hand", f"{floor:,.0f}", "1.00"]]
            rows += [[f"{name}: besom, tune_step=auto", f"{ours:,.0f}", f"{ours / floor:.2f}"]]
        print(table([f"a CNN, batches of {BATCH}", "steps/s", "ratio"], rows))
        folder = _folder(Path(parent) / "together", data)
        rates = {count: together(count, folder, epochs, accelerator) for count in TOGETHER}
    rows = [[str(count), f"{rate:.1f}", f"{rate / rates[1]:.2f}"] for count, rate in rates.items()]
    print(f"\n{table(['trials at a time on one GPU', 'trials a minute', 'ratio'], rows)}")


def _folder(path: Path, data: Path) -> Path:
    path.mkdir()
    (path / "data").symlink_to(data)
    return path


if __name__ == "__main__":
    asked = sys.argv[2] if len(sys.argv) > 2 else "cuda"
    if asked == "cuda" and not torch.cuda.is_available():
        print("no GPU here: skipped")
        sys.exit()
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20, asked)
