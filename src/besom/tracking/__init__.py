"""A run's log, and its way into MLflow."""

from besom.tracking.log import Entry, RunLog
from besom.tracking.recorder import Recorder
from besom.tracking.scribe import Scribe
from besom.tracking.store import AwayError, Store, persistently

__all__ = ["AwayError", "Entry", "Recorder", "RunLog", "Scribe", "Store", "persistently"]
