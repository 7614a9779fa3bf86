"""What a config that was read from a store may make Python build: it may have been written by somebody else.

A `_target_` is any name that Python can import, and a call of it with any arguments. In a config of one's own that is
what makes everything replaceable. In one that others may write it is a way to run a program.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf.errors import GrammarParseError
from omegaconf.grammar.gen.OmegaConfGrammarParser import OmegaConfGrammarParser
from omegaconf.grammar_parser import parse

from besom.errors import InputError
from besom.system.encoding import say

LIBRARIES = frozenset(("besom", "torch", "torchvision", "torchmetrics", "pytorch_lightning"))
# functions of theirs that only compute, or read a data set; of all others a class is built, and no function called
FUNCTIONS = ("besom.data.", "besom.model.", "torchvision.models.", "torch.nn.functional.", "torchmetrics.functional.")
# modules of theirs whose classes start programs, read pickles or compile
NEVER = (
    *("torch.distributed", "torch.hub", "torch.jit", "torch.multiprocessing", "torch.package", "torch.serialization"),
    *("torch.testing", "torch.utils.benchmark", "torch.utils.bottleneck", "torch.utils.collect_env", "torch.onnx"),
    *("torch.utils.cpp_extension", "torch.utils.model_zoo", "torch.export", "torch.ops", "torch.classes"),
    *("pytorch_lightning.cli", "pytorch_lightning.strategies", "besom.cli", "besom.system"),
    *("besom.engine", "besom.hydra_app", "besom.search", "besom.space", "besom.study", "besom.tracking"),
    *("besom.reporting", "besom.terminal"),
)
# last words of names that load or execute, in whatever package
EXECUTES = frozenset(
    (
        *("load", "loads", "load_from_checkpoint", "load_state_dict_from_url", "read_pickle", "unpickle", "Unpickler"),
        *("system", "popen", "Popen", "run", "call", "check_call", "check_output", "spawn", "exec", "eval", "compile"),
        *("import_module", "__import__", "open", "getattr", "setattr", "partial", "get_method", "get_class"),
    )
)
NAMING = ("activation",)  # keys whose value may be a dotted path, too
# of others it is not known what they do, and `oc.decode` and `oc.create` make a config, `_target_` and all, out of text
RESOLVERS = (
    *("besom.direction", "besom.job_name", "besom.mode", "hydra", "now"),
    *("oc.env", "oc.select", "oc.dict.keys", "oc.dict.values", "oc.deprecated"),
)

Ask = Callable[[str], bool]


def refuse_untrusted(config: Any, trusted: Collection[str], ask: Ask) -> None:
    """`trusted`: packages that the user has named. `ask` is asked once for each module of the working directory.

    Raises:
        InputError: the config names what none of them has, or what loads or executes; says where, and what to do.
    """
    trusted = {package for package in trusted if package}  # nothing is no package: what has no module is in none
    for where, text in _nodes(config, ""):
        for resolver in resolvers(text) if isinstance(text, str) else ():
            if resolver not in RESOLVERS:
                raise InputError(f"{where}={text}: not taken from a store: {resolver} may make code of a text")
    asked: dict[str, bool] = {}
    for where, target in _nodes(config, ""):
        name, text = where.rpartition(".")[2], str(target)
        if name != "_target_" and not (name in NAMING and isinstance(target, str) and ("." in text or "${" in text)):
            continue
        if "${" in str(target) or not isinstance(target, str):
            raise InputError(f"{where}={target}: not taken from a store: a name that is only known when it is used")
        package = target.partition(".")[0]
        if package in LIBRARIES:
            _refuse_dangers(where, target, {package})
            continue
        if package not in trusted:
            if _is_here(package) and package not in asked:
                asked[package] = ask(f"{where}={target}: run code of {package}, in {Path.cwd()}?")
            if not asked.get(package):
                raise InputError(
                    f"{where}={target}: a config that was read from a store may be anybody's; if you know {package}, "
                    f"and what it does with these settings: --trust {package}"
                )
        _refuse_dangers(where, target, {package, *trusted})


def resolvers(text: str) -> list[str]:
    """The names of all resolvers that it calls, as OmegaConf itself reads it; of one it cannot read, that text."""
    if "${" not in text:
        return []
    try:
        tree = parse(text)
    except GrammarParseError:
        return [text]
    found: list[str] = []
    left: list[Any] = [tree]
    while left:
        node = left.pop()
        if isinstance(node, OmegaConfGrammarParser.InterpolationResolverContext):
            found.append(node.getChild(1).getText())  # behind `${`
        left.extend(node.getChildren() if hasattr(node, "getChildren") else ())
    return found


def _nodes(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """All that stands in it, by its dotted key: the values, and the sections and lists that hold them."""
    if key:
        yield key, value
    match value:
        case Mapping():
            for name, child in value.items():
                yield from _nodes(child, f"{key}.{name}" if key else str(name))
        case list() | tuple():
            for number, child in enumerate(value):
                yield from _nodes(child, f"{key}[{number}]")


def _refuse_dangers(where: str, target: str, packages: set[str]) -> None:
    """By the place where the thing is written, and not by one where it is only imported: `torch.os.system`."""
    name = target.rpartition(".")[2]
    if name in EXECUTES or any(f"{target}.".startswith(f"{module}.") for module in NEVER):
        raise _never(where, target)
    found = _find(where, target, packages)
    home = str(getattr(found, "__module__", ""))
    if home.partition(".")[0] not in packages or any(f"{home}.".startswith(f"{module}.") for module in NEVER):
        raise _never(where, target)
    if packages & LIBRARIES and not inspect.isclass(found) and not target.startswith(FUNCTIONS):
        raise _never(where, target)


def _never(where: str, target: str) -> InputError:
    return InputError(
        f"{where}={target}: not taken from a store: it may load or execute what it is given; to use it, write it into "
        "a config of your own, and train that: besom train"
    )


def _find(where: str, target: str, packages: set[str]) -> Any:
    """Through modules of these packages alone."""
    parts = target.split(".")
    for length in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:length])
        try:
            found: Any = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name and (name == error.name or name.startswith(f"{error.name}.")):
                continue
            raise InputError(f"{where}={target} cannot be imported: {error}") from error
        except Exception as error:  # importing a module runs it
            raise InputError(f"{where}={target} cannot be imported: {type(error).__name__}: {error}") from error
        for part in parts[length:]:
            found = getattr(found, part, None)
            if inspect.ismodule(found) and found.__name__.partition(".")[0] not in packages:
                raise _never(where, target)
        if found is None:
            break
        return found
    raise InputError(f"{where}={target}: there is no such name")


def _is_here(package: str) -> bool:
    """Whether it is a module of the working directory."""
    if package in sys.modules:
        file = getattr(sys.modules[package], "__file__", None) or ""
    else:
        try:
            spec = importlib.util.find_spec(package)
        except (ImportError, ValueError):
            return False
        file = (spec.origin or "") if spec else ""
    here = Path.cwd().resolve()
    return bool(file) and Path(file).resolve().is_relative_to(here) and "site-packages" not in file


def ask_on_terminal(question: str) -> bool:
    """No, where nobody can answer."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    say(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
