"""What is never written down: passwords in URLs, what comes from the environment, values whose key names a secret.

A URL with a password is carried about without it, `postgresql://me:***@host/db`; the password goes by the environment
of this process, which its workers inherit and nobody else may read, and is put back where the URL is opened.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.resolvers import oc

from besom import resolvers
from besom.errors import InputError

HIDDEN = "***"
PASSWORD = re.compile(r"(?<=://)([^:/@\s]*):([^\s]*)@")  # of a URL, with its user; a password may have an @ in it
QUERY = re.compile(r"(?<=[?&]password=)[^&\s]*")
# last words of a name: api_key, hf-token, dbPassword; and anywhere in it
LAST = ("key", "keys", "apikey", "token", "tokens", "pass", "passwd", "pwd", "credential", "credentials", "auth")
ANYWHERE = ("password", "passphrase", "secret")
INSIDE = re.compile(r"([\w.\-]+)(\s*[:=]\s*)([^,{}\[\]]+)")  # of `db={user: me, password: x},lr=1` each pair


def masked(text: str) -> str:
    """The text, a URL or one with URLs in it, without their passwords."""
    return QUERY.sub(HIDDEN, PASSWORD.sub(rf"\1:{HIDDEN}@", text))


def hide(url: str) -> str:
    """The URL without its password, which from here on is in this process's environment."""
    without = masked(url)
    found = PASSWORD.search(url) or QUERY.search(url)
    if without != url and found:
        os.environ[_place(without)] = found[found.lastindex or 0]
    return without


def reveal(url: str) -> str:
    """The URL with its password. Raises InputError: `hide` was never told it here."""
    if HIDDEN not in url:
        return url
    password = os.environ.get(_place(url))
    if password is None:
        raise InputError(f"{url}: its password is not known here, and is written down nowhere: give the URL with it")
    return url.replace(HIDDEN, password, 1)


def _place(without: str) -> str:
    return f"BESOM_PASSWORD_{hashlib.sha256(without.encode()).hexdigest()[:12].upper()}"


def names_a_secret(key: str, value: Any = "") -> bool:
    """By any part of a dotted key; a number is none under a name that may mean another thing.

    >>> [names_a_secret(key) for key in ("wandb.api_key", "secrets.aws.id", "hfToken", "model.token_dim", "monkey")]
    [True, True, True, False, False]
    >>> names_a_secret("attention.d_key", 64), names_a_secret("db.password", 1234)
    (False, True)
    """
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).lower()
    if any(word in words for word in ANYWHERE):
        return True
    return not _is_number(value) and any(re.split(r"[^a-z0-9]+", part)[-1] in LAST for part in words.split("."))


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def public_value(key: str, value: Any) -> Any:
    """The value of a config's key, as it may be written down; one that refers to another (`${...}`) is kept."""
    if value in (None, "") or isinstance(value, bool):
        return value
    if isinstance(value, str) and value.startswith("${") and value.endswith("}"):
        return value
    if names_a_secret(key, value):
        return HIDDEN
    return masked(value) if isinstance(value, str) else value


def public_override(override: str) -> str:
    """`db.password=***`; what a sweep may try for such a key is no secret, and stays."""
    key, equals, value = override.partition("=")
    if not equals:
        return masked(override)
    if (shown := public_value(key.lstrip("+~"), value)) == HIDDEN:
        return f"{key}={shown}"
    return f"{key}={masked(INSIDE.sub(_public_pair, value))}"


def _public_pair(found: re.Match[str]) -> str:
    return f"{found[1]}{found[2]}{public_value(found[1], found[3])}"


def public(config: DictConfig) -> Any:
    """A copy to be written to a file: what comes from the environment stays `${oc.env:...}`."""
    return _public(OmegaConf.to_container(config, resolve=False), "")


def _public(value: Any, key: str) -> Any:
    match value:
        case Mapping():
            return {name: _public(child, f"{key}.{name}" if key else str(name)) for name, child in value.items()}
        case list():
            overrides = key.startswith("hydra.overrides.")
            return [public_override(one) if overrides and isinstance(one, str) else _public(one, key) for one in value]
        case str() if key == "hydra.job.override_dirname":
            return masked(INSIDE.sub(_public_pair, value))
        case _:
            return public_value(key, value)


def hidden_keys(config: DictConfig) -> Iterator[str]:
    """Of what `public` has left out of it."""
    yield from _hidden(OmegaConf.to_container(config, resolve=False), "")


def _hidden(value: Any, key: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, child in value.items():
            yield from _hidden(child, f"{key}.{name}" if key else str(name))
    elif isinstance(value, str) and HIDDEN in value:
        yield key


def without_passwords(config: DictConfig) -> DictConfig:
    """A copy in which besom's own URLs are hidden (`hide`); a trial is told nothing else otherwise."""
    copy = config.copy()
    with read_write(copy.hydra), open_dict(copy):
        sections = [copy.hydra.sweeper, *([copy.tracking] if isinstance(copy.get("tracking"), DictConfig) else [])]
        for section in sections:
            for key in ("storage", "tracking_uri", "uri"):
                if key in section and not OmegaConf.is_interpolation(section, key) and section[key]:
                    section[key] = masked(str(section[key]))
        # not resolved: a trial's `${...}` is its own
        given: Any = OmegaConf.to_container(copy.hydra.overrides.hydra, resolve=False)
        copy.hydra.overrides.hydra = list(map(masked, given))
    return copy


@contextmanager
def environment_unread() -> Iterator[None]:
    """Meanwhile a config's `${oc.env:NAME}` resolves to its own text, wherever it stands in a value."""

    def name_only(name: str, *default: Any) -> Any:
        return default[0] if default and name not in os.environ else f"${{oc.env:{name}}}"

    resolvers.register("oc.env", name_only)
    try:
        yield
    finally:
        resolvers.register("oc.env", oc.env)
