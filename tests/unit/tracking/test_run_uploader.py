from __future__ import annotations

import json
import math
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.utils import validation

from besom.errors import RunError
from besom.tracking import RunLog, RunUploader, Store, UploadThread
from besom.tracking.run_uploader import MAX_BATCH, MAX_METRICS, MAX_PARAMS, MAX_TAG, MAX_TAGS

Record = Callable[..., Run]


@pytest.fixture
def log(tmp_path):
    return RunLog(tmp_path / "run.jsonl")


@pytest.fixture
def record(store, log) -> Record:
    """Send the whole log; with `run_id`, as another attempt of that run. The finished run."""

    def record(status: str = "FINISHED", **how) -> Run:
        recorder = RunUploader(store, log.path, **how)
        recorder.finish(status)  # type: ignore[arg-type]
        assert recorder.sync()
        return store.client.get_run(recorder.run_id)

    return record


def _history(store: Store, run: Run, key: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in store.client.get_metric_history(run.info.run_id, key)]


def _artifact(store: Store, run: Run, path: str) -> str:
    return Path(store.client.download_artifacts(run.info.run_id, path)).read_text()


# ── what arrives ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_params_arrive_as_a_config_would_have_them(log, record):
    log.params({"lr": 1e-05, "hidden": [64, 32], "name": None, "amsgrad": False})

    assert record().data.params == {"lr": "1e-05", "hidden": "[64, 32]", "name": "null", "amsgrad": "false"}


def test_more_params_than_one_batch_holds_all_arrive(log, record):
    params = {f"key{number}": str(number) for number in range(250)}
    log.params(params)

    assert record().data.params == params


def test_more_of_each_kind_than_one_batch_holds_arrive_together(log, record, store):
    params, tags = ({f"{kind}{number}": str(number) for number in range(150)} for kind in ("param", "tag"))
    log.params(params)
    log.tags(tags)
    for step in range(25):
        log.metrics({f"metric{number}": float(step) for number in range(100)}, step)

    run = record()

    assert run.data.params == params
    assert tags.items() <= run.data.tags.items()
    assert all(len(_history(store, run, f"metric{number}")) == 25 for number in range(100))


def test_a_batch_is_no_larger_than_a_server_takes():
    assert MAX_BATCH <= validation.MAX_ENTITIES_PER_BATCH
    assert MAX_PARAMS <= validation.MAX_PARAMS_TAGS_PER_BATCH
    assert MAX_TAGS <= validation.MAX_PARAMS_TAGS_PER_BATCH
    assert MAX_METRICS <= validation.MAX_METRICS_PER_BATCH


def test_a_value_too_long_for_mlflow_goes_whole_into_an_artifact(log, record, store):
    log.params({"note": "x" * 7000, "short": "y"})

    run = record()

    assert run.data.params == {"note": "→ artifact params/note.txt", "short": "y"}
    assert _artifact(store, run, "params/note.txt") == "x" * 7000


def test_the_longest_value_mlflow_takes_arrives_as_it_is(log, record):
    log.params({"note": "x" * 6000})

    assert record().data.params == {"note": "x" * 6000}


def test_tags_of_the_log_and_of_the_recorder_arrive(log, record):
    log.tags({"device": "cpu"})

    tags = record(tags={"besom.trial": "3"}).data.tags

    assert (tags["device"], tags["besom.trial"]) == ("cpu", "3")


def test_more_tags_than_one_batch_holds_all_arrive(log, record):
    tags = {f"key{number}": str(number) for number in range(250)}
    log.tags(tags)

    assert tags.items() <= record().data.tags.items()


def test_a_tag_too_long_for_mlflow_is_cut_and_goes_whole_into_an_artifact(log, record, store):
    log.tags({"note": "x" * 10_000})

    run = record()

    assert run.data.tags["note"] == "x" * MAX_TAG
    assert _artifact(store, run, "tags/note.txt") == "x" * 10_000


def test_a_recorders_own_tags_win_over_the_facts_of_the_process(record):
    assert record(tags={"mlflow.source.name": "besom train"}).data.tags["mlflow.source.name"] == "besom train"


@pytest.mark.parametrize("tag", ["host", "platform", "mlflow.user", "version.python", "version.torch", "version.besom"])
def test_where_and_with_what_it_ran_is_written_down(tag, record):
    assert record().data.tags[tag]


def test_every_installed_package_is_written_down(record, store):
    assert "\nmlflow==" in _artifact(store, record(), "requirements.txt")


def test_metrics_arrive_by_step(log, record, store):
    for step, loss in enumerate([1.0, 0.5, 0.25]):
        log.metrics({"train/loss": loss, "val/acc": 1 - loss}, step)

    run = record()

    assert _history(store, run, "train/loss") == [(0, 1.0), (1, 0.5), (2, 0.25)]
    assert _history(store, run, "val/acc") == [(0, 0.0), (1, 0.5), (2, 0.75)]


def test_more_metrics_than_one_batch_holds_all_arrive(log, record, store):
    for step in range(1500):
        log.metrics({"train/loss": 1.0 / (step + 1)}, step)

    assert [step for step, _ in _history(store, record(), "train/loss")] == list(range(1500))


def test_a_metric_keeps_the_time_when_it_was_written(log, record, store):
    log.path.write_text('{"kind": "metrics", "values": {"loss": 1.0}, "step": 0, "t": 1700000000000}\n')

    (metric,) = store.client.get_metric_history(record().info.run_id, "loss")
    assert metric.timestamp == 1_700_000_000_000


def test_nan_arrives_as_nan(log, record, store):
    log.metrics({"train/loss": math.nan}, step=0)

    ((_, value),) = _history(store, record(), "train/loss")
    assert math.isnan(value)


def test_the_true_value_of_what_is_no_finite_number_stands_in_a_tag(log, record):
    for step, value in enumerate((0.5, math.inf, -math.inf, math.nan, math.nan)):
        log.metrics({"train/loss": value}, step=step)

    tags = record().data.tags

    assert tags["not_finite.train/loss.inf"] == "inf at step 1"
    assert tags["not_finite.train/loss.-inf"] == "-inf at step 2"
    assert tags["not_finite.train/loss.nan"] == "nan at step 3, 4"


@pytest.mark.parametrize("sign", [1, -1])
def test_infinity_arrives_as_the_largest_number_mlflow_has(sign, log, record, store):
    log.metrics({"train/loss": sign * math.inf}, step=0)

    ((_, value),) = _history(store, record(), "train/loss")
    assert value * sign > 1e308


def test_an_artifact_arrives_in_its_folder(log, record, store, tmp_path):
    (tmp_path / "best.ckpt").write_text("weights")
    (tmp_path / "config.yaml").write_text("seed: 0")
    log.artifact(tmp_path / "best.ckpt", "checkpoints")
    log.artifact(tmp_path / "config.yaml")

    run = record()

    assert _artifact(store, run, "checkpoints/best.ckpt") == "weights"
    assert _artifact(store, run, "config.yaml") == "seed: 0"


def test_a_dataset_arrives_with_its_facts(log, record):
    schema, profile = json.dumps({"images": "uint8"}), json.dumps({"num_rows": 1797})
    log.dataset(name="digits", digest="abc", origin="scikit-learn", schema=schema, profile=profile)

    ((dataset),) = [given.dataset for given in record().inputs.dataset_inputs]

    assert (dataset.name, dataset.digest, dataset.schema, dataset.profile) == ("digits", "abc", schema, profile)
    assert json.loads(dataset.source) == {"uri": "scikit-learn"}


def test_a_run_has_the_name_and_the_parent_it_was_given(store, record):
    parent = store.create_run("study", {})

    run = record(name="0 · relu", parent=lambda: parent)

    assert run.info.run_name == "0 · relu"
    assert run.data.tags["mlflow.parentRunId"] == parent


def test_a_run_whose_parent_is_not_there_yet_is_made_later(store, log):
    made: list[str] = []

    def parent() -> str:
        if not made:
            raise RunError("the study has no run yet")
        return made[0]

    recorder = RunUploader(store, log.path, parent=parent)
    with pytest.raises(RunError):
        recorder.sync()
    assert recorder.run_id is None

    made.append(store.create_run("study", {}))
    recorder.sync()
    assert store.client.get_run(recorder.run_id).data.tags["mlflow.parentRunId"] == made[0]


# ── once, and only once ───────────────────────────────────────────────────────────────────────────────────────────────
def test_what_is_written_while_the_run_goes_on_arrives(store, log):
    with UploadThread() as upload_thread, RunUploader(store, log.path) as recorder:
        upload_thread.take(recorder)
        log.metrics({"train/loss": 1.0}, step=0)

    assert _history(store, store.client.get_run(recorder.run_id), "train/loss") == [(0, 1.0)]


def test_a_log_sent_twice_adds_nothing(store, log, record, tmp_path):
    (tmp_path / "config.yaml").write_text("seed: 0")
    log.params({"lr": 0.1, "note": "x" * 7000})
    log.tags({"device": "cpu"})
    log.metrics({"train/loss": 1.0}, step=0)
    log.artifact(tmp_path / "config.yaml")
    log.dataset(name="digits", digest="abc", origin="scikit-learn", schema="{}", profile="{}")
    first = record()

    again = record(run_id=first.info.run_id)

    assert _history(store, again, "train/loss") == [(0, 1.0)]
    assert again.data.params == first.data.params
    assert again.data.tags == first.data.tags
    assert len(again.inputs.dataset_inputs) == 1


def test_another_attempt_goes_on_in_the_same_run(store, log, record):
    log.metrics({"train/loss": 1.0}, step=0)
    lost = record("KILLED")

    log.metrics({"train/loss": 0.5}, step=1)
    run = record(run_id=lost.info.run_id)

    assert run.info.run_id == lost.info.run_id
    assert run.info.status == "FINISHED"
    assert _history(store, run, "train/loss") == [(0, 1.0), (1, 0.5)]


def test_an_attempt_taken_up_again_is_running(store, log, record):
    lost = record("KILLED")

    with RunUploader(store, log.path, run_id=lost.info.run_id) as recorder:
        assert not recorder.sync()

        assert store.client.get_run(lost.info.run_id).info.status == "RUNNING"


# ── when it began and ended ───────────────────────────────────────────────────────────────────────────────────────────
def test_a_run_is_as_long_as_its_log_however_late_it_is_sent(log, record, monkeypatch):
    _write_at(monkeypatch, 1000.0, log.attempt)
    _write_at(monkeypatch, 1006.3, lambda: log.metrics({"objective": 1.0}, step=0))

    run = record()  # many years after

    assert (run.info.start_time, run.info.end_time) == (1_000_000, 1_006_300)


def test_a_run_goes_from_its_first_attempt_to_the_end_of_its_last(store, log, record, monkeypatch):
    _write_at(monkeypatch, 1000.0, log.attempt)
    lost = record("KILLED")
    _write_at(monkeypatch, 1060.0, log.attempt)
    _write_at(monkeypatch, 1063.0, lambda: log.metrics({"objective": 1.0}, step=1))

    run = record(run_id=lost.info.run_id)

    assert (run.info.start_time, run.info.end_time) == (1_000_000, 1_063_000)


def _write_at(monkeypatch, seconds: float, write: Callable[[], None]) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("besom.tracking.run_log.time.time", lambda: seconds)
        write()


# ── what MLflow does not take ─────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("name", ["acc@5", "größe", "a=b", "loss/", "/loss", "a//b", "..", "x" * 300])
def test_a_metric_that_mlflow_cannot_name_holds_up_no_other(name, log, record, store):
    log.metrics({name: 0.9}, step=0)
    log.metrics({"train/loss": 1.0}, step=0)

    assert _history(store, record(), "train/loss") == [(0, 1.0)]


def test_a_param_that_mlflow_cannot_name_holds_up_no_other(log, record):
    log.params({"acc@5": True, "lr": 0.1})

    assert record().data.params["lr"] == "0.1"


def test_two_names_that_mlflow_cannot_take_stay_two(log, record):
    log.metrics({"acc@1": 0.5, "acc@5": 0.9}, step=0)

    assert sorted(record().data.metrics.values()) == [0.5, 0.9]


def test_an_artifact_that_is_gone_holds_up_nothing_else(log, record, store, tmp_path):
    log.artifact(tmp_path / "gone.ckpt")
    log.metrics({"train/loss": 1.0}, step=0)

    assert _history(store, record(), "train/loss") == [(0, 1.0)]


def test_a_param_that_another_attempt_changed_holds_up_nothing_else(log, record, store):
    log.params({"trainer.max_epochs": 5})
    lost = record("KILLED")

    log.params({"trainer.max_epochs": 10})
    log.metrics({"train/loss": 1.0}, step=0)

    assert _history(store, record(run_id=lost.info.run_id), "train/loss") == [(0, 1.0)]


def test_a_param_that_another_attempt_added_arrives_beside_one_that_it_changed(log, record):
    log.params({"trainer.max_epochs": 5})
    lost = record("KILLED")

    log.params({"trainer.max_epochs": 10, "parameters": 1000})

    assert record(run_id=lost.info.run_id).data.params == {"trainer.max_epochs": "5", "parameters": "1000"}


def _rename(database: Path, old: str, new: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f"ALTER TABLE {old} RENAME TO {new}")


def test_what_a_broken_store_did_not_take_is_sent_again_when_it_is_mended(store, log, tmp_path, monkeypatch):
    monkeypatch.setattr("besom.tracking.upload_thread.EVERY_S", 0.01)
    refused = threading.Event()
    monkeypatch.setattr("besom.tracking.upload_thread.log.warning", lambda *_: refused.set())
    with UploadThread() as upload_thread, RunUploader(store, log.path) as recorder:
        assert not recorder.sync()
        upload_thread.take(recorder)
        _rename(tmp_path / "mlflow.db", "metrics", "hidden")
        log.metrics({"train/loss": 1.0}, step=0)
        assert refused.wait(60)

        _rename(tmp_path / "mlflow.db", "hidden", "metrics")

    assert _history(store, store.client.get_run(recorder.run_id), "train/loss") == [(0, 1.0)]


# ── how it ends ───────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_block_that_reaches_its_end_finishes_the_run(store, log):
    with UploadThread() as upload_thread, RunUploader(store, log.path) as recorder:
        upload_thread.take(recorder)

    run = store.client.get_run(recorder.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.end_time


def _ended_by(store: Store, log: RunLog, error: BaseException) -> Run:
    recorder = RunUploader(store, log.path)

    def block() -> None:
        with UploadThread() as upload_thread, recorder:
            upload_thread.take(recorder)
            raise error

    with pytest.raises(type(error), match=str(error)):
        block()
    return store.client.get_run(recorder.run_id)


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (KeyboardInterrupt("Ctrl-C"), "KILLED", "interrupted"),
        (SystemExit(143), "KILLED", "interrupted"),
        (ValueError("the loss is NaN"), "FAILED", "ValueError: the loss is NaN"),
    ],
)
def test_an_error_passes_on_and_ends_the_run_with_its_reason(error, status, reason, store, log):
    run = _ended_by(store, log, error)

    assert (run.info.status, run.data.tags["besom.reason"]) == (status, reason)


def test_a_reason_longer_than_a_tag_is_cut(store, log):
    run = _ended_by(store, log, ValueError("x" * 10_000))

    assert run.data.tags["besom.reason"] == f"ValueError: {'x' * 10_000}"[:MAX_TAG]


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_finish_sets_the_status(status, record):
    assert record(status).info.status == status


def test_an_outcome_is_kept_in_the_sweeps_words(store, log):
    recorder = RunUploader(store, log.path)

    recorder.finish("KILLED", "pruned at step 3", outcome="pruned")
    recorder.sync()

    tags = store.client.get_run(recorder.run_id).data.tags
    assert (tags["besom.outcome"], tags["besom.reason"]) == ("pruned", "pruned at step 3")


def test_a_run_without_outcome_and_reason_has_no_empty_tags(record):
    assert not {"besom.outcome", "besom.reason"} & set(record().data.tags)


# ── MLflow is away ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_run_whose_making_was_not_answered_is_not_made_twice(store, log, monkeypatch):
    create = store.client.create_run

    def create_unanswered(*words, **more):
        create(*words, **more)
        monkeypatch.undo()
        raise ConnectionError("500")

    monkeypatch.setattr(store.client, "create_run", create_unanswered)
    recorder = RunUploader(store, log.path)
    with pytest.raises(ConnectionError):
        recorder.sync()
    recorder.finish("FINISHED")
    assert recorder.sync()

    (run,) = store.client.search_runs([store.experiment_id()])
    assert run.info.status == "FINISHED"


def test_an_earlier_attempts_run_is_found_by_what_it_is_known_by(store, record):
    parent = store.create_run("study", {})
    first = record(parent=lambda: parent, known_by={"besom.trial": "3"})
    record(parent=lambda: parent, known_by={"besom.trial": "33"})

    again = record(parent=lambda: parent, known_by={"besom.trial": "3"}, is_new=False)

    assert again.info.run_id == first.info.run_id


def test_a_run_that_does_not_count_is_sent_nothing(store, log):
    log.params({"lr": 0.1})
    recorder = RunUploader(store, log.path, counts=lambda run_id: False)

    assert recorder.sync()

    assert store.client.get_run(recorder.run_id).data.params == {}


def test_a_run_that_has_been_taken_up_by_then_is_not_ended(store, log):
    recorder = RunUploader(store, log.path)

    recorder.finish("KILLED", outcome="requeued", unless=lambda: True)

    assert recorder.sync()
    assert store.client.get_run(recorder.run_id).info.status == "RUNNING"


def test_who_gives_up_says_nothing_more(store, log):
    recorder = RunUploader(store, log.path)
    recorder.give_up()

    assert recorder.sync()
    assert recorder.run_id is None


# ── not before it is taken ────────────────────────────────────────────────────────────────────────────────────────────
def test_nothing_is_made_before_it_is_taken(tmp_path, log):
    with RunUploader(Store(f"sqlite:///{tmp_path}/fresh.db", "besom"), log.path) as recorder:
        log.params({"lr": 0.1})

    assert recorder.run_id is None
    assert [path.name for path in tmp_path.iterdir()] == ["run.jsonl"]


def test_a_block_that_fails_before_it_is_taken_leaves_no_run(store, log):
    with pytest.raises(ValueError, match="refused"), RunUploader(store, log.path):
        raise ValueError("refused")

    assert store.client.get_experiment_by_name("besom") is None


# ── text that no database takes ───────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("text", ["caf\udce9", "nul \0 nul"])
def test_a_run_ends_whatever_the_text_of_its_names_values_and_reason(store, log, text):
    log.params({text: text, "long": text * 3000})
    log.tags({text: text})
    log.metrics({text: 1.0}, 0)
    recorder = RunUploader(
        store, log.path, name=text, tags={"mlflow.source.name": text}, known_by={"besom.folder": text}
    )
    recorder.finish("FAILED", text)
    assert recorder.sync()

    run = store.client.get_run(recorder.run_id)
    escaped = text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    assert (run.info.status, run.info.run_name) == ("FAILED", escaped)
    assert run.data.tags["besom.reason"] == run.data.tags["mlflow.source.name"] == escaped
    assert store.find({"besom.folder": text}) == recorder.run_id


def test_lines_that_are_no_records_are_skipped_and_told_once(store, log, caplog):
    log.params({"a": 1})
    with log.path.open("ab") as file:
        file.write(b'42\n{"kind": 1}\n')
    recorder = RunUploader(store, log.path)
    recorder.sync()
    recorder.sync()
    log.params({"b": 2})
    recorder.finish("FINISHED")
    assert recorder.sync()

    assert store.client.get_run(recorder.run_id).data.params == {"a": "1", "b": "2"}
    assert caplog.text.count("2 lines are no records") == 1
