"""The MLflow store: checked before it is relied on."""

from __future__ import annotations

import hashlib
import logging
import os
import posixpath
import re
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlsplit

from besom.config.redaction import redact, restore_password
from besom.errors import InputError, first_line
from besom.system import sqlite_errors
from besom.system.environment import set_for_besom
from besom.system.locks import sqlite_file, sqlite_lock
from besom.system.private import make_private
from besom.system.storable import storable, storable_all
from besom.tracking import empty_database

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
SERVERS = ("http", "https")
PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306}  # unless the URI says another
PAUSES_S = (0.2, 0.5, 1.0, 2.0)  # between two tries
REACH_S = 5  # a server that does not answer in this time is called unreachable; MLflow itself would try for 244 s

REFUSED = re.compile(r"[^\w\-. /]", re.ASCII)  # in a key; `:` would be taken, but is our mark
MAX_KEY = 250

SCHEMA = re.compile(r"database schema \(found version (\w+), but expected")  # of MLflow's own error

TRAINING = "?workflowType=machine_learning"  # in a link, without which the UI shows a run as if of a language model
# without it MLflow's UI takes runs for conversations of a language model, and shows its pages for those
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}


T = TypeVar("T")


class AwayError(InputError):
    """A server of MLflow's that is there, and does not do now what it may do later."""


def persistently(ask: Callable[[], T], where: str) -> T:
    """Ask again what MLflow did not answer; what is asked must add nothing when it is done twice.

    Raises:
        AwayError: MLflow does not answer.
        InputError: it has refused.
    """
    for pause_s in (*PAUSES_S, None):
        try:
            return ask()
        except InputError:
            raise
        except Exception as error:  # whatever MLflow, its store or the network raise
            if pause_s is None:
                kind = InputError if _is_refusal(error) else AwayError
                raise kind(f"{where}: MLflow does not take it: {redact(first_line(error))}") from error
            time.sleep(pause_s)
    raise AssertionError("the last try returns or raises")


def _is_refusal(error: Exception) -> bool:
    from mlflow.exceptions import MlflowException

    return isinstance(error, MlflowException) and error.get_http_status_code() < 500


@dataclass
class Store:
    """Opened when it is first used: an input refused before that leaves no trace in it."""

    uri: str
    experiment: str
    _experiments: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)  # by their runs

    @property
    def is_server(self) -> bool:
        """MLflow's own, which may be away; a database says at once what is wrong."""
        return urlsplit(self.uri).scheme in SERVERS

    @cached_property
    def client(self) -> MlflowClient:
        """Connect.

        Raises:
            AwayError: a server does not answer as it should.
            InputError: the URI is malformed, of a kind MLflow no longer takes, or nobody is there.

        """
        uri = restore_password(self.uri)
        check_uri(uri)
        try:
            make_private(self.uri)
            with sqlite_lock(self.uri):  # two processes that migrate one fresh SQLite file destroy each other's tables
                path = sqlite_file(self.uri)
                is_fresh = path is not None and path.stat().st_size == 0 and not empty_database.lay(path)
                client = _mlflow_client(uri)
                if self.is_server:
                    persistently(lambda: client.search_experiments(max_results=1), f"tracking.uri={redact(self.uri)}")
                else:
                    client.search_experiments(max_results=1)
                if path and is_fresh:
                    empty_database.keep(path)
        except InputError:
            raise
        except (
            Exception
        ) as error:  # MLflow lets through the errors of SQLAlchemy, of each driver, of requests, and its own
            if (path := sqlite_file(self.uri)) and (wrong := _told(self.uri, path, error)):
                where = f"tracking.uri={redact(self.uri)}: "
                said = str(wrong).replace(where, f"{where}the store cannot be opened: ", 1)
                raise type(wrong)(said) from error
            reason = _other_schema(str(error)) or f"the store cannot be opened: {redact(first_line(error))}"
            raise InputError(f"tracking.uri={redact(self.uri)}: {reason}") from error
        return cast("MlflowClient", _Plain(client, self.uri, path)) if path else client

    def _keep_artifacts_private(self, experiment: str) -> None:
        """Those that MLflow keeps in files, by its own default in `mlruns`: before the first one is written."""
        if sqlite_file(self.uri) is None:
            return
        place = urlsplit(self.client.get_experiment(experiment).artifact_location)
        root = Path(place.path).parent
        if place.scheme in ("", "file") and root.name == "mlruns":
            with suppress(OSError):
                root.mkdir(exist_ok=True, mode=0o700)
                root.chmod(0o700)

    def was_deleted(self, run_id: str) -> bool:
        """Whether the run is in MLflow's bin; one that MLflow does not know is not."""
        from mlflow.exceptions import MlflowException

        try:
            return bool(self.client.get_run(run_id).info.lifecycle_stage == "deleted")
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def exists(self, run_id: str) -> bool:
        """In the bin or not."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise
        return True

    def create_run(
        self, name: str | None, tags: Mapping[str, str], parent: str | None = None, *, began_ms: int | None = None
    ) -> str:
        """A new RUNNING run; its id. With `parent`, nested under that run, in its experiment.

        `began_ms`: when what it records began, in milliseconds since 1970; None: now.
        """
        nested = {"mlflow.parentRunId": parent} if parent else {}
        experiment = self.experiment_of(parent) if parent else self.experiment_id()
        said = storable_all({**tags, **nested})
        run = self.client.create_run(experiment, start_time=began_ms, run_name=name and storable(name), tags=said)
        return str(run.info.run_id)

    def experiment_of(self, run: str) -> str:
        """Which no run ever leaves."""
        if run not in self._experiments:
            self._experiments[run] = str(self.client.get_run(run).info.experiment_id)
        return self._experiments[run]

    def find(self, tags: Mapping[str, str], parent: str | None = None) -> str | None:
        """The id of the run that carries these tags, with `parent` among those under it; of several the oldest."""
        nested = {"mlflow.parentRunId": parent} if parent else {}
        known_by = storable_all({**nested, **tags})
        asked = " and ".join(f"tags.`{key}` = '{value}'" for key, value in known_by.items())
        experiment = self.experiment_of(parent) if parent else self.experiment_id()
        found = self.client.search_runs([experiment], asked, order_by=["attributes.start_time"], max_results=1)
        return str(found[0].info.run_id) if found else None

    def strays(self) -> str | None:
        """What is to be said where MLflow would write an experiment's files to where its moved database was made."""
        file = sqlite_file(self.uri)
        experiment = self.client.get_experiment_by_name(self.experiment) if file else None
        if file is None or experiment is None or "://" in experiment.artifact_location.removeprefix("file://"):
            return None
        place = Path(experiment.artifact_location.removeprefix("file://"))
        moved = file.parent / place.parent.name / place.name
        if not place.is_absolute() or place.exists() or place == moved or not moved.is_dir():
            return None
        return (
            f"MLflow keeps the files of experiment {self.experiment!r} in {place}, where its database was made, not "
            f"in {moved}, where they were moved to: link them, mkdir -p {place.parent.parent} && ln -s {moved.parent} "
            f"{place.parent}, or record in another experiment"
        )

    def last(self, tags: Mapping[str, str]) -> Run | None:
        """The newest run of the experiment that carries these tags and lies under no other."""
        asked = " and ".join(f"tags.`{key}` = '{value}'" for key, value in storable_all(tags).items())
        runs = self.search(asked, [self.experiment_id()], newest_first=True)
        return next((run for run in runs if "mlflow.parentRunId" not in run.data.tags), None)

    def search(self, asked: str, experiments: Sequence[str], *, newest_first: bool = False) -> Iterator[Run]:
        """All runs that are asked for, in MLflow's own words, however many."""
        order, token = [f"attributes.start_time {'DESC' if newest_first else 'ASC'}"], None
        while True:
            page = self.client.search_runs(list(experiments), asked, order_by=order, page_token=token)
            yield from page
            if not (token := page.token):
                return

    def experiment_id(self) -> str:
        """Made when the first run is, so that a refused input leaves nothing behind."""
        from mlflow.exceptions import MlflowException

        for _ in range(2):  # another process may make it between our look and our try
            if found := self.client.get_experiment_by_name(self.experiment):
                if found.lifecycle_stage == "deleted":
                    raise InputError(
                        f"the MLflow experiment {self.experiment!r} has been deleted: restore it in the UI, "
                        "or set tracking.experiment to another name"
                    )
                return str(found.experiment_id)
            try:
                made = str(self.client.create_experiment(self.experiment, tags=EXPERIMENT_TAGS))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            else:
                self._keep_artifacts_private(made)
                return made
        raise AssertionError("an experiment that exists was not found")


class _Plain:
    """A client that says of a damaged or full SQLite file that it is that, whatever it is asked."""

    def __init__(self, client: MlflowClient, uri: str, path: Path) -> None:
        self._client = client
        self._uri = uri
        self._path = path

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found):
            return found

        def ask(*args: Any, **kwargs: Any) -> Any:
            try:
                return found(*args, **kwargs)
            except Exception as error:  # whatever MLflow and its store raise
                if wrong := _told(self._uri, self._path, error):
                    raise wrong from error
                raise

        return ask


def _told(uri: str, path: Path, error: Exception) -> InputError | None:
    """None: it is something else."""
    where, words = f"tracking.uri={redact(uri)}", sqlite_errors.in_words(error)
    if sqlite_errors.is_full(error, path):
        return AwayError(f"{where}: the disk of {path.parent} is full ({words}): make room")
    if sqlite_errors.is_damaged(error):
        return InputError(
            f"{where}: {path} is damaged ({words}): {sqlite_errors.ways_out(path)}, or record elsewhere: "
            "MLFLOW_TRACKING_URI=sqlite:///other.db; what the runs of a study have said is in their logs, and "
            "`besom doctor STUDY --fix` records it again"
        )
    return None


def check_uri(uri: str) -> None:
    """What can be said of a tracking URI without loading MLflow."""
    shown = f"tracking.uri={redact(uri)}"
    try:
        scheme = urlsplit(uri).scheme.partition("+")[0]
    except ValueError as error:  # half an IPv6 address
        raise InputError(f"{shown}: malformed: {error}") from error
    path = sqlite_file(uri)
    if scheme not in (*DATABASES, *SERVERS) or (scheme == "sqlite" and path is None):
        raise InputError(
            f"{shown}: not a store MLflow can write to; use sqlite:///mlflow.db, postgresql://user@host/db, "
            "or http://host:port of an MLflow server"
        )
    if path:
        if not path.parent.is_dir():
            raise InputError(f"{shown}: no such folder: {path.parent}; make it first")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise InputError(f"{shown}: cannot be written; check the permissions of {path}")
        if path.exists() and (schema := _schema(path)) and not _is_known(schema):
            raise InputError(f"{shown}: {_newer(schema)}")
    elif scheme in PORTS:
        _check_server(uri, shown, scheme)


def _check_server(uri: str, shown: str, scheme: str) -> None:
    """MLflow itself would ask a server that is not there for minutes."""
    parts = urlsplit(uri)
    try:
        address = (parts.hostname or "", parts.port or PORTS[scheme])
    except ValueError as error:  # a port that is no number
        raise InputError(f"{shown}: malformed: {error}") from error
    if not address[0]:
        if scheme in DATABASES:  # by a socket of this machine, or as the driver's own settings say
            return
        raise InputError(f"{shown}: malformed: no host; write it as http://host:port")
    try:
        socket.create_connection(address, timeout=REACH_S).close()
    except OSError as error:
        raise InputError(
            f"{shown}: nobody answers at {address[0]}:{address[1]} ({error}); start the server, "
            "or record locally with tracking.uri=sqlite:///mlflow.db"
        ) from error


def keep_mlflow_quiet() -> None:
    """It neither phones home nor clutters the terminal. Called before it is imported, as most of this is read then."""
    set_for_besom("MLFLOW_DISABLE_TELEMETRY", "true", keep=True)
    set_for_besom("GIT_PYTHON_REFRESH", "quiet", keep=True)
    set_for_besom("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false", keep=True)
    # MLflow would ask again by itself, for 244 s, and make a second run where the first one's answer was lost
    set_for_besom("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0", keep=True)


def _mlflow_client(uri: str) -> MlflowClient:
    keep_mlflow_quiet()
    from mlflow import MlflowClient

    for noisy in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=uri)


def _schema(path: Path) -> str | None:
    """The version of the tables that MLflow has made in an SQLite file."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as tables, suppress(sqlite3.Error):
        tables.execute("SELECT 1 FROM experiments LIMIT 0")  # others number theirs in `alembic_version` too
        for (schema,) in tables.execute("SELECT version_num FROM alembic_version"):
            return str(schema)
    return None


def _other_schema(error: str) -> str | None:
    """What MLflow calls out of date may be of an MLflow to come, which no `mlflow db upgrade` brings back."""
    if (found := SCHEMA.search(error)) is None:
        return None
    if not _is_known(found[1]):
        return _newer(found[1])
    here = f"the one installed here ({version('mlflow')})"
    return f"its tables are of an older MLflow (schema {found[1]}) than {here}: save it, then mlflow db upgrade"


def _newer(schema: str) -> str:
    return (
        f"its tables are of a newer MLflow (schema {schema}) than the one installed here ({version('mlflow')}): "
        "pip install -U mlflow, or use another store: tracking.uri=sqlite:///other.db, or MLFLOW_TRACKING_URI"
    )


def _is_known(schema: str) -> bool:
    """Whether the MLflow installed here has ever had such tables; found without loading it."""
    package = find_spec("mlflow")
    assert package is not None
    assert package.origin is not None
    migrations = Path(package.origin).parent / "store" / "db_migrations" / "versions"
    return any(migrations.glob(f"{schema}_*.py"))


def as_key(name: str) -> str:
    """A name MLflow takes: each byte of a character it refuses becomes `:` and two hexadecimal digits, and so does `:`.

    >>> as_key("loss@1")
    'loss:401'
    """
    key = REFUSED.sub(_hexadecimal, name)
    if key.startswith(("/", "..")) or posixpath.normpath(key) != key or key == ".":  # MLflow may take it for a path
        key = re.sub(r"[/.]", _hexadecimal, key)
    if len(key) > MAX_KEY:  # the one case in which the name must be looked up in the run's log
        key = f"{key[: MAX_KEY - 17]}:{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    return key


def _hexadecimal(found: re.Match[str]) -> str:
    return "".join(f":{byte:02x}" for byte in found[0].encode("utf-8", "surrogatepass"))


def as_param(value: Any) -> str:
    """A parameter as MLflow shows it: the text Hydra would take back."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return storable(str(value))
