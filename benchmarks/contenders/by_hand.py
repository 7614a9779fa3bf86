"""Optuna, Lightning and MLflow glued as their documentation shows: one of two processes of one Optuna study.

python benchmarks/contenders/by_hand.py FOLDER SEED
"""

from __future__ import annotations

import sys
import warnings
from functools import partial
from typing import Any

import optuna
import pytorch_lightning as pl
import torch
from bare import NAMES, network
from points import ACTIVATIONS, BATCH, EPOCHS, OPTIMIZERS, POINTS, RATES, TRAIN, VAL
from pytorch_lightning.loggers import MLFlowLogger
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Subset
from torchmetrics.classification import MulticlassAccuracy
from torchvision import transforms
from torchvision.datasets import MNIST

MAKE = {
    "sgd": partial(torch.optim.SGD, momentum=0.9),
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
}


class Classifier(pl.LightningModule):
    def __init__(
        self,
        activation: str,
        optimizer: str,
        rate: float,
        decay: float | None = None,
        channels: int = 1,
        side: int = 28,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.network = network(NAMES[activation], channels, side)
        self.accuracy = MulticlassAccuracy(10, average="micro")

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        loss = functional.cross_entropy(self.network(images), labels)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        logits = self.network(images)
        self.accuracy(logits, labels)
        self.log("val/loss", functional.cross_entropy(logits, labels))
        self.log("val/acc", self.accuracy)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        decay = {} if self.hparams["decay"] is None else {"weight_decay": self.hparams["decay"]}
        return MAKE[self.hparams["optimizer"]](self.parameters(), lr=self.hparams["rate"], **decay)


def loaders(folder: str) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Of the training and of the validation pictures."""
    whole = MNIST(
        folder, train=True, transform=transforms.Compose([transforms.ToTensor(), transforms.Normalize(0.2, 0.33)])
    )
    train = DataLoader(Subset(whole, range(TRAIN)), batch_size=BATCH, shuffle=True)
    return train, DataLoader(Subset(whole, range(TRAIN, TRAIN + VAL)), batch_size=BATCH)


def fit(module: Classifier, epochs: int, folder: str, *callbacks: pl.Callback) -> float:
    return train(module, epochs, *loaders(folder), *callbacks)


def train(
    module: Classifier,
    epochs: int,
    batches: DataLoader[Any],
    held_out: DataLoader[Any],
    *callbacks: pl.Callback,
    accelerator: str = "cpu",
) -> float:
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator=accelerator,
        logger=MLFlowLogger("by_hand", tracking_uri="sqlite:///by_hand.db"),
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, batches, held_out)
    return trainer.callback_metrics["val/acc"].item()


def quietly(seed: int) -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    pl.seed_everything(seed, verbose=False)


def main(folder: str, seed: str) -> None:
    quietly(int(seed))

    def objective(trial: optuna.Trial) -> float:
        module = Classifier(
            trial.suggest_categorical("activation", ACTIVATIONS),
            trial.suggest_categorical("optimizer", OPTIMIZERS),
            trial.suggest_categorical("rate", RATES),
        )
        value = fit(module, EPOCHS, folder)
        print(value, flush=True)
        return value

    search = {"activation": ACTIVATIONS, "optimizer": OPTIMIZERS, "rate": RATES}
    study = optuna.create_study(
        study_name="by_hand", storage="sqlite:///study.db", direction="maximize", load_if_exists=True,
        sampler=optuna.samplers.GridSampler(search, seed=0),
    )  # fmt: skip
    enough = optuna.study.MaxTrialsCallback(len(POINTS), states=None)
    study.optimize(objective, callbacks=[enough])


if __name__ == "__main__":
    main(*sys.argv[1:])
