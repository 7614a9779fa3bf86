"""Besom sweeps hyperparameters, with every run recorded."""

from importlib.metadata import version

from besom.trial import TrialPruned, fingerprint, preload, prepare, report

__all__ = ["TrialPruned", "fingerprint", "preload", "prepare", "report"]
__version__ = version("besom")
