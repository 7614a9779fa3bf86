"""The warm process: it imports once, on one machine, what the workers and trials of a sweep need.

Workers are forked from it, and trials from a second process that it has forked before it loads MLflow, which no trial
has loaded unless its own code does:

    supervisor ─ starts ─> warm process: the engine, then MLflow ─ forks ─> workers, the study's page
                             └ forks ─> the trials' one: torch, `besom.preload` ... ─ forks ─> trials

A worker that another launcher than besom's own has started has only the second one, for itself. Here is the end of
those who start it; what the process does is in `warm_main.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from typing import IO, Self

from besom.config.redaction import redact
from besom.engine.fork_server import ForkServer, interpreter, pair
from besom.engine.preload import Preload
from besom.errors import InputError
from besom.hydra_app.job import python_path

# a cluster that takes a machine back may send them to every process of a job; the worker is meant
TO_WORKER = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
# of Linux's C library: memory that a step has freed is kept for the next step, in large pages; else each of a CNN's
# tensors is asked of the kernel anew, which takes a tenth of a step
MALLOC = ":".join(
    f"glibc.malloc.{name}={value}"
    for name, value in (("hugetlb", 1), ("mmap_threshold", 1 << 25), ("trim_threshold", 1 << 32), ("top_pad", 1 << 26))
)
# these start threads when they are imported, and a process is to be forked that has none; a trial has its own number
# of them (`attempt.py`)
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
# torch asks the driver whether there is a GPU, and does not wake it, which no fork survives
ASLEEP = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
WORKERS, RECORDS = "workers", "records"  # on its command line: it is to make workers, and they need MLflow
MAX_OUTPUT = 1 << 20  # bytes of its own that are kept
PATIENCE_S = 5.0  # for its end, once nobody needs it


@dataclass(frozen=True)
class Order:
    """What it is to be, which is known when a sweep has been checked."""

    asked: Preload
    makes_trials: bool = True
    fresh: bool = False  # each trial in an interpreter of its own
    environ: dict[str, str] = field(default_factory=dict)  # of what it imports for them, beside this process's own

    def dumps(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> Self:
        values = json.loads(text)
        asked = Preload(**{key: tuple(value) for key, value in values.pop("asked").items()})
        return cls(asked, **values)


@dataclass(frozen=True)
class Remarks:
    """What it has found out about the modules that `besom.preload` names."""

    failed: dict[str, str] = field(default_factory=dict)  # why they cannot be imported
    unsafe: dict[str, str] = field(default_factory=dict)  # what they do that no fork survives

    def refuse_failed(self) -> None:
        """Raises InputError, where there are some."""
        if self.failed:
            wrong = "; ".join(f"{module!r} cannot be imported: {redact(why)}" for module, why in self.failed.items())
            raise InputError(f"besom.preload: {wrong}")

    def __str__(self) -> str:
        return "".join(
            f"besom.preload: {module!r} {what} when it is imported, which no forked process would survive: each trial "
            "starts an interpreter of its own, which takes longer; import it inside the task function instead"
            for module, what in self.unsafe.items()
        )


class WarmProcess:
    """Started by whoever needs it; it ends when nobody does.

    It imports besom's own engine at once, and MLflow, while a sweep is composed and checked; what the app imports, only
    when it has its order.
    """

    def __init__(self, order: Order | None = None, *, makes_workers: bool = False, records: bool = False) -> None:
        """Returns at once. `order`: where it is known already; `records`: its workers need MLflow."""
        trials, ask_trials = pair()
        workers, ask_workers = pair()
        remarks, say_remarks = os.pipe()
        orders = [os.pipe(), os.pipe()]  # one for each of its two processes
        with trials, workers:
            fds = [trials.fileno(), ask_trials.fileno(), workers.fileno(), say_remarks, *(read for read, _ in orders)]
            self._output = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed with this
            self._process = _start(fds, [WORKERS] * makes_workers + [RECORDS] * records, self._output)
        for fd in (say_remarks, *(read for read, _ in orders)):
            os.close(fd)
        self._orders = [write for _, write in orders]
        self._remarks = Connection(remarks, writable=False)
        os.set_blocking(remarks, False)
        self._said = b""
        self._is_closed = False
        self.trials = ForkServer(ask_trials)
        self.workers = ForkServer(ask_workers)  # and what else needs MLflow
        if not makes_workers:
            self.workers.close()
        if order:
            self.begin(order)

    def begin(self, order: Order) -> None:
        """Once."""
        for fd in self._orders:
            with contextlib.suppress(OSError), os.fdopen(fd, "w") as file:  # it has died
                file.write(order.dumps())
        self._orders = []

    def remarks(self, timeout_s: float = 0.0) -> Remarks | None:
        """None: it still imports. Where it has died there are none."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                more = os.read(self._remarks.fileno(), 1 << 16)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    return None
                self._remarks.poll(deadline - time.monotonic())
                continue
            if not more:
                return Remarks(**json.loads(self._said or b"{}"))
            self._said += more

    def output(self) -> bytes:
        """What it has said itself, and not those that were forked from it."""
        return os.pread(self._output.fileno(), MAX_OUTPUT, 0)

    def refuse_failed(self) -> None:
        """Where the trials' one has died: raises InputError, if that was for a module that it could not import."""
        if remarks := self.remarks(PATIENCE_S):
            remarks.refuse_failed()

    def close(self) -> None:
        """It ends as soon as all that was forked from it has ended; without an order, now."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._orders:
            self._process.kill()
            for fd in self._orders:
                os.close(fd)
        self.trials.close()
        self.workers.close()
        self._remarks.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_S)
        self._output.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _start(fds: Sequence[int], words: Sequence[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    env = {"GLIBC_TUNABLES": MALLOC, **ASLEEP, **os.environ, **ONE_THREAD, "PYTHONPATH": python_path()}
    with _deaf():
        return subprocess.Popen(
            [*interpreter("besom.engine.warm_main", fds), *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=fds,
            start_new_session=True,
            env=env,
        )


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """What is started meanwhile ignores what is meant for the worker, and so does what that forks."""
    if threading.current_thread() is not threading.main_thread():  # it has no signals either
        yield
        return
    before = {sign: signal.signal(sign, signal.SIG_IGN) for sign in TO_WORKER}
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler or signal.SIG_DFL)  # None: one that Python knows nothing of


# ── of this process ───────────────────────────────────────────────────────────────────────────────────────────────────
_trials: ForkServer | None = None


def trials() -> ForkServer:
    """From which this worker forks its trials."""
    assert _trials is not None, "this process has no warm process"
    return _trials


def inherit(server: socket.socket) -> None:
    """In the warm process, for its workers."""
    global _trials
    _trials = ForkServer(server)


def has_inherited() -> bool:
    return _trials is not None


@contextlib.contextmanager
def trials_from(warm: WarmProcess) -> Iterator[WarmProcess]:
    """Meanwhile this process, which has inherited none, forks its trials from that one."""
    global _trials
    _trials = warm.trials
    try:
        with warm:
            yield warm
    finally:
        _trials = None
