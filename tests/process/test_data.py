"""Pictures as users have them: broken ones end a sweep before its first trial; of many, few are in memory."""

from __future__ import annotations

import math
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from doors import BESOM, Shell
from pictures import paint
from warped_digits import write

from besom.data import decoded, image_folder
from sweeps import UNRECORDED, study

SMALL = ("hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=1", "trainer.max_epochs=1", UNRECORDED)


def test_a_sweep_over_a_broken_picture_ends_before_its_first_trial_and_goes_on_when_it_is_mended(shell: Shell) -> None:
    paint(shell.folder / "pictures", 60, side=8)
    broken = shell.folder / "pictures" / "dark" / "7.jpg"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:100])
    words = ("sweep", "digits", "data=image_folder", "data.source.folder=pictures", "data.source.size=[8,8]", *SMALL)

    refused = shell.besom(*words)
    assert refused.returncode == 2
    (line,) = [line for line in refused.stderr.splitlines() if line.startswith("besom: ")]
    assert str(broken) in line
    assert "mend it, or take it away" in line
    assert "Traceback" not in refused.stderr
    assert study(shell, "digits").trials == []

    broken.write_bytes(whole)
    done = shell.besom(*words)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 trials: 2 complete" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("data.augment.cutout=8",), "data.augment.cutout=8: nothing may be left of a 8x8 picture; set at most 7"),
        (
            ("data=mnist", "data.source.root=mnist", "data.source.download=false"),
            "of the files of MNIST there is no {folder}/mnist/MNIST/",
        ),
        (
            ("data=mnist", "data.source.root=cut", "data.source.download=false"),
            "{folder}/cut/MNIST/raw/train-images-idx3-ubyte is not as the makers of MNIST published it",
        ),
        (
            ("data.augment.more=[{_target_:torchvision.transforms.v2.Resize,size:20}]",),
            "makes [2, 1, 20, 20] of a batch of [2, 1, 8, 8]: the pictures must keep their size",
        ),
    ],
)
def test_data_that_does_not_fit_is_refused(shell: Shell, words: tuple[str, ...], said: str) -> None:
    raw = write(shell.folder / "cut", train=60, test=20) / "MNIST" / "raw" / "train-images-idx3-ubyte"
    raw.write_bytes(raw.read_bytes()[:1000])
    done = shell.besom("train", *words)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("besom: ")]
    assert said.format(folder=shell.folder) in line
    assert shell.runs() == []


# ── little memory ─────────────────────────────────────────────────────────────────────────────────────────────────────
LIMIT = 950 << 20  # bytes, of which torch and Lightning take 580 MB
COUNT = int(os.environ.get("BESOM_PICTURES", "2000"))
SIDE = math.ceil(math.sqrt(1.05 * LIMIT / COUNT / 3))  # so that the pictures alone are more than that
NET = """
import torch

class Tiny(torch.nn.Sequential):
    def __init__(self, input_shape, num_classes):
        super().__init__(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.LazyLinear(num_classes))
        self(torch.zeros(1, *input_shape))
"""


@pytest.fixture
def limited() -> Iterator[Path]:
    """A control group of Linux with too little memory for the pictures: what runs in it is killed if it takes more."""
    here = Path("/proc/self/cgroup")
    groups = [line.split(":", 2) for line in here.read_text().splitlines()] if here.exists() else []
    for _, controllers, path in groups:
        if controllers == "memory":
            group, limit = Path(f"/sys/fs/cgroup/memory{path}/besom-{os.getpid()}"), "memory.limit_in_bytes"
        elif not controllers and Path("/sys/fs/cgroup/cgroup.controllers").exists():
            group, limit = Path(f"/sys/fs/cgroup{path}/besom-{os.getpid()}"), "memory.max"
        else:
            continue
        try:
            group.mkdir()
            (group / limit).write_text(str(LIMIT))
        except OSError:
            continue
        yield group
        group.rmdir()
        return
    pytest.skip("no control group of memory can be made here")


def test_pictures_that_do_not_fit_into_memory_are_decoded_and_trained_on(
    shell: Shell, limited: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shell.folder)
    paint(shell.folder / "pictures", COUNT)
    shell.write("tiny.py", NET)
    shell.write("conf/model/tiny.yaml", "_target_: tiny.Tiny")
    words = (
        "data=image_folder", "data.source.folder=pictures", f"data.source.size=[{SIDE},{SIDE}]", "model=tiny",
        "trainer.max_epochs=1", "optimizer.lr=0.01", "tracking=none",
    )  # fmt: skip

    before = _read_from_disk()
    done = shell.run("bash", "-c", f"echo $$ > {limited}/cgroup.procs; exec {BESOM} train {' '.join(words)}")

    assert done.returncode == 0, done.stderr
    # the set a few times, and torch; with what the kernel by itself reads around each picture it can be twenty times
    assert _read_from_disk() - before < 6 * LIMIT
    assert float(done.stdout.split("val/acc ")[1].split()[0]) > 0.9
    whole = decoded(image_folder("pictures", size=[SIDE, SIDE], channels=3))
    assert whole.images.shape == (COUNT, 3, SIDE, SIDE)
    assert whole.images.numel() > LIMIT


def _read_from_disk() -> int:
    """Bytes, by all commands that have ended so far."""
    return 512 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_inblock


def test_what_takes_more_memory_than_that_is_killed(limited: Path) -> None:
    """Else the test above would say nothing."""
    taken = f"echo $$ > {limited}/cgroup.procs; exec python3 -c 'x = bytearray({2 * LIMIT})'"
    assert subprocess.run(["bash", "-c", taken], check=False).returncode == -9
