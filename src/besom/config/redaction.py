"""What is never written down: passwords in URLs, what comes from the environment, values whose key names a secret.

What a process has once seen to be secret it takes out of every text that it copies: an exception, the end of an output.

A URL with a password is carried about without it, `postgresql://me:***@host/db`; the password goes by the environment
of this process, which its workers inherit and nobody else may read, and is put back where the URL is opened.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.resolvers import oc

from besom.config import resolvers
from besom.errors import InputError

HIDDEN = "***"
PASSWORD = re.compile(r"(?<=://)([^:/@\s]*):([^\s]*)@")  # of a URL, with its user; a password may have an @ in it
QUERY = re.compile(
    r"(?<=[?&;])((?:password|passwd|pwd|secret|token|sig|signature|api_?key|access_?key)=)[^&;\s'\"]*", re.IGNORECASE
)
# by these words in it a key names a secret, whatever its value
ANYWHERE = ("password", "passphrase", "passcode", "passwd", "secret", "credential", "authorization", "apikey")
LAST = ("pwd", "creds", "jwt", "bearer", "cookie", "cookies", "pat", "sig")
# and behind one of these words a key or a token does
OF_KEYS = frozenset(("api", "access", "private", "signing", "encryption", "hmac", "ssh", "gpg", "deploy", "auth"))
OF_TOKENS = OF_KEYS | {"bearer", "refresh", "session", "id", "csrf", "oauth", "security", "personal", "bot"}
OF_TOKENS |= {"hf", "huggingface", "github", "gh", "gitlab", "wandb", "openai", "slack", "aws", "gcp", "azure"}
# by these as its last word it may, or may mean another thing (`label_key`, `pool_token`): its value decides
PERHAPS = ("key", "keys", "token", "tokens", "auth", "pass")
ISSUED = re.compile(
    r"(sk-|gh[opsur]_|github_pat_|hf_|AKIA|ASIA|xox[abprs]-|eyJ|glpat-|AIza|ya29\.|npm_|pypi-|-----BEGIN)"
)
RANDOM = re.compile(r"(?=[^\s]*[a-z])(?=[^\s]*[A-Z])(?=[^\s]*[0-9])[A-Za-z0-9+/_=\-]{16,}|[0-9a-fA-F]{20,}")
PAIR = re.compile(r"([\w.\-]+)(\s*[:=]\s*)([^,{}\[\]]+)")  # of `db={user: me, password: x},lr=1` each pair
REFERENCE = re.compile(r"\$\{oc\.env:([^,}]+)")
LONG = 16  # characters: a known secret is found anywhere in a text; a shorter one only as a word of its own
SHORTEST = 4

_known: set[str] = set()  # secrets that this process has seen, to be taken out of whatever it copies


def redact_url(url: str) -> str:
    """The same for the same URL, in every process."""
    return QUERY.sub(rf"\1{HIDDEN}", PASSWORD.sub(rf"\1:{HIDDEN}@", url))


def redact(text: str) -> str:
    """The text without passwords of URLs in it, and without all that is known here to be secret."""
    text = redact_url(text)
    for secret in sorted(_known, key=len, reverse=True):
        if secret in text:
            found = re.escape(secret)
            text = re.sub(found if len(secret) >= LONG else rf"(?<!\w){found}(?!\w)", HIDDEN, text)
    return text


def know(secret: Any) -> None:
    """From here on it is taken out of every text that is copied."""
    text = str(secret)
    if len(text) >= SHORTEST and HIDDEN not in text and text.lower() not in ("true", "false", "none", "null"):
        _known.add(text)


def learn(config: DictConfig) -> None:
    """Know the secrets of a config: those under keys that name one, and those that come from the environment."""
    _learn(config, OmegaConf.to_container(config, resolve=False), "")


def _learn(config: DictConfig, value: Any, key: str) -> None:
    match value:
        case Mapping():
            for name, child in value.items():
                _learn(config, child, f"{key}.{name}" if key else str(name))
        case list():
            for child in value:
                _learn(config, child, key)
        case str() if names := REFERENCE.findall(value):
            for name in names:
                given = os.environ.get(name.strip())
                if given and (names_a_secret(name, given) or names_a_secret(key, given)):
                    know(given)
        case str() | int() | float() if not isinstance(value, bool) and redacted_value(key, value) == HIDDEN:
            know(value)


def stash_password(url: str) -> str:
    """The URL without its password, which from here on is in this process's environment."""
    without = redact_url(url)
    if without != url:
        before, after = without.split(HIDDEN, 1)
        os.environ[_place(without)] = url[len(before) : len(url) - len(after)]
        know(os.environ[_place(without)])
    return without


def restore_password(url: str) -> str:
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
    """By any part of a dotted key; under a name that may mean another thing its value decides.

    >>> keys = ("wandb.api_key", "secrets.aws.id", "hfToken", "github_pat", "data.label_key", "model.pool_token")
    >>> [names_a_secret(key, "cls") for key in keys]
    [True, True, True, True, False, False]
    >>> names_a_secret("attention.d_key", 64), names_a_secret("db.password", 1234)
    (False, True)
    >>> names_a_secret("my.token", "ghp_16C7e42F292c6912E7710c838347Ae178B4a")
    True
    """
    lower = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).lower()
    if any(word in lower for word in ANYWHERE):
        return True
    parts = [re.split(r"[^a-z0-9]+", part) for part in lower.split(".")]
    for words in parts:
        last, owner = words[-1].removesuffix("s"), words[-2] if len(words) > 1 else ""
        if words[-1] in LAST or (last == "key" and owner in OF_KEYS) or (last == "token" and owner in OF_TOKENS):
            return True
    return any(words[-1] in PERHAPS for words in parts) and _looks_secret(value)


def _looks_secret(value: Any) -> bool:
    """As whoever issues secrets makes them."""
    return isinstance(value, str) and bool(ISSUED.match(value) or RANDOM.fullmatch(value))


def redacted_value(key: str, value: Any) -> Any:
    """The value of a config's key, as it may be written down; one that refers to another (`${...}`) is kept."""
    if value in (None, "") or isinstance(value, bool):
        return value
    if isinstance(value, str) and value.startswith("${") and value.endswith("}"):
        return value
    if names_a_secret(key, value):
        return HIDDEN
    return redact(value) if isinstance(value, str) else value


def redacted_override(override: str) -> str:
    """`db.password=***`; what a sweep may try for such a key is no secret, and stays."""
    key, equals, value = override.partition("=")
    if not equals:
        return redact(override)
    name = key.lstrip("+~").replace("/", ".")
    if (shown := redacted_value(name, _unquoted(value))) == HIDDEN or _is_hidden_list(name, value):
        know(_unquoted(value))
        return f"{key}={HIDDEN}"
    if shown is not value and not isinstance(shown, str):
        return redact(override)
    return f"{key}={redact(_without_inner(value))}"


def hidden_in(overrides: Iterable[str]) -> list[str]:
    """The keys whose values were hidden in them."""
    return [override.partition("=")[0].lstrip("+") for override in overrides if HIDDEN in override.partition("=")[2]]


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value


def _is_hidden_list(name: str, value: str) -> bool:
    """`api_keys=[one,two]`: of as many secrets."""
    if not value.startswith("["):
        return False
    for one in _leaves(_parsed(value), name):
        if names_a_secret(name, one[1]):
            know(one[1])
            return True
    return False


def _without_inner(value: str) -> str:
    """A dict's or a list's text without the secrets in it, whatever they are made of."""
    if "{" not in value:
        return PAIR.sub(_public_pair, value) if "=" in value else value
    if (parsed := _parsed(value)) is None:  # no dict in Hydra's grammar
        return PAIR.sub(_public_pair, value)
    for key, leaf in _leaves(parsed, ""):
        if leaf not in (None, "") and redacted_value(key, leaf) == HIDDEN:
            know(leaf)
            if str(leaf) not in value:  # written with escapes
                return HIDDEN
            value = value.replace(str(leaf), HIDDEN)
    return value


def _parsed(value: str) -> Any:
    """None: it is none of Hydra's values."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    try:
        return OverridesParser.create().parse_override(f"x={value}").value()
    except Exception:  # of Hydra's grammar
        return None


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    match value:
        case Mapping():
            for name, child in value.items():
                yield from _leaves(child, str(name))
        case list():
            for child in value:
                yield from _leaves(child, key)
        case None:
            return
        case _:
            yield key, getattr(value, "text", value)  # of a quoted string


def _public_pair(found: re.Match[str]) -> str:
    return f"{found[1]}{found[2]}{redacted_value(found[1], found[3])}"


def redacted(config: DictConfig) -> Any:
    """A copy to be written to a file: what comes from the environment stays `${oc.env:...}`."""
    return _public(OmegaConf.to_container(config, resolve=False, enum_to_str=True), "")


def _public(value: Any, key: str) -> Any:
    match value:
        case Mapping():
            return {name: _public(child, f"{key}.{name}" if key else str(name)) for name, child in value.items()}
        case list():
            overrides = key.startswith("hydra.overrides.")
            return [
                redacted_override(one) if overrides and isinstance(one, str) else _public(one, key) for one in value
            ]
        case str() if key == "hydra.job.override_dirname":
            return redact(PAIR.sub(_public_pair, value))
        case _:
            return redacted_value(key, value)


def hidden_keys(config: DictConfig) -> Iterator[str]:
    """Of what `public` has left out of it."""
    yield from _hidden(OmegaConf.to_container(config, resolve=False), "")


def _hidden(value: Any, key: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, child in value.items():
            yield from _hidden(child, f"{key}.{name}" if key else str(name))
    elif isinstance(value, str) and HIDDEN in value:
        yield key


def redact_urls(config: DictConfig) -> DictConfig:
    """A copy in which besom's own URLs are hidden (`hide`); a trial is told nothing else otherwise."""
    copy = config.copy()
    with read_write(copy.hydra), open_dict(copy):
        sections = [copy.hydra.sweeper, *([copy.tracking] if isinstance(copy.get("tracking"), DictConfig) else [])]
        for section in sections:
            for key in ("storage", "tracking_uri", "uri"):
                if key in section and not OmegaConf.is_interpolation(section, key) and section[key]:
                    section[key] = redact_url(str(section[key]))
        # not resolved: a trial's `${...}` is its own
        given: Any = OmegaConf.to_container(copy.hydra.overrides.hydra, resolve=False)
        copy.hydra.overrides.hydra = list(map(redact_url, given))
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
