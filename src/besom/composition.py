"""What Hydra found wrong while composing, said in one line with the names that would be right."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterator

from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf

from besom.config import shipped
from besom.errors import InputError, near
from besom.hydra_versions import VERSION_BASE
from besom.secrecy import public_override


def as_input_error(error: Exception) -> InputError | None:
    """The user's mistake behind one of Hydra's errors; None where it is not the user's."""
    match error:
        case MissingConfigException():
            return InputError(_missing_option(error))
        case OverrideParseException():
            return InputError(
                f"{public_override(error.override)}: cannot be read as an override; write it as key=value"
            )
        case ConfigCompositionException():
            return InputError(_refused_override(error))
        case HydraException():
            return InputError(_first_line(error))
        case OSError() if _while_making_the_output_folder(error):
            return InputError(
                f"the output folder {error.filename} cannot be written ({error.strerror}); "
                "choose another: hydra.run.dir=... (of a sweep: hydra.sweep.dir=...)"
            )
    return None


def _missing_option(error: MissingConfigException) -> str:
    group, _, option = (error.missing_cfg_file or "").rpartition("/")
    if not group:
        return _first_line(error)
    if group == "sweeps":
        return f"no sweep {option!r} in ./sweeps or among besom's own{near(option, error.options or [])}"
    return f"{group}={option}: no such option{near(option, error.options or [])}"


def _refused_override(error: ConfigCompositionException) -> str:
    found = re.match(r"Could not override '([^']+)'", str(error))
    cause = error.__cause__
    if found is None:
        because = f": {_first_line(cause)}" if cause else ""
        return f"{public_override(_first_line(error).removeprefix('Error merging override '))}{because}"
    key = getattr(cause, "full_key", None) or found[1]  # of `section={new: 1}` the new key, not the section
    known = set(_known_keys(without=found[1]))
    name = key.rpartition(".")[2]
    same_name = sorted(other for other in known if other.rpartition(".")[2] == name)
    hint = f"; did you mean {' or '.join(map(repr, same_name))}?" if same_name else near(key, known)
    own = f" (a class of your own takes it as +{key}=...)" if "." in key else ""
    return f"{key}: no such key{hint}{own}"


def _known_keys(without: str) -> Iterator[str]:
    """Groups and dotted keys of the config that the command line would give, had it not named `without`."""
    overrides = [word for word in sys.argv[1:] if "=" in word and not word.startswith(("-", without))]
    with initialize_config_dir(str(shipped("conf")), **VERSION_BASE):
        try:
            cfg = compose("train", overrides, return_hydra_config=True)
        except HydraException:  # a second mistake beside the one we explain
            cfg = compose("train", return_hydra_config=True)
    yield from (str(group) for group in cfg.hydra.runtime.choices if "/" not in str(group))
    yield from _keys(cfg)


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


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]
