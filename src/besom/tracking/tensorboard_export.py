"""A study's runs as TensorBoard's event files, with what its table of hyperparameters needs. Loads TensorBoard."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.plugins.hparams import summary_v2 as hp
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from besom.tracking.study_runs import Hyperparameter, Recorded, number_of

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run

LARGEST = 3.4028235e38  # that TensorBoard keeps; as infinity MLflow has a number that is larger
ENDED = {"FINISHED": api_pb2.STATUS_SUCCESS, "FAILED": api_pb2.STATUS_FAILURE}  # it has no word for a pruned one


def write_all(recorded: Recorded, folder: Path, suffix: str) -> None:
    """One file for the study, and one for each trial, in folders of their own; `suffix`: of the files' names."""
    begun = _seconds(recorded.run.info.start_time)
    _write(folder, [Event(wall_time=begun, summary=_columns(recorded, begun))], suffix)
    for run, point in zip(recorded.trials, recorded.points, strict=True):
        _write(folder / f"trial-{number_of(run)}", _events(run, point, recorded.metrics(run)), suffix)


def _write(folder: Path, events: Sequence[Event] | Iterator[Event], suffix: str) -> None:
    with closing(EventFileWriter(str(folder), filename_suffix=suffix)) as file:
        for event in events:
            file.add_event(event)


def _events(run: Run, point: Mapping[str, Hyperparameter], metrics: Iterator[Metric]) -> Iterator[Event]:
    begun = _seconds(run.info.start_time)
    begin = hp.hparams_pb(point, trial_id=f"trial-{number_of(run)}", start_time_secs=begun)
    yield Event(wall_time=begun, summary=begin)
    for metric in metrics:
        yield Event(wall_time=_seconds(metric.timestamp), step=metric.step, summary=_scalar(metric))
    if run.info.end_time:
        yield Event(wall_time=_seconds(run.info.end_time), summary=_end(run))


def _columns(recorded: Recorded, begun: float) -> Summary:
    """Of the table of hyperparameters: those that are searched, and the objective."""
    keys = sorted({key for point in recorded.points for key in point})
    domains = {key: _domain([point[key] for point in recorded.points if key in point]) for key in keys}
    searched = [hp.HParam(key, domain) for key, domain in domains.items()]
    return hp.hparams_config_pb(searched, [hp.Metric(key) for key in recorded.objectives()], begun)


def _domain(values: Sequence[Any]) -> Any:
    if isinstance(values[0], float):
        return hp.RealInterval(min(values), max(values))
    return hp.Discrete(sorted(set(values)))


def _end(run: Run) -> Summary:
    """TensorBoard makes these only where TensorFlow is, so it is put together here."""
    ended = plugin_data_pb2.SessionEndInfo(
        status=ENDED.get(run.info.status, api_pb2.STATUS_UNKNOWN), end_time_secs=_seconds(run.info.end_time)
    )
    value = Summary.Value(
        tag=metadata.SESSION_END_INFO_TAG,
        metadata=metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=ended)),
        tensor=metadata.NULL_TENSOR,
    )
    return Summary(value=[value])


def _scalar(metric: Metric) -> Summary:
    value = math.copysign(math.inf, metric.value) if abs(metric.value) > LARGEST else metric.value
    return scalar_pb(metric.key, value)


def _seconds(milliseconds: int) -> float:
    return milliseconds / 1000
