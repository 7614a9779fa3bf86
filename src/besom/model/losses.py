"""Losses that torch has not, or not for logits. All take logits: float [B, K] and labels: int64 [B]."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class NLL(nn.Module):
    """Negative log likelihood of the log-softmax of the logits."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return functional.nll_loss(functional.log_softmax(logits, dim=1), labels)


class FocalLoss(nn.Module):
    """Cross entropy of each image times (1 - p)^gamma, p its probability of the true class.

    Lin et al. 2017, Focal Loss for Dense Object Detection, doi:10.1109/ICCV.2017.324.
    """

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        entropy = functional.cross_entropy(logits, labels, reduction="none")
        # never quite 0, where a power below 1 has no gradient
        doubt = (1 - (-entropy).exp()).clamp_min(torch.finfo(entropy.dtype).eps)
        return (doubt**self.gamma * entropy).mean()
