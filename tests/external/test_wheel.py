"""What is installed from the wheel works without the checkout."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from doors import Shell

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    [built] = folder.glob("*.whl")
    return built


def test_the_wheel_carries_every_config_and_sweep(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("conf", "sweeps"):
        for file in (ROOT / folder).rglob("*.yaml"):
            assert f"besom/{file.relative_to(ROOT)}" in inside


def test_the_wheel_carries_what_the_report_is_made_of(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert {f"besom/reporting/page.{kind}" for kind in ("html.j2", "css", "js")} <= inside


def test_besom_sweeps_from_the_wheel_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    """An empty venv elsewhere; besom's dependencies are lent from this one, to spare 6 GB of downloads."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    python = str(venv / "bin/python")
    subprocess.run([python, "-m", "pip", "install", "--no-deps", "--quiet", str(wheel)], check=True)
    [site] = venv.glob("lib/python*/site-packages")
    # a .pth adds a folder whose own .pth files, the checkout's editable install among them, are not read
    (site / "lent.pth").write_text(sysconfig.get_path("purelib"))
    empty = tmp_path / "empty"
    empty.mkdir()
    shell = Shell(empty)
    where = shell.run(python, "-c", "import besom; print(besom.__file__)").stdout
    assert where.startswith(str(venv))
    small = ("hydra.sweeper.n_trials=2", "trainer.max_epochs=1")
    done = shell.run(str(venv / "bin/besom"), "sweep", "digits", *small)
    assert done.returncode == 0, done.stderr
    assert len(shell.runs()) == 3
