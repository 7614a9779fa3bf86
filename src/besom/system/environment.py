"""What besom sets in the environment for itself, so that a trial can be given its user's own instead."""

from __future__ import annotations

import json
import os

SET = "BESOM_ENVIRONMENT"  # what besom has set, with what was there before
OURS = ("BESOM_PASSWORD_",)  # nothing that a task needs to know


def set_for_besom(name: str, value: str, *, keep: bool = False) -> None:
    """For this process, and for those of besom's that it starts. `keep`: what the user has set stands."""
    if keep and name in os.environ:
        return
    before = _set()
    before.setdefault(name, os.environ.get(name))
    os.environ[name] = value
    os.environ[SET] = json.dumps(before)


def restore_users_own() -> None:
    """From here on the environment is as its user has it, in this process and in all that it starts."""
    for name, value in _set().items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    for name in [name for name in os.environ if name == SET or name.startswith(OURS)]:
        del os.environ[name]


def _set() -> dict[str, str | None]:
    try:
        return dict(json.loads(os.environ.get(SET, "{}")))
    except (ValueError, TypeError):
        return {}
