"""Apps that run alone run in a sweep, and find there what they find with Hydra's own sweeper."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from doors import Shell

from sweeps import BASE, UNRECORDED

pytestmark = pytest.mark.usefixtures("stocked")

WORDS = (*BASE[:1], *BASE[2:3], UNRECORDED, "hydra.sweeper.n_trials=2", "hydra.sweeper.sampler.seed=0")


def sweep(shell: Shell, *words: str, app: str = "app.py") -> subprocess.CompletedProcess[str]:
    return shell.run(sys.executable, *app.split(), "-m", *WORDS, *words)


def trials(shell: Shell) -> list[Path]:
    return sorted(path for path in shell.folder.glob("multirun/*/*/*") if path.name.isdigit())


def output(shell: Shell) -> str:
    """What all trials printed, for a test that has failed."""
    return "\n".join(path.read_text() for path in shell.folder.glob("multirun/*/*/*/output.log"))


CHDIR = """
import os
from pathlib import Path
import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_original_cwd, to_absolute_path

@hydra.main({version}config_path=None)
def main(cfg):
    Path("mine.txt").write_text(str(cfg.x))
    Path(to_absolute_path("seen.txt")).open("a").write(f"{{Path.cwd()}}\\t{{get_original_cwd()}}\\n")
    return cfg.x

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("version_base='1.3', ", ("hydra.job.chdir=true",)),
        ("", ()),
        ("version_base='1.1', ", ("hydra.sweeper.isolation=none",)),
    ],
)
def test_each_trial_works_in_its_own_folder_and_knows_the_original_one(
    shell: Shell, version: str, words: tuple[str, ...]
) -> None:
    shell.write("app.py", CHDIR.format(version=version))
    done = sweep(shell, "+x=interval(0,1)", *words)
    assert done.returncode == 0, done.stderr + output(shell)
    seen = [line.split("\t") for line in (shell.folder / "seen.txt").read_text().splitlines()]
    assert sorted(cwd for cwd, _ in seen) == list(map(str, trials(shell)))
    assert {original for _, original in seen} == {str(shell.folder)}
    assert len({(folder / "mine.txt").read_text() for folder in trials(shell)}) == 2
    assert not list(shell.folder.glob("**/workers/*/mine.txt"))


CALLBACKS = """
import logging, os, pickle
from pathlib import Path
from hydra.experimental.callback import Callback

class Told(Callback):
    def __init__(self, base):
        self.base = Path(base)
        self.before = []

    def _say(self, *words):
        with (self.base / "told.txt").open("a") as file:
            print(*words, sep="|", file=file)

    def on_multirun_start(self, config, **kwargs):
        self.before.append("multirun")
        self._say("multirun start")

    def on_multirun_end(self, config, **kwargs):
        self._say("multirun end")

    def on_job_start(self, config, *, task_function, **kwargs):
        self._say("start", task_function.__name__, self.before, config.hydra.output_subdir)

    def on_job_end(self, config, job_return, **kwargs):
        value = job_return._return_value
        self._say("end", job_return.status.name, type(value).__name__, value,
                  config.hydra.runtime.output_dir, job_return.hydra_cfg.hydra.output_subdir)
"""
CALLED = """
import hydra, besom
from pathlib import Path

def prepared(cfg):
    return [], ""

@hydra.main(version_base="1.3", config_path=".", config_name="conf")
@besom.prepare("callbacks.prepared")
def main(cfg):
    if cfg.x == 2:
        raise ValueError("two")
    if cfg.x == 3:
        raise besom.TrialPruned("enough")
    return float(cfg.x)

if __name__ == "__main__":
    main()
"""
CONF = """
x: 0
hydra:
  callbacks:
    told: {_target_: callbacks.Told, base: "${hydra.runtime.cwd}"}
    kept: {_target_: hydra.experimental.callbacks.PickleJobInfoCallback}
"""


@pytest.mark.parametrize("isolation", ["process", "none"])
def test_hydras_callbacks_are_told_of_each_trial_once_and_of_nothing_else(shell: Shell, isolation: str) -> None:
    shell.write("callbacks.py", CALLBACKS + "\n\ndef prepared(cfg):\n    return [], ''\n")
    shell.write("app.py", CALLED)
    shell.write("conf.yaml", CONF)
    words = ("hydra/sweeper/sampler=grid", "hydra.sweeper.n_trials=3", f"hydra.sweeper.isolation={isolation}")
    done = sweep(shell, "x=1,2,3", *words, "hydra.sweeper.max_failure_rate=null")
    assert done.returncode == 0, done.stderr + output(shell)
    told = [line.split("|") for line in (shell.folder / "told.txt").read_text().splitlines()]
    assert told[0] == ["multirun start"]
    assert told[-1] == ["multirun end"]
    starts = [line[1:] for line in told if line[0] == "start"]
    assert starts == [["main", "['multirun']", ".hydra"]] * 3
    ends = sorted(line[1:] for line in told if line[0] == "end")
    assert [line[:3] for line in ends] == [
        ["COMPLETED", "float", "1.0"],
        ["FAILED", "TrialPruned", "enough"],
        ["FAILED", "ValueError", "two"],
    ]
    assert sorted(line[3] for line in ends) == list(map(str, trials(shell)))
    for folder in trials(shell):
        assert (folder / ".hydra" / "job_return.pickle").exists()
        assert (folder / ".hydra" / "config.yaml").exists()


INTERPOLATED = """
import os
from pathlib import Path
import hydra
from hydra.core.hydra_config import HydraConfig

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    job = HydraConfig.get().job
    Path("seen.txt").open("a").write(f"{job.name} {os.environ['GIVEN']} {cfg.out}\\n")
    return cfg.x

if __name__ == "__main__":
    main()
"""


def test_interpolations_in_hydras_own_overrides_are_each_trials_and_secrets_are_not_written(shell: Shell) -> None:
    shell.write("app.py", INTERPOLATED)
    words = (
        "hydra.job.name=run_${x}",
        "hydra.sweeper.study_name=s",
        "+hydra.job.env_set.GIVEN=${oc.env:WHISPERED}",
        "+out=${hydra:runtime.output_dir}",
        "hydra.run.dir=somewhere/${x}",
    )
    done = shell.run(sys.executable, "app.py", "-m", *WORDS, "+x=1,2", "hydra/sweeper/sampler=grid", *words,
                     WHISPERED="h4rmless")  # fmt: skip
    assert done.returncode == 0, done.stderr + output(shell)
    seen = sorted((shell.folder / "seen.txt").read_text().splitlines())
    assert [line.split()[:2] for line in seen] == [[f"run_{x}", "h4rmless"] for x in (1, 2)]
    assert sorted(line.split()[2] for line in seen) == list(map(str, trials(shell)))
    for folder in trials(shell):
        kept = yaml.safe_load((folder / ".hydra" / "hydra.yaml").read_text())["hydra"]
        assert kept["job"]["env_set"]["GIVEN"] == "${oc.env:WHISPERED}"
    for path in shell.folder.rglob("*.yaml"):
        assert "h4rmless" not in path.read_text(), path


NAMES = """
import multiprocessing, pickle, sys, threading
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
import hydra
from hydra.core.config_store import ConfigStore
from hydra.utils import instantiate
from omegaconf import OmegaConf

LOCK = threading.Lock()

class Net:
    class Layer:
        pass

    def __init__(self, width):
        self.width = width

@dataclass
class Settings:
    width: int = 3

@dataclass
class Conf:
    x: float = 0.0
    net: dict = field(default_factory=lambda: {"_target_": "__main__.Net", "width": "${twice:2}"})
    settings: Settings = field(default_factory=Settings)

ConfigStore.instance().store(name="conf", node=Conf)

def square(x):
    return x * x

@hydra.main(version_base="1.3", config_path=None, config_name="conf")
def main(cfg):
    assert sys.modules["__main__"].main.__wrapped__.__globals__ is globals()
    assert __name__ == "__main__"
    with LOCK:
        net = instantiate(cfg.net)
    assert type(net) is Net and net.width == 4, net
    assert type(OmegaConf.to_object(cfg)) is Conf
    kept = pickle.dumps([net, Net.Layer, square])
    assert b"__mp_main__" not in kept and len(kept) < 200
    assert type(pickle.loads(kept)[0]) is Net
    Path("net.pickle").write_bytes(kept)
    for method in ("fork", "spawn"):
        context = multiprocessing.get_context(method)
        with context.Pool(2) as pool:
            assert pool.map(square, [2, 3]) == [4, 9]
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            assert pool.submit(square, 3).result() == 9
    return cfg.x

START
"""
GUARDED = """
if __name__ == "__main__":
    OmegaConf.register_new_resolver("twice", lambda x: 2 * x)
    main()
"""
UNGUARDED = """
OmegaConf.register_new_resolver("twice", lambda x: 2 * x)
main()
"""


@pytest.mark.parametrize(
    ("file", "started", "start"),
    [("sub/app.py", "sub/app.py", GUARDED), ("pkg/mod.py", "-m pkg.mod", GUARDED), ("app.py", "app.py", UNGUARDED)],
)
def test_a_trial_finds_the_scripts_own_names_in_main(shell: Shell, file: str, started: str, start: str) -> None:
    app = NAMES.replace("START", start)
    # of a script that starts whenever it is run Python itself cannot spawn a process
    shell.write(file, app if start == GUARDED else app.replace('("fork", "spawn")', '("fork",)'))
    done = sweep(shell, "x=interval(0,1)", app=started)
    assert done.returncode == 0, done.stderr + output(shell)
    assert "2 complete" in done.stdout, output(shell)
    loads = "import pickle\nclass Net:\n    class Layer: pass\ndef square(x): pass\n"
    assert shell.run(sys.executable, "-c", f"{loads}pickle.load(open('net.pickle', 'rb'))").returncode == 0


def test_a_script_that_does_not_run_twice_is_swept_with_copies_of_its_functions_and_says_so(shell: Shell) -> None:
    once = "\nfrom pathlib import Path\nPath('once').mkdir()\ndef half(x): return x / 2\n"
    app = CHDIR.format(version="version_base='1.3', ").replace("import os", f"import os{once}")
    shell.write("app.py", app.replace("return cfg.x", "return hydra.utils.instantiate(cfg.y)"))
    done = sweep(shell, "+x=interval(0,1)", "+y._target_=__main__.half", "+y.x=1", "hydra.sweeper.n_trials=1")
    assert done.returncode == 0, done.stderr + output(shell)
    assert "could not be run again in this trial's process" in output(shell)
    assert "FileExistsError" in output(shell)


def test_an_app_without_a_script_is_swept_with_copies(shell: Shell) -> None:
    words = ["app", "-m", *WORDS, "x=interval(0,1)", "hydra.sweeper.study_name=typed"]
    start = GUARDED.replace("main()", f"sys.argv = {words!r}\n    main()")
    typed = NAMES.replace("START", start).replace('("fork", "spawn")', '("fork",)')
    typed = "\n".join(line for line in typed.splitlines() if "LOCK" not in line and "globals()" not in line)
    typed = typed.replace("        net = inst", "    net = inst").replace(", Net.Layer,", ",")
    process = subprocess.Popen(
        [sys.executable, "-"], cwd=shell.folder, env=shell.env, text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, err = process.communicate(typed, timeout=300)
    assert process.returncode == 0, err + output(shell)
    assert "2 complete" in out


ENDING = """
import atexit, logging, os, tempfile, threading, time
from pathlib import Path
import hydra
import besom

KEPT = tempfile.TemporaryDirectory()
atexit.register(lambda: Path("handlers").open("a").write("at the top\\n"))

def late():
    time.sleep(0.5)
    Path("handlers").open("a").write("thread\\n")

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    folder = tempfile.TemporaryDirectory()
    main.kept = folder
    Path("folders").open("a").write(f"{KEPT.name}\\n{folder.name}\\n")
    atexit.register(lambda: Path("handlers").open("a").write("in the task\\n"))
    writer = open("unflushed", "a")
    writer.write("flushed\\n")
    main.writer = writer
    atexit.register(writer.close)
    threading.Thread(target=late).start()
    if cfg.get("hang"):
        atexit.register(time.sleep, 1000)
    if cfg.get("fluent"):
        import mlflow
        mlflow.set_tracking_uri("sqlite:///mlflow.db")
        mlflow.set_experiment("mine")
        mlflow.start_run()
        mlflow.log_metric("x", cfg.x)
    if cfg.x == 2:
        raise ValueError("two")
    return cfg.x

if __name__ == "__main__":
    main()
"""


def test_a_trials_process_ends_as_a_python_process_does(shell: Shell) -> None:
    shell.write("app.py", ENDING)
    words = ("hydra/sweeper/sampler=grid", "hydra.sweeper.max_failure_rate=null")
    done = sweep(shell, "+x=1,2", "+fluent=true", *words)
    assert done.returncode == 0, done.stderr + output(shell)
    handlers = (shell.folder / "handlers").read_text().split("\n")
    assert sorted(filter(None, handlers)) == sorted(["thread", "in the task", "at the top"] * 2 + ["at the top"]), (
        output(shell)
    )
    assert (shell.folder / "unflushed").read_text() == "flushed\n" * 2
    folders = (shell.folder / "folders").read_text().split()
    assert len(set(folders)) == 4
    assert not [folder for folder in folders if Path(folder).exists()]
    shell.experiment = "mine"
    assert [run.info.status for run in shell.runs()] == ["FINISHED"] * 2


def test_what_hangs_at_a_trials_end_is_not_waited_for(shell: Shell) -> None:
    shell.write("app.py", ENDING)
    done = sweep(shell, "+x=interval(3,4)", "+hang=true", "hydra.sweeper.n_trials=1")
    assert done.returncode == 0, done.stderr + output(shell)
    assert "1 complete" in done.stdout
    assert "has not ended 10 s after its result" in output(shell)


SLOW = """
import os
from pathlib import Path
from slow import VALUE
import seeded, threaded
try:
    import absent
except ImportError:
    absent = None
import broken_inside
import numpy as np

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    assert seeded.DRAWN == 0.13436424411240122
    assert threaded.THREAD.is_alive()
    assert "BESOM_PRELOAD" not in os.environ
    Path("drawn").open("a").write(f"{np.random.rand()}\\n")
    return cfg.x

if __name__ == "__main__":
    main()
"""


def test_what_a_script_imports_at_its_top_is_imported_once_if_it_may_be(shell: Shell) -> None:
    log = "import os\nfrom pathlib import Path\nPath('{0}').open('a').write(f'{{os.getpid()}}\\n')\n"
    shell.write("slow.py", log.format("slow") + "VALUE = 1\n")
    shell.write("seeded.py", log.format("seeded") + "import random\nrandom.seed(1)\nDRAWN = random.random()\n")
    shell.write("threaded.py", "import threading, time\nTHREAD = threading.Thread(target=time.sleep, args=(60,),"
                " daemon=True)\nTHREAD.start()\n")  # fmt: skip
    shell.write("broken_inside.py", "import sys\nif 'besom.engine.warm_process' in sys.modules and not "
                "sys.modules['__main__'].__dict__.get('hydra'):\n    raise ValueError('no')\n")  # fmt: skip
    shell.write("app.py", "import hydra\n" + SLOW)
    done = sweep(shell, "+x=interval(0,1)")
    assert done.returncode == 0, done.stderr + output(shell)
    assert "2 complete" in done.stdout, output(shell)
    assert len(set((shell.folder / "slow").read_text().split())) == 2  # the sweep's own process, and the warm one
    assert len(set((shell.folder / "drawn").read_text().split())) == 2
    [log] = shell.folder.glob("multirun/*/*/warm.log")
    assert "seeded is imported anew by each trial" in log.read_text()
    assert "threaded is imported anew by each trial" in log.read_text()


CHOSEN = """
import hydra
@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg):
    return float(cfg.x)
if __name__ == "__main__":
    main()
"""


@pytest.fixture
def app_with_groups(shell: Shell) -> Shell:
    shell.write("app.py", CHOSEN)
    shell.write("conf/config.yaml", "defaults: [_self_, {model: a}]\nx: 1\n")
    for number, name in enumerate("abc"):
        shell.write(f"conf/model/{name}.yaml", f"# @package _global_\nx: {number}")
    shell.write("conf/model/launch.yaml", "# @package _global_\ndefaults: [{override /hydra/launcher: local}]")
    return shell


def test_glob_searches_the_options_of_a_group_and_folders_are_named_as_hydra_would(app_with_groups: Shell) -> None:
    shell = app_with_groups
    words = ("hydra/sweeper/sampler=grid", "hydra.sweeper.n_trials=9", "hydra.sweep.subdir=model_${x}")
    done = sweep(shell, "model=glob(*,exclude=l*)", *words)
    assert done.returncode == 0, done.stderr + output(shell)
    assert "3 of 3 trials: 3 complete" in done.stdout
    links = {path.name for path in shell.folder.glob("multirun/*/*/*") if path.is_symlink()}
    assert links == {"model_0", "model_1", "model_2"}
    for path in shell.folder.glob("multirun/*/*/model_*"):
        kept = yaml.safe_load((path / ".hydra" / "config.yaml").read_text())
        assert path.name == f"model_{kept['x']}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["x=3"], "there is nothing to search"),
        (["x=1,2", "+hydra.sweeper.n_trails=3"], "hydra.sweeper.n_trails: there is no such setting; did you mean"),
        (["model=glob(zz*)"], "no option of 'model' matches; it has a, b, c, launch"),
        (["x=glob(*)"], "there is no config group 'x'"),
        (["model=a,launch"], "at model=launch: it brings hydra/launcher=local"),
        (["x=1,2", "x=3"], "x=1,2 is not searched: x=3 stands behind it"),
        (["x=1,2", "hydra.sweep.subdir=${x}"], "that name is itself one of besom's own folders"),
        (["x=1,2", "hydra.sweep.dir=out/${x}"], "a sweep has one folder"),
        (["x=1,2", "hydra.sweep.dir=out/${hydra.job.num}"], "a sweep has one folder"),
    ],
)
def test_what_a_sweep_cannot_honour_is_refused_before_it_starts(
    app_with_groups: Shell, words: list[str], said: str
) -> None:
    done = sweep(app_with_groups, *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (app_with_groups.folder / "optuna.db").exists()
