"""Besom sweeps hyperparameters, with every run recorded."""

from importlib.metadata import version

from besom.trial import TrialPruned, preload, prepare, report

__all__ = ["TrialPruned", "preload", "prepare", "report"]
__version__ = version("besom")
