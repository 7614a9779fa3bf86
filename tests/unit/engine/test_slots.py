from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from besom.engine.slots import Slot, Wanted, share, visible_gpus
from besom.errors import InputError

FOUR = ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("wanted", "gpus", "cores", "slots"),
    [
        (Wanted(), (), 8, [Slot(1)] * 8),
        (Wanted(threads_per_trial=3), (), 8, [Slot(3, as_asked=True)] * 2),
        (Wanted(threads_per_trial=9), (), 8, [Slot(9, as_asked=True)]),
        (Wanted(n_jobs=2), (), 8, [Slot(4)] * 2),
        (Wanted(n_jobs=16), (), 8, [Slot(1)] * 16),
        (Wanted(n_jobs=2, threads_per_trial=1), (), 8, [Slot(1, as_asked=True)] * 2),
        (Wanted(), FOUR, 8, [Slot(2, (gpu,)) for gpu in FOUR]),
        (Wanted(n_jobs=2), FOUR, 8, [Slot(4, ("0",)), Slot(4, ("1",))]),
        (Wanted(trials_per_gpu=2), ("0", "1"), 8, [Slot(2, (gpu,)) for gpu in "0101"]),
        (Wanted(n_jobs=3), ("7",), 3, [Slot(1, ("7",))] * 3),  # so many were wanted: they share it
        (Wanted(gpus_per_trial=2), FOUR, 8, [Slot(4, ("0", "1")), Slot(4, ("2", "3"))]),
        (Wanted(gpus_per_trial=3), FOUR, 8, [Slot(8, ("0", "1", "2"))]),
        (Wanted(n_jobs=2, gpus_per_trial=0), FOUR, 8, [Slot(4, ("",))] * 2),
        (Wanted(gpus_per_trial=0), (), 2, [Slot(1)] * 2),
    ],
)
def test_a_machine_is_shared(wanted: Wanted, gpus, cores, slots) -> None:
    assert share(wanted, gpus, cores) == tuple(slots)


@pytest.mark.parametrize(
    ("wanted", "gpus", "message"),
    [
        (Wanted(gpus_per_trial=5), FOUR, "gpus_per_trial=5: this machine shows 4: 0, 1, 2, 3"),
        (Wanted(gpus_per_trial=1), (), "gpus_per_trial=1: this machine shows no GPU"),
        (Wanted(trials_per_gpu=2), (), "trials_per_gpu=2: this machine shows no GPU"),
        (Wanted(trials_per_gpu=2, gpus_per_trial=2), FOUR, "choose one"),
        (Wanted(n_jobs=5, trials_per_gpu=1), FOUR, "n_jobs=5: 4 GPUs have room for 4 trials"),
        (Wanted(n_jobs=3, gpus_per_trial=2), FOUR, "n_jobs=3: 4 GPUs have room for 2 trials"),
    ],
)
def test_more_than_there_is_is_refused(wanted: Wanted, gpus, message) -> None:
    with pytest.raises(InputError, match=f"hydra.sweeper.*{message}"):
        share(wanted, gpus, cores=8)


@given(
    n_jobs=st.none() | st.integers(1, 20),
    trials_per_gpu=st.none() | st.integers(1, 4),
    gpus_per_trial=st.none() | st.integers(1, 4),
    gpus=st.integers(1, 8),
)
def test_no_gpu_has_more_trials_than_was_said(n_jobs, trials_per_gpu, gpus_per_trial, gpus) -> None:
    wanted = Wanted(n_jobs, None, trials_per_gpu, gpus_per_trial)
    names = tuple(map(str, range(gpus)))
    try:
        slots = share(wanted, names, cores=8)
    except InputError:
        return
    given_out = [gpu for slot in slots for gpu in slot.gpus or ()]
    most = max(given_out.count(gpu) for gpu in names)
    assert all(len(slot.gpus or ()) == (gpus_per_trial or 1) for slot in slots)
    assert len(slots) == n_jobs or n_jobs is None
    if trials_per_gpu or gpus_per_trial:
        assert most <= (trials_per_gpu or 1)
    if n_jobs is None:
        assert most == (trials_per_gpu or 1)


@pytest.mark.parametrize(
    ("variable", "gpus"),
    [("0,1", ("0", "1")), ("GPU-8a, MIG-3", ("GPU-8a", "MIG-3")), ("", ()), ("-1", ()), ("0,-1,1", ("0",))],
)
def test_the_environment_says_which_gpus_may_be_used(variable, gpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert visible_gpus() == gpus


def test_a_slot_names_its_gpus_and_threads_to_every_library() -> None:
    named = Slot(3, ("1", "0")).environment({})
    assert named["CUDA_VISIBLE_DEVICES"] == "1,0"
    assert named["OMP_NUM_THREADS"] == named["MKL_NUM_THREADS"] == "3"
    assert "CUDA_VISIBLE_DEVICES" not in Slot(3).environment({})


def test_what_the_user_has_set_stands() -> None:
    assert Slot(2).environment({"OMP_NUM_THREADS": "1"}) == {}  # by which the others go
    assert "MKL_NUM_THREADS" not in Slot(2).environment({"MKL_NUM_THREADS": "1"})
    assert Slot(2).environment({"MKL_NUM_THREADS": "1"})["OMP_NUM_THREADS"] == "2"


def test_what_the_sweep_was_asked_for_comes_first() -> None:
    [slot] = share(Wanted(n_jobs=1, threads_per_trial=3), (), 8)

    assert slot.environment({"OMP_NUM_THREADS": "1"})["OMP_NUM_THREADS"] == "3"
