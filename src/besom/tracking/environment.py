"""Where and with what a run ran: found once a process, the same for all its runs."""

from __future__ import annotations

import getpass
import platform
import re
import socket
import subprocess
import sys
from functools import cache
from importlib.metadata import Distribution, distributions, version

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "hydra-core", "optuna", "mlflow", "besom")
NAME, VERSION = (re.compile(rf"^{key}:(.+)$", re.MULTILINE) for key in ("Name", "Version"))


def tags() -> dict[str, str]:
    """Tags of a run; those under `mlflow.` are the ones MLflow's UI has columns for."""
    return {**_tags(), "mlflow.source.name": " ".join(["python", *sys.argv[:1]])}


def find() -> None:
    """All of it, for the processes that are forked from this one."""
    tags()
    requirements()


@cache
def _tags() -> dict[str, str]:
    versions = {f"version.{package}": version(package) for package in PACKAGES}
    return {
        "mlflow.user": _user(),
        "mlflow.source.type": "LOCAL",
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "version.python": platform.python_version(),
        **versions,
        **_git(),
    }


@cache
def requirements() -> str:
    """Every installed package and its version, as a requirements file."""
    found = {f"{name}=={version}" for name, version in map(_name_and_version, distributions())}
    return "\n".join(sorted(found, key=str.lower)) + "\n"


def _name_and_version(package: Distribution) -> tuple[str, str]:
    """From the head of its METADATA; `package.metadata` would parse its pages of text too, and so does `.version`."""
    head, _, _ = (package.read_text("METADATA") or "").partition("\n\n")
    name, number = NAME.search(head), VERSION.search(head)
    if name and number:
        return name[1].strip(), number[1].strip()
    return str(package.metadata["Name"]), package.version


def commit() -> str | None:
    """Of the code in the working directory, in words; None: it is under no version control that is known here."""
    found = _git()
    changed = ", with changes not committed" if found.get("git.dirty") == "true" else ""
    return f"{found['mlflow.source.git.commit'][:12]}{changed}" if found else None


def _git() -> dict[str, str]:
    commit = _git_says("rev-parse", "HEAD")
    if commit is None:
        return {}
    changes = _git_says("status", "--porcelain", "--untracked-files=no")
    return {"mlflow.source.git.commit": commit, "git.dirty": str(bool(changes)).lower()}


def _git_says(*words: str) -> str | None:
    """None where there is no git, no repository, or no commit."""
    try:
        answer = subprocess.run(["git", *words], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"
