"""A full disk is nobody's fault: one message says which, no trial is blamed, and the same command goes on."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from doors import Shell

from sweeps import UNRECORDED, study

pytestmark = pytest.mark.usefixtures("stocked")

APP = """
import contextlib, os, sys
from pathlib import Path
import hydra
from hydra.core.hydra_config import HydraConfig

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    here = Path(HydraConfig.get().runtime.output_dir)
    if "filled" in cfg:
        filler = Path(cfg.filled)
        if HydraConfig.get().job.num == 3 and not filler.exists():
            with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(bytes(1000)):
                    pass
        return cfg.x
    how = cfg.get("how", "file")
    if how == "file":
        (here / "weights").write_bytes(os.urandom(cfg.get("size", 400_000)))
    elif how == "output":
        for _ in range(cfg.get("size", 400_000) // 1000):
            print("x" * 999)
    elif how == "wordless":
        try:
            (here / "weights").write_bytes(os.urandom(cfg.get("size", 400_000)))
        except OSError:
            os._exit(3)
    return cfg.x

if __name__ == "__main__":
    main()
"""
SWEEP = ("-m", "hydra/sweeper=besom", "+x=interval(0,1)", "hydra.sweeper.n_trials=5", "hydra.sweeper.n_jobs=2")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """With room for 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def _fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(1000)):
            pass


def _make_room(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=100m", disk], check=True)


def _states(shell: Shell, storage: str | None = None) -> Counter[str]:
    return Counter(trial.state.name for trial in study(shell, storage=storage).trials)


@pytest.mark.parametrize("how", ["file", "output", "wordless"])
def test_no_trial_is_blamed_for_a_full_output_folder(shell: Shell, disk: Path, how: str) -> None:
    shell.write("app.py", APP)
    words = (sys.executable, "app.py", *SWEEP, UNRECORDED, f"hydra.sweep.dir={disk}/out", f"+how={how}")
    full = shell.run(*words)

    said = full.stdout + full.stderr
    assert full.returncode == 1, said
    assert "Traceback" not in said
    assert "a disk is full: trial " in full.stderr
    assert f"there is no room in {disk}/out/" in full.stderr
    assert _states(shell)["FAIL"] == 0, said
    assert 0 < _states(shell)["WAITING"] <= 2

    _make_room(disk)
    again = shell.run(*words)
    assert again.returncode == 0, again.stdout + again.stderr
    assert _states(shell) == {"COMPLETE": 5}


@pytest.mark.parametrize("when", ["from the begin", "amid the sweep"])
def test_a_full_disk_of_the_storage_is_one_message(shell: Shell, disk: Path, when: str) -> None:
    shell.write("app.py", APP)
    url = f"sqlite:///{disk}/optuna.db"
    if when == "from the begin":
        _fill(disk)
    words = (sys.executable, "app.py", *SWEEP, UNRECORDED, f"hydra.sweeper.storage={url}", "hydra.sweeper.n_trials=9")
    full = shell.run(*words, f"+filled={disk}/filler")

    said = full.stdout + full.stderr
    assert full.returncode == 1, said
    assert "Traceback" not in said
    assert ("trial 0 complete" in said) == (when != "from the begin"), said
    assert full.stderr.count(f"the disk of {disk} is full") == 1, said
    assert "make room" in full.stderr

    _make_room(disk)
    again = shell.run(*words, f"+filled={disk}/filler")
    assert again.returncode == 0, again.stdout + again.stderr
    assert _states(shell, url) == {"COMPLETE": 9}
