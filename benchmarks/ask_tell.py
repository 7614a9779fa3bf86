"""What it costs to claim a trial, draw its point and tell its value, in a study that has grown.

python benchmarks/ask_tell.py
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import optuna
from optuna.distributions import FloatDistribution
from optuna.pruners import NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from table import heading, table

from besom.study.objective import objectives
from besom.study.queue import Queue
from besom.study.study import Study

SIZES, TIMES = (100, 1_000, 10_000), 10
SPACE = {name: FloatDistribution(0, 1) for name in ("a", "b", "c", "d", "e")}


def grown(folder: Path, size: int) -> Study:
    study = Study.create(f"sqlite:///{folder}/optuna.db", "bench", objectives("minimize", "loss"), folder, {})
    draw = random.Random(0)
    study.as_optuna().add_trials(
        optuna.trial.create_trial(params=point, distributions=SPACE, value=sum(point.values()))
        for point in ({name: draw.random() for name in SPACE} for _ in range(size))
    )
    return study


def besoms(study: Study, sampler: BaseSampler) -> Callable[[], None]:
    queue = Queue(study)

    def once() -> None:
        claim = queue.claim(10**9, lambda _: sampler, NopPruner())
        assert claim
        point = [claim.trial.suggest_float(name, 0, 1) for name in SPACE]
        queue.complete(claim, [sum(point)])

    return once


def optunas(study: Study, sampler: BaseSampler) -> Callable[[], None]:
    own = optuna.load_study(study_name="bench", storage=study.url, sampler=sampler)

    def once() -> None:
        trial = own.ask()
        own.tell(trial, sum(trial.suggest_float(name, 0, 1) for name in SPACE))

    return once


def seconds(once: Callable[[], None]) -> float:
    once()

    def timed() -> float:
        begin = time.monotonic()
        once()
        return time.monotonic() - begin

    return median(timed() for _ in range(TIMES))


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rows = []
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            study = grown(Path(folder), size)
            for sampler in (RandomSampler(seed=0), TPESampler(seed=0)):
                ours, theirs = seconds(besoms(study, sampler)), seconds(optunas(study, sampler))
                name = type(sampler).__name__.removesuffix("Sampler")
                rows.append([f"{size:,}", name, f"{1000 * ours:.0f}", f"{1000 * theirs:.0f}", f"{ours / theirs:.2f}"])
    print(heading("Ask and tell: five parameters, SQLite"))
    print(table(["trials", "sampler", "besom, ms", "Optuna, ms", "ratio"], rows))


if __name__ == "__main__":
    main()
