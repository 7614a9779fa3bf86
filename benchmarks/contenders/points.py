"""What all contenders of `sweep_vs_floor` train: the same twelve points, data, network and epochs."""

from __future__ import annotations

import itertools

ACTIVATIONS, OPTIMIZERS, RATES = ("relu", "gelu", "silu"), ("adamw", "sgd"), (0.003, 0.01)
POINTS = list(itertools.product(ACTIVATIONS, OPTIMIZERS, RATES))
EPOCHS, BATCH, WORKERS = 3, 128, 2
TRAIN, VAL = 8000, 2000  # images

# of `time_to_quality`: a search by one who knows nothing yet, until it has found something
WIDE_ACTIVATIONS = ("relu", "gelu", "silu", "tanh", "sigmoid")
WIDE_OPTIMIZERS = ("sgd", "adamw", "rmsprop", "adagrad")
WIDE_RATES = (1e-6, 1.0)
WIDE_DECAYS = (1e-6, 1.0)  # weight decay
LONG, ENOUGH = 10, 0.95  # epochs of a trial; val/acc
