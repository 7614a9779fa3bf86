"""Config groups `hydra/sweeper/sampler`, `pruner` and `terminator`: Optuna's own names and, but for asha, defaults.

Not here: what Optuna has deprecated, and what is code and no value (`gamma`, `constraints_func`). A key that is missing
can be added: `+hydra.sweeper.sampler.KEY=VALUE`.
"""

# no `from __future__ import annotations`: Hydra runs this before it is in sys.modules, where dataclasses would look
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore


# ── samplers ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass
class TPEConf:
    """Tree-structured Parzen estimator (Bergstra et al. 2011): Optuna's default, good up to about 1,000 trials."""

    _target_: str = "optuna.samplers.TPESampler"
    seed: int | None = None
    n_startup_trials: int = 10  # drawn at random before the model is trusted
    n_ei_candidates: int = 24
    multivariate: bool | None = None  # null: with one objective
    group: bool = False  # true models each branch of a conditional space; otherwise its keys one by one
    constant_liar: bool = True  # running trials count as bad ones, so that others keep away from them


@dataclass
class RandomConf:
    """Independent draws: no trial knows of another."""

    _target_: str = "optuna.samplers.RandomSampler"
    seed: int | None = None


@dataclass
class GridConf:
    """Every point once, in shuffled order; then the sweep ends. For spaces of choices and ranges."""

    _target_: str = "besom.search.samplers.EveryPoint"
    seed: int | None = None  # of the order; null is 0


@dataclass
class BruteForceConf(GridConf):
    """The same: Optuna's two differ in how they learn the space, which is known here."""


@dataclass
class CmaEsConf:
    """Covariance matrix adaptation (Hansen 2016): numbers only, one objective, some hundred trials. Needs `cmaes`."""

    _target_: str = "optuna.samplers.CmaEsSampler"
    seed: int | None = None
    n_startup_trials: int = 1
    popsize: int | None = None  # null: by the number of dimensions
    consider_pruned_trials: bool = False
    use_separable_cma: bool = False  # for many dimensions that do not depend on each other
    with_margin: bool = False  # keeps whole numbers from sticking to one value
    lr_adapt: bool = False  # for noisy objectives
    warn_independent_sampling: bool = False  # Optuna's true would say it again in each trial


@dataclass
class GPConf:
    """Gaussian process: for dear trials, up to a few hundred; each takes a second or more to choose."""

    _target_: str = "optuna.samplers.GPSampler"
    seed: int | None = None
    n_startup_trials: int = 10
    deterministic_objective: bool = False
    warn_independent_sampling: bool = False  # Optuna's true would say it again in each trial


@dataclass
class QMCConf:
    """A sequence that covers the space more evenly than chance does; best with 2, 4, 8, ... trials."""

    _target_: str = "optuna.samplers.QMCSampler"
    seed: int | None = None
    qmc_type: str = "sobol"  # or halton
    scramble: bool = False  # needs a seed
    warn_asynchronous_seeding: bool = False  # besom asks for the seed
    warn_independent_sampling: bool = False  # Optuna's true would say it again in each trial


@dataclass
class NSGAIIConf:
    """Genetic algorithm for several objectives (Deb et al. 2002); for hundreds of trials."""

    _target_: str = "optuna.samplers.NSGAIISampler"
    seed: int | None = None
    population_size: int = 50
    mutation: Any = None  # a config with _target_: optuna.samplers.nsgaii....
    mutation_prob: float | None = None  # null: one over the number of dimensions
    crossover: Any = None  # a config with _target_; null: uniform
    crossover_prob: float = 0.9
    swapping_prob: float = 0.5


@dataclass
class NSGAIIIConf(NSGAIIConf):
    """The same for four objectives and more (Deb and Jain 2014)."""

    _target_: str = "optuna.samplers.NSGAIIISampler"
    dividing_parameter: int = 3


# ── pruners ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass
class NoneConf:
    """Every trial runs to its end."""

    _target_: str = "optuna.pruners.NopPruner"


@dataclass
class MedianConf:
    """Stop a trial that is worse than the median of the others at the same step."""

    _target_: str = "optuna.pruners.MedianPruner"
    n_startup_trials: int = 5
    n_warmup_steps: int = 0
    interval_steps: int = 1
    n_min_trials: int = 1


@dataclass
class PercentileConf:
    """Stop a trial that is not among the best `percentile` of the others at the same step."""

    _target_: str = "optuna.pruners.PercentilePruner"
    percentile: float = 25.0  # to keep; Optuna has no default
    n_startup_trials: int = 5
    n_warmup_steps: int = 0
    interval_steps: int = 1
    n_min_trials: int = 1


@dataclass
class AshaConf:
    """Asynchronous successive halving (Li et al. 2020): of each rung's trials the best 1 / reduction_factor go on."""

    _target_: str = "besom.search.pruners.SuccessiveHalvingPruner"
    min_resource: Any = 1  # epochs done at the first rung; Optuna's auto waits for the first trial's end to know
    reduction_factor: int = 4
    min_early_stopping_rate: int = 0
    bootstrap_count: int = 0


@dataclass
class HyperbandConf:
    """Successive halving in several brackets, from hasty to patient (Li et al. 2018)."""

    _target_: str = "besom.search.pruners.HyperbandPruner"
    min_resource: int = 1  # epochs done at the first rung
    max_resource: Any = "auto"  # epochs of a whole trial; auto: those of the longest so far
    reduction_factor: int = 3
    bootstrap_count: int = 0


@dataclass
class PatientConf:
    """Let the wrapped pruner stop a trial only when it has not improved for `patience` steps."""

    _target_: str = "optuna.pruners.PatientPruner"
    # another pruner's config; null: patience alone decides
    wrapped_pruner: Any = field(default_factory=lambda: {"_target_": "optuna.pruners.MedianPruner"})
    patience: int = 3  # Optuna has no default
    min_delta: float = 0.0


@dataclass
class ThresholdConf:
    """Stop a trial whose value leaves the limits, or is NaN. Set at least one of them."""

    _target_: str = "optuna.pruners.ThresholdPruner"
    lower: float | None = None
    upper: float | None = None
    n_warmup_steps: int = 0
    interval_steps: int = 1


@dataclass
class WilcoxonConf:
    """Stop a trial that is worse than the best by a signed-rank test; for steps that are instances, such as folds."""

    _target_: str = "optuna.pruners.WilcoxonPruner"
    p_threshold: float = 0.1
    n_startup_steps: int = 2


# ── terminators ───────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass
class NoTerminatorConf:
    """The budget is spent."""


@dataclass
class RegretConf:
    """End when a Gaussian process expects to gain less than `constant`, in the objective's unit (Makarova 2022)."""

    _target_: str = "optuna.terminator.Terminator"
    min_n_trials: int = 20
    improvement_evaluator: Any = field(
        default_factory=lambda: {"_target_": "optuna.terminator.RegretBoundEvaluator", "seed": 0}
    )
    error_evaluator: Any = field(
        default_factory=lambda: {"_target_": "optuna.terminator.StaticErrorEvaluator", "constant": 0.01}
    )


@dataclass
class EmmrConf:
    """End when the expected minimum model regret is small beside what it was at first (Ishibashi et al. 2023)."""

    _target_: str = "optuna.terminator.Terminator"
    min_n_trials: int = 20
    improvement_evaluator: Any = field(
        default_factory=lambda: {"_target_": "optuna.terminator.EMMREvaluator", "seed": 0}
    )
    error_evaluator: Any = field(
        default_factory=lambda: {
            "_target_": "optuna.terminator.MedianErrorEvaluator",
            "paired_improvement_evaluator": {"_target_": "optuna.terminator.EMMREvaluator", "seed": 0},
        }
    )


SAMPLERS = {
    "tpe": TPEConf,
    "random": RandomConf,
    "grid": GridConf,
    "brute_force": BruteForceConf,
    "cmaes": CmaEsConf,
    "gp": GPConf,
    "qmc": QMCConf,
    "nsgaii": NSGAIIConf,
    "nsgaiii": NSGAIIIConf,
}
PRUNERS = {
    "none": NoneConf,
    "median": MedianConf,
    "percentile": PercentileConf,
    "asha": AshaConf,
    "hyperband": HyperbandConf,
    "patient": PatientConf,
    "threshold": ThresholdConf,
    "wilcoxon": WilcoxonConf,
}

TERMINATORS = {"none": NoTerminatorConf, "regret": RegretConf, "emmr": EmmrConf}

GROUPS = {"sampler": SAMPLERS, "pruner": PRUNERS, "terminator": TERMINATORS}
for group, options in GROUPS.items():
    for name, node in options.items():
        ConfigStore.instance().store(group=f"hydra/sweeper/{group}", name=name, node=node, provider="besom")
