"""What the user starts: makes the study and its run once, launches workers, shows progress, names the best."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig
from optuna.trial import FrozenTrial

from besom.config.redaction import redacted_override
from besom.engine.forking import open_or_fork
from besom.engine.launch import LaunchThread, ask_to_leave, is_local, kill_all, launch, make_launcher
from besom.engine.plan import Plan, Sweep
from besom.engine.preflight import run_preflight_checks
from besom.engine.preload import Preload
from besom.engine.stop_conditions import StopConditions
from besom.engine.study_run import StudyRun
from besom.engine.study_run_process import StudyRunProcess
from besom.engine.trial_run import BEATS
from besom.engine.warm_process import Order, WarmProcess
from besom.engine.worker import LeaveRequests, Worker
from besom.errors import InputError, RunError
from besom.study.attrs import (
    COMMIT,
    DEADLINE,
    EXPERIMENT,
    FIXED,
    FOUND,
    LEASE_S,
    N_TRIALS,
    PREPARED,
    PROGRAM,
    QUESTION,
    REASON,
    SLOTS,
    TRACKING,
)
from besom.study.command import Command
from besom.study.lease import LeaseMonitor
from besom.study.queue import Queue
from besom.study.snapshot import StudySnapshot
from besom.study.storage import StorageDamaged, StorageFull
from besom.study.study import SWEPT, Shared, StopRequest, Study, StudyChanged, differences, listed
from besom.system.encoding import make_output_readable, say
from besom.system.private import refuse_foreign_links
from besom.system.storable import on_one_line
from besom.terminal import Progress, progress
from besom.terminal.lines import summary
from besom.tracking import AwayError, Store
from besom.tracking.environment import commit
from besom.tracking.run_uploader import Status

POLL_S = 0.5  # between two looks at the study while workers run
OPENING_S = 0.1  # while they wait for its run
PATIENCE_S = 60.0  # for workers to end, once they have nothing left to do
MAX_FUTILE = 3  # launches in a row that finish no trial, before the sweep is given up


def supervise(sweep: Sweep, warm: WarmProcess | None) -> None:
    """Bring the study to its budget, from wherever it stands, and print what it found.

    `warm`: from which workers, the study's page and trials are forked; without isolation there is none.

    Raises:
        InputError: found before the first trial.
        KeyboardInterrupt: stopped by the user; the same command goes on.
        RunError: workers die again and again, or no trial has completed.
    """
    make_output_readable()
    sweep = run_preflight_checks(sweep)
    with _WarmProcesses(sweep, warm) as processes:
        study = _supervise(sweep, processes)
    say(summary(StudySnapshot.of(study), sweep.plan.tracking_uri is not None))
    if not study.best():
        raise RunError(f"no trial of study {study.name!r} has completed; the first says: {_first_reason(study)}")


def _supervise(sweep: Sweep, warm: _WarmProcesses) -> Study:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill is a Ctrl-C
    while True:
        study = _study(sweep)
        watch = LeaseMonitor(sweep.plan.lease_s)
        try:
            with study.supervised(watch) as renew:
                now = replace(sweep, plan=replace(sweep.plan, study_name=study.name))
                _sweep(now, study, watch, renew, warm)
        except StudyChanged:  # by its data, which only a worker can see
            if sweep.plan.resume != "fork":
                raise
            sweep = replace(sweep, plan=replace(sweep.plan, data=study.recall(FOUND)))
        else:
            return study


def _study(sweep: Sweep) -> Study:
    plan, folder = sweep.plan, _folder(sweep.app.config)
    known = [plan.space.known_point(point) for point in sweep.enqueue]

    def create(name: str, adopted: Sequence[FrozenTrial] = ()) -> Study:
        return Study.create(
            plan.storage,
            name,
            plan.objectives,
            folder,
            plan.space.describe(),
            known,
            adopted,
            Shared(plan.fingerprint, plan.data),
            accept=plan.resume == "anyway",
        )

    study = open_or_fork(plan, create) if plan.resume == "fork" else create(plan.study_name)
    study.keep_folder()
    return study


def _sweep(sweep: Sweep, study: Study, watch: LeaseMonitor, renew: Callable[[], None], warm: _WarmProcesses) -> None:
    plan = sweep.plan
    store = Store(plan.tracking_uri, plan.experiment) if plan.tracking_uri else None
    os.environ[SWEPT] = study.identity
    study.remember(N_TRIALS, plan.n_trials)
    _note_commit(study)
    study.remember(PROGRAM, plan.program)
    study.remember(QUESTION, plan.question)
    study.remember(SLOTS, len(plan.slots))
    study.remember(LEASE_S, None if plan.lease_s == math.inf else plan.lease_s)
    study.remember(DEADLINE, None if plan.deadline == math.inf else plan.deadline)
    Command.mine().remember(study)
    study.remember(TRACKING, plan.tracking_uri)
    study.remember(EXPERIMENT, plan.experiment)
    study.remember(FIXED, list(map(redacted_override, plan.space.fixed)))
    page = _page(study, store, warm) if store else None
    try:
        _bring_to_budget(sweep, study, watch, renew, page, warm)
    finally:
        warm.keep_log(study.folder / "warm.log")


def _page(study: Study, store: Store, warm: _WarmProcesses) -> StudyRun | StudyRunProcess:
    return StudyRunProcess(study, store, warm.now.workers) if warm.now else StudyRun(study, store)


def _bring_to_budget(
    sweep: Sweep,
    study: Study,
    watch: LeaseMonitor,
    renew: Callable[[], None],
    page: StudyRun | StudyRunProcess | None,
    warm: _WarmProcesses,
) -> None:
    plan = sweep.plan
    is_open = page.open() if page else lambda: True
    ended: Status = "FAILED"
    try:
        Queue(study).reap(watch, plan.max_retries)  # what a killed session on this machine has left
        if remaining := study.remaining(plan.n_trials):
            at_once = min(len(plan.slots), remaining)
            say(f"study {study.name}: {remaining} of {plan.n_trials} trials to go, {at_once} at a time")
            say("Ctrl-C stops it; the same command goes on", flush=True)
            with progress(study, plain=plan.isolation == "none") as view:
                look = _Look(
                    study, view, watch, plan, renew, StopConditions(plan.rules, study), page, is_open, warm.remark
                )
                _launch_until_done(sweep, study, look, warm)
        _heed(study.stop_request())
        ended = "FINISHED" if study.best() else "FAILED"
    except KeyboardInterrupt:
        ended = "KILLED"
        raise
    finally:
        if page:
            _close(page, ended, study.name)


def _note_commit(study: Study) -> None:
    """Other code may well give the same numbers: it is said, and not refused."""
    before, now = study.recall(COMMIT), commit()
    if before and now and before != now:
        study.note_changes(changes := differences({"git commit": before}, {"git commit": now}))
        say(f"study {study.name}: goes on with other code:\n{listed(changes)}")
    if now:
        study.remember(COMMIT, now)


def _close(page: StudyRun | StudyRunProcess, ended: Status, study: str) -> None:
    try:
        page.close(ended)
    except (InputError, OSError) as error:
        say(f"{error}\nnothing is lost; when MLflow is back: besom doctor {study} --fix")


def _heed(stop: StopRequest | None) -> None:
    """What ended the sweep early, in the way the user is told of it."""
    match stop:
        case StopRequest(cause="asked"):
            raise KeyboardInterrupt
        case StopRequest(cause="refused", why=why):
            raise InputError(why)
        case StopRequest(cause="changed", why=why):
            raise StudyChanged(why, adopts=False)
        case StopRequest(cause="failing" | "full", why=why):
            raise RunError(why)
        case StopRequest(cause="settled", why=why):
            say(f"stopped early: {why}")


@dataclass
class _Look:
    """What the supervisor does while workers work: shows what is new, renews its lease, finds the dead, may end it."""

    study: Study
    view: Progress
    watch: LeaseMonitor
    plan: Plan
    renew: Callable[[], None]
    judge: StopConditions
    page: StudyRun | StudyRunProcess | None  # None: nothing is recorded
    is_open: Callable[[], bool]  # whether its run is there, as `StudyRun.open` says
    remark: Callable[[], str]  # what the warm process has found out, if it is to be said
    has_opened: bool = False  # for trials to begin
    _renewed: float = 0.0
    _settled: bool = False  # and said
    _was_asked: bool = False  # to stop, by `besom stop`

    def __call__(self) -> None:
        self.view.refresh()
        if not self.has_opened:
            self._let_trials_begin()
        if self.page:
            self.page.refresh()
        if remark := self.remark():
            self.view.say(remark)
        if time.monotonic() - self._renewed > self.plan.lease_s / BEATS:
            self.renew()
            self._renewed = time.monotonic()
        if not self._settled and (known := self.study.recall(PREPARED)):
            self._settled = True
            if known["said"]:
                self.view.say(f"all trials: {known['said']}")
        for number in Queue(self.study).reap(self.watch, self.plan.max_retries):
            self.view.say(f"trial {number}: its worker is gone; given back")
        if stop := self.judge.verdict():
            self.study.request_stop(stop)
        self._say_when_asked_to_stop()

    def _let_trials_begin(self) -> None:
        """Meanwhile workers start."""
        try:
            if not self.is_open():
                return
        except AwayError as away:
            self.view.say(f"{away}\nthe sweep begins; what it finds is recorded when MLflow is back")
        except InputError as error:
            self.study.request_stop(StopRequest("refused", str(error)))
            return
        self.study.allow_trials()
        self.has_opened = True

    def _say_when_asked_to_stop(self) -> None:
        """The workers look for themselves."""
        match self.study.stop_request():
            case StopRequest(cause="asked", why=why) if not self._was_asked:
                self._was_asked = True
                self.view.say(f"stopping ({why}): the running trials go back to the queue")
            case StopRequest(cause="full") if not self._was_asked:
                self._was_asked = True
                self.view.say("stopping: a disk is full; trials that run come to their end")

    def nothing_to_do(self) -> bool:
        """No trial runs, and none is to be begun."""
        return not self.study.counts().running and (
            bool(self.study.stop_request()) or not self.study.remaining(self.plan.n_trials)
        )


class _WarmProcesses:
    """The one from which this sweep's workers are forked; another one when workers have failed, which may be its fault.

    Without isolation there is none.
    """

    def __init__(self, sweep: Sweep, first: WarmProcess | None) -> None:
        self._sweep = sweep
        self.now: WarmProcess | None = None
        self._has_said = False
        self._said = b""  # by those before
        if sweep.plan.isolation == "process":
            self.now = first or WarmProcess(makes_workers=True, records=self._records)
            self._order(self.now)

    def renew(self, *, fresh: bool) -> None:
        """`fresh`: from here on each trial is an interpreter of its own."""
        if self.now:
            self._said += self.now.output()
            self.now.close()
            self.now = WarmProcess(makes_workers=True, records=self._records and not fresh)
            self._order(self.now, fresh=fresh)

    def refuse_failed(self) -> None:
        """Raises InputError: a module that `besom.preload` names cannot be imported."""
        if self.now and is_local(self._sweep.app):
            self.now.refuse_failed()

    def remark(self) -> str:
        """What is to be said of its modules, once."""
        if self._has_said or self.now is None or not (remarks := self.now.remarks()):
            return ""
        self._has_said = True
        return str(remarks)

    @property
    def _records(self) -> bool:
        return self._sweep.plan.tracking_uri is not None

    def _order(self, warm: WarmProcess, *, fresh: bool = False) -> None:
        app, environ = self._sweep.app, self._sweep.plan.slots[0].threads_environment(os.environ)
        makes_trials = is_local(app)  # another launcher's workers have one of their own
        asked = Preload.of(app.preload, app.program) if makes_trials else Preload()
        warm.begin(Order(asked, makes_trials, fresh, environ))

    def keep_log(self, file: Path) -> None:
        """What they have said themselves, if anything."""
        if self.now and (said := self._said + self.now.output()):
            with suppress(OSError):  # a full disk
                file.write_bytes(said)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.now:
            self.now.close()


def _launch_until_done(sweep: Sweep, study: Study, look: _Look, warm: _WarmProcesses) -> None:
    """Workers end when the study is complete; if all have died before that, start new ones."""
    plan, futile, thread = sweep.plan, 0, LaunchThread()
    while (remaining := study.remaining(plan.n_trials)) and time.time() < plan.deadline:
        fresh = futile == MAX_FUTILE - 1  # the last try
        failure = _work(sweep, study, min(len(plan.slots), remaining), look, thread, warm.now, fresh)
        if study.stop_request():
            return
        futile = futile + 1 if study.remaining(plan.n_trials) == remaining else 0
        if failure:
            warm.refuse_failed()
        if failure and futile == MAX_FUTILE:
            raise RunError(f"{failure}; {MAX_FUTILE} launches of workers have finished no trial") from failure
        if failure and study.remaining(plan.n_trials):
            fresh = futile == MAX_FUTILE - 1
            how = ", and each trial in an interpreter of its own" if fresh else ""
            look.view.say(f"workers are started anew{how}: {failure}")
            warm.renew(fresh=fresh)


def _work(
    sweep: Sweep,
    study: Study,
    workers: int,
    look: _Look,
    thread: LaunchThread,
    warm: WarmProcess | None,
    fresh: bool,
) -> BaseException | None:
    if sweep.plan.isolation == "none":
        _work_here(sweep, look)
        return None
    launcher = make_launcher(sweep.app, Worker(sweep.plan, sweep.app, fresh), study.folder, workers, warm)
    return _launch_and_watch(sweep, study, launcher, workers, look, thread)


def _work_here(sweep: Sweep, look: _Look) -> None:
    """One worker, in this process and its main thread: a debugger stops the trial, and nothing else."""
    ended = threading.Event()

    lost: list[RunError] = []

    def look_on() -> None:
        try:
            while not ended.wait(POLL_S):
                look()
        except RunError as error:  # the storage; the worker finds out for itself, or has ended
            lost.append(error)

    looking = threading.Thread(target=look_on, name="besom-look", daemon=True)
    looking.start()
    try:
        Worker(sweep.plan, sweep.app).pull(LeaveRequests())
    finally:
        ended.set()
        looking.join()
    if lost:
        raise lost[0]


def _launch_and_watch(
    sweep: Sweep, study: Study, launcher: Launcher, workers: int, look: _Look, thread: LaunchThread
) -> BaseException | None:
    """What the launcher or a worker raised, if anything; meanwhile the supervisor looks after the study."""
    launched = thread.start(lambda: launch(launcher, sweep.plan.space.fixed, workers))
    try:
        _look_until_ended(launched, look)
    except KeyboardInterrupt:
        look.view.say("stopping: the running trials go back to the queue; Ctrl-C again to kill them")
        study.request_stop(StopRequest("interrupted"))
        _end_or_kill(launched, look)
        raise
    except (StorageDamaged, StorageFull):  # through which nobody can be asked to end
        ask_to_leave()
        raise
    return launched.exception() if launched.done() else None


def _look_until_ended(launched: Future[None], look: _Look) -> None:
    """Workers that still wait in a cluster's queue when nothing is left to do are not waited for."""
    idle_since = math.inf
    while time.monotonic() - idle_since < PATIENCE_S:
        if wait([launched], timeout=POLL_S if look.has_opened else OPENING_S).done:
            return
        with _undisturbed():
            look()
            nothing_to_do = look.nothing_to_do()
        idle_since = min(idle_since, time.monotonic()) if nothing_to_do else math.inf
    look.view.say("some workers have not ended: once they start, they find nothing to do, and end")


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Meanwhile a first Ctrl-C waits: one that comes amid a commit leaves the storage locked. A second one does not."""
    came: list[int] = []

    def put_off(sign: int, frame: object) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(sign)

    heard = [sign for sign in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(sign) != signal.SIG_IGN]
    before = {sign: signal.signal(sign, put_off) for sign in heard}
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)
    if came:
        raise KeyboardInterrupt


def _end_or_kill(launched: Future[None], look: _Look) -> None:
    try:
        _look_until_ended(launched, look)
    except KeyboardInterrupt:
        kill_all()
        raise


def _folder(config: DictConfig) -> Path:
    folder = Path(str(config.hydra.sweep.dir)).absolute()
    refuse_foreign_links(folder)
    try:
        is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        if is_new:
            folder.chmod(0o700)  # what is written in it may hold config
    except OSError as error:
        raise InputError(
            f"the output folder {folder} cannot be written ({error.strerror}); choose another: hydra.sweep.dir=..."
        ) from error
    return folder


def _first_reason(study: Study) -> str:
    reasons = [trial.user_attrs[REASON] for trial in study.trials() if REASON in trial.user_attrs]
    return on_one_line(reasons[0]) if reasons else "nothing was run"
