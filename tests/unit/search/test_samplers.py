from __future__ import annotations

import importlib.util
import inspect
import multiprocessing
from dataclasses import asdict
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from typing import Any

import optuna
import pytest
from hydra import compose, initialize
from hydra.utils import get_class
from hypothesis import given
from hypothesis import strategies as st
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import RandomSampler
from optuna.storages import RDBStorage, get_storage
from optuna.trial import Trial, TrialState

from besom.config.hydra_compat import VERSION_BASE
from besom.errors import InputError
from besom.search.samplers import check, make_pruner, make_sampler, size
from besom.space.parse import parse
from besom.space.space import Space
from besom.system.locks import sqlite_lock
from hydra_plugins.besom_sweeper.samplers import PRUNERS, SAMPLERS

NUMBERS = parse({"x": "interval(0,1)", "y": "int(interval(1,5))"}, [])
CHOICES = parse({"a": "choice(p,q)", "b": "choice(r,s)"}, [])
MIXED = parse({"x": "interval(0,1)", "a": "choice(p,q)"}, [])
CONDITIONAL = parse({"x": "interval(0,1)", "a": {"p": {"y": "interval(0,1)"}, "q": {"z": "interval(0,1)"}}}, [])
FINITE = parse({"a": "choice(p,q)", "n": "range(1,4)", "f": "range(0,0.3,0.1)"}, [])
FINITE_CONDITIONAL = parse(
    {
        "n": "range(1,3)",
        "a": {"p": {"m": "range(0,3)", "b": {"r": {"k": "1,2"}, "s": None}}, "q": {"m": "5,6"}, "o": None},
    },
    [],
)

needs_cmaes = pytest.mark.skipif(importlib.util.find_spec("cmaes") is None, reason="cmaes is not installed")


def _config(name: str, **more: Any) -> dict[str, Any]:
    return {**asdict(SAMPLERS[name]()), **more}


def _swept(config: dict[str, Any], space: Space, trials: int, directions: int = 1) -> list[dict[str, Any]]:
    """As the engine does it: all trials are queued first, and each has a sampler of its own."""
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(storage=storage, directions=["minimize"] * directions)
    for _ in range(trials):
        study.enqueue_trial({})
    points = []
    for number, waiting in enumerate(study.get_trials()):
        storage.set_trial_state_values(waiting._trial_id, TrialState.RUNNING)
        own = optuna.load_study(study_name=None, storage=storage, sampler=make_sampler(config, space, number))
        trial = Trial(own, waiting._trial_id)
        points.append(space.suggest(trial))
        own.tell(trial, [sum(v for v in points[-1].values() if isinstance(v, (int, float)))] * directions)
    return points


# ── the config groups ─────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("group", "name"), [*(("sampler", name) for name in SAMPLERS), *(("pruner", p) for p in PRUNERS)]
)
def test_every_key_and_default_is_optunas_own(group, name):
    conf = asdict((SAMPLERS if group == "sampler" else PRUNERS)[name]())
    parameters = inspect.signature(get_class(conf.pop("_target_")).__init__).parameters
    known = {key: parameter.default for key, parameter in parameters.items()}

    assert set(conf) <= set(known)
    differing = {key for key, value in conf.items() if known[key] not in (value, inspect.Parameter.empty)}
    # two that would warn in each trial; the seed of a grid, which Optuna reads as 0 too; what asha would wait for
    assert differing <= {"warn_independent_sampling", "warn_asynchronous_seeding", "seed", "min_resource"}


def test_hydra_finds_each_sampler_and_pruner_by_its_name():
    with initialize(config_path=None, **VERSION_BASE):
        for sampler, pruner in zip([*SAMPLERS], [*PRUNERS, "none"], strict=True):
            chosen = ["hydra/sweeper=besom", f"hydra/sweeper/sampler={sampler}", f"hydra/sweeper/pruner={pruner}"]
            sweeper = compose(overrides=chosen, return_hydra_config=True).hydra.sweeper

            assert sweeper.sampler._target_ == SAMPLERS[sampler]._target_
            assert sweeper.pruner._target_ == PRUNERS[pruner]._target_


def test_every_pruner_is_built_with_its_defaults():
    for name in PRUNERS.keys() - {"threshold"}:
        assert isinstance(make_pruner(asdict(PRUNERS[name]())), BasePruner)


def test_a_threshold_without_limits_is_refused():
    with pytest.raises(InputError, match=r"^hydra\.sweeper\.pruner: optuna\.pruners\.ThresholdPruner: .*lower.*upper"):
        make_pruner(asdict(PRUNERS["threshold"]()))


def test_without_a_pruner_nothing_is_pruned():
    assert isinstance(make_pruner(None), NopPruner)


def test_a_patient_pruner_may_wrap_any_other_or_none():
    patient = asdict(PRUNERS["patient"]())

    for wrapped in (None, asdict(PRUNERS["asha"]())):
        assert isinstance(make_pruner({**patient, "wrapped_pruner": wrapped}), optuna.pruners.PatientPruner)


@pytest.mark.parametrize("first", [0, 1])  # how the app counts its epochs
@pytest.mark.parametrize(
    ("name", "more"),
    [("asha", {}), ("hyperband", {"max_resource": 3, "reduction_factor": 4})],  # in one bracket
)
def test_successive_halving_looks_after_one_epoch_and_after_four(name, more, first):
    study = optuna.create_study(direction="maximize", pruner=make_pruner({**asdict(PRUNERS[name]()), **more}))

    def ended(values: list[float]) -> int | None:
        """After how many epochs."""
        trial = study.ask()
        for number, value in enumerate(values):
            trial.report(value, first + number)
            if trial.should_prune():
                return number + 1
        return None

    assert ended([0.8] * 10) is None
    assert ended([0.5] * 10) == 1
    assert ended([0.9] + [0.5] * 9) == 4


# ── what each sampler can do, with the real one ───────────────────────────────────────────────────────────────────────
SPACES = {"numbers": NUMBERS, "choices": CHOICES, "mixed": MIXED, "conditional": CONDITIONAL, "finite": FINITE}


ENDLESS = ("numbers", "mixed", "conditional")
REFUSED = {
    *((name, space) for name in ("grid", "brute_force") for space in ENDLESS),
    *((name, "conditional") for name in ("cmaes", "gp", "qmc")),
    ("cmaes", "choices"),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs_cmaes if name == "cmaes" else ()) for name in SAMPLERS]
)
def test_what_is_not_refused_can_be_swept_to_the_end_and_a_seed_repeats_it(name):
    config = _config(name, seed=0, **({"n_startup_trials": 2} if name in ("tpe", "gp") else {}))
    config |= {"population_size": 3} if name.startswith("nsga") else {}

    for space in [space for label, space in SPACES.items() if (name, label) not in REFUSED]:
        for directions in (1, 2) if name != "cmaes" else (1,):
            check(config, space, None, directions)
            points = _swept(config, space, 6, directions)

            assert points == _swept(config, space, 6, directions)
            assert len({str(point) for point in points}) > 1


@pytest.mark.parametrize(
    ("name", "space", "directions", "message"),
    [
        ("grid", MIXED, 1, r"x=interval\(0\.0, 1\.0\) has no end of points to try them all: write range\("),
        ("brute_force", CONDITIONAL, 1, r"x=interval\(0\.0, 1\.0\) has no end"),
        (
            "gp",
            CONDITIONAL,
            1,
            r"GPSampler searches no conditional space, and would draw y \[a=p\] at random: choose tpe",
        ),
        ("qmc", CONDITIONAL, 1, r"QMCSampler searches no conditional space"),
        ("cmaes", CONDITIONAL, 1, r"CmaEsSampler searches no conditional space"),
        ("cmaes", CHOICES, 1, r"CmaEsSampler searches numbers, .*: choose tpe or grid"),
        ("cmaes", NUMBERS, 2, r"one objective, and there are 2: choose nsgaii or tpe"),
    ],
)
def test_a_sampler_that_cannot_do_the_space_is_refused(name, space, directions, message):
    with pytest.raises(InputError, match=rf"^hydra\.sweeper\.sampler: .*{message}"):
        check(_config(name), space, None, directions)


@pytest.mark.skipif(importlib.util.find_spec("cmaes") is not None, reason="cmaes is installed")
def test_a_sampler_whose_package_is_missing_is_refused():
    with pytest.raises(InputError, match="CmaEsSampler needs the package cmaes: pip install cmaes"):
        check(_config("cmaes"), NUMBERS, None)


def test_a_scrambled_sequence_without_a_seed_is_refused():
    with pytest.raises(InputError, match=r"scrambles its sequence by a seed, .*: set hydra\.sweeper\.sampler\.seed"):
        check(_config("qmc", scramble=True), NUMBERS, None)


@pytest.mark.parametrize("seed", [-1, 2**31, 0.5, "one", True])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(InputError, match=rf"^hydra\.sweeper\.sampler\.seed={seed}: must be a whole number"):
        check(_config("random", seed=seed), NUMBERS, None)


@pytest.mark.parametrize("config", [{"_target_": "optuna.samplers.NoSampler"}, _config("tpe", colour="red")])
def test_a_sampler_that_cannot_be_built_is_refused(config):
    with pytest.raises(InputError, match=r"^hydra\.sweeper\.sampler: optuna\.samplers\.\w+: "):
        check(config, NUMBERS, None)


def test_a_pruner_with_several_objectives_is_refused():
    check(_config("tpe"), NUMBERS, {"_target_": "optuna.pruners.NopPruner"}, directions=2)

    with pytest.raises(
        InputError, match=r"MedianPruner compares trials by one objective, and there are 2: choose .*none"
    ):
        check(_config("tpe"), NUMBERS, asdict(PRUNERS["median"]()), directions=2)


def test_each_trial_has_a_seed_of_its_own():
    points = [_swept(_config("random", seed=seed), NUMBERS, 2) for seed in (0, 1)]

    assert points[0][1] == points[1][0]
    assert points[0][0] != points[0][1]


# ── every point once ──────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("space", "points"),
    [
        (CHOICES, 4),
        (FINITE, 2 * 3 * 3),
        (FINITE_CONDITIONAL, 2 * (3 * (2 + 1) + 2 + 1)),
        (parse({"x": "interval(1,1)"}, []), 1),
        (parse({"x": "int(interval(1,1000000000))", "y": "int(interval(1,1000000000))"}, []), 10**18),
        (parse({}, []), 1),
    ],
)
def test_the_size_of_a_space_is_the_number_of_its_points(space, points):
    assert size(_config("grid"), space) == points


def test_a_sampler_without_an_end_has_no_size():
    assert size(_config("tpe"), CHOICES) is None


@pytest.mark.parametrize("space", [CHOICES, FINITE, FINITE_CONDITIONAL], ids=["choices", "finite", "conditional"])
@pytest.mark.parametrize("name", ["grid", "brute_force"])
def test_every_point_is_tried_once(name, space):
    points = size(_config(name), space)
    assert points

    tried = [str(point) for point in _swept(_config(name, seed=7), space, points)]

    assert len(set(tried)) == points


@pytest.mark.parametrize("target", ["optuna.samplers.GridSampler", "optuna.samplers.BruteForceSampler"])
def test_a_user_of_optunas_names_gets_every_point_too(target):
    assert len({str(point) for point in _swept({"_target_": target}, CHOICES, 4)}) == 4


def test_a_seed_gives_the_grid_its_order():
    orders = [_swept(_config("grid", seed=seed), FINITE, 18) for seed in (None, 0, 1)]

    assert orders[0] == orders[1] != orders[2]


@given(st.integers(1, 30), st.integers(0, 5), st.integers(0, 2**31 - 1))
def test_a_shuffled_grid_of_any_size_has_all_its_points(points, known, seed):
    space = parse({"n": f"range({points})"}, [])
    sampler = make_sampler({"_target_": "besom.search.samplers.EveryPoint", "seed": seed}, space, 0)
    study = optuna.create_study(sampler=RandomSampler())

    drawn = []
    for _ in range(known):  # known points come first, and use up their numbers
        study.enqueue_trial({"n": 0})
    for number in range(known + points):
        study.sampler = sampler
        drawn.append(study.ask().suggest_int("n", 0, points - 1) if points > 1 else 0)
        assert number == len(drawn) - 1

    assert sorted(drawn[known:]) == list(range(points))


def test_a_known_point_that_leads_into_another_branch_is_filled_in():
    space = parse({"a": {"p": {"m": "1,2"}, "q": {"k": "3,4"}}}, [])
    for option in ("p", "q"):
        study = optuna.create_study(sampler=make_sampler(_config("grid"), space, 0))
        study.enqueue_trial(space.known_point({"a": option}))

        assert set(space.suggest(study.ask())) == {"a", "m" if option == "p" else "k"}


POINTS, WORKERS = 18, 4


def _pull(url: str, ready: Barrier, tried: SimpleQueue[str]) -> None:
    """A worker, as far as sampling goes."""
    storage = get_storage(RDBStorage(url))
    study = optuna.load_study(study_name="s", storage=storage)
    ready.wait()
    while trial := _claimed(study, url):
        tried.put(str(FINITE.suggest(trial)))
        trial.study.tell(trial, 0.0)


def _claimed(study: optuna.Study, url: str) -> Trial | None:
    with sqlite_lock(url):
        for waiting in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            if study._storage.set_trial_state_values(waiting._trial_id, TrialState.RUNNING):
                sampler = make_sampler(_config("grid"), FINITE, waiting.number)
                return Trial(
                    optuna.load_study(study_name="s", storage=study._storage, sampler=sampler), waiting._trial_id
                )
    return None


def test_several_workers_try_every_point_once(tmp_path):
    url = f"sqlite:///{tmp_path}/optuna.db"
    study = optuna.create_study(study_name="s", storage=url)
    for _ in range(POINTS):
        study.enqueue_trial({})
    context = multiprocessing.get_context("spawn")
    ready, tried = context.Barrier(WORKERS), context.SimpleQueue()
    workers = [context.Process(target=_pull, args=(url, ready, tried)) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    points = []
    while not tried.empty():
        points.append(tried.get())
    assert len(points) == len(set(points)) == POINTS


@needs_cmaes
def test_a_pickle_in_a_storage_that_others_may_write_to_is_refused():
    with pytest.raises(InputError, match=r"CmaEsSampler keeps its state in the storage as a pickle"):
        check(_config("cmaes"), NUMBERS, None, is_shared=True)
