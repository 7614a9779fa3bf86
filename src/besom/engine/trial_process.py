"""One try at a trial, in a process of its own, forked from the warm process, which has done the slow imports once.

Whatever the task function does to its process (a segfault, `os._exit`, leaked state), the worker and the next trial are
untouched. Both sides speak over a pipe: the trial reports and waits for the verdict; its last word is an `Outcome`.
A second pipe is the leash: the worker pulls it now and then, and a trial that feels nothing for a while ends itself, so
that no trial outlives its worker.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Self

import cloudpickle
from omegaconf import DictConfig

from besom import trial
from besom.engine import ddp, process_exit
from besom.engine.outcome import AttemptCallbacks, Outcome, death, oom_kills
from besom.engine.reseed import reseed
from besom.engine.trial_output import CappedOutput
from besom.engine.warm_process import trials
from besom.hydra_app.job import App
from besom.hydra_app.script import become
from besom.system.environment import restore_users_own
from besom.system.processes import call_this

POLL_S = 0.5  # between two looks at whether the sweep is to stop
GRACE_S = 10.0  # from SIGTERM to SIGKILL
STOPPED = Outcome("interrupted", reason="the sweep was stopped; started again, it goes on with this trial")


class TrialProcess:
    """The worker's end of a trial's process, which is forked at once, and waits for the trial's config.

    What the trial prints goes to the file `output`.
    """

    def __init__(self, app: App, output: Path, terms: AttemptCallbacks) -> None:
        self._app = app
        self._terms = terms
        self._begun = False
        self._has_spoken = False
        self._oom_kills = oom_kills()
        self._pulled, self._cut = time.monotonic(), False
        self._output = CappedOutput(output)
        self._pipe, theirs = multiprocessing.Pipe()
        feels, self._leash = multiprocessing.Pipe(duplex=False)
        with theirs, feels:
            fds = (theirs.fileno(), feels.fileno())
            self._process = trials().fork(
                "besom.engine.trial_process:run", app.pickled, terms.leash_s, str(output), fds=fds
            )

    def begin(self) -> int | None:
        """The number of its process, as soon as that is there; None: the sweep is to stop."""
        while not self._process.has_begun(POLL_S):
            if self._terms.should_stop():
                return None
        return self._process.pid

    def pull(self) -> None:
        """Let the trial feel its worker; may be called from any thread."""
        self._cut, self._pulled = self._is_cut(), time.monotonic()
        with contextlib.suppress(OSError):  # the trial has ended, as `outcome` will find
            self._leash.send_bytes(b".")

    def outcome(self, config: DictConfig) -> Outcome:
        """Run the trial of that config to its end. Its process, unless it has died, is there until `__exit__`."""
        if self.begin() is None:
            return STOPPED
        self._begun = True
        with contextlib.suppress(OSError):  # it has died already, as is seen next
            self._pipe.send_bytes(self._app.packed(config))
        return self._follow()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing of the trial is left."""
        if self._process.has_begun():
            self._end()
        for end in (self._process, self._pipe, self._leash, self._output):  # one that comes later finds itself alone
            end.close()

    def _end(self) -> None:
        if not self._begun or self._has_spoken:
            self._pipe.close()  # on which it waits: for its config, or to be looked at for the last time
        # it has said its last word, and is on its way out
        self._process.join(process_exit.LIMIT_S + 2.0 if self._has_spoken or not self._begun else 1.0)
        if self._process.is_alive():
            self._process.send(signal.SIGTERM)
            self._process.join(GRACE_S)
        self._process.send(signal.SIGKILL, group=True)
        self._process.join()

    def _follow(self) -> Outcome:
        timeout_s = self._terms.timeout_s
        looked = time.monotonic()
        deadline = looked + timeout_s if timeout_s else math.inf
        while time.monotonic() < deadline:
            # its server's death is not its own: it may go on
            ends = [] if self._process.is_lost else [self._process.sentinel]
            ready = wait([self._pipe, *ends], timeout=POLL_S)
            if self._pipe in ready:
                try:
                    message = self._pipe.recv()
                except (EOFError, ConnectionResetError):
                    self._process.join()
                    return self._death()
                if isinstance(message, Outcome):
                    self._has_spoken = True
                    return self._unless_stopped(message)
                self._answer(self._terms.on_report(*message))
            elif self._process.join(0.0) is not None:
                return self._death()
            if not ready or time.monotonic() - looked > POLL_S:  # a trial may report without a pause
                looked = time.monotonic()
                self._output.cut()
                if self._terms.should_stop():
                    return STOPPED
        return Outcome("failed", kind="timeout", reason=f"not done after trial_timeout={timeout_s:g} s")

    def _is_cut(self) -> bool:
        """Whether the leash was slack for so long that the trial has ended itself, now or before."""
        return self._cut or time.monotonic() - self._pulled > self._terms.leash_s

    def _death(self) -> Outcome:
        memory_ran_out = oom_kills() > self._oom_kills
        code = self._process.join()
        if self._process.is_lost:
            return Outcome("interrupted", kind="lost", reason="the process that trials are forked from has died")
        if self._is_cut() and not memory_ran_out:
            reason = "the trial ended itself: its worker could not renew the lease in time"
            return Outcome("interrupted", kind="lost", reason=reason)
        if code == -signal.SIGTERM:  # sent to all: the worker is hearing it too
            time.sleep(POLL_S)
        return self._unless_stopped(death(code, memory_ran_out=memory_ran_out))

    def _unless_stopped(self, outcome: Outcome) -> Outcome:
        """What fails while everything is being stopped is no failure of the trial's."""
        return STOPPED if outcome.state == "failed" and self._terms.should_stop() else outcome

    def _answer(self, verdict: bool) -> None:
        with contextlib.suppress(OSError):  # the trial died while it waited: the next look at the pipe says how
            self._pipe.send(verdict)


# ── in the trial's process ────────────────────────────────────────────────────────────────────────────────────────────
class _Worker:
    """The worker, as the trial sees it (`trial.Listener`)."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def report(self, value: float, step: int) -> bool:
        self._pipe.send((value, step))
        return bool(self._pipe.recv())


def run(app: bytes, leash_s: float, output: str, pipe: int, leash: int) -> None:
    """In a process that has just been forked; of `TrialProcess`, at the other ends of the two pipes."""
    call_this("besom-trial")
    os.setsid()  # so that what it starts can be ended with it
    reseed()
    set_threads(os.environ)
    restore_users_own()
    with contextlib.suppress(OSError):  # the disk is full: what it says is lost, and told by its worker
        write_output_to(output)
    felt = Connection(leash, writable=False)
    threading.Thread(target=_feel, args=(felt, leash_s), name="besom-leash", daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to answer
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # with which the worker ends it
    _try(cloudpickle.loads(app), Connection(pipe))


def _try(app: App, pipe: Connection) -> None:
    with contextlib.suppress(OSError):  # a launcher may have started the worker elsewhere, even on a machine without it
        os.chdir(app.config.hydra.runtime.cwd)
    become(app.program, app.copies)
    try:
        config: DictConfig = cloudpickle.loads(pipe.recv_bytes())
    except (EOFError, OSError):  # there is none: the trial is over
        return
    trial.listen(_Worker(pipe))
    pipe.send(ddp.run(app.job(config)))
    with contextlib.suppress(EOFError, OSError):  # till then its worker can see what it has used
        pipe.recv()


def _feel(leash: Connection, leash_s: float) -> None:
    """Nobody would hear an exception here, and nobody waits for this process any more."""
    try:
        while leash.poll(leash_s):
            leash.recv_bytes()
        print("besom: the worker of this trial is silent; the trial ends itself", flush=True)
    except (EOFError, OSError):
        print("besom: the worker of this trial is gone; the trial ends itself", flush=True)
    os.killpg(0, signal.SIGKILL)


def set_threads(environ: Mapping[str, str]) -> None:
    """Of the BLAS libraries that the warm process has loaded with one: as the environment of a trial asks for."""
    wanted = environ.get("OPENBLAS_NUM_THREADS") or environ.get("OMP_NUM_THREADS") or ""
    if "numpy" in sys.modules and wanted.isdecimal() and wanted != "1":
        from threadpoolctl import threadpool_limits

        threadpool_limits(int(wanted), user_api="blas")


def write_output_to(path: str) -> None:
    """Python's own streams and those of C libraries alike."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    # the fork server's streams are block-buffered where its own output is no terminal: show lines as they come
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
