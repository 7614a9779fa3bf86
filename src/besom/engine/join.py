"""`besom worker`: more slots for a sweep that runs elsewhere.

The study remembers how its sweep was started. `besom worker` starts the app in the same way, told to join: so it
composes the same trials, from the code and the config of its own machine.
"""

from __future__ import annotations

import math
import os
import re
import secrets
import shlex
import signal
import socket
import sys
from collections.abc import Sequence
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import optuna
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.plugins.launcher import Launcher

from besom.config.redaction import HIDDEN, redact
from besom.engine.launch import LaunchThread, ask_to_leave, is_local, kill_all, launch, make_launcher
from besom.engine.plan import Plan, Sweep
from besom.engine.preload import Preload
from besom.engine.warm_process import Order, WarmProcess
from besom.engine.worker import Worker
from besom.errors import InputError, RunError, near
from besom.hydra_app.check_space import check_space
from besom.hydra_app.trust import RESOLVERS, ask_on_terminal, resolvers
from besom.study.attrs import COMMAND, DEADLINE, N_TRIALS, TRACKING
from besom.study.command import Command
from besom.study.fingerprint import fingerprint
from besom.study.storage import open_storage
from besom.study.study import LOOK_S, SWEPT, Shared, Study
from besom.system.encoding import say

STORAGE = "BESOM_STORAGE"


def start(url: str, name: str, overrides: Sequence[str], *, yes: bool = False) -> None:
    """Become the app of a study that is swept, told to join; `overrides` come behind those of its sweep.

    Raises:
        InputError: there is no such study, nobody sweeps it, or its app is not here; or its command is not to be run:
            whoever may write to the storage could have written it. `yes`: the user has seen it.
    """
    study = _swept(url, name)
    command = Command(**study.recall(COMMAND))
    os.environ[STORAGE] = url  # and not on the command line, which anybody may read
    named = QuotedString(name, Quote.single).with_quotes()
    where = [f"hydra.sweeper.storage=${{oc.env:{STORAGE}}}", f"hydra.sweeper.study_name={named}"]
    arguments = [*_without_secrets(command, overrides), *where, "hydra.sweeper.join=true", *overrides]
    folder = _folder(command)
    _refuse_foreign_code([argument for argument in command.arguments if argument not in overrides])
    sweeps = [f"BESOM_SWEEPS={command.sweeps}"] if command.sweeps else []  # whose files are configs, too
    shown = shlex.join([*sweeps, "python", *command.app, *command.arguments])
    say(f"study {name}, as its storage has it: {shown}\nin {folder}", flush=True)
    if not yes and not ask_on_terminal("Run it?"):
        raise InputError("not run: if that command is yours, or of somebody you trust: besom worker --yes ...")
    if command.sweeps:
        os.environ["BESOM_SWEEPS"] = command.sweeps
    os.chdir(folder)
    os.execv(sys.executable, [sys.executable, *command.app, *arguments])


def join(sweep: Sweep) -> None:
    """Work for a sweep that runs, in the slots of this machine, until it needs no more.

    Raises:
        InputError: nobody sweeps the study, or it is another sweep's.
        KeyboardInterrupt: its trials have been given back.
        RunError: a worker died.
    """
    plan = sweep.plan
    study = _swept(plan.storage, plan.study_name)
    shared = Shared(fingerprint(plan.space, check_space(plan.space, sweep.app)))
    changes = study.compare(plan.objectives, plan.space.describe(), shared, accept=plan.resume == "anyway")
    study.keep_folder()
    if changes:
        study.note_changes([f"a worker on {socket.gethostname()}: {change}" for change in changes])
    worker = Worker(_as_swept(plan, study), sweep.app)
    workers = min(len(plan.slots), study.remaining(study.recall(N_TRIALS)))
    with _warm(sweep, study) as warm:
        try:
            _join(sweep, study, make_launcher(sweep.app, worker, study.folder, workers, warm), workers)
        except RunError:
            if warm:
                warm.refuse_failed()
            raise
        if remarks := str((warm and warm.remarks()) or ""):
            say(remarks)
    say(f"study {study.name} needs no more workers")


def _warm(sweep: Sweep, study: Study) -> AbstractContextManager[WarmProcess | None]:
    if not is_local(sweep.app):
        return nullcontext()
    app = sweep.app
    environ = sweep.plan.slots[0].threads_environment(os.environ)
    order = Order(Preload.of(app.preload, app.program), environ=environ)
    return WarmProcess(order, makes_workers=True, records=study.recall(TRACKING) is not None)


def _join(sweep: Sweep, study: Study, launcher: Launcher, workers: int) -> None:
    # two containers may have equal names, and processes of equal numbers
    where = f"workers/{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    say(f"study {study.name}: {workers} more at a time\nCtrl-C gives their trials back", flush=True)
    os.environ[SWEPT] = study.identity
    launched = LaunchThread().start(lambda: launch(launcher, sweep.plan.space.fixed, workers, where))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill is a Ctrl-C
    try:
        _until(launched)
    except KeyboardInterrupt:
        ask_to_leave()
        try:
            _until(launched)
        except KeyboardInterrupt:
            kill_all()
        raise
    if failure := launched.exception():
        raise RunError(f"a worker died: {failure}") from failure


def _as_swept(plan: Plan, study: Study) -> Plan:
    """With what the running sweep has said otherwise than its command: the sweep's store, budget and last moment."""
    return replace(
        plan,
        n_trials=study.recall(N_TRIALS),
        deadline=study.recall(DEADLINE) or math.inf,
        tracking_uri=study.recall(TRACKING),
    )


def _until(launched: Future[None]) -> None:
    """In steps: a wait without an end hears no Ctrl-C."""
    while not launched.done():
        wait([launched], timeout=LOOK_S)


def _swept(url: str, name: str) -> Study:
    there = optuna.get_all_study_names(open_storage(url))
    if name not in there:
        raise InputError(f"no study {name!r} in {redact(url)}{near(name, there)}")
    study = Study(url, name)
    supervisor = study.supervisor()
    if supervisor is None or supervisor.is_dead() or not study.recall(COMMAND):
        raise InputError(f"study {name!r} is not being swept: start the sweep first, then its workers")
    return study


# sections of Hydra's config that name what is to be called, or where to find that
RUNS_CODE = tuple(
    f"hydra{mark}{section}" for mark in "./" for section in ("callbacks", "searchpath", "job_logging", "hydra_logging")
)


FLAGS = ("-m", "--multirun", "-cn", "--config-name")  # in full: argparse takes `--config-d` for `--config-dir`, too
UPWARDS = re.compile(r"(?:^|[=\[,'\"/\s])\.\.(?:/|$)")


def _names_code(argument: str) -> bool:
    key, _, value = argument.lstrip("+~").partition("=")
    if argument.startswith("-") and key not in FLAGS:
        return True
    # `model=../../tmp/theirs` is a config to Hydra, and so is what stands behind `-cn`; a key with a dot is no group
    is_config = argument.startswith(("-", ".")) or "." not in key.partition("@")[0]
    return (
        "_target_" in argument
        or key.startswith(RUNS_CODE)
        or (key.endswith("activation") and ("." in value or "${" in value))
        or any(resolver not in RESOLVERS for resolver in resolvers(argument))
        or (is_config and bool(UPWARDS.search(argument)))
    )


def _refuse_foreign_code(arguments: Sequence[str]) -> None:
    """What would run other code than the app: on one's own command line it may stand."""
    for argument in arguments:
        if _names_code(argument):
            raise InputError(
                f"{argument}: a worker does not take from a storage what names code to run; start the worker with it, "
                f"behind the study's name, or start the app yourself: ... -m hydra.sweeper.join=true {argument}"
            )


def _folder(command: Command) -> Path:
    """Here, if the app is here too; otherwise where the sweep was started."""
    if command.app[0] == "-m":
        return Path.cwd()
    for folder in (Path.cwd(), Path(command.folder)):
        if (folder / command.app[0]).is_file():
            return folder
    raise InputError(
        f"the sweep runs {command.app[0]}, which is neither in {Path.cwd()} nor in {command.folder}: start the worker "
        "in a folder with the same app"
    )


def _without_secrets(command: Command, overrides: Sequence[str]) -> list[str]:
    given = {override.partition("=")[0] for override in overrides} | {"hydra.sweeper.storage"}
    kept = []
    for argument in command.arguments:
        key = argument.partition("=")[0]
        if HIDDEN not in argument:
            kept.append(argument)
        elif key not in given:
            raise InputError(f"{argument}: the sweep's secret was not kept; give the worker {key}=... again")
    return kept
