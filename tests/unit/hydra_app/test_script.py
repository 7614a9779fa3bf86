from __future__ import annotations

import pickle
import sys
from pathlib import Path
from types import ModuleType

import cloudpickle
import pytest

from besom.engine.preload import imported
from besom.hydra_app import script
from besom.hydra_app.program import Program

SCRIPT = """
import functools
def decorated(function):
    @functools.wraps(function)
    def wrapper(): return "wrapped"
    return wrapper
class Net:
    class Layer: pass
    @classmethod
    def of(cls): return cls()
def bare(function):
    return lambda: function()
@bare
@decorated
def twice(): return "twice"
class Caller:
    def __init__(self, function): self.function = function
def called(function):
    caller = Caller(function)
    @functools.wraps(function)
    def wrapper(): return "called " + caller.function()
    return wrapper
def plain(): return "plain"
@decorated
def main(): return "task"
if __name__ == "__main__":
    raise SystemExit("it was started")
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Of a script that runs as this process's `__main__`, as far as pickle can see."""
    (tmp_path / "app.py").write_text(SCRIPT)
    program = Program("app.py", file=str(tmp_path / "app.py"), path=tuple(sys.path))
    user = ModuleType("__main__")
    user.__file__ = program.file
    exec(SCRIPT.partition("if __name__")[0], vars(user))
    monkeypatch.setitem(sys.modules, "__main__", user)
    monkeypatch.delitem(sys.modules, "__mp_main__", raising=False)
    monkeypatch.setattr(script, "_script", None)
    return program


def test_names_of_the_script_are_found_in_the_script_that_was_run_again(program: Program) -> None:
    user = sys.modules["__main__"]
    sent = script.dumps([user.Net, user.Net(), user.main, user.main.__wrapped__, user.Net.Layer], program)
    script.run_again(program)
    again = sys.modules["__main__"]
    assert again is not user
    assert again.__name__ == "__main__"
    net, instance, wrapper, task, layer = pickle.loads(sent)
    assert (net, wrapper, task, layer) == (again.Net, again.main, again.main.__wrapped__, again.Net.Layer)
    assert type(instance) is again.Net
    assert {one.__module__ for one in (net, layer, task, net.of, again.decorated)} == {"__main__"}


def test_what_the_script_does_not_keep_by_its_name_is_not_taken_for_what_it_keeps(program: Program) -> None:
    user = sys.modules["__main__"]
    kept, lost = user.twice.__closure__[0].cell_contents.__wrapped__, user.called(user.plain)
    sent = script.dumps([kept, lost], program)
    script.run_again(program)
    again = sys.modules["__main__"]
    kept, lost = pickle.loads(sent)
    assert kept is again.twice.__closure__[0].cell_contents.__wrapped__
    assert lost() == "called plain"
    assert lost.__closure__[0].cell_contents.function is again.plain


def test_a_worker_names_the_scripts_classes_and_copies_its_functions(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = sys.modules["__main__"]
    copies = cloudpickle.loads(cloudpickle.dumps([user.Net(), user.plain]))
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    sent = script.dumps(copies, program)
    script.run_again(program)
    instance, function = pickle.loads(sent)
    assert type(instance) is sys.modules["__main__"].Net
    assert function() == "plain"


def test_where_there_is_no_script_copies_are_its_main(program: Program) -> None:
    user = sys.modules["__main__"]
    user.__file__ = None  # type: ignore[assignment]  # as good as none
    vars(user)["lock"] = __import__("threading").Lock()
    exec("def locked(): return lock", vars(user))
    typed = Program("")
    sent, copies = script.dumps([user.Net, user.Net(), user.plain, user.main.__wrapped__], typed), script.copies()
    script.become(typed, copies)
    copied = sys.modules["__main__"]
    assert copied is not user
    assert not hasattr(copied, "locked")
    net, instance, plain, task = pickle.loads(sent)
    assert (net, plain, task) == (copied.Net, copied.plain, copied.main.__wrapped__)
    assert type(instance) is net
    assert type(pickle.loads(pickle.dumps(instance))) is net
    assert (plain(), task()) == ("plain", "task")


@pytest.mark.parametrize("last", ["raise ValueError('twice')", "import sys; sys.exit(3)", "what is this"])
def test_a_script_that_fails_leaves_main_as_it_was_and_is_named(
    program: Program, last: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.file
    Path(program.file).write_text(f"{SCRIPT}\n{last}\n")
    user, argv = sys.modules["__main__"], sys.argv
    script.run_again(program)
    assert (sys.modules["__main__"], sys.argv) == (user, argv)
    assert "python app.py could not be run again" in capsys.readouterr().err


def test_a_script_without_a_guard_is_run_up_to_hydras_start(program: Program) -> None:
    assert program.file
    text = """
import hydra
from besom.training.app import run
@hydra.main(version_base="1.3", config_path=None)
def main(cfg): raise AssertionError
BEFORE = 1
try:
    run(main)
except Exception:
    pass
AFTER = 1
"""
    Path(program.file).write_text(text)
    script.run_again(program)
    main = sys.modules["__main__"]
    assert main.BEFORE == 1
    assert not hasattr(main, "AFTER")


def test_a_function_that_cannot_be_copied_is_sent_by_name(program: Program) -> None:
    user = sys.modules["__main__"]
    vars(user)["lock"] = __import__("threading").Lock()
    exec("def locked(): return lock", vars(user))
    with pytest.raises(TypeError):
        cloudpickle.dumps(user.locked)
    sent = script.dumps(user.locked, program)
    with pytest.raises(RuntimeError, match="locked of the app's script is not found"):
        pickle.loads(sent)


def test_of_a_scripts_imports_those_at_its_top_are_found(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "from __future__ import annotations\nimport a.b, c as d\nfrom e.f import g\nfrom . import h\nfrom .i import j\n"
        "import mlflow.pytorch\nimport jax\ntry:\n    import k\nexcept ImportError:\n    import l\n"
        "if x:\n    import m\ndef f():\n    import n\n"
    )
    path = str(tmp_path / "app.py")
    assert list(imported(Program("app.py", "pkg.app", file=path))) == [
        "__future__", "a.b", "c", "e.f", "pkg", "pkg.h", "pkg.i", "k",
    ]  # fmt: skip
    assert list(imported(Program("app.py", file=path))) == ["__future__", "a.b", "c", "e.f", "k"]
    assert list(imported(Program("app.py"))) == []
