"""The LightningModule: a network, a loss, an optimizer, a schedule, and the metrics of each epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Self

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import Metric

from besom.errors import InputError
from besom.model import checkpoint

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
        hyperparameters: Mapping[str, Any] | None = None,
    ) -> None:
        """`hyperparameters`: what its checkpoint says of it (`checkpoint.py`), with `classes`, `mean` and `std`."""
        super().__init__()
        self.network = network
        self.loss = loss
        self.make_optimizer = make_optimizer
        self.fused: bool | None = None
        self._make_schedule = make_schedule
        if hyperparameters is not None:
            self.save_hyperparameters(dict(hyperparameters), logger=False)
        # one for each stage: validation runs in the middle of a training epoch
        self.train_scores, self.val_scores, self.test_scores = (Scores(num_classes) for _ in range(3))

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: Any, map_location: Any = "cpu", *, trust: Iterable[str] = (), strict: bool = True
    ) -> Self:
        """A trained classifier, ready to `predict`, from its checkpoint alone.

        `trust` names the packages of the user's own whose classes the checkpoint may build; those of besom, torch and
        torchvision it may. `strict`: every weight must be there.

        Raises:
            InputError: it cannot be read, or names what is not trusted.
        """
        values, state = checkpoint.read(checkpoint_path, map_location)
        builder = checkpoint.Builder.of(checkpoint_path, trust)

        def make_optimizer(parameters: Iterable[nn.Parameter], fused: bool | None) -> Optimizer:
            more = {} if fused is None else {"fused": fused}
            found: Optimizer = builder.build("optimizer", values["optimizer"], list(parameters), **more)
            return found

        module = cls(
            network=builder.build("network", values["network"]),
            loss=builder.build("loss", values.get("loss")),
            make_optimizer=make_optimizer,
            make_schedule=partial(builder.schedule, values),
            num_classes=len(values["classes"]),
            hyperparameters=values,
        )
        try:
            module.load_state_dict(state, strict=strict)
        except RuntimeError as error:
            raise InputError(
                f"{checkpoint_path}: its weights do not fit {values['network']['_target_']}, which may have changed "
                f"since it was trained: {error}"
            ) from error
        return module.to(map_location if isinstance(map_location, str | torch.device) else "cpu").eval()

    @property
    def classes(self) -> list[str]:
        """Their names, in the order of the logits."""
        return list(self._kept("classes"))

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Of one picture: channels, height, width."""
        channels, height, width = self._kept("input_shape")
        return channels, height, width

    def normalised(self, images: Tensor) -> Tensor:
        """As the data source has them (uint8 or float [B, C, H, W], 0 to 255) → float32, as in training."""
        mean, std = (
            torch.tensor(self._kept(name), dtype=torch.float32, device=images.device).view(1, -1, 1, 1)
            for name in ("mean", "std")
        )
        return (images.float() - mean) / std

    def predict(self, images: Tensor) -> Tensor:
        """As the data source has them, uint8 or float [B, C, H, W] → each class's probability: [B, num_classes]."""
        if images.ndim != 4 or tuple(images.shape[1:]) != self.input_shape:
            raise InputError(
                f"predict takes pictures of [B, {', '.join(map(str, self.input_shape))}], but got {list(images.shape)}"
            )
        was_training = self.training
        self.eval()
        try:
            with torch.inference_mode():
                weights = next(self.parameters(), images)
                pixels = self.normalised(images.to(weights.device)).to(weights.dtype)
                logits: Tensor = self(pixels)
            return logits.float().softmax(dim=1)
        finally:
            self.train(was_training)

    def _kept(self, name: str) -> Any:
        if name not in self.hparams:
            raise InputError(
                f"this Classifier was not built by besom or from its checkpoint, and does not know its {name}"
            )
        return self.hparams[name]

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
