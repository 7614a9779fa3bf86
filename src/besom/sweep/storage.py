"""The study's storage: an SQLite file, or a PostgreSQL server, which may go away and come back.

Whoever asks a server that is away waits for it. What is done alone, under a study's lock, is one transaction: of what
was cut off the server has kept nothing, so it can be done again.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import optuna
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy import Connection, create_engine, inspect, make_url, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError, SQLAlchemyError

from besom.errors import BesomError, InputError, RunError
from besom.locks import sqlite_file, sqlite_lock
from besom.secrecy import masked, reveal

PATIENCE_S = 300.0  # a server that is away for longer is given up
PAUSE_S = 2.0  # between two tries, at most
DRIVERS = ("psycopg", "psycopg2")
BUSY_S = 60.0  # a file that another process is writing is waited for as long: a busy disk takes more than SQLite's 5 s
FILE_ENGINE = {"connect_args": {"timeout": BUSY_S}}

# of libpq: a server that is not there, or no longer, is noticed in time
CONNECT_ARGS = {"connect_timeout": 10, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
# a process that was suspended in its turn, or whose machine has vanished, loses it: the others wait for it
BEGIN = """
    SELECT set_config('idle_in_transaction_session_timeout', '30s', true),
           pg_advisory_xact_lock(hashtextextended(:name, 0)),
           CAST(pg_current_xact_id() AS text)
"""
# SQLSTATEs of a server that is away or full, and of a deadlock that it has resolved; PostgreSQL's manual, appendix A
AWAY = ("08", "53300", "57P01", "57P02", "57P03", "40P01")
# a refused connection has no SQLSTATE, only the server's words
REFUSALS = ("authentication failed", "no pg_hba.conf entry", "does not exist", "permission denied", "no password")

T = TypeVar("T")
C = TypeVar("C", bound="Connected")
P = ParamSpec("P")
log = logging.getLogger(__name__)


class ServerLost(RunError):  # noqa: N818 - what happened, to whom it happens
    """In a transaction, of which the server has kept nothing."""


class Connected(Protocol):
    def reconnect(self) -> None: ...


def all_or_nothing(method: Callable[Concatenate[C, P], T]) -> Callable[Concatenate[C, P], T]:
    """Done again where the server was lost on the way: it has kept nothing of it."""

    @functools.wraps(method)
    def do(self: C, /, *args: P.args, **kwargs: P.kwargs) -> T:
        while True:
            try:
                return method(self, *args, **kwargs)
            except ServerLost:
                self.reconnect()

    return do


def open_storage(url: str, *, wait: bool = False) -> RDBStorage:
    """`wait`: for a server that is away, where it is known to have been there.

    Raises:
        InputError: it cannot be used; nothing has been written.
    """
    url = reveal(url)
    optuna.logging.set_verbosity(logging.WARNING)
    # a server that is lost it takes for a query that is too long, and says so at length
    logging.getLogger("optuna.storages._rdb.storage").setLevel(logging.ERROR)
    patience = _Patience(_where(url))

    def opened() -> RDBStorage:
        if sqlite_file(url):
            return _open_file(url)
        return patience(lambda: _open_server(url, patience)) if wait else _open_server(url, patience)

    return _or_refused(url, opened)


def is_used(url: str) -> bool:
    """Whether Optuna's tables are there; to look makes none, where to open the storage does.

    Raises:
        InputError: it cannot be used.
    """
    path = sqlite_file(url)

    def look() -> bool:
        if path and not path.exists():
            return False
        if not path:
            _refuse_other_servers(url)
        engine = create_engine(url, **(FILE_ENGINE if path else _engine_kwargs(url)))
        try:
            with engine.connect() as connection:
                _refuse_strangers(connection)
                return "version_info" in inspect(connection).get_table_names()
        finally:
            engine.dispose()

    return _or_refused(url, look)


def _where(url: str) -> str:
    return f"hydra.sweeper.storage={masked(url)}"


def _or_refused(url: str, ask: Callable[[], T]) -> T:
    """Whatever is wrong with a storage as one message to its user."""
    where, path = _where(url), sqlite_file(url)
    if path and not path.parent.is_dir():
        raise InputError(f"{where}: no such folder: {path.parent}; make it first")
    try:
        return ask()
    except _Stranger as stranger:
        raise InputError(f"{where}: {stranger}; choose another hydra.sweeper.storage") from None
    except ImportError as error:
        raise InputError(f"{where}: its driver is not installed: pip install 'besom[postgres]'") from error
    except BesomError:
        raise
    except Exception as error:  # Optuna lets through the errors of SQLAlchemy and of each driver
        raise InputError(
            f"{where}: cannot be opened: {_reason(error)}; mend that, or choose another hydra.sweeper.storage"
        ) from error


def alone(storage: RDBStorage, name: str) -> AbstractContextManager[object]:
    """Held by one process at a time, on whatever machine, for as long as it lives; `name` tells two locks apart.

    Raises ServerLost: of what was done in it nothing was kept.
    """
    if isinstance(storage, ServerStorage):
        return storage.transaction(name)
    return sqlite_lock(storage.url)


class _Patience:
    """Asks again until the server is back; of all its threads' waits one line tells the begin and one the end."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._lock = threading.Lock()
        self._away_since: float | None = None

    def __call__(self, ask: Callable[[], T]) -> T:
        """Raises RunError: the server has been away for too long; asked once more, that is said at once."""
        while True:
            try:
                answer = ask()
            except Exception as error:
                if not _is_away(error):
                    raise
                self._wait(error)
            else:
                self._is_back()
                return answer

    def _wait(self, error: Exception) -> None:
        with self._lock:
            if self._away_since is None:
                self._away_since = time.monotonic()
                log.warning("%s: the server is away; waiting for it: %s", self._where, _reason(error))
            away_s = time.monotonic() - self._away_since
        if away_s > PATIENCE_S:
            raise RunError(
                f"{self._where}: the server has been away for {PATIENCE_S / 60:g} minutes: {_reason(error)}; "
                "when it is back, the same command goes on"
            ) from error
        time.sleep(min(0.1 + away_s / 4, PAUSE_S))

    def _is_back(self) -> None:
        with self._lock:
            if self._away_since is not None:
                away_s, self._away_since = time.monotonic() - self._away_since, None
                log.warning("%s: the server is back, after %.1f s", self._where, away_s)


class _Here(threading.local):
    in_transaction = False


class ServerStorage(RDBStorage):
    """Each question waits for the server, except in a transaction: that is begun again as a whole."""

    def __init__(self, url: str, patience: _Patience) -> None:
        self._patience = patience
        self._here = _Here()
        super().__init__(url, _engine_kwargs(url))

    @contextmanager
    def transaction(self, name: str) -> Iterator[None]:
        """What this thread asks the storage is one transaction, and no other of that name is under way."""
        connection, number = self._patience(lambda: self._begin(name))
        try:
            with self._asked_on(connection):
                yield
            self._commit(connection, number)
        except Exception as error:
            if connection.invalidated or _is_away(error):
                raise ServerLost("the server of hydra.sweeper.storage was lost; the same command goes on") from error
            raise
        finally:
            with suppress(SQLAlchemyError):  # a server that is lost has let go of its own
                connection.close()

    def _begin(self, name: str) -> tuple[Connection, str]:
        connection = self.engine.connect()
        try:
            return connection, connection.execute(text(BEGIN), {"name": name}).one()[2]
        except BaseException:
            connection.close()
            raise

    @contextmanager
    def _asked_on(self, connection: Connection) -> Iterator[None]:
        """Optuna commits each write: here only a savepoint."""
        self.scoped_session.remove()
        self.scoped_session(bind=connection, join_transaction_mode="create_savepoint")
        self._here.in_transaction = True
        try:
            yield
        finally:
            self._here.in_transaction = False
            self.scoped_session.remove()

    def _commit(self, connection: Connection, number: str) -> None:
        try:
            connection.commit()
        except DBAPIError:
            if not (connection.invalidated and self._was_kept(number)):
                raise

    def _was_kept(self, number: str) -> bool:
        """What the server knows of a transaction whose commit it did not answer."""
        question = text("SELECT pg_xact_status(CAST(:number AS xid8))")

        def status() -> Any:
            with self.engine.connect() as connection:
                return connection.execute(question, {"number": number}).scalar()

        while (known := self._patience(status)) == "in progress":  # its old process has not noticed yet
            time.sleep(PAUSE_S)
        return bool(known == "committed")


def _patient(method: Callable[..., T]) -> Callable[..., T]:
    @functools.wraps(method)
    def ask(self: ServerStorage, *args: Any, **kwargs: Any) -> T:
        if self._here.in_transaction:
            return method(self, *args, **kwargs)
        return self._patience(lambda: method(self, *args, **kwargs))

    return ask


# all that Optuna asks, and its cache; asked twice, each leaves what it leaves when asked once, save for a trial that is
# made: besom makes its trials in a transaction
for _name in (*BaseStorage.__abstractmethods__, "_create_new_trial", "_set_trial_param", "_get_trials"):
    setattr(ServerStorage, _name, _patient(getattr(RDBStorage, _name)))


class _Stranger(Exception):  # noqa: N818 - who is met
    """A database whose tables this Optuna cannot use."""


def _open_file(url: str) -> RDBStorage:
    with sqlite_lock(url):  # two processes that make one fresh file's tables destroy each other's
        engine = create_engine(url, **FILE_ENGINE)
        with engine.connect() as connection:
            _refuse_strangers(connection)
        engine.dispose()
        return _of_this_schema(url, lambda: RDBStorage(url, FILE_ENGINE))


def _open_server(url: str, patience: _Patience) -> ServerStorage:
    _refuse_other_servers(url)
    engine = create_engine(url, **_engine_kwargs(url))
    try:
        with engine.begin() as connection:
            connection.execute(text(BEGIN), {"name": "besom: the tables"})  # made by one process at a time
            _refuse_strangers(connection)
            return _of_this_schema(url, lambda: ServerStorage(url, patience))
    finally:
        engine.dispose()


def _refuse_other_servers(url: str) -> None:
    asked = make_url(url)
    if asked.get_backend_name() != "postgresql" or asked.get_driver_name() not in DRIVERS:
        raise _Stranger("a sweep is kept in SQLite (sqlite:///optuna.db) or PostgreSQL (postgresql://user@host/optuna)")


def _engine_kwargs(url: str) -> dict[str, Any]:
    asked = make_url(url).query
    return {
        "pool_pre_ping": True,  # a server that was restarted leaves dead connections in the pool
        "isolation_level": "READ COMMITTED",  # whose turn it is sees what the last one has left
        "connect_args": {key: value for key, value in CONNECT_ARGS.items() if key not in asked},
    }


def _refuse_strangers(connection: Connection) -> None:
    """Before Optuna adds its tables to another program's: both, and MLflow too, number theirs in `alembic_version`."""
    tables = inspect(connection).get_table_names()
    if "alembic_version" in tables and "version_info" not in tables:
        raise _Stranger("this database is another program's (MLflow's?), whose tables Optuna's would break")


def _of_this_schema(url: str, opened: Callable[[], T]) -> T:
    try:
        return opened()
    except RuntimeError as error:
        what = f"its tables are not those of the Optuna installed here ({optuna.__version__})"
        older = "storage upgrade" in str(error)
        way = f"optuna storage upgrade --storage {masked(url)}" if older else "pip install -U optuna"
        raise _Stranger(f"{what}: bring them together with `{way}`") from error


def _is_away(error: BaseException | None) -> bool:
    """Whether the same question may be answered later; Optuna wraps what SQLAlchemy raises."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    if isinstance(error, PendingRollbackError):  # the next question on a connection that was lost
        return True
    if isinstance(error, OperationalError | InterfaceError):
        state = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
        return state.startswith(AWAY) if state else not any(words in str(error.orig) for words in REFUSALS)
    return isinstance(error, optuna.exceptions.StorageInternalError) and _is_away(error.__cause__)


def _reason(error: BaseException) -> str:
    """In the driver's words, on one line and without a password."""
    if isinstance(error, optuna.exceptions.StorageInternalError) and error.__cause__:
        error = error.__cause__
    words = str(getattr(error, "orig", None) or error).strip().splitlines()
    return masked(words[0]) if words else type(error).__name__
