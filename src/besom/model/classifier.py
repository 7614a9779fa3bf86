"""The LightningModule: a network, a loss, an optimizer, a schedule, and the metrics of each epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import pytorch_lightning as pl
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

Stage = Literal["train", "val", "test"]
MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]
MakeSchedule = Callable[[Optimizer, int], dict[str, Any]]


class Classifier(pl.LightningModule):
    """Logs `STAGE/loss`, `STAGE/acc` and `STAGE/f1` (macro) for train, val and test, once an epoch, by epoch number.

    `make_schedule(optimizer, total_steps)` returns Lightning's scheduler config.
    """

    logs = frozenset({f"{stage}/{name}" for stage in ("train", "val") for name in ("loss", "acc", "f1")} | {"train/lr"})

    def __init__(
        self,
        network: nn.Module,
        loss: nn.Module,
        make_optimizer: MakeOptimizer,
        make_schedule: MakeSchedule,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self._make_optimizer = make_optimizer
        self._make_schedule = make_schedule
        self._losses = nn.ModuleDict({_slot(stage): MeanMetric() for stage in ("train", "val", "test")})
        self._scores = nn.ModuleDict(
            {
                _slot(stage): MetricCollection(
                    {
                        "acc": MulticlassAccuracy(num_classes, average="micro", validate_args=False),
                        "f1": MulticlassF1Score(num_classes, average="macro", validate_args=False),
                    }
                )
                for stage in ("train", "val", "test")
            }
        )

    def forward(self, images: Tensor) -> Tensor:
        """images: float32 [B, C, H, W] → logits: [B, num_classes]."""
        logits: Tensor = self.network(images)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self._step("train", batch)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._step("val", batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._step("test", batch)

    def on_train_epoch_end(self) -> None:
        self._publish("train", lr=self.trainer.optimizers[0].param_groups[0]["lr"])

    def on_validation_epoch_end(self) -> None:
        self._publish("val")

    def on_test_epoch_end(self) -> None:
        self._publish("test")

    def configure_optimizers(self) -> Any:
        optimizer = self._make_optimizer(self.parameters())
        return {
            "optimizer": optimizer,
            "lr_scheduler": self._make_schedule(optimizer, int(self.trainer.estimated_stepping_batches)),
        }

    def _step(self, stage: Stage, batch: tuple[Tensor, Tensor]) -> Tensor:
        images, labels = batch
        logits = self(images)
        loss: Tensor = self.loss(logits, labels)
        self._losses[_slot(stage)].update(loss.detach(), len(labels))
        self._scores[_slot(stage)].update(logits.detach(), labels)
        return loss

    def _publish(self, stage: Stage, **more: float) -> None:
        """One value an epoch, at the epoch's number: Lightning's own way counts optimizer steps, which differ by batch size."""
        loss, scores = self._losses[_slot(stage)], self._scores[_slot(stage)]
        values = {f"{stage}/{name}": value for name, value in {"loss": loss.compute(), **scores.compute(), **more}.items()}
        loss.reset()
        scores.reset()
        self.log_dict(values, logger=False, prog_bar=stage == "val")
        if self.logger and not self.trainer.sanity_checking:
            self.logger.log_metrics({name: float(value) for name, value in values.items()}, step=self.current_epoch)


def _slot(stage: Stage) -> str:
    """A module may not be called `train`: nn.Module has a method of that name."""
    return f"{stage}_"
