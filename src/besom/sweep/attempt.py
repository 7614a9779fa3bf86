"""One try at a trial, in a process of its own, forked from a fork server that has done the slow imports once.

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
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Self

import cloudpickle
from omegaconf import DictConfig

from besom import trial
from besom.environment import restore_users_own, set_for_besom
from besom.sweep import ending, ranks
from besom.sweep.job import App
from besom.sweep.outcome import Outcome, Terms, death, oom_kills
from besom.sweep.output import CappedOutput
from besom.sweep.preload import Asked, take_asked
from besom.sweep.reseed import reseed
from besom.sweep.script import become

POLL_S = 0.5  # between two looks at whether the sweep is to stop
GRACE_S = 10.0  # from SIGTERM to SIGKILL
# a cluster that takes a machine back may send them to every process of a job; the worker is meant
TO_WORKER = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
# of Linux's C library: memory that a step has freed is kept for the next step, in large pages; else each of a CNN's
# tensors is asked of the kernel anew, which takes a tenth of a step
MALLOC = ":".join(
    f"glibc.malloc.{name}={value}"
    for name, value in (("hugetlb", 1), ("mmap_threshold", 1 << 25), ("trim_threshold", 1 << 32), ("top_pad", 1 << 26))
)
STOPPED = Outcome("interrupted", reason="the sweep was stopped; started again, it goes on with this trial")


def warm_up(app: App) -> None:
    """Start the fork server with the app's modules imported; trials fork from it. Returns at once."""
    set_for_besom("GLIBC_TUNABLES", MALLOC, keep=True)
    # a trial is told its worker's start method, and would not know that of joblib's processes, "loky"
    multiprocessing.set_start_method("forkserver", force=True)
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["besom.sweep.warm", "besom.sweep.warmed"])
    from multiprocessing.forkserver import ensure_running

    Asked.of(app.preload, app.program).ask()
    with _deaf():
        ensure_running()
    take_asked()


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


class Attempt:
    """The worker's end of a trial's process, which is forked at once, and waits for the trial's config.

    What the trial prints goes to the file `output`.
    """

    def __init__(self, app: App, output: Path, terms: Terms) -> None:
        self._app = app
        self._terms = terms
        self._begun = False
        self._has_spoken = False
        self._oom_kills = oom_kills()
        self._pulled, self._cut = time.monotonic(), False
        self._output = CappedOutput(output)
        self._pipe, theirs = multiprocessing.Pipe()
        feels, self._leash = multiprocessing.Pipe(duplex=False)
        arguments = (app.pickled, theirs, feels, terms.leash_s, str(output))
        self._process = multiprocessing.get_context("forkserver").Process(target=_run, args=arguments, name="trial")
        self._process.start()
        self.pid: int = self._process.pid  # type: ignore[assignment]  # it has one, now that it is started
        theirs.close()
        feels.close()

    def pull(self) -> None:
        """Let the trial feel its worker; may be called from any thread."""
        self._cut, self._pulled = self._is_cut(), time.monotonic()
        with contextlib.suppress(OSError):  # the trial has ended, as `outcome` will find
            self._leash.send_bytes(b".")

    def outcome(self, config: DictConfig) -> Outcome:
        """Run the trial of that config to its end. Its process, unless it has died, is there until `__exit__`."""
        self._begun = True
        with contextlib.suppress(OSError):  # it has died already, as is seen next
            self._pipe.send_bytes(self._app.packed(config))
        return self._follow()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing of the trial is left."""
        if not self._begun or self._has_spoken:
            self._pipe.close()  # on which it waits: for its config, or to be looked at for the last time
        # it has said its last word, and is on its way out
        self._process.join(timeout=ending.LIMIT_S + 2.0 if self._has_spoken or not self._begun else 1.0)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(GRACE_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.join()
        self._process.close()
        self._pipe.close()
        self._leash.close()
        self._output.close()

    def _follow(self) -> Outcome:
        timeout_s = self._terms.timeout_s
        looked = time.monotonic()
        deadline = looked + timeout_s if timeout_s else math.inf
        while time.monotonic() < deadline:
            ready = wait([self._pipe, self._process.sentinel], timeout=POLL_S)
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
            elif ready:
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
        if self._is_cut() and not memory_ran_out:
            reason = "the trial ended itself: its worker could not renew the lease in time"
            return Outcome("interrupted", kind="lost", reason=reason)
        if self._process.exitcode == -signal.SIGTERM:  # sent to all: the worker is hearing it too
            time.sleep(POLL_S)
        return self._unless_stopped(death(self._process.exitcode, memory_ran_out=memory_ran_out))

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


def _run(app: bytes, pipe: Connection, leash: Connection, leash_s: float, output: str) -> None:
    os.setsid()  # so that what it starts can be ended with it
    ending.begin()
    reseed()
    restore_users_own()
    with contextlib.suppress(OSError):  # the disk is full: what it says is lost, and told by its worker
        write_output_to(output)
    threading.Thread(target=_feel, args=(leash, leash_s), name="besom-leash", daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to answer
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # with which the worker ends it
    # what the task function starts (a DataLoader's workers) should start as it would outside a sweep
    multiprocessing.set_start_method(None, force=True)
    try:
        _try(cloudpickle.loads(app), pipe)
    finally:
        ending.end()


def _try(app: App, pipe: Connection) -> None:
    with contextlib.suppress(OSError):  # a launcher may have started the worker elsewhere, even on a machine without it
        os.chdir(app.config.hydra.runtime.cwd)
    become(app.program, app.copies)
    try:
        config: DictConfig = cloudpickle.loads(pipe.recv_bytes())
    except (EOFError, OSError):  # there is none: the trial is over
        return
    trial.listen(_Worker(pipe))
    pipe.send(ranks.run(app.job(config)))
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


def write_output_to(path: str) -> None:
    """Python's own streams and those of C libraries alike."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    # the fork server's streams are block-buffered where its own output is no terminal: show lines as they come
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
