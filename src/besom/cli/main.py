"""The command line: verbs of a few lines each, with what they need imported behind the door."""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import os
import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import besom
from besom.errors import INTERRUPTED, BesomError, near
from besom.system.encoding import make_output_readable, say
from besom.system.leaving import leave_at_once

HELP = """\
Sweep hyperparameters, with every run recorded.

  besom train [override ...]               one tracked run
  besom sweep [NAME|FILE] [override ...]   sweeps/NAME.yaml (default: digits); again = resume
  besom worker STUDY [override ...]        more slots for a sweep that runs, here or on another machine
  besom status [STUDY] [-f]                what runs, what is best, what is left; -f: live, until the sweep ends
  besom best [STUDY] [-n 5] [--json]       the best trials; with several objectives the Pareto front
  besom report [STUDY] [-o FILE]           the study's page, with charts: report.html, or FILE
  besom stop STUDY                         as Ctrl-C at the sweep, from any terminal
  besom reproduce RUN [override ...]       train a run again from its frozen config; RUN: an id, or digits/12
  besom doctor [STUDY|FOLDER] [--fix]      what a crash has left; --fix puts it right
  besom ui [STUDY] [--port N]              MLflow's UI on the right store, opened at the study
  besom tensorboard STUDY [-o FOLDER]      its runs in TensorBoard, with their hyperparameters; -o: only write the files
  besom completion bash|zsh|fish           for your shell: eval "$(besom completion bash)"

Overrides are Hydra's: optimizer=sgd, optimizer.lr=0.05, 'model.activation=choice(relu,gelu)'.
`besom train --help` shows every key; --cfg job prints the config that an override gives.
`besom sweep digits dry_run=true` shows what a sweep would do, and does nothing; so are all settings of the sweep given:
n_trials=40 (or -n 40), n_jobs=4, pruner=asha, storage=URL, study_name=mine, ... for hydra.sweeper.n_trials=40.

exit: 0 done, 1 a run failed, 2 the input was wrong, 130 interrupted
"""
TRUSTED = "BESOM_TRUSTED"  # in the environment: packages, with commas between them


def main() -> None:
    leave_at_once()
    make_output_readable()
    words = sys.argv[1:]
    verb, rest = (words[0], words[1:]) if words else ("--help", [])
    # what lies in the working directory can be named by _target_
    sys.path.insert(0, str(Path.cwd()))
    if verb in ("-h", "--help", "help"):
        print(HELP, end="")
    elif verb == "--version":
        print(f"besom {besom.__version__}")
    elif verb in VERBS:
        with _refusing():
            VERBS[verb](rest)
    else:
        _refuse(f"no such command: {verb}{near(verb, VERBS)}")


# ── what runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def _train(arguments: list[str]) -> None:
    """Exactly `python -m besom.train`, so that what re-executes the command line (Lightning's DDP) finds it again."""
    sys.argv = ["besom.train", *arguments]
    runpy.run_module("besom.train", run_name="__main__", alter_sys=True)


def _sweep(arguments: list[str]) -> None:
    words = list(_short(arguments))
    name = next((word for word in words if "=" not in word and not word.startswith(("-", "~", "+"))), None)
    # a name stands first, or behind a setting: what follows an option of Hydra's is that option's
    first_option = next((n for n, word in enumerate(words) if word.startswith("-")), len(words))
    if name is not None and words.index(name) < first_option:
        words.remove(name)
    else:
        name = "digits"
    if name.endswith((".yaml", ".yml")):
        file = Path(name)
        if not file.is_file():
            _refuse(f"no sweep file {name} (looked in {file.absolute().parent})")
        os.environ["BESOM_SWEEPS"] = str(file.absolute().parent)
        name = file.stem
    shows = any(word in ("--cfg", "-c", "--info") or word.startswith(("--cfg=", "--info=")) for word in words)
    _train([*([] if shows else ["--multirun"]), f"sweeps={name}", "hydra/sweeper=besom", *words])


LETTERS = {"-n": "n_trials", "-j": "n_jobs"}


def _short(arguments: list[str]) -> Iterator[str]:
    """Settings of the sweep, as they are short on besom's own command line, by the keys that any Hydra app knows.

    `n_trials=5`, `-n 5` and `--n-trials 5` are `hydra.sweeper.n_trials=5`; `pruner=asha`, `hydra/sweeper/pruner=asha`.
    """
    settings, groups = _settings()
    words = iter(arguments)
    for word in words:
        option, equals, value = word.partition("=")
        key = LETTERS.get(option) or option.removeprefix("--").replace("-", "_")
        is_option = option in LETTERS or (option.startswith("--") and key in settings)
        if is_option and not equals:
            equals, value = "=", next(words, "")
            if not value:
                _refuse(f"{option}: a value is missing: {option} VALUE, or {key}=VALUE")
        if word[:2] in LETTERS and word[2:].isdecimal():  # -n5
            key, equals, value, is_option = LETTERS[word[:2]], "=", word[2:], True
        first, dot, _ = key.partition(".")
        if not equals or first not in settings or (option.startswith("-") and not is_option):
            yield word
        elif first in groups and not dot and not value.startswith("{") and value != "null":
            yield f"hydra/sweeper/{key}={value}"
        else:
            yield f"hydra.sweeper.{key}={value}"


def _settings() -> tuple[set[str], set[str]]:
    """The names of `hydra.sweeper`'s settings that are no keys of besom's own config; and those of its groups."""
    from dataclasses import fields

    from besom.config.load import shipped
    from hydra_plugins.besom_sweeper.samplers import GROUPS
    from hydra_plugins.besom_sweeper.sweeper import BesomSweeperConf

    own = {"defaults", "_target_", "_recursive_", "join", *(path.name for path in shipped("conf").iterdir())}
    return {field.name for field in fields(BesomSweeperConf)} - own, set(GROUPS)


def _worker(arguments: list[str]) -> None:
    parser = _parser("worker", "More slots for a sweep that runs: start it in a folder with the sweep's app.")
    _add_storage(parser)
    parser.add_argument("--yes", action="store_true", help="run the command that the study has kept, unasked")
    parser.add_argument("study")
    parser.add_argument("override", nargs="*", help="behind those of the sweep: hydra.sweeper.n_jobs=4")
    asked = parser.parse_intermixed_args(arguments)
    from besom.engine.join import start

    start(_storage(asked), asked.study, asked.override, yes=asked.yes)


def _reproduce(arguments: list[str]) -> None:
    parser = _parser("reproduce", "Train a run again from its frozen config, and compare the two objectives.")
    parser.add_argument("--force", action="store_true", help="by other code than the run was made by")
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="PACKAGE",
        help=f"whose classes the run's config may name, too; each time: export {TRUSTED}=PACKAGE,ANOTHER",
    )
    parser.add_argument("run", help="an id, at least 6 characters of one, or a trial: digits/12")
    parser.add_argument("override", nargs="*", help="of its values: trainer.accelerator=cpu")
    asked = parser.parse_intermixed_args(arguments)
    from besom.cli.reproduce import frozen

    always = [package.strip() for package in os.environ.get(TRUSTED, "").split(",")]
    with frozen(asked.run, asked.override, force=asked.force, trusted=[*asked.trust, *always]) as words:
        _train(words)


# ── what is known of a study ──────────────────────────────────────────────────────────────────────────────────────────
def _status(arguments: list[str]) -> None:
    parser = _parser("status", "Where a study stands, from its storage alone.")
    parser.add_argument("study", nargs="?", help="default: the one last begun")
    parser.add_argument("-f", "--follow", action="store_true", help="until its sweep ends; Ctrl-C leaves it")
    _add_storage(parser)
    asked = parser.parse_args(arguments)
    gc.disable()  # of a large study thousands of objects are read, once: to look for garbage takes a fifth of the time
    from besom.cli.status import status

    status(_storage(asked), asked.study, follow=asked.follow)


def _best(arguments: list[str]) -> None:
    parser = _parser("best", "A study's best trials, the best first. Exit: 1 no trial is complete yet.")
    parser.add_argument("study", nargs="?", help="default: the one last begun")
    parser.add_argument("-n", type=int, metavar="N", help="how many (default: 5; all of a Pareto front)")
    form = parser.add_mutually_exclusive_group()
    for name in ("yaml", "json"):
        form.add_argument(f"--{name}", dest="form", action="store_const", const=name, default="table")
    _add_storage(parser)
    asked = parser.parse_args(arguments)
    from besom.cli.best import best

    best(_storage(asked), asked.study, asked.n, asked.form)


def _report(arguments: list[str]) -> None:
    parser = _parser("report", "What a study has found, on one page.")
    parser.add_argument("study", nargs="?", help="default: the one last begun")
    parser.add_argument("-o", dest="file", metavar="FILE", type=Path, default=Path("report.html"))
    _add_storage(parser)
    asked = parser.parse_args(arguments)
    from besom.reporting import save
    from besom.study.lookup import chosen
    from besom.study.snapshot import StudySnapshot

    study = chosen(_storage(asked), asked.study)
    save(StudySnapshot.of(study), asked.file)
    say(f"the report of study {study.name}: {asked.file.absolute()}")


def _stop(arguments: list[str]) -> None:
    parser = _parser(
        "stop",
        "Ask a sweep to stop, as Ctrl-C there would: its trials go back to the queue, and the sweep's own command goes "
        "on. Exit: 1 it was asked, but has not ended yet.",
    )
    parser.add_argument("study")
    _add_storage(parser)
    asked = parser.parse_args(arguments)
    from besom.cli.stop import stop

    sys.exit(0 if stop(_storage(asked), asked.study) else 1)


def _doctor(arguments: list[str]) -> None:
    parser = _parser(
        "doctor", "What a crash has left of a study, or of one run. Exit: 0 all is well, 1 something is left."
    )
    parser.add_argument(
        "study", nargs="?", help="default: every study in the storage; or the output folder of a run, to be recorded"
    )
    _add_storage(parser)
    parser.add_argument("--tracking-uri", metavar="URI", help="default: where the study was recorded")
    parser.add_argument("--fix", action="store_true", help="put right what can be")
    asked = parser.parse_args(arguments)
    from besom.cli.doctor import examine
    from besom.system.locks import absolute
    from besom.tracking.recover import resend

    uri = asked.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    uri = absolute(uri) if uri else None
    if asked.study and Path(asked.study).is_dir():
        print(resend(Path(asked.study), uri))
    elif not examine(_storage(asked), asked.study, uri, fix=asked.fix):
        sys.exit(1)


def _ui(arguments: list[str]) -> None:
    parser = _parser("ui", "MLflow's UI on the right store, until Ctrl-C.")
    parser.add_argument("study", nargs="?", help="open at this study's run")
    parser.add_argument("--port", type=int, default=5000)
    asked = parser.parse_args(arguments)
    from besom.cli.ui import serve

    serve(asked.study, asked.port)


def _tensorboard(arguments: list[str]) -> None:
    parser = _parser("tensorboard", "A study's runs in TensorBoard, with their hyperparameters, until Ctrl-C.")
    parser.add_argument("study")
    parser.add_argument("-o", "--output", metavar="FOLDER", type=Path, help="only write the event files, there")
    parser.add_argument("--port", type=int, default=6006)
    asked = parser.parse_args(arguments)
    from besom.cli.tensorboard import serve, write

    write(asked.study, asked.output) if asked.output else serve(asked.study, asked.port)


# ── the shell ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def _completion(arguments: list[str]) -> None:
    from besom.cli.completion import SCRIPTS, offers

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
        _train(["--shell-completion", "query=fish"])
    return said.getvalue().split()


VERBS = {
    "train": _train,
    "sweep": _sweep,
    "worker": _worker,
    "status": _status,
    "best": _best,
    "report": _report,
    "stop": _stop,
    "reproduce": _reproduce,
    "doctor": _doctor,
    "ui": _ui,
    "tensorboard": _tensorboard,
    "completion": _completion,
}


# ── small words ───────────────────────────────────────────────────────────────────────────────────────────────────────
def _parser(verb: str, description: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(prog=f"besom {verb}", description=description)


def _add_storage(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--storage", metavar="URL", help="default: $BESOM_STORAGE, or sqlite:///optuna.db here")


def _storage(asked: argparse.Namespace) -> str:
    from besom.system.locks import absolute

    return absolute(asked.storage or os.environ.get("BESOM_STORAGE", "sqlite:///optuna.db"))


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
    except OSError as error:
        from besom.system.disk import as_disk_full

        if (full := as_disk_full(error)) is None:
            raise
        _refuse(str(full), full.exit_code)


def _refuse(message: str, code: int = 2) -> None:
    say(f"besom: {message}", file=sys.stderr)
    sys.exit(code)
