"""`besom train`, read back as a user would: with MlflowClient."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import yaml
from doors import BESOM, Shell, eventually
from mlflow.entities import Run

QUICK = ("trainer.max_epochs=2", "model.width=8")

MINE = """
import torch, pytorch_lightning as pl
from torch import nn
from besom.data import Images

class Net(nn.Sequential):
    def __init__(self, input_shape, num_classes, size):
        channels, height, width = input_shape
        pixels = channels * height * width
        super().__init__(nn.Flatten(), nn.Linear(pixels, size), nn.ReLU(), nn.Linear(size, num_classes))

class Module(pl.LightningModule):
    def __init__(self, num_classes, lr):
        super().__init__()
        self.net, self.lr = nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes)), lr
    def training_step(self, batch, index):
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss
    def validation_step(self, batch, index):
        self.log("val_loss", nn.functional.cross_entropy(self.net(batch[0]), batch[1]))
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.lr)

class Breaks(Module):
    def on_train_epoch_end(self):
        raise RuntimeError("the user's own mistake")

class Loss(nn.Module):
    def forward(self, logits, labels):
        return nn.functional.multi_margin_loss(logits, labels)

class Optimizer(torch.optim.SGD):
    pass

def blobs(n):
    labels = torch.arange(n) % 3
    noise = torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 50
    return Images("blobs", "made up", (noise + labels.view(-1, 1, 1, 1) * 60).to(torch.uint8), labels, ["a", "b", "c"])
"""
MY_MODULE = ("~model", "+model={_target_:mine.Module,lr:0.1}", "objective={metric:val_loss,mode:min,reduce:last}")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Shell, Run]:
    """One run with the test set scored, in a git repository with a change not committed."""
    shell = Shell(tmp_path_factory.mktemp("trained"))
    for words in (["init"], ["add", "."], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-m", "first"]):
        shell.write("notes.txt", "first")
        shell.run("git", *words)
    shell.write("notes.txt", "changed")
    done = shell.besom("train", "trainer.max_epochs=3", "test=true", "model.activation=gelu", "tracking.run_name=mine")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    [run] = shell.runs()
    return shell, run


def history(shell: Shell, run: Run, metric: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in shell.client.get_metric_history(run.info.run_id, metric)]


def test_a_run_ends_finished_under_its_name(trained: tuple[Shell, Run]) -> None:
    _, run = trained
    assert (run.info.status, run.info.run_name) == ("FINISHED", "mine")
    assert run.info.end_time > run.info.start_time


def test_what_is_said_of_the_objective_is_what_was_recorded_also_after_a_test(shell: Shell) -> None:
    # the best checkpoint, which the test loads, is of the first epoch; the objective of the last
    done = shell.besom("train", "trainer.max_epochs=3", "test=true", "objective.mode=min", "objective.reduce=last")
    assert done.returncode == 0, done.stderr

    [run] = shell.runs()
    assert f"val/acc {run.data.metrics['objective']:.4f} (last of 3 epochs, epoch 2)" in done.stdout


def test_every_metric_has_one_value_an_epoch_at_the_epochs_number(trained: tuple[Shell, Run]) -> None:
    shell, run = trained
    for metric in ("train/loss", "train/acc", "train/f1", "train/lr", "val/loss", "val/acc", "val/f1"):
        assert [step for step, _ in history(shell, run, metric)] == [0, 1, 2], metric


def test_the_objective_is_the_best_validation_value(trained: tuple[Shell, Run]) -> None:
    shell, run = trained
    assert run.data.metrics["objective"] == max(value for _, value in history(shell, run, "val/acc"))


def test_the_test_set_is_scored_once(trained: tuple[Shell, Run]) -> None:
    shell, run = trained
    assert len(history(shell, run, "test/acc")) == 1
    assert run.data.metrics["test/acc"] > 0.9


def test_parameters_are_the_whole_config_flattened(trained: tuple[Shell, Run]) -> None:
    _, run = trained
    assert run.data.params["model.activation"] == "gelu"
    assert run.data.params["optimizer"] == "adamw"
    assert run.data.params["optimizer.betas"] == "[0.9, 0.999]"
    assert run.data.params["trainer.gradient_clip_val"] == "null"
    assert not [key for key in run.data.params if key.startswith("tracking")]


def test_the_config_trains_the_same_again(trained: tuple[Shell, Run], tmp_path: Path) -> None:
    """The recorded YAML as the only config of another folder gives the same objective."""
    shell, run = trained
    frozen = Path(shell.client.download_artifacts(run.info.run_id, "config.yaml", str(tmp_path)))
    assert yaml.safe_load(frozen.read_text())["model"]["activation"] == "gelu"
    again = Shell(tmp_path)
    again.write("conf/experiment/frozen.yaml", "# @package _global_\n" + frozen.read_text())
    done = again.besom("train", "experiment=frozen")
    assert done.returncode == 0, done.stderr
    assert again.runs()[0].data.metrics["objective"] == run.data.metrics["objective"]


def test_the_best_checkpoint_is_an_artifact(trained: tuple[Shell, Run]) -> None:
    shell, run = trained
    [checkpoint] = shell.client.list_artifacts(run.info.run_id, "checkpoints")
    assert checkpoint.path == "checkpoints/best.ckpt"
    assert checkpoint.file_size > 100_000


def test_where_and_with_what_it_ran_is_recorded(trained: tuple[Shell, Run]) -> None:
    shell, run = trained
    tags = run.data.tags
    assert tags["mlflow.source.git.commit"] == shell.run("git", "rev-parse", "HEAD").stdout.strip()
    assert tags["git.dirty"] == "true"
    assert tags["version.torch"].startswith("2.")
    assert tags["device"].startswith("cpu")
    assert tags["host"]
    requirements = Path(shell.client.download_artifacts(run.info.run_id, "requirements.txt")).read_text()
    assert "pytorch-lightning==" in requirements


def test_what_it_has_used_of_its_machine_is_recorded(trained: tuple[Shell, Run]) -> None:
    _, run = trained
    assert run.data.metrics["system/system_memory_usage_megabytes"] > 100  # torch alone takes more
    assert run.data.metrics["system/cpu_utilization_percentage"] > 0


def test_the_dataset_is_an_input(trained: tuple[Shell, Run]) -> None:
    _, run = trained
    [used] = run.inputs.dataset_inputs
    assert used.dataset.name == "digits"
    assert '"num_rows": 1797' in used.dataset.profile


def test_a_seed_makes_two_runs_identical_and_another_seed_does_not(shell: Shell) -> None:
    for seed in (1, 1, 2):
        assert shell.besom("train", *QUICK, f"seed={seed}").returncode == 0
    first, second, other = (
        [history(shell, run, metric) for metric in ("train/loss", "val/loss")] for run in shell.runs()
    )
    assert first == second
    assert first != other


def test_without_being_asked_the_test_set_is_not_touched(shell: Shell) -> None:
    """And a pipe gets the result, no progress bar."""
    done = shell.besom("train", *QUICK)
    assert done.stderr == ""
    assert "it/s" not in done.stdout
    [run] = shell.runs()
    assert not [metric for metric in run.data.metrics if metric.startswith("test/")]


def test_a_terminal_gets_a_progress_bar(shell: Shell) -> None:
    code, shown = shell.on_terminal(BESOM, "train", *QUICK)
    assert code == 0, shown
    assert "it/s" in shown


def test_a_persons_own_classes_plug_in_from_the_working_directory(shell: Shell) -> None:
    shell.write("mine.py", MINE)
    shell.write("conf/model/mine.yaml", "_target_: mine.Net\nsize: 16\n")
    shell.write("conf/loss/mine.yaml", "_target_: mine.Loss\n")
    shell.write("conf/optimizer/mine.yaml", "_target_: mine.Optimizer\nlr: 0.1\n")
    shell.write(
        "conf/data/mine.yaml",
        "source: {_target_: mine.blobs, n: 300}\nbatch_size: 32\nval_split: 0.2\ntest_split: 0.2\n",
    )
    done = shell.besom("train", "model=mine", "loss=mine", "optimizer=mine", "data=mine", "trainer.max_epochs=2")
    assert done.returncode == 0, done.stderr
    [run] = shell.runs()
    assert run.data.params["model.size"] == "16"
    assert run.data.metrics["objective"] > 0.9


def test_a_persons_own_lightning_module_is_used_as_it_is(shell: Shell) -> None:
    shell.write("mine.py", MINE)
    done = shell.besom("train", *MY_MODULE, "trainer.max_epochs=2")
    assert done.returncode == 0, done.stderr
    [run] = shell.runs()
    assert run.data.metrics["objective"] == run.data.metrics["val_loss"]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["objective.metric=val/ac"], ["objective.metric=val/ac is never logged", "did you mean 'val/acc'"]),
        ([*MY_MODULE, "objective.metric=val_los"], ["objective.metric=val_los", "did you mean 'val_loss'"]),
        (["trainer.accelerator=cuda"], ["trainer.accelerator=cuda", "use trainer.accelerator=auto or cpu"]),
        (["model.depth=7"], ["model.depth=7", "at most 3"]),
        (["data.val_split=0.0001"], ["val_split=0.0001", "digits"]),
        (["model._target_=mine.Nest"], ["model._target_=mine.Nest", "mine has no Nest; did you mean 'Net'"]),
        (["~optimizer", "+optimizer={_target_:mine.Optimizer,speed:1}"], ["mine.Optimizer", "speed"]),
    ],
    ids=lambda given: given[-1],
)
def test_what_only_torch_can_tell_is_refused_before_a_run_is_made(
    shell: Shell, overrides: list[str], says: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.write("mine.py", MINE)
    done = shell.besom("train", *overrides, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2
    assert done.stderr.startswith("besom: ")
    assert "Traceback" not in done.stderr
    for part in says:
        assert part in done.stderr
    assert shell.runs() == []


def test_a_mistake_in_the_users_code_ends_the_run_failed_with_its_reason(shell: Shell) -> None:
    shell.write("mine.py", MINE)
    overrides = [word.replace("mine.Module", "mine.Breaks") for word in MY_MODULE]
    done = shell.besom("train", *overrides)
    assert done.returncode == 1
    assert "the user's own mistake" in done.stderr
    [run] = shell.runs()
    assert run.info.status == "FAILED"
    assert run.data.tags["besom.reason"] == "RuntimeError: the user's own mistake"


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_ends_killed_with_all_its_epochs(shell: Shell, sign: signal.Signals, code: int) -> None:
    process = shell.start(BESOM, "train", "trainer.max_epochs=100000", "model.width=8")
    eventually(
        lambda: [log for log in shell.folder.glob("outputs/*/*/run.jsonl") if '"val/loss"' in log.read_text()],
        "an epoch",
    )
    process.send_signal(sign)
    _, err = process.communicate()
    assert process.returncode == code, err
    assert "Traceback" not in err
    [run] = shell.runs()
    assert run.info.status == "KILLED"
    [log] = shell.folder.glob("outputs/*/*/run.jsonl")
    assert len(history(shell, run, "val/loss")) == log.read_text().count('"val/loss"')


def test_mlflows_own_variables_are_respected(shell: Shell) -> None:
    elsewhere = shell.folder / "elsewhere.db"
    done = shell.besom("train", *QUICK, MLFLOW_TRACKING_URI=f"sqlite:///{elsewhere}", MLFLOW_EXPERIMENT_NAME="theirs")
    assert done.returncode == 0, done.stderr
    assert elsewhere.exists()
    assert not (shell.folder / "mlflow.db").exists()


def test_tracking_none_records_nothing(shell: Shell) -> None:
    assert shell.besom("train", *QUICK, "tracking=none").returncode == 0
    assert shell.runs() == []


def test_two_devices_make_one_run(shell: Shell) -> None:
    """Lightning's DDP starts the command line again: it must be one that works, and only the first process records."""
    ddp = ("trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp")
    done = shell.besom("train", *QUICK, *ddp)
    assert done.returncode == 0, done.stderr
    [run] = shell.runs()
    assert run.data.tags["device"].startswith("cpu x2")
    assert [step for step, _ in history(shell, run, "val/acc")] == [0, 1]
