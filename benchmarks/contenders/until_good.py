"""The same glue, searching a wide space without a pruner, until an epoch is good enough: says so, and ends.

python benchmarks/contenders/until_good.py FOLDER NUMBER SEED
"""

from __future__ import annotations

import sys

import optuna
import pytorch_lightning as pl
from by_hand import Classifier, fit, quietly
from points import ENOUGH, LONG, WIDE_ACTIVATIONS, WIDE_DECAYS, WIDE_OPTIMIZERS, WIDE_RATES


class LeaseMonitor(pl.Callback):
    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking and trainer.callback_metrics["val/acc"] >= ENOUGH:
            print("found", flush=True)


def main(folder: str, number: str, seed: str) -> None:
    quietly(int(seed))

    def objective(trial: optuna.Trial) -> float:
        module = Classifier(
            trial.suggest_categorical("activation", WIDE_ACTIVATIONS),
            trial.suggest_categorical("optimizer", WIDE_OPTIMIZERS),
            trial.suggest_float("rate", *WIDE_RATES, log=True),
            trial.suggest_float("decay", *WIDE_DECAYS, log=True),
        )
        return fit(module, LONG, folder, LeaseMonitor())

    study = optuna.create_study(
        study_name="by_hand", storage="sqlite:///study.db", direction="maximize", load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=100 * int(seed) + int(number), constant_liar=True),
    )  # fmt: skip
    study.optimize(objective, n_trials=1000)


if __name__ == "__main__":
    main(*sys.argv[1:])
