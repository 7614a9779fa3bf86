"""The LightningModule: a network, a loss, an optimizer, a schedule, and the metrics of each epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import Metric

Batch = tuple[Tensor, Tensor]  # images: float32 [B, C, H, W]; labels: int64 [B]
MakeOptimizer = Callable[[Iterable[nn.Parameter], bool | None], Optimizer]
MakeSchedule = Callable[[Optimizer, int], dict[str, Any]]


class Classifier(pl.LightningModule):
    """Logs `STAGE/loss`, `STAGE/acc` and `STAGE/f1` (macro) for train, val and test, once an epoch, by epoch number.

    `make_optimizer(parameters, fused)`: `fused` None leaves the choice of its kernel to torch.
    `make_schedule(optimizer, total_steps)` returns Lightning's scheduler config.
    """

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
        self.make_optimizer = make_optimizer
        self.fused: bool | None = None
        self._make_schedule = make_schedule
        # one for each stage: validation runs in the middle of a training epoch
        self.train_scores, self.val_scores, self.test_scores = (Scores(num_classes) for _ in range(3))

    def forward(self, images: Tensor) -> Tensor:
        """images: float32 [B, C, H, W] → logits: [B, num_classes]."""
        logits: Tensor = self.network(images)
        return logits

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self._step(batch, self.train_scores)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._step(batch, self.val_scores)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._step(batch, self.test_scores)

    def on_train_epoch_end(self) -> None:
        self._publish({"train/lr": self.trainer.optimizers[0].param_groups[0]["lr"], **self.train_scores.take("train")})

    def on_validation_epoch_end(self) -> None:
        self._publish(self.val_scores.take("val"))

    def on_test_epoch_end(self) -> None:
        self._publish(self.test_scores.take("test"))

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.parameters(), self.fused)
        return {
            "optimizer": optimizer,
            "lr_scheduler": self._make_schedule(optimizer, int(self.trainer.estimated_stepping_batches)),
        }

    def _step(self, batch: Batch, scores: Scores) -> Tensor:
        images, labels = batch
        logits = self(images)
        loss: Tensor = self.loss(logits, labels)
        scores.update(loss.detach(), logits.detach(), labels)
        return loss

    def _publish(self, values: dict[str, float]) -> None:
        """One value an epoch, at the epoch's number: Lightning would count steps, which differ by batch size."""
        on_bar = {name: value for name, value in values.items() if name in ("val/loss", "val/acc")}
        self.log_dict(on_bar, logger=False, prog_bar=True)
        self.log_dict({name: value for name, value in values.items() if name not in on_bar}, logger=False)
        if self.logger and not self.trainer.sanity_checking:
            self.logger.log_metrics(values, step=self.current_epoch)


class Scores(Metric):
    """Loss, accuracy and macro-F1 over all images of one epoch, and of all devices.

    One small matrix is counted up, of which all are read at the epoch's end: no step waits for its device. F1 is the
    mean over the classes that were there or predicted, as scikit-learn has it.
    """

    full_state_update = False
    loss: Tensor
    confusion: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.add_state("loss", torch.zeros(()), "sum")
        # int32: Apple's GPUs do not add up int64; [label, predicted]
        self.add_state("confusion", torch.zeros(num_classes, num_classes, dtype=torch.int32), "sum")

    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """loss: scalar, the batch's mean; logits: [B, K]; labels: int64 [B]."""
        self.loss += loss * len(labels)
        cells = labels * len(self.confusion) + logits.argmax(dim=1)
        self.confusion.view(-1).index_add_(0, cells, torch.ones_like(cells, dtype=torch.int32))

    def compute(self) -> dict[str, float]:
        confusion = self.confusion.cpu().double()
        right, asked, said = confusion.diag(), confusion.sum(1), confusion.sum(0)
        seen = asked + said > 0
        scores = {
            "loss": self.loss.cpu() / asked.sum(),
            "acc": right.sum() / asked.sum(),
            "f1": (2 * right[seen] / (asked + said)[seen]).mean(),
        }
        return {name: score.float().item() for name, score in scores.items()}  # Lightning keeps float32 of it too

    def take(self, stage: str) -> dict[str, float]:
        """The epoch's values, named `STAGE/...`; the next epoch starts from nothing."""
        values = {f"{stage}/{name}": value for name, value in self.compute().items()}
        self.reset()
        return values
