"""Whether less or more of a metric is better, by its name: the direction of an objective that gives none."""

from __future__ import annotations

import re
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

from besom.config import resolvers

Mode = Literal["min", "max"]

_LOWER = """
    loss losses error errors err mistake mistakes mse mae rmse rmsle msle mape smape mase wape nrmse perplexity ppl nll
    nlpd cer wer mer ter eer fid kid lpips brier ece bpc bpb bpd entropy ce bce xent crossentropy kl kld jsd
    divergence distance dist time times latency delay duration runtime walltime seconds secs sec ms memory mem bytes
    params parameters flops macs cost costs energy regret penalty risk hamming hausdorff chamfer fpr fnr far frr
    deviation variance residual residuals impurity violation violations deviance
"""
_HIGHER = """
    acc accuracy accuracies top1 top5 f1 f2 fbeta fscore auc auroc roc auprc aucpr ap map mrr ndcg precision recall
    sensitivity specificity iou miou jaccard dice bleu rouge meteor cider chrf reward rewards return returns r2 score
    scores psnr ssim kappa mcc correlation corr pearson spearman likelihood elbo success win wins winrate throughput
    speed fps gain profit tpr tnr hits hit coverage utility correct snr sharpe fitness
"""
LOWER, HIGHER = frozenset(_LOWER.split()), frozenset(_HIGHER.split())
# of words written as one: `valloss`, `MeanSquaredError`
LOWER_ENDS = ("loss", "error", "entropy", "perplexity", "latency", "divergence")
HIGHER_ENDS = ("accuracy", "score", "reward", "precision", "recall")
TURNED = frozenset(("neg", "negative", "minus", "inverse"))


def mode_of(metric: str) -> Mode | None:
    """`min` or `max`, as the metric's name says; None: it says neither, or both.

    >>> mode_of("val/loss"), mode_of("valAcc"), mode_of("error_rate"), mode_of("neg_log_loss"), mode_of("objective")
    ('min', 'max', 'min', 'max', None)
    """
    said = _said(metric)
    return said.pop() if len(said) == 1 else None


def default_mode(metric: str) -> Mode:
    """Where nothing else is said: `max`, unless the name says that less is better.

    >>> default_mode("val/loss"), default_mode("accuracy_loss"), default_mode("objective")
    ('min', 'min', 'max')
    """
    return "min" if "min" in _said(metric) else "max"


def against_its_name(metric: str, mode: str, key: str, given: str) -> str | None:
    """What to say of a direction that the metric's name contradicts; None: it does not."""
    named = mode_of(metric)
    if named is None or named == mode:
        return None
    end, better = ("largest", "less") if mode == "max" else ("smallest", "more")
    return (
        f"{key}={given} takes the {end} {metric} for the best, though by its name {better} is better; if that is not "
        f"meant, leave {key} out"
    )


def _said(metric: str) -> set[Mode]:
    """By each of its words that says something."""
    if re.search(r"per_?(s|sec|second)$", metric.lower()):
        return {"max"}
    words = _words(metric)
    said: set[Mode] = {mode for word in words if (mode := _mode_of_word(word))}
    turned = not TURNED.isdisjoint(words) or re.match(r"\s*(1\s*)?-\s*\w", metric)
    return {"min" if mode == "max" else "max" for mode in said} if turned else said


def _words(metric: str) -> list[str]:
    """`val/MeanSquaredError2` → val, mean, squared, error; each of them whole too."""
    found = []
    for word in re.split(r"[^A-Za-z0-9]+", metric):
        parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", word)
        found += [word.lower(), *(part.lower() for part in parts)]
    return [word for word in dict.fromkeys(found) if word]


def _mode_of_word(word: str) -> Mode | None:
    for one in (word, word.rstrip("0123456789")):
        if one in LOWER:
            return "min"
        if one in HIGHER:
            return "max"
    if word.endswith(LOWER_ENDS):
        return "min"
    return "max" if word.endswith(HIGHER_ENDS) else None


def _mode(metric: Any, given: Any = None) -> str:
    """`${besom.mode:val/loss}`; a mode that is given holds."""
    return default_mode(str(metric)) if given is None else str(given)


def _direction(*, _root_: DictConfig) -> str | None:
    return mode_of_app(_root_)


def mode_of_app(config: DictConfig) -> str | None:
    """Of an app that has an `objective.mode` in its config; None: it says nothing."""
    section = OmegaConf.select(config, "objective", throw_on_resolution_failure=False)
    if not isinstance(section, DictConfig) or "mode" not in section:
        return None
    mode, metric = (OmegaConf.select(section, key, throw_on_resolution_failure=False) for key in ("mode", "metric"))
    if mode is None and metric is not None:
        return default_mode(str(metric))
    return None if mode is None else str(mode)


def register() -> None:
    """Make `${besom.mode:METRIC}` known to configs, and `${besom.direction:}` to the sweeper's."""
    resolvers.register("besom.mode", _mode)
    resolvers.register("besom.direction", _direction)


register()
