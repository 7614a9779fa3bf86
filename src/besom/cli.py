"""The command line: verbs of a few lines each, with what they need imported behind the door."""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from pathlib import Path

import besom
from besom.errors import BesomError

HELP = """\
Sweep hyperparameters, with every run recorded.

  besom train [override ...]               one tracked run
  besom sweep [NAME|FILE] [override ...]   sweeps/NAME.yaml (default: digits); again = resume
  besom worker STUDY [override ...]        more slots for a sweep that runs, here or on another machine
  besom doctor [STUDY] [--mend]            what a crash has left; --mend puts it right
  besom ui [STUDY] [--port N]              MLflow's UI on the right store, opened at the study
  besom tensorboard STUDY [-o FOLDER]      its runs in TensorBoard, with their hyperparameters; -o: only write the files

Overrides are Hydra's: optimizer=sgd, optimizer.lr=0.05, 'model.activation=choice(relu,gelu)'.
`besom train --help` shows every key; --cfg job prints the config that an override gives.

exit: 0 done, 1 a run failed, 2 the input was wrong, 130 interrupted
"""


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
        case "tensorboard":
            _tensorboard(rest)
        case "worker":
            _worker(rest)
        case "doctor":
            _doctor(rest)
        case "-h" | "--help" | "help":
            print(HELP, end="")
        case "--version":
            print(f"besom {besom.__version__}")
        case _:
            from besom.errors import near

            _refuse(f"no such command: {verb}{near(verb, ('train', 'sweep', 'worker', 'doctor', 'ui', 'tensorboard'))}")


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


def _tensorboard(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="besom tensorboard", description="A study's runs in TensorBoard, with their hyperparameters, until Ctrl-C."
    )
    parser.add_argument("study")
    parser.add_argument("-o", "--output", metavar="FOLDER", type=Path, help="only write the event files, there")
    parser.add_argument("--port", type=int, default=6006)
    asked = parser.parse_args(arguments)
    from besom.tensorboard import serve, write

    try:
        write(asked.study, asked.output) if asked.output else serve(asked.study, asked.port)
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


def _refuse(message: str, code: int = 2) -> None:
    print(f"besom: {message}", file=sys.stderr)
    sys.exit(code)
