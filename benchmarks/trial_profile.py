"""Where the time of one trial goes, from the trainer's begin to its end: by hand, and besom's.

python benchmarks/trial_profile.py

Counted by Lightning's SimpleProfiler, in one thread. besom's trial is as in a sweep: its memory is kept for the next
step, and it is not tracked, which its worker does.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from contenders.points import BATCH, EPOCHS, TRAIN, VAL
from mlflow import MlflowClient
from sweep_vs_floor import HELD_OUT, HERE, NETWORK, PART, environment
from table import heading, table
from warped_digits import write

from besom.engine.warm_process import MALLOC

CONTENDERS = {
    "Lightning by hand": ("by_hand",),
    "besom in fp32": ("besom", "trainer.precision=32-true", "trainer.memory_format=contiguous"),
    "besom, tune_step=auto": ("besom", "trainer.tune_step=auto"),
}
POINT = ["model.activation=relu", "optimizer=adamw", "optimizer.lr=0.003", "tracking.uri=null"]
DATA = ["data=mnist", "data.source.root=data", f"data.val_split={PART}", f"data.batch_size={BATCH}"]
TRAINER = [f"trainer.max_epochs={EPOCHS}", "trainer.accelerator=cpu", "trainer.num_threads=1"]
ACTIONS = {  # the ends of Lightning's names
    "pictures: taken, normalised": ("dataloader_next", "val_next", "batch_to_device"),
    "forward": ("Strategy.training_step",),
    "backward": ("Strategy.backward",),
    "optimizer": (".optimizer_step",),  # which calls the two above
    "validation": ("Strategy.validation_step",),
}


def profile(which: str, overrides: tuple[str, ...], folder: Path) -> dict[str, float]:
    """Seconds."""
    script = str(HERE / "contenders" / "profiled.py")
    words = [sys.executable, script, which, "data", *NETWORK, *POINT, *DATA, *TRAINER, *overrides]
    kept = {"GLIBC_TUNABLES": MALLOC} if which == "besom" else {}
    done = subprocess.run(words, cwd=folder, env={**environment(folder), **kept}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    spent = json.loads(done.stdout.splitlines()[-1])
    parts = {
        name: sum(seconds for action, seconds in spent.items() if action.endswith(ends))
        for name, ends in ACTIONS.items()
    }
    parts["optimizer"] -= parts["forward"] + parts["backward"]
    parts["all else"] = spent["all"] - sum(parts.values())
    return {**parts, "all": spent["all"]}


def main() -> None:
    print(heading("trial_profile"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").symlink_to(write(folder / "pictures", train=TRAIN + VAL, test=HELD_OUT))
        MlflowClient(f"sqlite:///{folder}/by_hand.db").create_experiment("by_hand")
        profiles = {name: profile(which, overrides, folder) for name, (which, *overrides) in CONTENDERS.items()}
    floor = next(iter(profiles.values()))
    rows = []
    for part in floor:
        shown = [f"{spent[part]:.2f}" for spent in profiles.values()]
        rows.append([part, *shown, f"{list(profiles.values())[-1][part] / floor[part]:.2f}"])
    print(table([f"a trial of {EPOCHS} epochs: seconds", *profiles, "ratio"], rows))


if __name__ == "__main__":
    main()
