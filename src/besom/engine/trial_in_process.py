"""One try at a trial in the worker's own process, where a debugger can step into it: `isolation=none`.

Nothing guards the worker here: a crash of the trial is a crash of the sweep.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from omegaconf import DictConfig

from besom import trial
from besom.engine import ddp
from besom.engine.outcome import AttemptCallbacks, Interrupted, Outcome
from besom.hydra_app.job import App


class InProcessTrial:
    """As `attempt.TrialProcess`; what the trial prints goes where the worker's own words go."""

    def __init__(self, app: App, terms: AttemptCallbacks) -> None:
        self._app = app
        self._terms = terms

    def begin(self) -> int:
        return os.getpid()

    def pull(self) -> None:
        """There is no leash: this trial cannot outlive its worker."""

    def outcome(self, config: DictConfig) -> Outcome:
        trial.listen(_Here(self._terms))
        try:
            with _hearing_ctrl_c():
                return ddp.run(self._app.job(config))
        except _Stopped:
            return Outcome("interrupted", reason="the sweep was stopped; started again, it goes on with this trial")
        finally:
            trial.listen(None)
            _part_from_other_ranks()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing of a trial is left but what it has done to this process."""


def _part_from_other_ranks() -> None:
    """Of a trial that Lightning's DDP has run in several processes; the next one meets others."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


class _Stopped(Interrupted):
    """The sweep is to end."""


class _CtrlC(Interrupted):
    """The user's, and not a KeyboardInterrupt that the task function has raised."""


@contextmanager
def _hearing_ctrl_c() -> Iterator[None]:
    """Raises KeyboardInterrupt: the user has pressed it meanwhile."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(sign: int, frame: object) -> None:
        raise _CtrlC

    before = {sign: signal.getsignal(sign) for sign in (signal.SIGINT, signal.SIGTERM)}
    heard = {sign: handler for sign, handler in before.items() if handler is signal.default_int_handler}
    try:
        for sign in heard:
            signal.signal(sign, handle)
        yield
    except _CtrlC:
        raise KeyboardInterrupt from None
    finally:
        for sign, handler in heard.items():
            signal.signal(sign, handler)


class _Here:
    """The worker, as the trial sees it (`trial.Listener`)."""

    def __init__(self, terms: AttemptCallbacks) -> None:
        self._terms = terms

    def report(self, value: float, step: int) -> bool:
        if self._terms.should_stop():
            raise _Stopped
        return self._terms.on_report(value, step)
