"""What all contenders of `sweep_vs_floor` train: the same twelve points, data, network and epochs."""

from __future__ import annotations

import itertools

ACTIVATIONS, OPTIMIZERS, RATES = ("relu", "gelu", "silu"), ("adamw", "sgd"), (0.003, 0.01)
POINTS = list(itertools.product(ACTIVATIONS, OPTIMIZERS, RATES))
EPOCHS, BATCH, WORKERS = 3, 128, 2
TRAIN, VAL = 8000, 2000  # images

# of `time_to_quality`, which searches until it has found something
WIDE_ACTIVATIONS, WIDE_OPTIMIZERS, WIDE_RATES = ("relu", "gelu", "silu"), ("adamw", "sgd"), (1e-5, 1.0)
LONG, ENOUGH = 9, 0.95  # epochs of a trial; val/acc
