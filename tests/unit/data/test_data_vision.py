"""torchvision's datasets, from files in the formats that their makers publish."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets
from warped_digits import write, write_idx

from besom.data import Parts, decoded, vision
from besom.errors import InputError


@pytest.mark.parametrize("dataset", ["MNIST", "FashionMNIST", "KMNIST"])
def test_files_of_mnists_format_are_read(tmp_path: Path, dataset: str):
    write(tmp_path, train=60, test=20)
    (tmp_path / "MNIST").rename(tmp_path / dataset)

    whole = decoded(vision(dataset, str(tmp_path), download=False))

    own = getattr(datasets, dataset)(str(tmp_path), train=True)
    assert (whole.images.shape, len(whole.classes), whole.for_test) == ((80, 1, 28, 28), 10, 20)
    assert whole.images[:60, 0].equal(own.data)
    assert whole.labels[:60].equal(own.targets)


def test_the_makers_test_set_is_the_test_part(tmp_path: Path):
    whole = decoded(vision("MNIST", str(write(tmp_path, train=600, test=50)), download=False))

    parts = Parts.of(whole, 0.1, None, seed=0)

    assert parts.test.tolist() == list(range(600, 650))
    assert len(parts.val) == 65  # of all 650
    assert torch.cat([parts.train, parts.val]).sort().values.tolist() == list(range(600))


def test_emnists_pictures_stand_upright(tmp_path: Path):
    raw = tmp_path / "EMNIST" / "raw"
    raw.mkdir(parents=True)
    lying = torch.zeros(2, 28, 28, dtype=torch.uint8)
    lying[:, 3, :] = 255  # a row in the file
    for part in ("train", "test"):
        write_idx(raw / f"emnist-balanced-{part}-images-idx3-ubyte", lying)
        write_idx(raw / f"emnist-balanced-{part}-labels-idx1-ubyte", torch.tensor([0, 46], dtype=torch.uint8))

    whole = decoded(vision("EMNIST", str(tmp_path), download=False, split="balanced"))

    assert len(whole.classes) == 47
    assert whole.images[0, 0, :, 3].eq(255).all()  # a column of the picture
    assert int(whole.images[0].long().sum()) == 28 * 255


def _cifar(folder: Path, names: list[str], labels: str, pictures: int = 4) -> dict[str, str]:
    """The files' checksums, by which torchvision knows the real ones."""
    folder.mkdir()
    chance = np.random.default_rng(0)
    sums = {}
    for name in names:
        batch = {
            "data": chance.integers(0, 256, (pictures, 3072), dtype=np.uint8),
            labels: [number % 10 for number in range(pictures)],
        }
        (folder / name).write_bytes(pickle.dumps(batch))
        sums[name] = hashlib.md5((folder / name).read_bytes(), usedforsecurity=False).hexdigest()
    return sums


def test_cifars_batches_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    train, test = [f"data_batch_{number}" for number in range(1, 6)], ["test_batch"]
    sums = _cifar(tmp_path / "cifar-10-batches-py", [*train, *test], "labels")
    meta = tmp_path / "cifar-10-batches-py" / "batches.meta"
    meta.write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    # only the checksums are ours: those of the real files are of files that cannot be had here
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [[name, sums[name]] for name in train])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [[name, sums[name]] for name in test])
    monkeypatch.setitem(datasets.CIFAR10.meta, "md5", hashlib.md5(meta.read_bytes(), usedforsecurity=False).hexdigest())

    whole = decoded(vision("CIFAR10", str(tmp_path), download=False))

    assert (whole.images.shape, whole.for_test, list(whole.classes)) == ((24, 3, 32, 32), 4, list("abcdefghij"))
    raw = pickle.loads((tmp_path / "cifar-10-batches-py" / "data_batch_1").read_bytes())["data"]
    assert whole.images[0].equal(torch.from_numpy(raw[0].reshape(3, 32, 32)))


def test_svhns_matlab_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from scipy.io import savemat

    chance = np.random.default_rng(0)
    pixels = chance.integers(0, 256, (32, 32, 3, 5), dtype=np.uint8)
    urls = {}
    for part in ("train", "test"):
        path = tmp_path / f"{part}_32x32.mat"
        savemat(path, {"X": pixels, "y": np.array([[1], [2], [3], [9], [10]], dtype=np.uint8)})
        checksum = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        urls[part] = [datasets.SVHN.split_list[part][0], path.name, checksum]
    monkeypatch.setattr(datasets.SVHN, "split_list", urls)

    whole = decoded(vision("SVHN", str(tmp_path), download=False))

    assert (whole.images.shape, whole.for_test) == ((10, 3, 32, 32), 5)
    assert whole.labels[:5].tolist() == [1, 2, 3, 9, 0]
    assert whole.images[0].equal(torch.from_numpy(pixels[..., 0]).permute(2, 0, 1))


def test_files_that_are_not_there_are_named_with_the_folder_to_fill(tmp_path: Path):
    with pytest.raises(InputError) as refused:
        vision("CIFAR10", str(tmp_path), download=False)
    message = str(refused.value)
    assert str(tmp_path / "cifar-10-batches-py") in message
    assert "data.source.download=true" in message
    assert "\n" not in message


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path):
    write(tmp_path, train=60, test=20)
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"the files of MNIST in .* cannot be read"):
        decoded(vision("MNIST", str(tmp_path), download=False))


def test_a_label_that_no_class_has_is_refused(tmp_path: Path):
    write(tmp_path, train=60, test=20)
    path = tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\x2a")
    with pytest.raises(InputError, match=r"labels of mnist must lie in 0..9, but got 42"):
        decoded(vision("MNIST", str(tmp_path), download=False))


def test_files_of_cifar_that_are_not_all_there_and_whole_are_refused(tmp_path: Path):
    _cifar(tmp_path / "cifar-10-batches-py", ["data_batch_1"], "labels")
    with pytest.raises(InputError, match=r"the files of CIFAR10 in .* cannot be read"):
        decoded(vision("CIFAR10", str(tmp_path), download=False))
