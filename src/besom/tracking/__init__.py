"""A run's log, and its way into MLflow."""

from besom.tracking.mlflow_store import AwayError, Store, persistently
from besom.tracking.run_log import Entry, RunLog
from besom.tracking.run_uploader import Recorder
from besom.tracking.upload_thread import Scribe

__all__ = ["AwayError", "Entry", "Recorder", "RunLog", "Scribe", "Store", "persistently"]
