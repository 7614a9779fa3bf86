"""A trial may be several processes: Lightning's DDP starts all but the first, by the trial's own command line.

On the CPU with gloo; on GPUs only the devices differ.
"""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from doors import BESOM, Shell, eventually
from mlflow.entities import Run

from sweeps import processes_in, study

# one thread each: the order in which numbers are added up depends on it
DDP = (
    *("trainer.devices=2", "trainer.accelerator=cpu", "trainer.strategy=ddp"),
    *("trainer.num_threads=1", "model.width=8", "model.activation=choice(relu)", "optimizer=choice(adamw)"),
    *("hydra.sweeper.n_jobs=1", "hydra/sweeper/sampler=grid"),
)

# every process of a trial leaves a note when it begins and when it ends
APP = """
import json, os, sys
from pathlib import Path

import besom
import hydra
from besom.trial import in_sweep
from hydra.core.hydra_config import HydraConfig

def fit(cfg):
    import pytorch_lightning as pl
    import torch

    class Net(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch, index):
            return self.layer(batch).sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 1e-3)

        def on_train_epoch_end(self):
            besom.report(cfg.x, self.current_epoch)

    without = dict(logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False)
    trainer = pl.Trainer(accelerator="cpu", devices=2, strategy="ddp", max_epochs=2, **without)
    trainer.fit(Net(), torch.utils.data.DataLoader(torch.ones(8, 1)))

@hydra.main(version_base="1.3", config_path=".")
@besom.preload("pytorch_lightning")
def main(cfg):
    rank = os.environ.get("LOCAL_RANK", "0")
    here = Path(HydraConfig.get().runtime.output_dir)
    note = dict(x=cfg.x, number=HydraConfig.get().job.num, in_sweep=in_sweep(), folder=str(Path.cwd()))
    (here / f"began{rank}").write_text(json.dumps(note))
    try:
        fit(cfg)
    finally:
        (here / f"ended{rank}").touch()
    return cfg.x

if __name__ == "__main__":
    main()
"""


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """However long it takes: each trial waits for a process that imports torch."""
    out, err = process.communicate()
    return process.returncode, out, err


def by_trial(shell: Shell) -> list[Run]:
    runs = [run for run in shell.runs() if "besom.trial" in run.data.tags]
    return sorted(runs, key=lambda run: int(run.data.tags["besom.trial"]))


def history(shell: Shell, run: Run, metric: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in shell.client.get_metric_history(run.info.run_id, metric)]


def second_rank(shell: Shell) -> psutil.Process:
    processes = map(psutil.Process, processes_in(shell.folder))
    [rank] = [process for process in processes if process.environ().get("LOCAL_RANK") == "1"]
    return rank


def wait_for_a_checkpoint(shell: Shell) -> None:
    eventually(lambda: list(shell.folder.glob("multirun/*/*/0/checkpoints/last.ckpt")), "a first epoch")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Shell, str]:
    """Three trials in a row, of which one learns nothing and is pruned; with what the sweep printed."""
    shell = Shell(tmp_path_factory.mktemp("ddp"))
    space = "optimizer.lr=choice(1e-7,0.003,0.01)"
    pruner = ("hydra/sweeper/pruner=threshold", "hydra.sweeper.pruner.lower=0.3")
    budget = ("hydra.sweeper.n_trials=3", "trainer.max_epochs=2")
    code, out, err = end(shell.start(BESOM, "sweep", "digits", *DDP, space, *pruner, *budget))
    assert (code, err) == (0, "")
    return shell, out


def test_trials_of_two_processes_run_one_after_the_other_and_leave_none(swept: tuple[Shell, str]) -> None:
    shell, _ = swept
    states = {trial.params["optimizer.lr"]: trial.state.name for trial in study(shell, "digits").trials}
    assert states == {1e-7: "PRUNED", 0.003: "COMPLETE", 0.01: "COMPLETE"}
    eventually(lambda: not processes_in(shell.folder), "the last process to end")


def test_each_is_one_run_with_each_epoch_once(swept: tuple[Shell, str]) -> None:
    shell, _ = swept
    for trial, run in zip(study(shell, "digits").trials, by_trial(shell), strict=True):
        pruned = trial.state.name == "PRUNED"
        assert run.info.status == "FINISHED"
        assert run.data.tags["device"] == "cpu x2 (1 threads)"
        epochs = history(shell, run, "val/acc")
        assert [step for step, _ in epochs] == ([0] if pruned else [0, 1])
        assert dict(epochs) == trial.intermediate_values


def test_the_other_process_of_a_pruned_trial_ends_without_a_word(swept: tuple[Shell, str]) -> None:
    shell, _ = swept
    [pruned] = [trial.number for trial in study(shell, "digits").trials if trial.state.name == "PRUNED"]
    [output] = shell.folder.glob(f"multirun/*/*/{pruned}/output.log")
    assert "Traceback" not in output.read_text()


def test_the_printed_command_repeats_the_best_one_exactly(swept: tuple[Shell, str], tmp_path: Path) -> None:
    shell, out = swept
    [line] = [line for line in out.splitlines() if line.startswith("repeat it:")]
    alone = Shell(tmp_path)
    code, _, err = end(alone.start(BESOM, *shlex.split(line.removeprefix("repeat it:"))[1:]))
    assert code == 0, err
    [repeated] = alone.runs()
    best = max(by_trial(shell), key=lambda run: run.data.metrics.get("objective", 0.0))
    for metric in ("train/loss", "val/loss", "val/acc"):
        assert history(alone, repeated, metric) == history(shell, best, metric), metric


def test_every_process_of_any_apps_trial_has_its_config_and_folder_and_ends_in_order(shell: Shell) -> None:
    """Also where the sweep itself was started with variables of a distributed run about it."""
    shell.write("app.py", APP)
    shell.write("other.yaml", "x: 0")
    words = ("--config-name", "other", "hydra/sweeper=besom", "hydra/sweeper/sampler=grid", "x=1,2,3")
    pruner = ("hydra/sweeper/pruner=threshold", "hydra.sweeper.pruner.upper=2.5")
    of_another_run = {"LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_PORT": "1"}
    code, out, err = end(shell.start(sys.executable, "app.py", "-m", *words, *pruner, **of_another_run))
    assert code == 0, err
    assert "repeat it:  python app.py --config-name other x=1" in out
    found = study(shell, "app").trials
    assert {trial.params["x"]: trial.state.name for trial in found} == {1: "COMPLETE", 2: "COMPLETE", 3: "PRUNED"}
    for trial in found:
        [folder] = shell.folder.glob(f"multirun/*/*/{trial.number}")
        expected = {"x": trial.params["x"], "number": trial.number, "in_sweep": True, "folder": str(shell.folder)}
        assert [json.loads((folder / f"began{rank}").read_text()) for rank in (0, 1)] == [expected, expected]
        assert [(folder / f"ended{rank}").exists() for rank in (0, 1)] == [True, True]
        assert "Traceback" not in (folder / "output.log").read_text()
        assert "train_ddp_process" not in (folder / ".hydra/hydra.yaml").read_text()
    assert len(shell.runs()) == 4
    eventually(lambda: not processes_in(shell.folder), "the last process to end")


def test_a_trial_with_one_process_killed_is_tried_again_from_its_last_checkpoint(shell: Shell) -> None:
    """By both processes of the second attempt: one that began anew would leave the other waiting."""
    words = ("optimizer.lr=choice(0.01)", "trainer.max_epochs=60", "hydra.sweeper.n_trials=1")
    process = shell.start(BESOM, "sweep", "digits", *DDP, *words)
    wait_for_a_checkpoint(shell)
    second_rank(shell).kill()
    code, _, err = end(process)
    assert code == 0, err
    [trial] = study(shell, "digits").trials
    assert (trial.state.name, trial.user_attrs["besom.ends"]) == ("COMPLETE", ["killed"])
    [run] = by_trial(shell)
    assert len({step for step, _ in history(shell, run, "val/acc")}) == 60
    assert len(history(shell, run, "val/acc")) < 2 * 60  # not from the beginning
    eventually(lambda: not processes_in(shell.folder), "the last process to end")


def test_an_interrupted_sweep_ends_all_processes_of_its_trial(shell: Shell) -> None:
    words = ("optimizer.lr=choice(0.01)", "trainer.max_epochs=100000", "hydra.sweeper.n_trials=1")
    process = shell.start(BESOM, "sweep", "digits", *DDP, *words)
    wait_for_a_checkpoint(shell)
    process.send_signal(signal.SIGINT)
    code, _, err = end(process)
    assert code == 130, err
    assert [trial.state.name for trial in study(shell, "digits").trials] == ["WAITING"]
    eventually(lambda: not processes_in(shell.folder), "the last process to end")
