"""What Hydra found wrong while composing, said in one line with the names that would be right."""

from __future__ import annotations

import re
import shlex
import sys
import traceback
from collections.abc import Iterator

from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from besom.config.hydra_compat import VERSION_BASE
from besom.config.load import shipped
from besom.config.redaction import redacted_override
from besom.errors import InputError, first_line, near

# of Hydra's grammar for overrides
FUNCTIONS = ("bool", "choice", "float", "glob", "int", "interval", "range", "shuffle", "sort", "str", "tag")
USAGE = {
    "interval": "interval(LOW, HIGH)",
    "range": "range(START, STOP) or range(START, STOP, STEP)",
    "choice": "choice(A, B, ...)",
    "tag": "tag(log, interval(LOW, HIGH))",
}


def as_input_error(error: Exception) -> InputError | None:
    """The user's mistake behind one of Hydra's errors; None where it is not the user's."""
    match error:
        case MissingConfigException():
            return InputError(_missing_option(error))
        case OverrideParseException():
            return InputError(unreadable(error.override, error))
        case ConfigCompositionException() if not _is_a_search(error):
            return InputError(_refused_override(error))
        case HydraException():
            return InputError(_in_words(error))
        case YAMLError():
            return InputError(_no_yaml(error))
        case OSError() if _while_making_the_output_folder(error):
            return InputError(
                f"the output folder {error.filename} cannot be written ({error.strerror}); "
                "choose another: hydra.run.dir=... (of a sweep: hydra.sweep.dir=...)"
            )
    return None


def _missing_option(error: MissingConfigException) -> str:
    group, _, option = (error.missing_cfg_file or "").rpartition("/")
    if not group:
        return first_line(error)
    if group == "sweeps":
        return f"no sweep {option!r} in ./sweeps or among besom's own{near(option, error.options or [])}"
    return f"{group}={option}: no such option{near(option, error.options or [])}"


def unreadable(override: str, error: Exception) -> str:
    """What is wrong with an override that Hydra cannot read.

    >>> print(unreadable("lr=intervall(0,1)", Exception("Unknown function 'intervall'")))
    lr=intervall(0,1): there is no function 'intervall'; did you mean 'interval'?
    >>> print(unreadable("lr=[1,2", Exception("no viable alternative at input '[1,2'")))
    lr=[1,2: a bracket is opened and not closed
    """
    shown, text = redacted_override(override), str(error)
    if found := re.search(r"Unknown function '([^']+)'", text):
        hint = "; a logarithmic scale is tag(log, interval(...))" if found[1].startswith("log") else ""
        return f"{shown}: there is no function {found[1]!r}{hint or near(found[1], FUNCTIONS)}"
    if found := re.search(r"(?:Type|Value)Error while evaluating '(.*)': (.*)", text):
        return f"{shown}: {redacted_override(found[1])} cannot be: {found[2]}{_usage(found[1])}"
    opened, closed = (sum(map(override.count, signs)) for signs in ("([{", ")]}"))
    if opened != closed:
        which = "opened and not closed" if opened > closed else "closed and was never opened"
        return f"{shown}: a bracket is {which}"
    if "=" not in override:
        return f"{shown}: cannot be read as an override; write it as key=value"
    return (
        f"{shown}: cannot be read as an override; write it as key=value, and quote a value that has spaces, quotes, "
        """an = or a $ in it: 'key="..."'"""
    )


def _usage(call: str) -> str:
    name = call.partition("(")[0]
    return f"; write {USAGE[name]}" if name in USAGE else ""


def _is_a_search(error: Exception) -> bool:
    return str(error).startswith(("Sweep parameters", "Ambiguous value"))


def _in_words(error: HydraException) -> str:
    text = first_line(error)
    if found := re.match(r"Sweep parameters '(.*)' requires --multirun", text):
        return (
            f"{redacted_override(found[1])} is a search, and this is one run: give one value, or search it: "
            f"besom sweep [NAME] {_quoted(found[1])}"
        )
    if found := re.match(r"Ambiguous value for argument '(.*)'", text):
        key, _, value = found[1].partition("=")
        given, of_list, of_text = map(_quoted, (found[1], f"{key}=[{value}]", f'{key}="{value}"'))
        return f"{given}: several values for one run; a list is {of_list}, a text {of_text}; besom sweep tries each"
    return redacted_override(text)


def _quoted(override: str) -> str:
    return shlex.quote(redacted_override(override))


def _no_yaml(error: YAMLError) -> str:
    """With the file and the line."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    where = f"{mark.name}, line {mark.line + 1}" if mark else "a config"
    return f"{where}: this is no YAML: {problem or first_line(error)}"


def _refused_override(error: ConfigCompositionException) -> str:
    if there := re.match(r"Could not append to config. An item is already at '([^']+)'", str(error)):
        return f"+{there[1]}: there is such a key already; change it without the +: {there[1]}=..."
    found = re.match(r"Could not override '([^']+)'", str(error))
    cause = error.__cause__
    if found is None:
        file = re.match(r"In '([^']+)': (\w+) raised while composing config:", str(error))
        named = re.search(r"full_key: (\S+)", str(error))
        key = getattr(cause, "full_key", None) or (named[1] if named else None)
        if file and key and file[2] in ("ConfigKeyError", "ConfigAttributeError"):
            return f"{file[1]}.yaml: {key}: no such key{_near(key, set(_known_keys(without=key)))}"
        if file:
            rest = [line.strip() for line in str(error).splitlines()[1:] if line.strip()]
            return f"{file[1]}.yaml: {f'{key}: ' if key else ''}{_plain(rest[0]) if rest else file[2]}"
        because = f": {_plain(first_line(cause))}" if cause else ""
        return f"{redacted_override(first_line(error).removeprefix('Error merging override '))}{because}"
    key = getattr(cause, "full_key", None) or found[1]  # of `section={new: 1}` the new key, not the section
    known = set(_known_keys(without=found[1]))
    name = key.rpartition(".")[2]
    same_name = sorted(other for other in known if other.rpartition(".")[2] == name)
    hint = f"; did you mean {' or '.join(map(repr, same_name))}?" if same_name else _near(key, known)
    own = f" (a class of your own takes it as +{key}=...)" if "." in key and not _is_besoms(key) else ""
    return f"{key}: no such key{hint}{own}"


def _near(key: str, known: set[str]) -> str:
    """Of a key of Hydra's own those beside it: all of them begin alike."""
    if not key.startswith(("hydra.", "hydra/")):
        return near(key, known)
    sign = key[len("hydra")]
    parent = key.rpartition(sign)[0] + sign
    beside = {other.removeprefix(parent) for other in known if other.startswith(parent)}
    return near(key.removeprefix(parent), {name for name in beside if sign not in name})


def _is_besoms(key: str) -> bool:
    """A key that no class of anybody's own could take."""
    return key.startswith("hydra.") and not key.startswith(("hydra.sweeper.sampler.", "hydra.sweeper.pruner."))


def _plain(reason: str) -> str:
    """OmegaConf's words in others.

    >>> _plain("field 'hydra.sweeper.n_trials' is not Optional")
    'it cannot be null'
    """
    is_null = r"^field '.*' is not Optional$|^Incompatible value 'None' for field of type .*"
    return re.sub(is_null, "it cannot be null", reason)


def _known_keys(without: str) -> Iterator[str]:
    """Groups and dotted keys of the config that the command line would give, had it not named `without`."""
    overrides = [word for word in sys.argv[1:] if "=" in word and not word.startswith(("-", without))]
    with initialize_config_dir(str(shipped("conf")), **VERSION_BASE):
        try:
            cfg = compose("train", overrides, return_hydra_config=True)
        except HydraException:  # a second mistake beside the one we explain
            sweeper = [word for word in overrides if word.startswith("hydra/sweeper=")]
            cfg = compose("train", sweeper, return_hydra_config=True)
    of_hydra = without.startswith("hydra")
    if "hydra/sweeper=besom" in overrides:  # `besom sweep` takes its settings without their prefix
        yield from map(str, cfg.hydra.sweeper)
    yield from (str(group) for group in cfg.hydra.runtime.choices if ("/" in str(group)) == of_hydra)
    yield from _keys(cfg.hydra, "hydra.") if of_hydra else _keys(cfg)


def _keys(node: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in node:
        if key == "hydra":
            continue
        yield prefix + str(key)
        if OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, str(key)):
            continue
        if isinstance(child := node[key], DictConfig):
            yield from _keys(child, f"{prefix}{key!s}.")


def _while_making_the_output_folder(error: OSError) -> bool:
    """Hydra makes it before it calls the app; an OSError from inside the app is another matter."""
    functions = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    return "mkdir" in functions and "run_job" in functions and "main" not in functions[functions.index("run_job") :]
