"""What one sees of a sweep: on a terminal while it runs, and from any other one with `besom status`, `best`, `stop`."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest
import yaml
from doors import BESOM, Shell
from optuna.trial import FrozenTrial

from besom.study.attrs import N_TRIALS, SLOTS
from besom.study.lease import LeaseMonitor
from besom.study.objective import objectives
from besom.study.study import Study
from sweeps import BASE, LEASE_S, UNRECORDED, Sweep, assert_whole, study

# the first trial reports, and then is held until the test lets it go on
APP = """
import time
from pathlib import Path
import besom
import hydra
from hydra.core.hydra_config import HydraConfig

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    for step in range(3):
        besom.report(cfg.x * step, step)
    while HydraConfig.get().job.num == 0 and not Path("go").exists():
        time.sleep(0.05)
    return cfg.x

if __name__ == "__main__":
    main()
"""
LONG = "+a_key_of_some_length=choice(a_value_for_which_there_is_no_room_beside_all_the_rest)"
TRIALS = 6
FIVE = "5 complete  0 pruned  0 failed  1 left"


@dataclass(frozen=True)
class Watched:
    """A sweep of six trials on two slots, as it was seen on its own terminal and from a pipe."""

    shell: Shell
    meanwhile: list[str]  # the screen, when all trials but the first had ended
    status: str  # `besom status -f` in a pipe: what it said at that moment
    followed: str  # and then
    at_the_end: list[str]

    @property
    def trials(self) -> list[FrozenTrial]:
        return study(self.shell).trials

    @property
    def best(self) -> FrozenTrial:
        return study(self.shell).best_trial


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Watched]:
    @cache
    def watch(columns: int) -> Watched:
        return _watch(Shell(tmp_path_factory.mktemp("watched")), columns)

    return watch


def _watch(shell: Shell, columns: int) -> Watched:
    shell.write("app.py", APP)
    wanted = ("hydra.sweeper.n_jobs=2", f"hydra.sweeper.n_trials={TRIALS}", "hydra.sweeper.lease=30", UNRECORDED, LONG)
    terminal = shell.terminal(sys.executable, "app.py", "-m", *BASE, *wanted, columns=columns, lines=24)
    meanwhile = terminal.until(lambda screen: screen and screen[-1] == FIVE, "five trials have ended")
    follower = shell.start(BESOM, "status", "-f")
    assert follower.stdout
    status = list(iter(follower.stdout.readline, f"{FIVE}\n"))
    shell.write("go", "")
    code, sent = terminal.end()
    assert code == 0, sent
    followed = follower.communicate()[0]
    assert follower.returncode == 0
    return Watched(shell, meanwhile, "".join(status), followed, terminal.screen)


@pytest.fixture(params=[80, 140])
def watched(request: pytest.FixtureRequest, watch: Callable[[int], Watched]) -> Watched:
    return watch(request.param)


@pytest.fixture
def swept(watch: Callable[[int], Watched]) -> Watched:
    return watch(140)


# ── the live table ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_terminal_shows_what_runs_with_its_value_and_curve(watched: Watched) -> None:
    [head] = [line for line in watched.meanwhile if line.startswith("slot ")]
    first, second = watched.meanwhile[watched.meanwhile.index(head) + 1 :][:2]
    held = watched.trials[0]
    busy = next(line.split() for line in (first, second) if "idle" not in line)
    assert busy[1:5] == ["0", "2", f"{2 * held.params['+x']:.4f}", "▁▅█"]
    assert any(line.split()[-1] == "idle" for line in (first, second))


def test_the_terminal_shows_the_best_so_far_and_what_is_left(watched: Watched) -> None:
    best = min(watched.trials[1:], key=lambda trial: trial.value)
    assert f"best objective {best.value:.4f}  trial {best.number}  " in watched.meanwhile[-3]
    assert "5/6" in watched.meanwhile[-2]
    assert "to go" in watched.meanwhile[-2]
    assert "idle" in watched.meanwhile[-2]
    assert watched.meanwhile[-1] == FIVE


def test_no_line_of_the_terminal_is_wrapped(watched: Watched) -> None:
    """Each begins as a line does."""
    known = ("study app: ", "Ctrl-C ", "trial ", "slot ", "0 ", "1 ", "best ", "━", "5 complete")
    assert [line for line in watched.meanwhile if line and not line.startswith(known)] == []


def test_finished_trials_scroll_by_above_the_table_a_line_each(watched: Watched) -> None:
    lines = [line for line in watched.meanwhile if line.startswith("trial ")]
    assert sorted(int(line.split()[1]) for line in lines) == [1, 2, 3, 4, 5]
    assert all(" complete  objective " in line and line.endswith(" s") for line in lines)
    assert watched.meanwhile.index(lines[-1]) < watched.meanwhile.index(
        next(line for line in watched.meanwhile if line.startswith("slot "))
    )


def test_at_the_end_the_summary_takes_the_place_of_the_table(watched: Watched) -> None:
    screen = "\n".join(watched.at_the_end)
    assert "slot " not in screen
    assert sum(line.startswith("trial ") for line in watched.at_the_end) == TRIALS
    assert "study app: 6 of 6 trials: 6 complete, 0 pruned, 0 failed" in screen
    assert f"best: trial {watched.best.number} with objective {watched.best.value:.4f}" in screen


def test_a_terminal_made_smaller_is_drawn_anew_and_ctrl_c_leaves_a_followed_sweep_alone(shell: Shell) -> None:
    """The sweep is this process."""
    url = f"sqlite:///{shell.folder / 'optuna.db'}"
    study = Study.create(url, "app", objectives("minimize", "objective"), shell.folder, {})
    study.remember(N_TRIALS, 3)
    study.remember(SLOTS, 2)
    with study.supervised(LeaseMonitor(LEASE_S)):
        terminal = shell.terminal(BESOM, "status", "-f", columns=120, lines=24)
        terminal.until(lambda screen: screen and screen[-1].endswith("3 left"), "the table is there")
        terminal.resize(columns=50, lines=12)
        narrow = terminal.until(
            lambda screen: screen and screen[-1].endswith("3 left") and "so far" not in str(screen), "it is drawn anew"
        )
        assert sum(line.startswith("slot ") for line in narrow) == 1
        terminal.ctrl_c()
        assert terminal.end()[0] == 0
        assert study.stop_request() is None


# ── besom status ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_status_says_from_elsewhere_what_the_sweeps_terminal_says(swept: Watched) -> None:
    assert swept.status.startswith("study app: being swept by process ")
    assert "▁▅█" in swept.status
    assert "a_value_for_which_there_is_no_room_beside_all_the_rest" in swept.status  # a pipe has room
    assert "5/6" in swept.status


def test_a_followed_sweep_tells_of_each_trial_that_ends_and_then_of_its_end(swept: Watched) -> None:
    trial, end, *_ = swept.followed.splitlines()
    assert trial.startswith("trial 0 complete  objective ")
    assert end == "study app: finished, 6 of 6 trials"


def test_the_status_of_a_finished_study_names_its_best_trial(swept: Watched) -> None:
    done = swept.shell.besom("status", "app")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("study app: finished, 6 of 6 trials\n")
    assert f"best objective {swept.best.value:.4f}  trial {swept.best.number}  " in done.stdout
    assert "slot" not in done.stdout


# ── besom best ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_best_lists_the_best_trials_in_order_with_the_command_of_the_first(swept: Watched) -> None:
    done = swept.shell.besom("best", "-n", "3")
    assert (done.returncode, done.stderr) == (0, "")
    _, head, *rows, command = done.stdout.splitlines()
    assert head.split()[:4] == ["rank", "trial", "objective", "took"]
    ranked = sorted(swept.trials, key=lambda trial: trial.value)[:3]
    assert [row.split()[:3] for row in rows] == [
        [str(rank), str(trial.number), f"{trial.value:.4f}"] for rank, trial in enumerate(ranked, 1)
    ]
    assert command.startswith("repeat the first:  python app.py +x=")
    assert str(ranked[0].params["+x"]) in command


def test_best_for_programs_is_a_list_and_nothing_else(swept: Watched) -> None:
    as_json = json.loads(swept.shell.besom("best", "app", "--json").stdout)
    assert as_json == yaml.safe_load(swept.shell.besom("best", "app", "--yaml").stdout)
    assert [one["number"] for one in as_json] == [
        trial.number for trial in sorted(swept.trials, key=lambda trial: trial.value)[:5]
    ]
    first, best = as_json[0], swept.best
    assert first["values"] == {"objective": best.value}
    assert first["params"]["x"] == best.params["+x"]
    assert first["overrides"] == best.user_attrs["besom.overrides"]
    assert shlex.split(first["command"]) == ["python", "app.py", *first["overrides"]]
    assert first["run"] is None  # it was not recorded


# ── besom stop ────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.usefixtures("stocked")
def test_a_sweep_is_stopped_from_another_terminal_and_the_same_command_goes_on(shell: Shell) -> None:
    sweep = Sweep(shell, "+how=until told", "hydra.sweeper.n_trials=3")
    sweep.wait_for_attempt(0)
    follower = shell.terminal(BESOM, "status", "-f", columns=80, lines=24)
    follower.until(lambda screen: screen and screen[-1].endswith("3 left"), "the table is there")
    early = shell.besom("best")
    assert (early.returncode, early.stdout) == (1, "")
    assert early.stderr == "besom: no trial of study 'app' is complete yet\n"

    asked = shell.besom("stop", "app")

    assert asked.returncode == 0, asked.stderr
    assert f"asked process {sweep.process.pid} on " in asked.stdout
    assert "0 of 3 trials have ended, 3 to go; go on with: python app.py -m hydra/sweeper=besom " in asked.stdout
    code, said = sweep.end()
    assert code == 130
    assert "stopping (besom stop, from " in said
    assert "Traceback" not in said
    assert [trial.state.name for trial in study(shell).trials] == ["WAITING"]
    assert {run.info.status for run in shell.runs()} == {"KILLED"}
    assert follower.end()[0] == 0
    assert "study app: interrupted, 3 of 3 trials to go; go on with:" in " ".join(follower.screen)
    again = shell.besom("stop", "app")
    assert again.returncode == 2
    assert again.stderr.startswith("besom: study 'app' is not being swept: ")
    shell.write("go", "")
    done = sweep.again()
    assert done.returncode == 0, done.stderr
    assert_whole(shell, 3)


# ── bad input ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["status", "ap"], "no study 'ap' in sqlite:///"),
        (["stop", "ap"], "did you mean 'app'?"),
        (["best", "-n", "0"], "-n 0: must be at least 1"),
        (["status", "--storage", "sqlite:///elsewhere.db"], "elsewhere.db: nothing has been swept here"),
    ],
    ids=lambda words: words[0],
)
def test_a_wrong_question_is_refused_with_one_message(swept: Watched, words: list[str], says: str) -> None:
    done = swept.shell.besom(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("besom: ")
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (swept.shell.folder / "elsewhere.db").exists()
