"""The floor: a plain loop over tensors in memory, tracked by nobody. One of two processes, half the points each.

python benchmarks/contenders/bare.py FOLDER NUMBER SEED [trainer.precision=bf16-mixed ...]

In fp32, or as the words say, by besom's names: with autocast, channels last, a fused optimizer.
"""

from __future__ import annotations

import sys
from functools import partial

import torch
from points import BATCH, EPOCHS, POINTS, TRAIN, VAL, WORKERS
from torch import Tensor, nn
from torch.nn import functional
from torchvision.datasets import MNIST

NAMES = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


def network(activation: type[nn.Module], channels: int = 1, side: int = 28) -> nn.Module:
    def block(before: int, after: int) -> list[nn.Module]:
        convolution = nn.Conv2d(before, after, 3, padding="same", bias=False)
        return [convolution, nn.BatchNorm2d(after), activation(), nn.MaxPool2d(2)]

    return nn.Sequential(
        *block(channels, 32), *block(32, 64), *block(64, 128),
        nn.Flatten(), nn.Linear(128 * (side // 8) ** 2, 128), activation(), nn.Linear(128, 10),
    )  # fmt: skip


def train(
    name: str, optimizer_name: str, rate: float, parts: dict[str, tuple[Tensor, Tensor]], how: dict[str, str]
) -> float:
    model = network(NAMES[name])
    if how.get("memory_format") == "channels_last":
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    cast = partial(torch.autocast, "cpu", torch.bfloat16, enabled=how.get("precision") == "bf16-mixed")
    make = torch.optim.AdamW if optimizer_name == "adamw" else torch.optim.SGD
    more = {} if optimizer_name == "adamw" else {"momentum": 0.9}
    optimizer = make(model.parameters(), lr=rate, fused=how.get("fused") == "True" or None, **more)
    images, labels = parts["train"]
    best = 0.0
    for _ in range(EPOCHS):
        model.train()
        for rows in torch.randperm(len(labels)).split(BATCH):
            with cast():
                loss = functional.cross_entropy(model(images[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad(), cast():
            right = [
                (model(some).argmax(1) == wanted).sum().item()
                for some, wanted in zip(*(part.split(BATCH) for part in parts["val"]), strict=True)
            ]
        best = max(best, sum(right) / len(parts["val"][1]))
    return best


def main(folder: str, number: str, seed: str, *words: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(int(seed))
    whole = MNIST(folder, train=True)
    images = whole.data.unsqueeze(1).float()
    mean, std = images[:TRAIN].mean(), images[:TRAIN].std()
    images = (images - mean) / std
    how = dict(word.removeprefix("trainer.").split("=") for word in words)
    if how.get("memory_format") == "channels_last":
        images = images.to(memory_format=torch.channels_last)
    parts = {
        "train": (images[:TRAIN], whole.targets[:TRAIN]),
        "val": (images[TRAIN : TRAIN + VAL], whole.targets[TRAIN : TRAIN + VAL]),
    }
    for point in POINTS[int(number) :: WORKERS]:
        print(train(*point, parts, how), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
