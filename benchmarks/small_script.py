"""A user's own small script: 12 fits of a forest, by Hydra's basic sweeper and by besom with two slots.

python benchmarks/small_script.py

Hydra's basic sweeper runs all in one process, one after the other, and records nothing: it is what a sweep of a script
that takes seconds has to be measured by. And the CPU time of a sweep that does nothing, beside its imports alone.
"""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from table import heading, table

FOREST = """
import besom
import hydra
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    pictures, labels = load_digits(return_X_y=True)
    forest = RandomForestClassifier(n_estimators=30, max_depth=cfg.depth, random_state=0)
    return float(cross_val_score(forest, pictures, labels, cv=3).mean())

if __name__ == "__main__":
    main()
"""
NOTHING = """
import hydra

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    return cfg.x

if __name__ == "__main__":
    main()
"""
TIMES = 3
SUBREAPER = 36  # prctl's PR_SET_CHILD_SUBREAPER: what outlives its parent is counted too
BESOM = ("hydra/sweeper=besom", "hydra.sweeper.n_jobs=2")


def seconds(script: str, words: Sequence[str]) -> tuple[float, float]:
    """Wall, and CPU of the whole tree: the medians of some runs, each in a folder of its own."""
    with tempfile.TemporaryDirectory() as parent:
        runs = [_once(Path(parent) / str(n), script, words) for n in range(TIMES)]
    walls, cpus = zip(*runs, strict=True)
    return median(walls), median(cpus)


def _once(folder: Path, script: str, words: Sequence[str]) -> tuple[float, float]:
    folder.mkdir()
    (folder / "app.py").write_text(script)
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    used, begin = _used(), time.monotonic()
    subprocess.run([sys.executable, *words], cwd=folder, check=True, capture_output=True)
    wall = time.monotonic() - begin
    try:
        while True:
            os.wait()
    except ChildProcessError:
        return wall, _used() - used


def _used() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    depths = ",".join(map(str, range(2, 14)))
    basic, basic_cpu = seconds(FOREST, ["app.py", "-m", f"+depth={depths}"])
    ours, ours_cpu = seconds(FOREST, ["app.py", "-m", *BESOM, "hydra.sweeper.n_trials=12", f"+depth=choice({depths})"])
    _, imports = seconds(NOTHING, ["-c", "import hydra, optuna, mlflow, sqlalchemy"])
    nothing, nothing_cpu = seconds(NOTHING, ["app.py", "-m", *BESOM, "hydra.sweeper.n_trials=4", "+x=interval(0,1)"])
    print(heading("A small script: wall and CPU seconds of the command"))
    rows = [
        ["12 forests, Hydra's basic sweeper", f"{basic:.1f}", f"{basic_cpu:.1f}", "1"],
        ["12 forests, besom, 2 slots", f"{ours:.1f}", f"{ours_cpu:.1f}", f"{ours / basic:.2f} of the wall"],
        ["besom's imports, one process", "", f"{imports:.1f}", "1"],
        ["4 trials that do nothing, besom, 2 slots", f"{nothing:.1f}", f"{nothing_cpu:.1f}",
         f"{nothing_cpu / imports:.2f} of the CPU"],
    ]  # fmt: skip
    print(table(["", "wall", "CPU", "ratio"], rows))


if __name__ == "__main__":
    main()
