"""What a trial that does nothing costs of a slot, against the fresh process that it would be by hand.

python benchmarks/trial_overhead.py
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median

from apps import NOTHING, run_alone, slot_seconds, sweep
from table import heading, table

TRIALS, FRESH = 60, 3
PREPARED = 10  # the first trials are claimed while the fork server still imports


def fresh_process_s(folder: Path) -> float:
    def once() -> float:
        begin = time.monotonic()
        run_alone(folder, NOTHING, "+x=0.5")
        return time.monotonic() - begin

    return median(once() for _ in range(FRESH))


def trial_s(slots: int, *words: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        threads = ("hydra.sweeper.threads_per_trial=1", f"hydra.sweeper.n_jobs={slots}")
        trials = sweep(Path(folder), NOTHING, f"hydra.sweeper.n_trials={TRIALS}", *threads, *words)
    settled = sorted(trials, key=lambda trial: trial.datetime_complete)[PREPARED:]
    return slot_seconds(settled, slots) / len(settled)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        fresh = fresh_process_s(Path(folder))
    rows = [["a fresh process, by hand", f"{fresh:.2f}", "1"]]
    for name, slots, words in (
        ("besom, 1 slot", 1, ()),
        ("besom, 2 slots", 2, ()),
        ("besom, 1 slot, no MLflow", 1, ("hydra.sweeper.tracking_uri=null",)),
    ):
        seconds = trial_s(slots, *words)
        rows.append([name, f"{seconds:.2f}", f"{seconds / fresh:.3f}"])
    print(heading("A trial that does nothing: compose, fork, report, tell, MLflow run"))
    print(table(["", "seconds of a slot", "ratio"], rows))


if __name__ == "__main__":
    main()
