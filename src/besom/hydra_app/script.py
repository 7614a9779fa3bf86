"""The app's own script in a trial's process, where it is importable as `__main__`, as it is in the user's process.

A `_target_: __main__.Net`, a pickled class of the script or a pool of processes looks for names there. So the script
is run once more under another name, as multiprocessing does for the processes it spawns: what stands behind
`if __name__ == "__main__":` is not run, and a script without that line is run up to where it would start Hydra.

What the sweep sends to the trial names the script's functions and classes, and holds a copy of each. An app without a
script, such as a notebook, and one that cannot be run again has these copies as its `__main__`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import cloudpickle
from hydra._internal.hydra import Hydra

from besom.hydra_app.program import Program, script_of_this_process

MAIN = "__main__"
AGAIN = "__mp_main__"  # multiprocessing's name, by which a process that it spawns would find them
DEPTH = 10  # decorators around a function, at most
Step = str | int

_script: ModuleType | None = None  # of the app, in a trial's process, or what stands for it


class _Started(BaseException):
    """Hydra was about to start: all that the script defines before is there."""


def become(program: Program, copies: bytes) -> None:
    """In a trial's process: make the app's script its `__main__`, or else what was copied of it."""
    global _script
    if not run_again(program):
        module = ModuleType(MAIN)
        vars(module).update(cloudpickle.loads(copies))
        sys.modules[MAIN] = _script = module


def copies() -> bytes:
    """The functions and classes of this process's `__main__` that can be copied, by their names."""
    main = sys.modules[MAIN]
    own = {name: one for name, one in vars(main).items() if isinstance(one, (FunctionType, type))}
    own = {name: one for name, one in own.items() if one.__module__ == MAIN}
    with contextlib.suppress(Exception):  # one of them cannot
        return bytes(cloudpickle.dumps(own))
    return bytes(cloudpickle.dumps({name: one for name, one in own.items() if _copy(one) is not None}))


def run_again(program: Program) -> bool:
    """Whether the app's script is this process's `__main__` now. What hinders that is printed."""
    global _script
    sys.path[:] = [*program.path, *(place for place in sys.path if place not in program.path)]
    if not program.runs_again:
        return False
    before, argv = sys.modules[MAIN], sys.argv
    try:
        module, code = _load(program)
        sys.modules[MAIN] = sys.modules[AGAIN] = module
        sys.argv = [program.script, *program.options]
        with _hydra_does_not_start(), contextlib.suppress(_Started):
            exec(code, vars(module))
    except (Exception, SystemExit) as error:
        sys.modules[MAIN] = before
        sys.modules.pop(AGAIN, None)
        print(
            f"besom: {program} could not be run again in this trial's process, which would make its names importable "
            f"from __main__ ({type(error).__name__}: {error}); the trial goes on with copies of its functions and "
            'classes. Put what the script does when it is started behind: if __name__ == "__main__":',
            file=sys.stderr,
            flush=True,
        )
        return False
    finally:
        sys.argv = argv
    _rename(module)
    _script = module
    return True


def dumps(value: Any, program: Program) -> bytes:
    """Pickle for a trial's process. Raises whatever an object raises that is asked to be pickled."""
    with io.BytesIO() as file:
        _Pickler(file, program).dump(value)
        return file.getvalue()


def find(module: ModuleType, name: str) -> Any:
    """What stands there under a qualified name; None if nothing does."""
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


# ── the script, run again ─────────────────────────────────────────────────────────────────────────────────────────────
def _load(program: Program) -> tuple[ModuleType, Any]:
    module = ModuleType(AGAIN)
    if program.module:
        spec = importlib.util.find_spec(program.module)
        if spec is None or spec.loader is None:
            raise ImportError(f"no module named {program.module!r}")
        module.__spec__, module.__loader__ = spec, spec.loader
        module.__package__, module.__file__ = spec.parent, spec.origin
        return module, spec.loader.get_code(program.module)  # type: ignore[attr-defined]  # `python -m` asks it too
    assert program.file
    module.__file__ = program.file
    return module, compile(Path(program.file).read_bytes(), program.file, "exec", dont_inherit=True)


@contextmanager
def _hydra_does_not_start() -> Iterator[None]:
    def started(*_: Any, **__: Any) -> None:
        raise _Started

    main: Any = sys.modules["hydra.main"]  # `hydra.main` itself is the function
    places = [(main, "_run_hydra"), (Hydra, "run"), (Hydra, "multirun")]
    originals = [getattr(owner, name) for owner, name in places]
    for owner, name in places:
        setattr(owner, name, started)
    try:
        yield
    finally:
        for (owner, name), original in zip(places, originals, strict=True):
            setattr(owner, name, original)


def _rename(module: ModuleType) -> None:
    """What is pickled here must be found by others under the name that it has in the user's process."""
    module.__name__ = MAIN
    pending, seen = list(vars(module).values()), set()
    while pending:
        one = pending.pop()
        one = getattr(one, "__func__", one)  # of a class method or static method
        if not isinstance(one, (FunctionType, type)) or one.__module__ != AGAIN or id(one) in seen:
            continue
        seen.add(id(one))
        one.__module__ = MAIN
        pending.extend([*(vars(one).values() if isinstance(one, type) else ()), getattr(one, "__wrapped__", None)])


# ── what is sent to it ────────────────────────────────────────────────────────────────────────────────────────────────
class _Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]  # it has no types
    def __init__(self, file: io.BytesIO, program: Program) -> None:
        super().__init__(file)
        self._is_here = script_of_this_process() == program.file

    def reducer_override(self, obj: Any) -> Any:
        is_of_script = isinstance(obj, (FunctionType, type)) and obj.__module__ in (MAIN, AGAIN)
        if is_of_script and (path := self._path(obj)) is not None:
            return _from_script, (obj.__qualname__, path, isinstance(obj, type), _copy(obj))
        return super().reducer_override(obj)

    def _path(self, obj: Any) -> list[Step] | None:
        """From what the script calls by its name to the object itself; None: it is not found there."""
        if not self._is_here:  # a worker has the script's classes as copies; of a function's copy nobody knows the path
            return [] if isinstance(obj, type) and "<" not in obj.__qualname__ else None
        return _path(find(sys.modules[MAIN], obj.__qualname__), obj)


def _path(start: Any, wanted: Any) -> list[Step] | None:
    """Through decorators: Hydra has its own around the task function that it calls."""
    pending: list[tuple[Any, list[Step]]] = [(start, [])]
    seen: set[int] = set()
    while pending:
        one, path = pending.pop(0)
        if one is wanted:
            return path
        if id(one) in seen or len(path) == DEPTH or not isinstance(one, FunctionType):
            continue
        seen.add(id(one))
        steps: list[Step] = ["__wrapped__", *range(len(one.__closure__ or ()))]
        pending.extend((_step(one, step), [*path, step]) for step in steps)
    return None


def _step(one: Any, step: Step) -> Any:
    """To what a decorated function has beneath it: as `functools.wraps` says, or as one of its free variables."""
    if isinstance(step, str):
        return getattr(one, step, None)
    with contextlib.suppress(AttributeError, IndexError, TypeError, ValueError):  # another function, or an empty cell
        return one.__closure__[step].cell_contents
    return None


def _copy(obj: Any) -> bytes | None:
    try:
        return bytes(cloudpickle.dumps(obj))
    except Exception:  # whatever an object says that is asked to be pickled: it may be needed nowhere
        return None


def _from_script(name: str, path: list[Step], is_class: bool, copy: bytes | None) -> Any:
    found = find(_script, name) if _script else None
    for step in path:
        found = _step(found, step)
    if isinstance(found, type if is_class else FunctionType):
        return found
    if copy is None:
        raise RuntimeError(f"{name} of the app's script is not found in this process, and cannot be copied to it")
    return cloudpickle.loads(copy)
