"""An epoch's scores are those of torchmetrics, over all its images."""

from __future__ import annotations

import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from besom.model.classifier import Scores

CLASSES = 6


@pytest.mark.parametrize("seen", [CLASSES, 4], ids=["all classes", "classes that never come"])
def test_scores_are_those_of_torchmetrics(seen):
    chance = torch.Generator().manual_seed(0)
    scores = Scores(CLASSES)
    acc, f1 = MulticlassAccuracy(CLASSES, average="micro"), MulticlassF1Score(CLASSES, average="macro")
    losses, labels = [], []
    for size in (32, 32, 7):
        logits = torch.rand(size, CLASSES, generator=chance)
        logits[:, seen:] = -1
        labels = torch.randint(0, seen, (size,), generator=chance)
        losses += [torch.nn.functional.cross_entropy(logits, labels, reduction="none")]
        scores.update(losses[-1].mean(), logits, labels)
        acc.update(logits, labels)
        f1.update(logits, labels)

    taken = scores.take("val")

    assert taken["val/acc"] == pytest.approx(float(acc.compute()))
    assert taken["val/f1"] == pytest.approx(float(f1.compute()))
    assert taken["val/loss"] == pytest.approx(float(torch.cat(losses).mean()))


def test_the_next_epoch_starts_from_nothing():
    scores = Scores(2)
    wrong, right = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]])
    scores.update(torch.tensor(2.0), wrong, torch.tensor([0]))
    scores.take("val")

    scores.update(torch.tensor(1.0), right, torch.tensor([0]))

    assert scores.take("val") == {"val/loss": 1.0, "val/acc": 1.0, "val/f1": 1.0}
