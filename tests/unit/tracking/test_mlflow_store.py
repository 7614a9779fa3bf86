from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import socket
import sqlite3
from contextlib import closing
from multiprocessing.synchronize import Barrier

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from besom.config.redaction import redact
from besom.errors import InputError
from besom.tracking import Store
from besom.tracking.mlflow_store import as_key, as_param, check_uri


# ── what is said of a URI before MLflow is loaded ─────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "uri", ["", "mlruns", "file:///mlruns", "./mlruns", "ftp://host/runs", "databricks", "sqlite.db", "://"]
)
def test_what_is_no_database_and_no_server_is_refused(uri):
    with pytest.raises(
        InputError, match=f"^tracking.uri={re.escape(uri)}: not a store MLflow can write to; use sqlite"
    ):
        check_uri(uri)


@pytest.mark.parametrize(
    "uri", ["http://", "http://:5000", "http://host:port", "http://host:99999", "https://[half/an/address"]
)
def test_a_malformed_address_is_refused(uri):
    with pytest.raises(InputError, match=f"^tracking.uri={re.escape(uri)}: malformed: "):
        check_uri(uri)


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///", "sqlite://mlflow.db", "sqlite:/mlflow.db"])
def test_a_sqlite_uri_that_names_no_file_is_refused(uri):
    with pytest.raises(InputError, match=f"^tracking.uri={re.escape(uri)}: "):
        check_uri(uri)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=re.escape(f"no such folder: {tmp_path}/missing; make it first")):
        check_uri(f"sqlite:///{tmp_path}/missing/mlflow.db")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    tmp_path.chmod(0o500)

    with pytest.raises(InputError, match="cannot be written; check the permissions"):
        check_uri(f"sqlite:///{tmp_path}/mlflow.db")


@pytest.fixture
def port():
    """A port of this machine that nobody listens at, and nobody else can take."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.mark.parametrize("scheme", ["http", "postgresql", "postgresql+psycopg", "mysql+pymysql"])
def test_a_server_that_is_down_is_refused(scheme, port):
    with pytest.raises(InputError, match=f"nobody answers at 127.0.0.1:{port} .*; start the server"):
        check_uri(f"{scheme}://127.0.0.1:{port}")


def test_a_server_that_listens_will_do():
    with socket.create_server(("127.0.0.1", 0)) as server:
        check_uri(f"http://127.0.0.1:{server.getsockname()[1]}")


def test_a_refusal_does_not_show_the_password(port):
    with pytest.raises(InputError, match=re.escape(f"tracking.uri=http://me:***@127.0.0.1:{port}: ")):
        check_uri(f"http://me:secret@127.0.0.1:{port}")


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "postgresql:///runs", "mssql+pyodbc://me@source"])
def test_a_database_is_not_asked_yet(uri, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    check_uri(uri)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://me:secret@host/runs", "postgresql://me:***@host/runs"),
        ("postgresql+psycopg2://me:se%40cret@host:5432/runs", "postgresql+psycopg2://me:***@host:5432/runs"),
        ("postgresql://me:se/cret@host/runs", "postgresql://me:***@host/runs"),
        ("http://me:se@cret@host:5000", "http://me:***@host:5000"),
        ("http://:secret@host", "http://:***@host"),
        ("postgresql://me@host/runs", "postgresql://me@host/runs"),
        ("http://host:5000/path", "http://host:5000/path"),
        ("sqlite:////var/lib/mlflow.db", "sqlite:////var/lib/mlflow.db"),
    ],
)
def test_a_masked_uri_hides_its_password_and_nothing_else(uri, shown):
    assert redact(uri) == shown


def with_schema(migrated, folder, schema):
    path = folder / "other.db"
    shutil.copy(migrated, path)
    with closing(sqlite3.connect(path)) as tables:
        tables.execute("UPDATE alembic_version SET version_num = ?", [schema])
        tables.commit()
    return f"sqlite:///{path}"


def test_tables_of_a_newer_mlflow_are_refused(migrated, tmp_path):
    with pytest.raises(
        InputError, match=r"newer MLflow \(schema fedcba987654\) than .*: pip install -U mlflow, or use"
    ):
        check_uri(with_schema(migrated, tmp_path, "fedcba987654"))


def test_tables_of_an_older_mlflow_are_refused_when_they_are_opened(migrated, tmp_path):
    uri = with_schema(migrated, tmp_path, "451aebb31d03")
    check_uri(uri)
    with pytest.raises(
        InputError, match=r"older MLflow \(schema 451aebb31d03\) than .*: save it, then mlflow db upgrade"
    ):
        _ = Store(uri, "besom").client


# ── parameters as text ────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("value", "text"), [(None, "null"), (True, "true"), (False, "false"), (1e-05, "1e-05"), ("adamw", "adamw")]
)
def test_a_parameter_is_written_as_in_a_config(value, text):
    assert as_param(value) == text


numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)


@given(st.none() | st.booleans() | numbers | st.lists(numbers, max_size=4))
def test_hydra_takes_a_parameters_text_back(value):
    assert OverridesParser.create().parse_override(f"key={as_param(value)}").value() == value


# ── names ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("name", ["train/loss", "optimizer.lr", "my metric-1_2", "a.b/c.d"])
def test_a_name_that_mlflow_takes_stays(name):
    assert as_key(name) == name


names = st.text("a4_./:@ü", min_size=1, max_size=6)


@given(names, names)
def test_two_names_stay_two(one, other):
    assert (as_key(one) == as_key(other)) == (one == other)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=names | st.text(min_size=1, max_size=400))
def test_mlflow_takes_any_name(name, store):
    store.client.log_metric(store.create_run(None, {}), as_key(name), 1.0)


# ── the store itself ──────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_store_that_nobody_used_leaves_no_file(tmp_path):
    Store(f"sqlite:///{tmp_path}/mlflow.db", "besom")

    assert list(tmp_path.iterdir()) == []


def test_a_refused_uri_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(InputError, match="not a store MLflow can write to"):
        Store("mlruns", "besom").create_run("first", {})

    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path):
    file = tmp_path / "notes.db"
    file.write_text("dear diary")

    with pytest.raises(InputError, match=r"notes\.db: the store cannot be opened: .*file is not a database"):
        Store(f"sqlite:///{file}", "besom").create_run("first", {})

    assert file.read_text() == "dear diary"


def test_connecting_makes_no_experiment(store):
    assert store.client.get_experiment_by_name("besom") is None


def test_an_experiment_is_made_once(store):
    first = store.experiment_id()

    assert store.experiment_id() == first
    assert Store(store.uri, "besom").experiment_id() == first
    assert [found.name for found in store.client.search_experiments(filter_string="name = 'besom'")] == ["besom"]


def test_two_experiments_of_one_store_are_kept_apart(store):
    assert store.experiment_id() != Store(store.uri, "another").experiment_id()


def test_a_deleted_experiment_is_refused(store):
    store.client.delete_experiment(store.experiment_id())

    with pytest.raises(InputError, match="'besom' has been deleted: restore it in the UI"):
        store.experiment_id()


def test_a_new_run_is_running_and_has_its_name_and_tags(store):
    run = store.client.get_run(store.create_run("first", {"besom.trial": "0"}))

    assert (run.info.status, run.info.run_name) == ("RUNNING", "first")
    assert run.data.tags["besom.trial"] == "0"


def test_a_run_with_a_parent_is_nested_under_it(store):
    parent = store.create_run("study", {})

    child = store.client.get_run(store.create_run("0", {}, parent))

    assert child.data.tags["mlflow.parentRunId"] == parent


def test_a_run_with_a_parent_is_in_its_experiment(store):
    """`besom doctor` knows a study's run, and not where it was to be recorded."""
    parent = store.create_run("study", {})

    child = Store(store.uri, "").create_run("0", {}, parent)

    assert store.experiment_of(child) == store.experiment_of(parent) == store.experiment_id()


def _open_fresh(uri: str, both_ready: Barrier) -> None:
    check_uri(uri)
    import mlflow  # noqa: F401 - the slow part, before the race

    both_ready.wait()
    Store(uri, "besom").create_run(None, {})


def test_two_processes_that_meet_a_fresh_store_both_record(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    context = multiprocessing.get_context("spawn")
    both_ready = context.Barrier(2)
    openers = [context.Process(target=_open_fresh, args=(uri, both_ready)) for _ in range(2)]
    for opener in openers:
        opener.start()
    for opener in openers:
        opener.join()

    store = Store(uri, "besom")
    assert [opener.exitcode for opener in openers] == [0, 0]
    assert len(store.client.search_runs([store.experiment_id()])) == 2


# ── moved, deleted ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_files_that_mlflow_would_write_to_where_its_database_was_made_are_told_of(migrated, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    (old / "mlruns" / "1").mkdir(parents=True)
    shutil.copy(migrated, old / "mlflow.db")
    store = Store(f"sqlite:///{old}/mlflow.db", "moved")
    store.client.create_experiment("moved", artifact_location=str(old / "mlruns" / "1"))
    assert store.strays() is None
    old.rename(new)

    said = Store(f"sqlite:///{new}/mlflow.db", "moved").strays()

    assert f"in {old}/mlruns/1, where its database was made" in str(said)
    assert f"ln -s {new}/mlruns {old}/mlruns" in str(said)


def test_the_newest_run_of_a_name_is_found_and_none_under_another(migrated, tmp_path):
    shutil.copy(migrated, tmp_path / "mlflow.db")
    store = Store(f"sqlite:///{tmp_path}/mlflow.db", "besom")
    assert store.last({"besom.study": "digits"}) is None
    parent = store.create_run("digits", {"besom.study": "digits"})
    store.create_run("0", {"besom.study": "digits", "mlflow.parentRunId": parent})

    found = store.last({"besom.study": "digits"})

    assert found is not None
    assert found.info.run_id == parent
