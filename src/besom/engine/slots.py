"""Slots: the places of this machine where one trial runs each, a GPU, a share of one, several, or some CPU cores."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil

import joblib

from besom.errors import InputError

HIDE_ALL = ""  # as a value of CUDA_VISIBLE_DEVICES


# how many threads a library starts; OpenBLAS, MKL and NumExpr go by OpenMP's, where they have none of their own
OPENMP = "OMP_NUM_THREADS"
THREADS = (OPENMP, "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(frozen=True)
class Slot:
    threads: int | None = None  # of one trial, on the CPU; None: as many as its worker has cores
    gpus: tuple[str, ...] | None = None  # None: as its worker finds them
    as_asked: bool = False  # the user has named the number of threads

    def environment(self, users: Mapping[str, str]) -> dict[str, str]:
        """What a trial's libraries read when they wake: torch and the BLAS libraries do so once.

        What is in the user's own environment stands, but for what `threads_per_trial` names.
        """
        threads = dict.fromkeys(THREADS, str(self.threads or cores()))
        if not self.as_asked:
            threads = {} if OPENMP in users else {name: count for name, count in threads.items() if name not in users}
        # by bus, as nvidia-smi counts: CUDA's own order is by speed
        order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if self.gpus else {}
        return threads | order | ({} if self.gpus is None else {"CUDA_VISIBLE_DEVICES": ",".join(self.gpus)})

    def threads_environment(self, users: Mapping[str, str]) -> dict[str, str]:
        """What is the same for all slots of a machine: all but their GPUs."""
        return replace(self, gpus=None).environment(users)


@dataclass(frozen=True)
class Wanted:
    """As the user asked for slots; None: besom chooses."""

    n_jobs: int | None = None
    threads_per_trial: int | None = None
    trials_per_gpu: int | None = None
    gpus_per_trial: int | None = None


def share(wanted: Wanted, gpus: tuple[str, ...], cores: int) -> tuple[Slot, ...]:
    """One slot a GPU, or as many as fit the cores, unless something else is wanted.

    Raises:
        InputError: more is wanted than there is, or two wishes exclude each other.
    """
    each = wanted.gpus_per_trial
    if (wanted.trials_per_gpu or 1) > 1 and (each or 1) > 1:
        raise InputError(
            f"hydra.sweeper.trials_per_gpu={wanted.trials_per_gpu} and hydra.sweeper.gpus_per_trial={each}: "
            "a GPU is shared by trials, or a trial has several; choose one"
        )
    if each == 0 or not gpus:
        if asked := [key for key in ("gpus_per_trial", "trials_per_gpu") if getattr(wanted, key)]:
            raise InputError(f"hydra.sweeper.{asked[0]}={getattr(wanted, asked[0])}: this machine shows no GPU")
        count = wanted.n_jobs or max(1, cores // (wanted.threads_per_trial or 1))
        # 0: a trial is to see none, where there are some
        named = wanted.threads_per_trial is not None
        return (Slot(_threads(wanted, cores, count), (HIDE_ALL,) if gpus else None, named),) * count
    return _on_gpus(wanted, gpus, cores)


def as_given(wanted: Wanted) -> tuple[Slot, ...]:
    """For workers on machines that a cluster chooses: each has what it is given there.

    Raises:
        InputError: GPUs are asked for, which the launcher asks the cluster for.
    """
    if asked := [key for key in ("gpus_per_trial", "trials_per_gpu") if getattr(wanted, key) is not None]:
        raise InputError(
            f"hydra.sweeper.{asked[0]}={getattr(wanted, asked[0])}: the workers run on a cluster, which the launcher "
            "asks for GPUs: hydra.launcher.gpus_per_node=1 of submitit, +hydra.launcher.ray.remote.num_gpus=1 of Ray"
        )
    return (Slot(wanted.threads_per_trial, as_asked=wanted.threads_per_trial is not None),) * (wanted.n_jobs or 1)


def _on_gpus(wanted: Wanted, gpus: tuple[str, ...], cores: int) -> tuple[Slot, ...]:
    each = wanted.gpus_per_trial or 1
    if each > len(gpus):
        raise InputError(f"hydra.sweeper.gpus_per_trial={each}: this machine shows {len(gpus)}: {', '.join(gpus)}")
    groups = [gpus[start : start + each] for start in range(0, len(gpus) - each + 1, each)]
    # several to a GPU where so many are wanted; where each has its own, no more than there are
    fit = wanted.trials_per_gpu or (1 if wanted.gpus_per_trial else ceil((wanted.n_jobs or 1) / len(groups)))
    count = wanted.n_jobs or fit * len(groups)
    if count > fit * len(groups):
        raise InputError(
            f"hydra.sweeper.n_jobs={count}: {len(gpus)} GPUs have room for {fit * len(groups)} trials with "
            f"trials_per_gpu={fit} and gpus_per_trial={each}"
        )
    threads = _threads(wanted, cores, count)
    named = wanted.threads_per_trial is not None
    return tuple(Slot(threads, groups[n % len(groups)], named) for n in range(count))


def _threads(wanted: Wanted, cores: int, count: int) -> int:
    return wanted.threads_per_trial or max(1, cores // count)


def visible_gpus() -> tuple[str, ...]:
    """As CUDA_VISIBLE_DEVICES names them; asked of the driver's own tool, since torch would take seconds to say."""
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        names = [name.strip() for name in named.split(",") if name.strip()]
        return tuple(names[: names.index("-1")] if "-1" in names else names)  # CUDA sees none from -1 on
    if (tool := shutil.which("nvidia-smi")) is None:
        return ()
    try:
        listed = subprocess.run(
            [tool, "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):  # a driver without a GPU
        return ()
    return tuple(line.strip() for line in listed.stdout.splitlines() if line.strip().isdigit())


def cores() -> int:
    """That this process may use: fewer than there are in a container, or under `taskset`."""
    return int(joblib.cpu_count())
