"""The thread of a process that carries its runs' logs to MLflow, so that nothing else ever waits for it."""

from __future__ import annotations

import logging
import threading
from typing import Self

from besom.tracking.run_uploader import RunUploader

EVERY_S = 1.0  # between two batches; the UI is rarely looked at more often
MAX_PAUSE_S = 10.0  # between two tries, while MLflow is away
PATIENCE_S = 30.0  # at the end of the process

log = logging.getLogger(__name__)


class UploadThread:
    """Carries each run from when it is taken until it has ended in MLflow, however long MLflow is away.

    To be closed at the end of its process, for which the thread does not wait by itself.
    """

    def __init__(self) -> None:
        self._runs: list[RunUploader] = []
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self._failures = 0

    def take(self, run: RunUploader) -> None:
        self._runs.append(run)
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="besom-scribe", daemon=True)
            self._thread.start()

    @property
    def pending(self) -> int:
        """The runs of which MLflow has not taken all; their logs are whole."""
        return len(self._runs)

    def close(self, patience_s: float = PATIENCE_S) -> None:
        """Wait until MLflow has all, or no longer."""
        self._closing.set()
        self._wake.set()
        if self._thread is not None:
            self._done.wait(patience_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self) -> None:
        while not (self._closing.is_set() and not self._runs):
            self._wake.wait(self._pause_s())
            self._wake.clear()
            self._carry_all()
        self._done.set()

    def _carry_all(self) -> None:
        failed = False
        for run in list(self._runs):
            try:
                if run.sync():
                    self._runs.remove(run)
            except Exception as error:  # whatever MLflow, its store or the network raise: the log keeps all
                failed = True
                if self._failures == 0:
                    log.warning("MLflow did not take the last batch, it will be sent again: %s", error)
        if self._failures and not failed:
            log.warning("MLflow has taken what it had not, after %s tries", self._failures)
        self._failures = self._failures + 1 if failed else 0

    def _pause_s(self) -> float:
        if self._closing.is_set() and not self._failures:
            return 0.0
        return float(min(EVERY_S * 2 ** max(0, self._failures - 1), MAX_PAUSE_S))
