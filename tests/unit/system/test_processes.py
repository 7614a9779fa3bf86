from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace

import pytest

from besom.system import processes
from besom.system.processes import ProcessIdentity

HOLD = """
import json, sys
from dataclasses import asdict
from besom.system.processes import ProcessIdentity
print(json.dumps(asdict(ProcessIdentity.mine())), flush=True)
sys.stdin.read()
"""
JUDGE = """
import json, sys
from besom.system.processes import ProcessIdentity
holder = ProcessIdentity(**json.loads(sys.argv[1]))
print(json.dumps([holder.is_here(), holder.is_dead()]))
"""
# what a step of the clock by an hour does to the boot time, on which psutil's `create_time` rests
STEPPED_CLOCK = """
awk '$1 == "btime" { $2 += 3600 } { print }' /proc/stat > "$1/stat"
mount --bind "$1/stat" /proc/stat && shift && "$@"
"""


@pytest.fixture
def holder() -> Iterator[ProcessIdentity]:
    with subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        yield ProcessIdentity(**json.loads(process.stdout.readline()))
        process.communicate()


def _judged(holder: ProcessIdentity, *where: str) -> list[bool]:
    """Whether it is here, and dead, as seen by a process that is started so."""
    command = [*where, sys.executable, "-c", JUDGE, json.dumps(asdict(holder))]
    return list(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def _unshare(*options: str) -> list[str]:
    command = ["unshare", *options]
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"no {' '.join(command)} here: it needs Linux, and root")
    return command


def test_a_process_that_lives_is_not_dead(holder):
    assert _judged(holder) == [True, False]
    assert not ProcessIdentity.mine().is_dead()


def test_a_process_that_has_ended_is_dead(holder):
    os.kill(holder.pid, 9)
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)

    assert holder.is_dead()  # a zombie: its parent has not asked for it yet


def test_a_number_that_is_used_again_is_another_process(holder):
    assert replace(holder, started=holder.started - 1).is_dead()


def test_a_step_of_the_clock_kills_nobody(holder, tmp_path):
    where = _unshare("--mount")

    assert _judged(holder, *where, "sh", "-c", STEPPED_CLOCK, "sh", str(tmp_path)) == [True, False]


@pytest.mark.parametrize("proc", [("--mount-proc",), ()])
def test_of_another_containers_process_nothing_is_known(holder, proc):
    """Without a `/proc` of its own a container sees its host's: there its own numbers belong to others."""
    assert _judged(holder, *_unshare("--pid", "--fork", *proc)) == [False, False]


def test_another_name_of_the_host_changes_nothing(holder, monkeypatch):
    monkeypatch.setattr(processes.socket, "gethostname", lambda: "renamed")

    assert holder.is_here()
    assert not holder.is_dead()


def test_after_a_reboot_nothing_is_known(holder):
    boot, _, namespace = holder.machine.partition(" ")
    before = replace(holder, machine=f"{boot[::-1]} {namespace}")

    assert not before.is_here()
    assert not before.is_dead()


def test_a_process_that_proc_hides_is_not_taken_for_dead(holder, tmp_path, monkeypatch):
    """As `/proc` mounted with hidepid=2 shows another user's: not at all."""

    def refused(pid: int, sign: int) -> None:
        raise PermissionError

    for name in ("self/ns", "sys/kernel/random"):
        (tmp_path / name).mkdir(parents=True)
    machine = processes.this_machine()
    monkeypatch.setattr(processes, "PROC", tmp_path)
    monkeypatch.setattr(processes, "this_machine", lambda: machine)
    monkeypatch.setattr(processes.os, "kill", refused)

    assert holder.is_here()
    assert not holder.is_dead()
