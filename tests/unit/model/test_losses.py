from __future__ import annotations

import pytest
import torch
from torch import nn

from besom.model import NLL, FocalLoss

LOGITS = torch.randn(16, 5, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(16) % 5
EASY = torch.tensor([[8.0, 0.0]])  # almost surely the class 0, which it is
HARD = torch.tensor([[0.0, 8.0]])
TRUE = torch.tensor([0])


def test_nll_of_logits_is_cross_entropy():
    torch.testing.assert_close(NLL()(LOGITS, LABELS), nn.CrossEntropyLoss()(LOGITS, LABELS))


def test_focal_loss_without_gamma_is_cross_entropy():
    torch.testing.assert_close(FocalLoss(gamma=0.0)(LOGITS, LABELS), nn.CrossEntropyLoss()(LOGITS, LABELS))


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_focal_loss_is_cross_entropy_weighed_by_how_far_off_it_is(gamma):
    entropy = nn.CrossEntropyLoss(reduction="none")(LOGITS, LABELS)
    probability = LOGITS.softmax(dim=1)[torch.arange(16), LABELS]

    torch.testing.assert_close(FocalLoss(gamma)(LOGITS, LABELS), ((1 - probability) ** gamma * entropy).mean())


def test_focal_loss_lowers_the_weight_of_easy_examples():
    entropy, focal = nn.CrossEntropyLoss(), FocalLoss(gamma=2.0)

    assert focal(EASY, TRUE) / entropy(EASY, TRUE) < 1e-5
    assert focal(HARD, TRUE) / entropy(HARD, TRUE) > 0.99


@pytest.mark.parametrize("loss", [NLL(), FocalLoss(), FocalLoss(gamma=0.5)])
def test_gradients_flow(loss):
    logits = LOGITS.clone().requires_grad_()

    loss(logits, LABELS).backward()

    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad.abs().sum() > 0


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("lead", [16.0, 17.0, 50.0, 200.0])
def test_an_example_that_is_as_good_as_certain_gives_no_nan(lead, gamma):
    logits = torch.tensor([[lead, 0.0]], requires_grad=True)

    loss = FocalLoss(gamma)(logits, TRUE)
    loss.backward()

    assert 0 <= loss < 1e-6
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
