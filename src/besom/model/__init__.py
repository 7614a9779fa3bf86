"""From batches to loss: networks, losses, the LightningModule."""

from besom.model.classifier import Classifier
from besom.model.losses import NLL, FocalLoss
from besom.model.network import CNN

__all__ = ["CNN", "NLL", "Classifier", "FocalLoss"]
