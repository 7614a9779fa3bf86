"""How busy two slots are when one trial in three takes ten times as long as the others.

python benchmarks/uneven_trials.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from apps import UNEVEN, slot_seconds, sweep
from table import heading, table

TRIALS, SLOTS = 60, 2


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        trials = sweep(Path(folder), UNEVEN, f"hydra.sweeper.n_trials={TRIALS}", f"hydra.sweeper.n_jobs={SLOTS}")
    there = slot_seconds(trials, SLOTS)
    held = sum(trial.duration.total_seconds() for trial in trials if trial.duration)
    work = sum(trial.values[0] for trial in trials)
    # what a sweeper gets that hands out a batch and waits for its slowest trial
    ordered = [trial.values[0] for trial in trials]
    batches = [ordered[start : start + SLOTS] for start in range(0, TRIALS, SLOTS)]
    in_batches = work / (SLOTS * sum(map(max, batches)))
    print(heading(f"{TRIALS} trials of 0.2 s and 2 s on {SLOTS} slots"))
    rows = [
        ["besom: a trial has the slot", f"{held / there:.1%}", f"{held / there / in_batches:.2f}"],
        ["besom: the trial's own code runs", f"{work / there:.1%}", f"{work / there / in_batches:.2f}"],
        ["in batches, at no cost of their own", f"{in_batches:.1%}", "1"],
    ]
    print(table(["", "of the slots' time", "ratio"], rows))


if __name__ == "__main__":
    main()
