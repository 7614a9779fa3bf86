"""A run's log, and its way into MLflow."""

from besom.tracking.mlflow_store import AwayError, Store, persistently
from besom.tracking.run_log import Entry, RunLog
from besom.tracking.run_uploader import RunUploader
from besom.tracking.upload_thread import UploadThread

__all__ = ["AwayError", "Entry", "RunLog", "RunUploader", "Store", "UploadThread", "persistently"]
