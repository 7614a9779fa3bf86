"""`besom train`: the Hydra app. Settings in, one objective out.

Light until the settings have proven good: torch and MLflow are imported behind that door.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from besom.config.hydra_compat import VERSION_BASE
from besom.config.load import load, shipped
from besom.config.redaction import environment_unread, learn, redacted, redacted_value, stash_password
from besom.config.schema import Settings
from besom.errors import BesomError
from besom.hydra_app.saved_config import write
from besom.tracking import AwayError, RunLog, Store, UploadThread
from besom.tracking.recover import own, recorder_of
from besom.tracking.system_metrics import sampled
from besom.training.app import refuse, run
from besom.training.fit_to_targets import fit_to_targets
from besom.trial import fingerprint, in_sweep, preload, prepare


@hydra.main(**VERSION_BASE, config_path=str(shipped("conf")), config_name="train")
@preload("besom.training.fit")
@prepare("besom.training.fit.prepare")
@fingerprint("besom.training.fit.fingerprint")
def main(cfg: DictConfig) -> float:
    """One tracked run; returns its objective, so that any Hydra sweeper can use it."""
    learn(cfg)
    try:
        cfg, said = fit_to_targets(cfg, HydraConfig.get())
    except BesomError as error:
        if in_sweep():
            raise
        refuse(error)
    if _first_process() and not in_sweep():  # a sweep has said it
        print(*(f"besom: {line}" for line in said), sep="\n", end="\n" if said else "", file=sys.stderr)
    settings = load(cfg)
    folder = Path(HydraConfig.get().runtime.output_dir)
    log = RunLog(folder / "run.jsonl")
    if _first_process():
        frozen = folder / "config.yaml"
        write(frozen, redacted(cfg))
        log.params(_params(cfg))
        log.artifact(frozen)
    try:
        return train(settings, log, folder)
    except BesomError as error:
        if in_sweep():
            raise
        refuse(error)


def train(settings: Settings, log: RunLog, folder: Path) -> float:
    """Fit and record. `folder` takes the checkpoints."""
    tracking = settings.tracking
    # in a sweep the worker records what the trial writes down
    if tracking.uri is None or in_sweep() or not _first_process():
        return _fit(settings, log, folder)
    store = Store(stash_password(tracking.uri), tracking.experiment)
    about = own(uri=store.uri, experiment=store.experiment, name=tracking.run_name, tags=_public(tracking.tags))
    with UploadThread() as upload_thread, recorder_of(log.path, about, store, is_new=True) as run:

        def begin() -> None:
            try:
                _ = store.client  # a store that cannot be opened is refused before the first step
            except AwayError as away:
                print(f"besom: {away}\nthe run begins, and is recorded when MLflow is back", file=sys.stderr)
            log.begin(**about)
            upload_thread.take(run)

        with sampled(log, os.getpid(), tracking.system_metrics):
            value = _fit(settings, log, folder, begin)
        log.metrics({"objective": value}, step=0)
    if upload_thread.pending:
        print(f"besom: MLflow is away; when it is back: besom doctor {folder}", file=sys.stderr)
    else:
        print(f"recorded as run {run.run_id} in {store.uri}; to look at it: besom ui")
    return value


def _public(tags: Mapping[str, str]) -> dict[str, str]:
    return {name: redacted_value(name, value) for name, value in tags.items()}


def _first_process() -> bool:
    """Of the processes of a DDP run, the one the user started; Lightning starts the others with this set."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _fit(settings: Settings, log: RunLog, folder: Path, begin: Callable[[], None] = lambda: None) -> float:
    from besom.training.fit import fit

    return fit(settings, log, folder, begin)


def _params(cfg: DictConfig) -> dict[str, Any]:
    """The chosen option of each group, and every value by its dotted key, but no secret.

    Where a run is recorded is no parameter.
    """
    chosen = {group: option for group, option in HydraConfig.get().runtime.choices.items() if "/" not in group}
    with environment_unread():
        values = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(values, dict)
    flat = _flatten({str(key): value for key, value in values.items() if key != "tracking"})
    return {group: option for group, option in chosen.items() if option and group != "tracking"} | dict(flat)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", redacted_value(f"{prefix}{key}", value)


if __name__ == "__main__":
    run(main)
