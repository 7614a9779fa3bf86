"""torchvision's own datasets, read from the files their makers publish."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from besom.data.images import Chunk, RawDataset
from besom.errors import InputError


def vision(dataset: str, root: str, download: bool, split: str | None = None) -> RawDataset:
    """A dataset of torchvision's by its name; its makers' test set comes last. `split`: EMNIST's.

    Raises:
        InputError: its files are not there, and cannot be downloaded; or, when they are decoded, not whole.
    """
    there = Path(root).absolute()
    published = {there / name: checksum for name, checksum in _published(dataset, split).items()}
    if missing := [path for path in published if not path.is_file()]:
        _fetch(dataset, there, split, missing, download=download)

    def decode() -> tuple[Sequence[str], Iterator[Chunk]]:
        try:
            parts = [_part(dataset, there, split, for_test=for_test) for for_test in (False, True)]
        except Exception as error:  # whatever a reader raises at what it was not made for
            raise InputError(_what_is_wrong(dataset, published) or f"{dataset} in {root}: {_said(error)}") from error
        classes = getattr(parts[0], "classes", [str(digit) for digit in range(10)])  # SVHN has no names for its digits
        return classes, (_chunk(part, for_test=part is parts[1]) for part in parts)

    name = "-".join(filter(None, (dataset.lower(), split)))
    return RawDataset(
        name, str(next(iter(published)).parent), {"torchvision": [dataset, split]}, lambda: published, decode
    )


def _published(dataset: str, split: str | None) -> dict[str, str | None]:
    """Its files below the root, with the MD5 of those that torchvision checks."""
    from torchvision import datasets

    theirs = getattr(datasets, dataset)
    if dataset == "SVHN":
        return {name: checksum for _, name, checksum in (theirs.split_list[part] for part in ("train", "test"))}
    if dataset.startswith("CIFAR"):
        listed = [*theirs.train_list, *theirs.test_list, (theirs.meta["filename"], theirs.meta["md5"])]
        return {f"{theirs.base_folder}/{name}": checksum for name, checksum in listed}
    parts = [f"emnist-{split}-{part}" for part in ("train", "test")] if dataset == "EMNIST" else ["train", "t10k"]
    return {f"{dataset}/raw/{part}-{kind}-ubyte": None for part in parts for kind in ("images-idx3", "labels-idx1")}


def _fetch(dataset: str, root: Path, split: str | None, missing: Sequence[Path], *, download: bool) -> None:
    where = f"data.source.root={root}: of the files of {dataset} there is no {', '.join(map(str, missing))}"
    if not download:
        raise InputError(f"{where}: put them there, or let them be downloaded with data.source.download=true")
    try:
        for for_test in (False, True):
            _part(dataset, root, split, for_test=for_test, download=True)
    except Exception as error:  # whatever the network, the archive or the disk raise
        raise InputError(
            f"{where}, and they could not be downloaded ({_said(error)}): put them there, "
            "or name the folder that has them by data.source.root"
        ) from error


def _part(dataset: str, root: Path, split: str | None, *, for_test: bool, download: bool = False) -> Any:
    from torchvision import datasets

    if dataset == "SVHN":
        which: dict[str, Any] = {"split": "test" if for_test else "train"}
    else:
        which = {"train": not for_test} | ({"split": split} if split else {})
    return getattr(datasets, dataset)(str(root), download=download, **which)


def _what_is_wrong(dataset: str, published: Mapping[Path, str | None]) -> str | None:
    """With the first of the files that is not what its makers published."""
    for path, checksum in published.items():
        if wrong := _wrong(path, checksum):
            return (
                f"{path} is not as the makers of {dataset} published it ({wrong}): put theirs there, "
                "or take it away and let it be downloaded with data.source.download=true"
            )
    return None


def _wrong(path: Path, checksum: str | None) -> str | None:
    from torchvision.datasets.mnist import read_image_file, read_label_file
    from torchvision.datasets.utils import check_integrity

    if checksum:
        return None if check_integrity(path, checksum) else "its MD5 is another"
    try:
        (read_image_file if "-images-" in path.name else read_label_file)(str(path))
    except Exception as error:  # whatever a reader raises
        return _said(error)
    return None


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


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
