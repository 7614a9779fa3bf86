"""What all contenders of `sweep_vs_floor` train: the same twelve points, data, network and epochs."""

from __future__ import annotations

import itertools

ACTIVATIONS, OPTIMIZERS, RATES = ("relu", "gelu", "silu"), ("adamw", "sgd"), (0.003, 0.01)
POINTS = list(itertools.product(ACTIVATIONS, OPTIMIZERS, RATES))
EPOCHS, BATCH, WORKERS = 3, 128, 2
TRAIN, VAL = 8000, 2000  # images
