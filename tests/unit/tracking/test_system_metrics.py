from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from doors import eventually

from besom.tracking.run_log import RunLog, read
from besom.tracking.system_metrics import sampled

MEMORY = "system/system_memory_usage_megabytes"
CPU = "system/cpu_utilization_percentage"
RARELY = 3600.0

# with a child as busy as itself, which holds 200 MB
BUSY = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", "held = bytearray(200_000_000); print(flush=True)\\nwhile True: pass"])
while True: pass
"""


@pytest.fixture
def log(tmp_path: Path) -> RunLog:
    return RunLog(tmp_path / "run.jsonl")


def samples(log: RunLog) -> list[tuple[int, dict[str, float]]]:
    return [(entry["step"], entry["values"]) for entry, _ in read(log.path)]


def test_a_block_shorter_than_the_interval_has_one_sample(log):
    with sampled(log, os.getpid(), RARELY):
        pass

    [(step, values)] = samples(log)
    assert step == 0
    assert values[MEMORY] > 1


def test_a_longer_one_has_several_numbered_by_their_steps(log):
    with sampled(log, os.getpid(), 0.01):
        eventually(lambda: len(samples(log)) >= 3, "three samples")

    assert [step for step, _ in samples(log)] == list(range(len(samples(log))))


def test_a_later_attempt_counts_on(log):
    for _ in range(2):
        with sampled(log, os.getpid(), RARELY):
            pass
        log.metrics({"val/acc": 0.5}, step=7)

    assert [step for step, values in samples(log) if MEMORY in values] == [0, 1]


def test_what_a_process_has_started_counts_with_it(log):
    busy = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, start_new_session=True)
    assert busy.stdout
    busy.stdout.readline()  # the child holds its memory
    try:
        with sampled(log, busy.pid, 0.2):
            eventually(lambda: any(values.get(CPU, 0) > 0 for _, values in samples(log)), "a busy moment")
    finally:
        os.killpg(busy.pid, 9)
        busy.communicate()

    assert max(values[MEMORY] for _, values in samples(log)) > 200


def test_of_a_process_that_is_gone_nothing_is_written(log):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()

    with sampled(log, gone.pid, 0.01):
        pass

    assert samples(log) == []


def test_a_dead_process_that_nobody_has_waited_for_uses_nothing(log):
    dead = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert dead.stdout
    dead.stdout.read()  # it has closed all its files
    eventually(lambda: psutil.Process(dead.pid).status() == psutil.STATUS_ZOMBIE, "its end")
    with sampled(log, dead.pid, 0.01):
        pass
    dead.communicate()

    assert samples(log) == []


def test_after_the_block_nothing_is_written(log):
    with sampled(log, os.getpid(), 0.001) as sampler:
        pass

    assert not sampler._thread.is_alive()  # type: ignore[attr-defined]


def test_asked_for_no_samples_it_writes_none(log):
    with sampled(log, os.getpid(), None):
        pass

    assert samples(log) == []


@pytest.mark.parametrize("visible", ["", "-1", "0", "GPU-no-such"])
def test_whatever_gpus_it_is_told_of_it_samples_the_rest(log, monkeypatch, visible):
    """Where there are none; where one is there, it may be among them."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    with sampled(log, os.getpid(), RARELY):
        pass

    [(_, values)] = samples(log)
    assert MEMORY in values
