"""Around a Hydra app: bad input is refused before anything starts, with one message and one exit code.

Exit: 0 done, 1 a run failed, 2 the input was wrong, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from besom.config.directions import against_its_name
from besom.config.hydra_compat import expect_any_target
from besom.config.load import load
from besom.config.schema import Objective, Settings, known
from besom.errors import INTERRUPTED, BesomError, InputError
from besom.hydra_app.errors import as_input_error
from besom.hydra_app.saved_config import keep, take_over
from besom.system.disk import as_disk_full
from besom.system.encoding import say
from besom.system.private import refuse_foreign_links
from besom.tracking.mlflow_store import check_uri
from besom.training.fit_to_targets import fit_to_targets, fitted, refuse_unlogged
from besom.trial import in_sweep


def _refuse_links(config: DictConfig) -> None:
    try:
        refuse_foreign_links(Path(str(config.hydra.run.dir)))
    except BesomError as error:
        refuse(error)


def run(main: Callable[[], Any]) -> NoReturn:
    """Call a `@hydra.main` function and exit as besom's commands do."""
    asked_for_traces = "HYDRA_FULL_ERROR" in os.environ
    # Hydra's own handler prints and exits 1 whatever went wrong; with this set it hands the exception on
    os.environ["HYDRA_FULL_ERROR"] = "1"
    expect_any_target()
    try:
        main()
    except KeyboardInterrupt:
        print("besom: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Exception as error:
        wrong = error if isinstance(error, BesomError) else as_input_error(error) or as_disk_full(error)
        if wrong is None or asked_for_traces:
            traceback.print_exception(error)
        if wrong is None:
            sys.exit(1)
        refuse(wrong)
    sys.exit(0)


def refuse(error: BesomError) -> NoReturn:
    """Say it and leave. As SystemExit it passes Hydra by, which would add words of its own."""
    say(f"besom: {error}", file=sys.stderr)
    sys.exit(error.exit_code)


class Check(Callback):
    """Hydra calls it with the composed config, before it makes the output folder; a sweep, with each end of it."""

    _objective: Objective | None = None  # of the sweep
    _hydras_folder: str | None = None  # of a run's config; in a sweep the trial's job keeps it

    def __init__(self) -> None:
        self._said: set[str] = set()

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        if (
            not in_sweep()
        ):  # a DDP trial's other processes come here too: checked before trial 0; MLflow may be away now
            settings = self._check_or_refuse(config, is_whole=True)
            _refuse_links(config)
            _say_of_the_mode(settings)
            self._hydras_folder = take_over(config)

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        if self._hydras_folder:
            keep(config, Path(config.hydra.runtime.output_dir), self._hydras_folder)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        settings = self._check_or_refuse(config)
        self._objective = settings.objective
        if not str(config.hydra.sweeper.get("_target_")).startswith("hydra_plugins.besom_sweeper."):
            _say_of_the_mode(settings)  # besom's own says it of the study

    def check(self, config: DictConfig) -> None:
        """Asked by a sweep for each end of its space. Raises InputError."""
        settings = _checked(config)
        _refuse_unlogged(settings)
        for line in fit_to_targets(config, config.hydra)[1]:
            if line not in self._said:
                self._said.add(line)
                print(f"besom: {line}", file=sys.stderr)
        if settings.test:
            raise InputError(
                "test=true: a sweep never sees the test set; score the model it has chosen: besom train ..."
            )
        if self._objective and settings.objective != self._objective:
            raise InputError(
                f"it makes the objective {_told(settings.objective)}, and the sweep's is {_told(self._objective)}: by "
                "one objective all trials are compared. Give it once for all: objective.metric=..."
            )

    def _check_or_refuse(self, config: DictConfig, *, is_whole: bool = False) -> Settings:
        """`is_whole`: no search will change it."""
        try:
            settings = _checked(config)
            if is_whole:
                _refuse_unlogged(settings)
        except BesomError as error:
            refuse(error)
        return settings


def _refuse_unlogged(settings: Settings) -> None:
    """What a user's own class logs is known when it is imported, or has run."""
    if known("model", settings.model.target):
        refuse_unlogged(settings.objective.metric)


def _say_of_the_mode(settings: Settings) -> None:
    """Once, by the first of a DDP run's processes."""
    objective = settings.objective
    warning = against_its_name(objective.metric, objective.mode, "objective.mode", objective.mode)
    if warning and os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"besom: {warning}", file=sys.stderr)


def _told(objective: Objective) -> str:
    """`max of val/acc (best epoch)`"""
    return f"{objective.mode} of {objective.metric} ({objective.reduce} epoch)"


def _checked(config: DictConfig) -> Settings:
    config, _ = fitted(config, config.hydra)
    settings = load(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]))
    if settings.tracking.uri is not None:
        check_uri(settings.tracking.uri)
    return settings
