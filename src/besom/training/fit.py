"""From settings to a fitted model and its objective: the part of a run that needs torch."""

from __future__ import annotations

import json
import logging
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from pytorch_lightning.plugins.io import AsyncCheckpointIO
from pytorch_lightning.utilities.exceptions import SIGTERMException

from besom.config.hydra_compat import expect_any_target
from besom.config.load import load
from besom.config.schema import Settings
from besom.data import ImageData
from besom.errors import InputError, near
from besom.model import Classifier
from besom.system.storable import on_one_line
from besom.tracking.run_log import RunLog
from besom.training.callbacks import Begin, Objective
from besom.training.fit_to_targets import fit_to_targets
from besom.training.instantiate import build_data, build_module
from besom.training.lightning_logger import RunLogger
from besom.training.step_tuning import StepConfig, Tuned, tune_step
from besom.trial import in_sweep

# of a checkpoint from which training goes on as if it had never stopped
PARTS = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "epoch", "global_step")

log = logging.getLogger(__name__)


def fit(settings: Settings, log: RunLog, folder: Path, begin: Callable[[], None]) -> float:
    """Train, keep the best checkpoint, and return the objective; with `settings.test`, score the test set once.

    `begin` is called when everything is built and proven to run, right before the first training step.

    Raises:
        InputError: the settings cannot be built, or the objective's metric is never logged.
        KeyboardInterrupt: the user has pressed Ctrl-C; checkpoints are written.

    """
    _quiet()
    earlier = _earlier_attempt(folder)
    try:
        return _fit(settings, log, folder, begin, earlier)
    except _UnusableCheckpoint as unusable:  # it is overwritten when the first epoch has ended
        print(f"besom: {unusable}; this attempt starts afresh", flush=True)
        log.tags({"besom.checkpoint": f"{unusable}; started afresh"})
        return _fit(settings, log, folder, begin, None)


class _UnusableCheckpoint(Exception):  # noqa: N818 - what it is
    """Nothing can be gone on with from an earlier attempt's; the settings themselves may be as good as ever."""


def _fit(settings: Settings, log: RunLog, folder: Path, begin: Callable[[], None], earlier: Path | None) -> float:
    """Raises _UnusableCheckpoint: training could not begin from the `earlier` attempt's."""
    pl.seed_everything(settings.seed, workers=True, verbose=False)
    if settings.trainer.num_threads:
        torch.set_num_threads(settings.trainer.num_threads)
    data = build_data(settings, verify=not in_sweep())  # of a sweep it was done before the first trial
    module = build_module(settings, data)
    numerics = _settle(settings, module, data, log)
    objective = Objective(settings.objective)
    checkpoint = ModelCheckpoint(
        dirpath=folder / "checkpoints",
        filename="best",
        monitor=settings.objective.metric,
        mode=settings.objective.mode,
        save_last=True,
        enable_version_counter=False,
    )
    beginning = Begin(begin)
    callbacks = [objective, beginning, checkpoint, *_early_stopping(settings)]
    trainer = build_trainer(settings, numerics, RunLogger(log), callbacks, folder)
    _write_down(trainer, data, module, log)
    if earlier and trainer.world_size > 1:  # each process finds the same, before the first of them meet
        _check_checkpoint(earlier, module)
    try:
        _run(trainer, lambda: trainer.fit(module, datamodule=data, ckpt_path=earlier))
    except Exception as error:  # whatever Lightning, torch and pickle make of it
        if earlier is None or beginning.has_begun or trainer.world_size > 1:
            raise
        raise _UnusableCheckpoint(_unusable(earlier, error)) from error
    if earlier and not objective.has_value():
        raise _UnusableCheckpoint(f"{earlier} says that training is done, and not with what value")
    value, said = objective.value(), str(objective)  # a test takes the best epoch's state back, the objective's too
    if settings.test:
        _run(trainer, lambda: trainer.test(module, datamodule=data, ckpt_path="best", verbose=False))
    if trainer.is_global_zero:
        if settings.tracking.log_checkpoint:
            log.artifact(Path(checkpoint.best_model_path), "checkpoints")
        tested = {name: float(score) for name, score in trainer.callback_metrics.items() if name.startswith("test/")}
        print(_summary(said, tested))
    return value


def _earlier_attempt(folder: Path) -> Path | None:
    """A retried trial runs in the folder of its first attempt, and goes on from the last whole checkpoint there."""
    last = folder / "checkpoints" / "last.ckpt"
    return last if in_sweep() and is_zipfile(last) else None  # one that was being written has no end yet


class _Checkpoints(AsyncCheckpointIO):
    """Training goes on while one is written. One that is read must be whole: Lightning goes on without some of it."""

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Raises TypeError, ValueError: something lacks."""
        return _whole(super().load_checkpoint(*args, **kwargs))


def _whole(content: Any) -> dict[str, Any]:
    """Raises TypeError, ValueError: something of a checkpoint lacks."""
    if not isinstance(content, dict):
        raise TypeError(f"it is a {type(content).__name__}, and no checkpoint")
    if missing := [key for key in PARTS if key not in content]:
        raise ValueError(f"it lacks {', '.join(missing)}")
    return content


def _check_checkpoint(path: Path, module: pl.LightningModule) -> None:
    """Raises _UnusableCheckpoint: it has not the weights of this module."""
    try:
        weights = _whole(torch.load(path, map_location="cpu", weights_only=False))["state_dict"]
        there = {name: weight.shape for name, weight in weights.items()}
        here = {name: weight.shape for name, weight in module.state_dict().items()}
    except Exception as error:  # whatever torch and pickle make of it
        raise _UnusableCheckpoint(_unusable(path, error)) from error
    if there != here and module.strict_loading:
        raise _UnusableCheckpoint(f"{path} cannot be gone on with: it has the weights of another network")


def _unusable(path: Path, error: Exception) -> str:
    return f"{path} cannot be gone on with: {on_one_line(f'{type(error).__name__}: {error}', 200)}"


def prepare(config: DictConfig) -> tuple[list[str], str]:
    """What shall be the same for all trials of a sweep, as overrides, and why; asked with the first trial's config.

    Raises:
        InputError: what all trials would fail of: pictures that cannot be read, a model that cannot be built.
    """
    settings = load(fit_to_targets(config, HydraConfig.get())[0])
    if settings.trainer.num_threads:
        torch.set_num_threads(settings.trainer.num_threads)
    pl.seed_everything(settings.seed, workers=True, verbose=False)
    data = build_data(settings, verify=True)
    module = build_module(settings, data)
    if not isinstance(module, Classifier):
        _prove_metric(settings, module, data)
    if settings.trainer.tune_step is None:
        return [], data.whole.note
    found = _tuned(settings, module, data)
    return found.numerics.overrides(), "; ".join(filter(None, (data.whole.note, found.said)))


def _prove_metric(settings: Settings, module: pl.LightningModule, data: ImageData) -> None:
    """What a module of the user's own logs is known when it has trained for one batch and validated another.

    Raises:
        InputError: the objective's metric is not among it.
    """
    _quiet()
    trainer = pl.Trainer(
        fast_dev_run=True,
        accelerator=settings.trainer.accelerator,
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    try:
        trainer.fit(module, datamodule=data)
    except Exception as error:  # the user's own, which the trials will say better
        log.info("what the module logs is not known yet: %s", error)
        return
    metric, logged = settings.objective.metric, trainer.callback_metrics
    if metric not in logged:
        raise InputError(f"objective.metric={metric} is never logged{near(metric, logged)}")


def fingerprint(config: DictConfig) -> dict[str, str]:
    """The data that a trial would see, by their digest. Raises InputError: they cannot be read."""
    whole = build_data(load(fit_to_targets(config, HydraConfig.get())[0]), verify=True).whole
    return {"data": f"{whole.name}, {len(whole.labels)} pictures, digest {whole.digest}"}


def _settle(settings: Settings, module: pl.LightningModule, data: ImageData, log: RunLog) -> StepConfig:
    """How steps are computed, in the module and the data too."""
    numerics = StepConfig.asked(settings.trainer)
    if settings.trainer.tune_step:
        found = _tuned(settings, module, data)
        numerics = found.numerics
        log.tags({"besom.numerics": found.said})
    torch.set_float32_matmul_precision(numerics.float32_matmul_precision)
    numerics.prepare(module.network if isinstance(module, Classifier) else module)
    data.memory_format = numerics.memory_format
    if isinstance(module, Classifier):
        module.fused = numerics.fused
    return numerics


def _tuned(settings: Settings, module: pl.LightningModule, data: ImageData) -> Tuned:
    if isinstance(module, Classifier):
        return tune_step(settings.trainer, module, data)
    return Tuned(StepConfig.asked(settings.trainer), "as asked: how a LightningModule of your own trains is not known")


def build_trainer(
    settings: Settings, numerics: StepConfig, logger: RunLogger, callbacks: list[Callback], folder: Path
) -> pl.Trainer:
    options = settings.trainer
    if options.accelerator in ("cuda", "gpu", "mps"):
        _check_device(options.accelerator)
    return pl.Trainer(
        max_epochs=options.max_epochs,
        accelerator=options.accelerator,
        devices=options.devices,
        strategy=options.strategy,
        precision=numerics.precision,
        deterministic=options.deterministic,
        gradient_clip_val=options.gradient_clip_val,
        accumulate_grad_batches=options.accumulate_grad_batches,
        logger=logger,
        callbacks=callbacks,
        plugins=[_Checkpoints()],
        default_root_dir=folder,
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
    )


def _early_stopping(settings: Settings) -> list[Callback]:
    options = settings.trainer.early_stopping
    if options is None:
        return []
    objective = settings.objective
    return [
        EarlyStopping(objective.metric, mode=objective.mode, patience=options.patience, min_delta=options.min_delta)
    ]


def _check_device(accelerator: str) -> None:
    there = torch.backends.mps.is_available() if accelerator == "mps" else torch.cuda.is_available()
    if accelerator == "gpu":
        there = there or torch.backends.mps.is_available()
    if not there:
        raise InputError(
            f"trainer.accelerator={accelerator}: torch {torch.__version__} sees no such device on this machine; "
            "use trainer.accelerator=auto or cpu"
        )


def _run(trainer: pl.Trainer, stage: Callable[[], object]) -> None:
    """Lightning answers Ctrl-C with exit(1) and SIGTERM with exit(0); pass on what it was."""
    try:
        stage()
    except SIGTERMException as error:
        raise SystemExit(128 + signal.SIGTERM) from error
    except SystemExit as error:
        if trainer.interrupted and error.code == 1:
            raise KeyboardInterrupt from error
        raise


def _write_down(trainer: pl.Trainer, data: ImageData, module: pl.LightningModule, log: RunLog) -> None:
    if not trainer.is_global_zero:
        return
    whole = data.whole
    log.tags({"device": _device(trainer)})
    log.params({"parameters": sum(weights.numel() for weights in module.parameters())})
    log.dataset(
        name=whole.name,
        digest=whole.digest,
        origin=whole.origin,
        schema=json.dumps(
            {"images": ["uint8", [-1, *data.input_shape]], "labels": ["int64", [-1]], "classes": list(whole.classes)}
        ),
        profile=json.dumps({"num_rows": len(whole.labels), **data.parts.sizes}),
    )


def _device(trainer: pl.Trainer) -> str:
    kind = trainer.strategy.root_device.type
    name = (
        torch.cuda.get_device_name(trainer.strategy.root_device)
        if kind == "cuda"
        else f"{torch.get_num_threads()} threads"
    )
    return f"{kind} x{trainer.num_devices} ({name})"


def _summary(said: str, tested: dict[str, float]) -> str:
    scores = "".join(f" · {name} {score:.4f}" for name, score in tested.items())
    return f"{said}{scores}"


def _quiet() -> None:
    """Lightning's advice that does not hold here, and its advertisements."""
    expect_any_target()
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for text in (
        "does not have many workers",  # batches are taken as whole tensors: worker processes would only copy them
        "is smaller than the logging interval",  # metrics are logged by epoch
        "It is recommended to use .self.log",  # torchmetrics has summed over the devices already
        "Checkpoint directory .* exists and is not empty",  # a retried attempt goes on in its folder
        "The `srun` command is available",  # whoever sweeps on Slurm has said so by hydra/launcher
        "isinstance\\(treespec, LeafSpec\\)",  # Lightning calls what torch has deprecated
    ):
        warnings.filterwarnings("ignore", f".*{text}.*")
