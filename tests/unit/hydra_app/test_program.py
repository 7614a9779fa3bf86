from __future__ import annotations

import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest

from besom.hydra_app.program import Program


@pytest.mark.parametrize(
    ("program", "started"),
    [
        (Program("besom/train.py", "besom.train"), "besom train"),
        (Program("app.py"), "python app.py"),
        (Program("pkg/app.py", "pkg.app"), "python -m pkg.app"),
        (Program("app.py", options=("--config-name", "other")), "python app.py --config-name other"),
        (Program("my app.py"), "python 'my app.py'"),
    ],
)
def test_a_program_is_written_as_a_shell_takes_it(program: Program, started: str) -> None:
    assert str(program) == started


def test_of_hydras_options_those_are_kept_that_say_where_the_config_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "app.py -m -cn other --config-dir ./here hydra/sweeper=besom x=1,2"
    monkeypatch.setattr(sys, "argv", shlex.split(line))
    assert Program.running().options == ("--config-name", "other", "--config-dir", "./here")


def test_while_posing_as_a_program_it_is_what_would_be_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    main = sys.modules["__main__"]
    monkeypatch.setattr(sys, "argv", ["worker"])
    monkeypatch.setattr(main, "__spec__", None)

    with Program("pkg/app.py", "pkg.app", ("--config-name", "other")).posing(["x=1"]):
        assert main.__spec__ is not None
        assert main.__spec__.name == "pkg.app"
        assert sys.argv == ["pkg/app.py", "--config-name", "other", "x=1"]

    assert (main.__spec__, sys.argv) == (None, ["worker"])


def test_the_script_is_known_if_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["app.py"])
    main = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert not Program.running().runs_again  # in a notebook
    main.__file__ = "<stdin>"
    assert not Program.running().runs_again
    (tmp_path / "app.py").write_text("")
    main.__file__ = "app.py"
    assert Program.running().file == str(tmp_path / "app.py")
    assert Program.running().runs_again
