"""The command line: verbs of a few lines each, with what they need imported behind the door."""

from __future__ import annotations

import argparse
import contextlib
import io
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
  besom doctor [STUDY|FOLDER] [--mend]     what a crash has left; --mend puts it right
  besom reproduce RUN [override ...]       train a run again from its frozen config; RUN: an id, or digits/12
  besom report [STUDY] [-o FILE]           the study's page, with charts: report.html, or FILE
  besom ui [STUDY] [--port N]              MLflow's UI on the right store, opened at the study
  besom completion bash|zsh|fish           for your shell: eval "$(besom completion bash)"

Overrides are Hydra's: optimizer=sgd, optimizer.lr=0.05, 'model.activation=choice(relu,gelu)'.
`besom train --help` shows every key; --cfg job prints the config that an override gives.
`besom sweep digits plan=true` shows what a sweep would do, and does nothing.

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
        case "worker":
            _worker(rest)
        case "doctor":
            _doctor(rest)
        case "reproduce":
            _reproduce(rest)
        case "completion":
            _completion(rest)
        case "report":
            _report(rest)
        case "-h" | "--help" | "help":
            print(HELP, end="")
        case "--version":
            print(f"besom {besom.__version__}")
        case _:
            from besom.errors import near

            _refuse(f"no such command: {verb}{near(verb, ('train', 'sweep', 'worker', 'doctor', 'reproduce', 'ui'))}")


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
    # short on besom's own command line; whatever is swept knows the key
    overrides = [f"hydra.sweeper.{word}" if word.startswith("plan=") else word for word in overrides]
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


def _doctor(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="besom doctor",
        description="What a crash has left of a study, or of one run. Exit: 0 all is well, 1 something is left.",
    )
    parser.add_argument(
        "study", nargs="?", help="default: every study in the storage; or the output folder of a run, to be recorded"
    )
    parser.add_argument("--storage", default="sqlite:///optuna.db", metavar="URL")
    parser.add_argument("--tracking-uri", metavar="URI", help="default: where the study was recorded")
    parser.add_argument("--mend", action="store_true", help="put right what can be")
    asked = parser.parse_args(arguments)
    from besom.locks import absolute
    from besom.sweep.doctor import examine
    from besom.tracking.resend import resend

    uri = asked.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    uri = absolute(uri) if uri else None
    try:
        if asked.study and Path(asked.study).is_dir():
            print(resend(Path(asked.study), uri))
            return
        well = examine(absolute(asked.storage), asked.study, uri, mend=asked.mend)
    except BesomError as error:
        _refuse(str(error), error.exit_code)
    sys.exit(0 if well else 1)


def _reproduce(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="besom reproduce", description="Train a run again from its frozen config, and compare the two objectives."
    )
    parser.add_argument("--anyway", action="store_true", help="by other code than the run was made by")
    parser.add_argument("run", help="an id, at least 6 characters of one, or a trial: digits/12")
    parser.add_argument("override", nargs="*", help="of its values: trainer.accelerator=cpu")
    asked = parser.parse_intermixed_args(arguments)
    from besom.reproduce import frozen

    try:
        with frozen(asked.run, asked.override, anyway=asked.anyway) as arguments:
            _app(arguments)
    except BesomError as error:
        _refuse(str(error), error.exit_code)


def _completion(arguments: list[str]) -> None:
    from besom.completion import SCRIPTS, offers

    match arguments:
        case ["offers"]:
            for offer in offers(os.environ.get("COMP_LINE", ""), HELP, _hydra_offers):
                print(offer)
        case [shell] if shell in SCRIPTS:
            print(SCRIPTS[shell], end="")
        case _:
            _refuse(f"name your shell: besom completion {' or '.join(SCRIPTS)}")


def _hydra_offers(line: str) -> list[str]:
    """Hydra's own completion of besom's app; nothing where the line so far cannot be composed."""
    os.environ["COMP_LINE"] = line
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        _app(["--shell-completion", "query=fish"])
    return said.getvalue().split()


def _report(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="besom report", description="What a study has found, on one page.")
    parser.add_argument("study", nargs="?", help="default: the one begun last")
    parser.add_argument("-o", dest="file", metavar="FILE", type=Path, default=Path("report.html"))
    parser.add_argument("--storage", metavar="URL", help="default: $BESOM_STORAGE, or sqlite:///optuna.db here")
    asked = parser.parse_args(arguments)
    from besom.locks import absolute
    from besom.sweep.catalogue import chosen
    from besom.sweep.findings import Findings
    from besom.sweep.report import save

    url = asked.storage or os.environ.get("BESOM_STORAGE", "sqlite:///optuna.db")
    try:
        study = chosen(absolute(url), asked.study)
        save(Findings.of(study), asked.file)
    except BesomError as error:
        _refuse(str(error), error.exit_code)
    print(f"the report of study {study.name}: {asked.file.absolute()}")


def _refuse(message: str, code: int = 2) -> None:
    print(f"besom: {message}", file=sys.stderr)
    sys.exit(code)
