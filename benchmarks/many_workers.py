"""What the engine itself can do for many workers on one machine: trials that take no time, and leases that must hold.

python benchmarks/many_workers.py [STORAGE URL]
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import threading
import time
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path

from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from table import heading, table

from besom.study.lease import LeaseLost, LeaseMonitor
from besom.study.objective import objectives
from besom.study.queue import Claim, Queue
from besom.study.study import Study

WORKERS, SECONDS, WARM_S, LEASE_S = (8, 32, 64), 20.0, 10.0, 10.0


def _work(url: str, name: str, ended: Synchronized[int], lost: Synchronized[int], done: Event) -> None:
    """As a worker does: looks for the dead, claims, beats meanwhile, tells."""
    study = Study(url, name, wait=True)
    queue, watch = Queue(study), LeaseMonitor(LEASE_S)
    while not done.is_set():
        if watch.is_due():
            with lost.get_lock():
                lost.value += len(queue.reap(watch, 99))
        claim = queue.claim(10**9, lambda number: RandomSampler(seed=number), NopPruner())
        assert claim
        let_go = threading.Event()
        pulse = threading.Thread(target=_beat, args=(queue, claim, let_go), daemon=True)
        pulse.start()
        x = claim.trial.suggest_float("x", 0, 1)
        try:
            queue.complete(claim, [x])
        except LeaseLost:
            continue
        finally:
            let_go.set()
            pulse.join()
        with ended.get_lock():
            ended.value += 1


def _beat(queue: Queue, claim: Claim, let_go: threading.Event) -> None:
    lease = claim.lease
    while not let_go.wait(LEASE_S / 5):
        lease = lease.renewed()
        try:
            queue.renew(claim, lease)
        except LeaseLost:
            return


def measured(url: str, name: str, folder: Path, workers: int) -> tuple[float, int]:
    """Trials a second, and trials that were taken from a holder that was alive."""
    Study.create(url, name, objectives("minimize", "loss"), folder, {})
    context = multiprocessing.get_context("fork")
    ended, lost, done = context.Value("i", 0), context.Value("i", 0), context.Event()
    processes = [context.Process(target=_work, args=(url, name, ended, lost, done)) for _ in range(workers)]
    for process in processes:
        process.start()
    time.sleep(WARM_S)  # till all are there
    before, began = ended.value, time.monotonic()
    time.sleep(SECONDS)
    rate = (ended.value - before) / (time.monotonic() - began)
    done.set()
    for process in processes:
        process.join()
    return rate, lost.value


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        url = sys.argv[1] if len(sys.argv) > 1 else f"sqlite:///{folder}/optuna.db"
        for workers in WORKERS:
            rate, lost = measured(url, f"bench {workers} {time.time()}", Path(folder), workers)
            rows.append([str(workers), f"{rate:.1f}", str(lost)])
    print(heading(f"Trials that take no time, {SECONDS:g} s each: {url.partition(':')[0]}"))
    print(table(["workers", "trials a second", "live ones taken for dead"], rows))


if __name__ == "__main__":
    main()
