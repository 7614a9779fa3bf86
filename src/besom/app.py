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

from besom.composition import as_input_error
from besom.config import load
from besom.errors import INTERRUPTED, BesomError, InputError
from besom.hydra_versions import expect_any_target
from besom.kept import keep, take_over
from besom.settings import Settings
from besom.tracking.store import check_uri
from besom.trial import in_sweep


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
        wrong = error if isinstance(error, BesomError) else as_input_error(error)
        if wrong is None or asked_for_traces:
            traceback.print_exception(error)
        if wrong is None:
            sys.exit(1)
        refuse(wrong)
    sys.exit(0)


def refuse(error: BesomError) -> NoReturn:
    """Say it and leave. As SystemExit it passes Hydra by, which would add words of its own."""
    print(f"besom: {error}", file=sys.stderr)
    sys.exit(error.exit_code)


class Check(Callback):
    """Hydra calls it with the composed config, before it makes the output folder; a sweep, with each end of it."""

    _hydras_folder: str | None = None  # of a run's config; in a sweep the trial's job keeps it

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        if (
            not in_sweep()
        ):  # a DDP trial's other processes come here too: checked before trial 0; MLflow may be away now
            self._check_or_refuse(config)
            self._hydras_folder = take_over(config)

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        if self._hydras_folder:
            keep(config, Path(config.hydra.runtime.output_dir), self._hydras_folder)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        self._check_or_refuse(config)

    def check(self, config: DictConfig) -> None:
        """Asked by a sweep for each end of its space. Raises InputError."""
        if _checked(config).test:
            raise InputError(
                "test=true: a sweep never sees the test set; score the model it has chosen: besom train ..."
            )

    def _check_or_refuse(self, config: DictConfig) -> None:
        try:
            _checked(config)
        except BesomError as error:
            refuse(error)


def _checked(config: DictConfig) -> Settings:
    settings = load(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]))
    if settings.tracking.uri is not None:
        check_uri(settings.tracking.uri)
    return settings
