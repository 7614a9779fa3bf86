"""The study's page in a process of its own, forked from one that has MLflow already: the supervisor never loads it.

The page is made, kept up to date and ended there (`page.py`); the supervisor says when, and shows what it is told.
Should that process die, the supervisor goes on by itself.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from besom import reporting
from besom.engine.fork_server import Forked, ForkServer, ServerGone
from besom.engine.study_run import StudyRun
from besom.errors import InputError
from besom.study.study import Study
from besom.system.encoding import say
from besom.system.processes import call_this
from besom.tracking import AwayError, Store
from besom.tracking.run_uploader import Status

LOOK_S = 0.1  # between two looks at whether the run is there
POLL_S = 0.5
SERVE = "besom.engine.study_run_process:serve"
KINDS = {"away": AwayError, "refused": InputError, "failed": OSError}


log = logging.getLogger(__name__)


class StudyRunProcess:
    """As `page.StudyRun`, for the supervisor."""

    def __init__(self, study: Study, store: Store, server: ForkServer) -> None:
        self._study = study
        self._store = store
        self._page: StudyRun | None = None  # once its process has died
        self._is_open: Callable[[], bool] | None = None  # of that page
        self._opened: list[Any] = []
        self._closed: list[Any] = []
        self._process: Forked | None = None
        self._pipe, theirs = Pipe()
        with theirs:
            try:
                self._process = server.fork(
                    SERVE, study.url, study.name, store.uri, store.experiment, fds=[theirs.fileno()]
                )
            except ServerGone:
                self._page = StudyRun(study, store)

    def open(self) -> Callable[[], bool]:
        """The study's run is made; returned is what tells whether it is there, as that of `StudyRun.open` does."""
        return self._has_opened

    def refresh(self) -> None:
        """Its process does so by itself, and what that says is said here."""
        if self._page:
            self._page.refresh()
        else:
            self._hear(0.0)

    def close(self, status: Status) -> None:
        """Wait until all is written, and the run is ended. Raises InputError: MLflow does not take it."""
        if not self._page:
            with suppress(OSError):
                self._pipe.send(status)
            while not self._closed and not self._page:
                self._hear(POLL_S)
        if self._page:
            self._page.close(status)
            return
        if self._process:
            self._process.join()
            self._process.close()
        _raise(self._closed)

    def _has_opened(self) -> bool:
        if not self._opened and not self._page:
            self._hear(0.0)
        if self._page:
            self._is_open = self._is_open or self._page.open()
            return self._is_open()
        _raise(self._opened)
        return bool(self._opened)

    def _hear(self, timeout_s: float) -> None:
        try:
            while self._pipe.poll(timeout_s):
                timeout_s = 0.0
                match self._pipe.recv():
                    case ("said", text):
                        say(text)
                    case ("logged", text):
                        log.warning("%s", text)
                    case ("open", *error):
                        self._opened = [error]
                    case ("closed", *error):
                        self._closed = [error]
        except (EOFError, OSError):
            if not self._closed:
                self._page = StudyRun(self._study, self._store)


def _raise(answers: list[Any]) -> None:
    match answers:
        case [[kind, text]]:
            raise KINDS[kind](text)


# ── in its process ────────────────────────────────────────────────────────────────────────────────────────────────────
def serve(url: str, name: str, uri: str, experiment: str, pipe: int) -> None:
    """In a process that has just been forked."""
    call_this("besom-page")
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to answer
    supervisor = Connection(pipe)
    logging.getLogger("besom").addHandler(_Handler(supervisor))
    page = StudyRun(
        Study(url, name, wait=True), Store(uri, experiment), say=lambda text: supervisor.send(("said", text))
    )
    try:
        status = _keep_up(page, supervisor)
        supervisor.send(("closed", *_error(lambda: page.close(status))))
    except (EOFError, OSError):  # there is no supervisor any more
        os._exit(0)


def _keep_up(page: StudyRun, supervisor: Connection) -> Status:
    is_open, opened = page.open(), False
    while not supervisor.poll(POLL_S if opened else LOOK_S):
        if not opened:
            answer: list[bool] = []
            error = _error(lambda: answer.append(is_open()))  # noqa: B023 - called at once
            if opened := bool(error or any(answer)):
                supervisor.send(("open", *error))
                reporting.load()  # while trials run
        page.refresh()
    status: Status = supervisor.recv()
    return status


def _error(call: Callable[[], object]) -> tuple[()] | tuple[str, str]:
    """What it raises, as a kind and a text."""
    try:
        call()
    except AwayError as error:
        return "away", str(error)
    except InputError as error:
        return "refused", str(error)
    except OSError as error:
        return "failed", str(error)
    return ()


class _Handler(logging.Handler):
    def __init__(self, supervisor: Connection) -> None:
        super().__init__(logging.WARNING)
        self._supervisor = supervisor

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):
            self._supervisor.send(("logged", record.getMessage()))
