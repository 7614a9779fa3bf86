"""torchvision's own datasets, read from the files their makers publish."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from besom.data.images import Chunk, Originals
from besom.errors import InputError


@dataclass(frozen=True)
class _Published:
    """Where below its root torchvision looks for a dataset's files."""

    folder: str
    files: str  # a pattern; `{split}`: of a dataset that has several

    def there(self, root: Path, split: str | None) -> list[Path]:
        return sorted(path for path in (root / self.folder).glob(self.files.format(split=split)) if path.is_file())


PUBLISHED = {
    "MNIST": _Published("MNIST/raw", "*-ubyte"),
    "FashionMNIST": _Published("FashionMNIST/raw", "*-ubyte"),
    "KMNIST": _Published("KMNIST/raw", "*-ubyte"),
    "EMNIST": _Published("EMNIST/raw", "emnist-{split}-*-ubyte"),
    "CIFAR10": _Published("cifar-10-batches-py", "*"),
    "CIFAR100": _Published("cifar-100-python", "*"),
    "SVHN": _Published("", "t*_32x32.mat"),
}


def vision(dataset: str, root: str, download: bool, split: str | None = None) -> Originals:
    """A dataset of torchvision's by its name; its makers' test set comes last. `split`: EMNIST's.

    Raises:
        InputError: its files are not there, and cannot be downloaded.
    """
    there, published = Path(root).absolute(), PUBLISHED[dataset]
    files = partial(published.there, there, split)
    if not files():
        _fetch(dataset, there, download, split)

    def decode() -> tuple[Sequence[str], Iterator[Chunk]]:
        parts = [_part(dataset, there, split, for_test=for_test) for for_test in (False, True)]
        classes = getattr(parts[0], "classes", [str(digit) for digit in range(10)])  # SVHN has no names for its digits
        return classes, (_chunk(part, for_test=part is parts[1]) for part in parts)

    name = "-".join(filter(None, (dataset.lower(), split)))
    return Originals(name, str(there / published.folder), {"torchvision": [dataset, split]}, files, decode)


def _fetch(dataset: str, root: Path, download: bool, split: str | None) -> None:
    where = f"data.source.root={root}: the files of {dataset} are not in {root / PUBLISHED[dataset].folder}"
    if not download:
        raise InputError(f"{where}: put them there, or let them be downloaded with data.source.download=true")
    try:
        for for_test in (False, True):
            _part(dataset, root, split, for_test=for_test, download=True)
    except Exception as error:  # whatever the network, the archive or the disk raise
        raise InputError(
            f"{where}, and could not be downloaded ({' '.join(str(error).split())}): put them there, "
            "or name the folder that has them by data.source.root"
        ) from error


def _part(dataset: str, root: Path, split: str | None, *, for_test: bool, download: bool = False) -> Any:
    from torchvision import datasets

    if dataset == "SVHN":
        which: dict[str, Any] = {"split": "test" if for_test else "train"}
    else:
        which = {"train": not for_test} | ({"split": split} if split else {})
    try:
        return getattr(datasets, dataset)(str(root), download=download, **which)
    except (RuntimeError, OSError, ValueError, EOFError) as error:
        if download:
            raise
        raise InputError(f"the files of {dataset} in {root} cannot be read: {error}") from error


def _chunk(part: Any, *, for_test: bool) -> Chunk:
    images = torch.as_tensor(part.data)
    if images.ndim == 3:  # without channels
        images = images.unsqueeze(1)
    elif images.shape[-1] == 3:  # channels last, as CIFAR's are
        images = images.permute(0, 3, 1, 2)
    if type(part).__name__ == "EMNIST":  # its pictures lie on their side
        images = images.transpose(2, 3)
    labels = part.labels if hasattr(part, "labels") else part.targets
    return Chunk(images, torch.as_tensor(np.asarray(labels)).to(torch.int64), for_test)
