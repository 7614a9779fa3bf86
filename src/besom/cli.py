"""The command line: verbs of a few lines each, with what they need imported behind the door."""

from __future__ import annotations

import argparse
import gc
import os
import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import besom
from besom.errors import INTERRUPTED, BesomError

HELP = """\
Sweep hyperparameters, with every run recorded.

  besom train [override ...]               one tracked run
  besom sweep [NAME|FILE] [override ...]   sweeps/NAME.yaml (default: digits); again = resume
  besom worker STUDY [override ...]        more slots for a sweep that runs, here or on another machine
  besom status [STUDY] [-f]                what runs, what is best, what is left; -f: live, until the sweep ends
  besom best [STUDY] [-n 5] [--json]       the best trials; with several objectives the Pareto front
  besom stop STUDY                         as Ctrl-C at the sweep, from any terminal
  besom doctor [STUDY] [--mend]            what a crash has left; --mend puts it right
  besom ui [STUDY] [--port N]              MLflow's UI on the right store, opened at the study

Overrides are Hydra's: optimizer=sgd, optimizer.lr=0.05, 'model.activation=choice(relu,gelu)'.
`besom train --help` shows every key; --cfg job prints the config that an override gives.

exit: 0 done, 1 a run failed, 2 the input was wrong, 130 interrupted
"""

VERBS = ("train", "sweep", "worker", "status", "best", "stop", "doctor", "ui")


def main() -> None:
    words = sys.argv[1:]
    verb, rest = (words[0], words[1:]) if words else ("--help", [])
    # what lies in the working directory can be named by _target_
    sys.path.insert(0, str(Path.cwd()))
    match verb:
        case "train":
            _app(rest)
        case "sweep":
            _sweep(rest)
        case "ui":
            _ui(rest)
        case "worker":
            _worker(rest)
        case "status":
            _status(rest)
        case "best":
            _best(rest)
        case "stop":
            _stop(rest)
        case "doctor":
            _doctor(rest)
        case "-h" | "--help" | "help":
            print(HELP, end="")
        case "--version":
            print(f"besom {besom.__version__}")
        case _:
            from besom.errors import near

            _refuse(f"no such command: {verb}{near(verb, VERBS)}")


def _app(arguments: list[str]) -> None:
    """Exactly `python -m besom.train`, so that what re-executes the command line (Lightning's DDP) finds it again."""
    sys.argv = ["besom.train", *arguments]
    runpy.run_module("besom.train", run_name="__main__", alter_sys=True)


def _sweep(arguments: list[str]) -> None:
    named = bool(arguments) and "=" not in arguments[0] and not arguments[0].startswith("-")
    name, overrides = (arguments[0], arguments[1:]) if named else ("digits", arguments)
    if name.endswith((".yaml", ".yml")):
        file = Path(name)
        if not file.is_file():
            _refuse(f"no sweep file {name} (looked in {file.absolute().parent})")
        os.environ["BESOM_SWEEPS"] = str(file.absolute().parent)
        name = file.stem
    _app(["--multirun", f"sweeps={name}", "hydra/sweeper=besom", *overrides])


def _ui(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="besom ui", description="MLflow's UI on the right store, until Ctrl-C.")
    parser.add_argument("study", nargs="?", help="open at this study's run")
    parser.add_argument("--port", type=int, default=5000)
    asked = parser.parse_args(arguments)
    from besom.ui import serve

    try:
        serve(asked.study, asked.port)
    except BesomError as error:
        _refuse(str(error), error.exit_code)


def _worker(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="besom worker", description="More slots for a sweep that runs: start it in a folder with the sweep's app."
    )
    parser.add_argument("--storage", metavar="URL", help="default: $BESOM_STORAGE, or sqlite:///optuna.db here")
    parser.add_argument("study")
    parser.add_argument("override", nargs="*", help="behind those of the sweep: hydra.sweeper.n_jobs=4")
    asked = parser.parse_intermixed_args(arguments)
    from besom.locks import absolute
    from besom.sweep.joining import start

    url = asked.storage or os.environ.get("BESOM_STORAGE", "sqlite:///optuna.db")
    try:
        start(absolute(url), asked.study, asked.override)
    except BesomError as error:
        _refuse(str(error), error.exit_code)


def _status(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="besom status", description="Where a study stands, from its storage alone.")
    parser.add_argument("study", nargs="?", help="default: the one last begun")
    parser.add_argument("-f", "--follow", action="store_true", help="until its sweep ends; Ctrl-C leaves it")
    asked = _parsed(parser, arguments)
    from besom.sweep.terminal.status import status

    with _refusing():
        status(asked.storage, asked.study, follow=asked.follow)


def _best(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="besom best", description="A study's best trials, the best first. Exit: 1 no trial is complete yet."
    )
    parser.add_argument("study", nargs="?", help="default: the one last begun")
    parser.add_argument("-n", type=int, metavar="N", help="how many (default: 5; all of a Pareto front)")
    form = parser.add_mutually_exclusive_group()
    for name in ("yaml", "json"):
        form.add_argument(f"--{name}", dest="form", action="store_const", const=name, default="table")
    asked = _parsed(parser, arguments)
    from besom.sweep.terminal.best import best

    with _refusing():
        best(asked.storage, asked.study, asked.n, asked.form)


def _stop(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="besom stop",
        description="Ask a sweep to stop, as Ctrl-C there would: its trials go back to the queue, and the sweep's own "
        "command goes on. Exit: 1 it was asked, but has not ended yet.",
    )
    parser.add_argument("study")
    asked = _parsed(parser, arguments)
    from besom.sweep.stop import stop

    with _refusing():
        sys.exit(0 if stop(asked.storage, asked.study) else 1)


def _doctor(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="besom doctor", description="What a crash has left of a study. Exit: 0 all is well, 1 something is left."
    )
    parser.add_argument("study", nargs="?", help="default: every study in the storage")
    parser.add_argument("--storage", default="sqlite:///optuna.db", metavar="URL")
    parser.add_argument("--tracking-uri", metavar="URI", help="default: where the study was recorded")
    parser.add_argument("--mend", action="store_true", help="put right what can be")
    asked = parser.parse_args(arguments)
    from besom.locks import absolute
    from besom.sweep.doctor import examine

    uri = asked.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    try:
        well = examine(absolute(asked.storage), asked.study, absolute(uri) if uri else None, mend=asked.mend)
    except BesomError as error:
        _refuse(str(error), error.exit_code)
    sys.exit(0 if well else 1)


def _parsed(parser: argparse.ArgumentParser, arguments: list[str]) -> argparse.Namespace:
    """With the storage of studies, as every verb takes it that looks at one."""
    gc.disable()  # of a large study thousands of objects are read, once: to look for garbage takes a fifth of the time
    parser.add_argument("--storage", metavar="URL", help="default: $BESOM_STORAGE, or sqlite:///optuna.db here")
    asked = parser.parse_args(arguments)
    from besom.locks import absolute

    asked.storage = absolute(asked.storage or os.environ.get("BESOM_STORAGE", "sqlite:///optuna.db"))
    return asked


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except BesomError as error:
        _refuse(str(error), error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # `besom status | head` has seen enough; nor is the rest to be flushed on the way out
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _refuse(message: str, code: int = 2) -> None:
    print(f"besom: {message}", file=sys.stderr)
    sys.exit(code)
