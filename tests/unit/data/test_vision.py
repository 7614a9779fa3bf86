"""torchvision's datasets, from files in the formats that their makers publish."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torch import Tensor
from torchvision import datasets
from torchvision.transforms.v2.functional import pil_to_tensor
from warped_digits import write, write_idx

from besom.data import Splits, decoded, vision
from besom.errors import InputError

Write = Callable[[str, Path], None]
NAMES = ["MNIST", "FashionMNIST", "KMNIST", "EMNIST", "CIFAR10", "CIFAR100", "SVHN"]


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a dataset's files as its makers publish them, but for their number of pictures.

    Only the checksums are ours: those that torchvision knows are of files that cannot be had here.
    """

    def publish(dataset: str, root: Path) -> None:
        theirs = getattr(datasets, dataset)
        if dataset == "SVHN":
            monkeypatch.setattr(theirs, "split_list", _svhn(root))
        elif dataset.startswith("CIFAR"):
            folder = root / theirs.base_folder
            folder.mkdir()
            for names in ("train_list", "test_list"):
                monkeypatch.setattr(
                    theirs, names, [[name, _cifar(folder / name)] for name, _ in getattr(theirs, names)]
                )
            meta = folder / theirs.meta["filename"]
            meta.write_bytes(pickle.dumps({theirs.meta["key"]: [f"class {n}" for n in range(100)]}))
            monkeypatch.setitem(theirs.meta, "md5", _md5(meta))
        elif dataset == "EMNIST":
            _emnist(root)
        else:
            write(root, train=60, test=20)
            (root / "MNIST").rename(root / dataset)

    return publish


def _cifar(path: Path, pictures: int = 4) -> str:
    """Its checksum."""
    labels = [(len(path.name) + number) % 10 for number in range(pictures)]
    pixels = _noise(pictures, 3072).numpy()
    path.write_bytes(pickle.dumps({"data": pixels, ("labels" if "batch" in path.name else "fine_labels"): labels}))
    return _md5(path)


def _svhn(root: Path) -> dict[str, list[str]]:
    """torchvision's list of its files."""
    listed = {}
    for part in ("train", "test"):
        path = root / f"{part}_32x32.mat"
        savemat(path, {"X": _noise(32, 32, 3, 5).numpy(), "y": np.array([[1], [2], [3], [9], [10]], dtype=np.uint8)})
        listed[part] = [datasets.SVHN.split_list[part][0], path.name, _md5(path)]
    return listed


def _emnist(root: Path) -> None:
    raw = root / "EMNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "test"):
        write_idx(raw / f"emnist-balanced-{part}-images-idx3-ubyte", _noise(4, 28, 28))
        write_idx(raw / f"emnist-balanced-{part}-labels-idx1-ubyte", torch.tensor([0, 46, 3, 9], dtype=torch.uint8))


def _noise(*size: int) -> Tensor:
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(sum(size)))


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def _split(dataset: str) -> str | None:
    return "balanced" if dataset == "EMNIST" else None


def _theirs(dataset: str, root: Path, *, for_test: bool) -> Any:
    which = {"split": "test" if for_test else "train"} if dataset == "SVHN" else {"train": not for_test}
    return getattr(datasets, dataset)(str(root), **which, **({"split": "balanced"} if dataset == "EMNIST" else {}))


@pytest.mark.parametrize("dataset", NAMES)
def test_every_picture_is_as_torchvision_decodes_it(tmp_path: Path, published: Write, dataset: str):
    published(dataset, tmp_path)

    whole = decoded(vision(dataset, str(tmp_path), download=False, split=_split(dataset)))

    train, test = (_theirs(dataset, tmp_path, for_test=for_test) for for_test in (False, True))
    pictures, labels = zip(*[*train, *test], strict=True)
    expected = torch.stack([pil_to_tensor(picture) for picture in pictures])
    assert whole.images.equal(expected.mT if dataset == "EMNIST" else expected)  # torchvision leaves its letters lying
    assert whole.labels.tolist() == list(labels)
    assert whole.for_test == len(test)
    assert list(whole.classes) == [str(name) for name in getattr(train, "classes", range(10))]


def test_the_makers_test_set_is_the_test_part(tmp_path: Path):
    whole = decoded(vision("MNIST", str(write(tmp_path, train=600, test=50)), download=False))

    parts = Splits.of(whole, 0.1, None, seed=0)

    assert parts.test.tolist() == list(range(600, 650))
    assert len(parts.val) == 65  # of all 650
    assert torch.cat([parts.train, parts.val]).sort().values.tolist() == list(range(600))


@pytest.mark.parametrize("dataset", NAMES)
def test_files_that_are_not_there_are_named_with_the_folder_to_fill(tmp_path: Path, dataset: str):
    with pytest.raises(InputError) as refused:
        vision(dataset, str(tmp_path), download=False, split=_split(dataset))
    assert str(tmp_path) in str(refused.value)
    assert "data.source.download=true" in str(refused.value)
    assert "\n" not in str(refused.value)


FILES = {
    "MNIST": "MNIST/raw/train-images-idx3-ubyte",
    "EMNIST": "EMNIST/raw/emnist-balanced-test-labels-idx1-ubyte",
    "CIFAR10": "cifar-10-batches-py/data_batch_2",
    "CIFAR100": "cifar-100-python/meta",
    "SVHN": "test_32x32.mat",
}


@pytest.mark.parametrize(("dataset", "file"), FILES.items())
def test_one_that_is_not_there_is_named(tmp_path: Path, published: Write, dataset: str, file: str):
    published(dataset, tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(InputError, match=file):
        vision(dataset, str(tmp_path), download=False, split=_split(dataset))


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "of another kind": lambda content: b"\x89PNG" + content,
    "with another number of dimensions": lambda content: content[:3] + b"\x07" + content[4:],
    "with another type": lambda content: content[:2] + b"\x0d" + content[3:],
    "longer": lambda content: content + b"\x00\x00\x00\x00",
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(("dataset", "file"), FILES.items())
def test_one_that_is_not_whole_is_named(tmp_path: Path, published: Write, dataset: str, file: str, damage: str):
    published(dataset, tmp_path)
    path = tmp_path / file
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.raises(InputError) as refused:
        decoded(vision(dataset, str(tmp_path), download=False, split=_split(dataset)))
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_label_that_no_class_has_is_refused(tmp_path: Path):
    write(tmp_path, train=60, test=20)
    path = tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\x2a")
    with pytest.raises(InputError, match=r"labels of mnist must lie in 0..9, but got 42"):
        decoded(vision("MNIST", str(tmp_path), download=False))
