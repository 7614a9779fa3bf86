"""Besom sweeps hyperparameters, with every run recorded."""

from importlib.metadata import version

from besom.trial import TrialPruned, preload, report

__all__ = ["TrialPruned", "preload", "report"]
__version__ = version("besom")
