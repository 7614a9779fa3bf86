"""The study's storage: an SQLite file, or a PostgreSQL server, which may go away and come back.

Whoever asks a server that is away waits for it. What is done alone, under a study's lock, is one transaction: of what
was cut off the storage has kept nothing, so it can be done again.

A process asks its storage one question at a time (`turn`), and so needs one connection. Renewals of leases are short,
and wait for nobody but him who is writing just now: many workers on a busy machine do not lose their leases in a queue.
"""

from __future__ import annotations

import functools
import json
import logging
import random
import sqlite3
import threading
import time
import weakref
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages._rdb.models import TrialModel, TrialUserAttributeModel
from optuna.trial import TrialState
from sqlalchemy import Connection, Update, create_engine, event, exists, func, inspect, make_url, select, text, update
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    InterfaceError,
    OperationalError,
    PendingRollbackError,
    SQLAlchemyError,
)
from sqlalchemy.orm import aliased

from besom.config.redaction import redact, restore_password
from besom.errors import BesomError, InputError, RunError
from besom.system import sqlite_errors
from besom.system.disk import full_disk
from besom.system.locks import sqlite_file, sqlite_lock
from besom.system.private import make_private

PATIENCE_S = 300.0  # a server that is away for longer is given up
PAUSE_S = 2.0  # between two tries, at most
SAY_S = 5.0  # whoever waits for longer for his turn is told so
DRIVERS = ("psycopg", "psycopg2")
BUSY_S = 60.0  # a file that another process is writing is waited for as long: a busy disk takes more than SQLite's 5 s
FILE_ENGINE = {"connect_args": {"timeout": BUSY_S}}

# of libpq: a server that is not there, or no longer, is noticed in time
CONNECT_ARGS = {"connect_timeout": 10, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
# a process that was suspended in its turn, or whose machine has vanished, loses it: the others wait for it; and who
# waits lets the other threads of his own process ask in between
BEGIN = """
    SELECT set_config('idle_in_transaction_session_timeout', '30s', true), set_config('lock_timeout', '1s', true)
"""
LOCK = """
    SELECT pg_advisory_xact_lock(hashtextextended(:name, 0)),
           set_config('lock_timeout', '0', true),
           CAST(pg_current_xact_id() AS text)
"""
NOT_YET = "55P03"  # SQLSTATE: not within `lock_timeout`
UNHEARD_OF = "22023"  # SQLSTATE: a transaction of a number that the server has not come to yet
IDLE_S = 1.0  # after which a connection is handed back to the server, of which it may have few
# SQLSTATEs of a server that is away or full, and of a deadlock that it has resolved; PostgreSQL's manual, appendix A
AWAY = ("08", "53300", "57P01", "57P02", "57P03", "40P01")
# a refused connection has no SQLSTATE, only the server's words
FULL = ("too many clients", "remaining connection slots", "too many connections")
REFUSALS = ("authentication failed", "no pg_hba.conf entry", "does not exist", "permission denied", "no password")

T = TypeVar("T")
C = TypeVar("C", bound="Connected")
P = ParamSpec("P")
log = logging.getLogger(__name__)


class ServerLost(RunError):  # noqa: N818 - what happened, to whom it happens
    """In a transaction, of which the server has kept nothing."""


class StorageDamaged(RunError):  # noqa: N818 - what happened
    """What is in the storage is no longer what was written."""

    exit_code = InputError.exit_code


class StorageFull(RunError):  # noqa: N818 - what happened
    """There is no room for what is to be written."""


class Connected(Protocol):
    def reconnect(self) -> None: ...


def retry_transaction(method: Callable[Concatenate[C, P], T]) -> Callable[Concatenate[C, P], T]:
    """Done again where the server was lost on the way: it has kept nothing of it."""

    @functools.wraps(method)
    def do(self: C, /, *args: P.args, **kwargs: P.kwargs) -> T:
        while True:
            try:
                return method(self, *args, **kwargs)
            except ServerLost:
                self.reconnect()

    return do


def open_storage(url: str, *, wait: bool = False) -> BesomStorage:
    """`wait`: for a server that is away, where it is known to have been there.

    Raises:
        InputError: it cannot be used; nothing has been written.
    """
    url = restore_password(url)
    optuna.logging.set_verbosity(logging.WARNING)
    # a server that is lost it takes for a query that is too long, and says so at length
    logging.getLogger("optuna.storages._rdb.storage").setLevel(logging.ERROR)
    patience = _RetryWhileAway(_where(url))

    def opened() -> BesomStorage:
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
    return f"hydra.sweeper.storage={redact(url)}"


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
        wrong = _told(url, error)
        if isinstance(wrong, StorageDamaged):
            raise InputError(str(wrong).replace(f"{where}: ", f"{where}: cannot be opened: ", 1)) from error
        if wrong:
            raise wrong from error
        if _is_full(error):
            raise InputError(f"{where}: {_what_is_wrong(error)}: {_reason(error)}; {TOO_FEW}") from error
        raise InputError(
            f"{where}: cannot be opened: {_reason(error)}; mend that, or choose another hydra.sweeper.storage"
        ) from error


@contextmanager
def told_plainly(url: str, *, reads: bool = False) -> Iterator[None]:
    """What a damaged or full storage makes of a question, as one message. `reads`: it only reads.

    Raises:
        StorageDamaged: says where, and what to do.
        StorageFull: the same.
    """
    try:
        yield
    except BesomError:
        raise
    except Exception as error:
        if wrong := _told(url, error, reads=reads):
            raise wrong from error
        raise


def refuse_damaged(url: str) -> None:
    """Raises StorageDamaged: pages of an SQLite file are not as SQLite writes them, also ones that nobody reads."""
    path = sqlite_file(url)
    if path is None or not path.exists():
        return
    with told_plainly(url), closing(sqlite3.connect(path, timeout=BUSY_S)) as file:
        [found] = file.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise StorageDamaged(_damaged(url, " ".join(found.split())))


def _told(url: str, error: Exception, *, reads: bool = False) -> RunError | None:
    """None: it is something else."""
    where, path, words = _where(url), sqlite_file(url), _reason(error)
    is_ours = isinstance(error, SQLAlchemyError | StorageInternalError)
    if sqlite_errors.is_full(error, path) if path else (is_ours and full_disk(error)):
        place = f" of {path.parent}" if path else " of its server"
        return StorageFull(f"{where}: the disk{place} is full ({words}); make room, and start the same command again")
    if _is_damaged(error) or (reads and type(error) is ValueError):  # a date that is none, say
        return StorageDamaged(_damaged(url, words))
    return None


def _damaged(url: str, words: str) -> str:
    path = sqlite_file(url)
    ways = sqlite_errors.ways_out(path) if path else "put back a backup of it"
    return (
        f"{_where(url)}: {path or 'its database'} is damaged ({words}): {ways}, or begin anew with another "
        "hydra.sweeper.storage; what the trials have logged is in their folders, and in MLflow"
    )


def _is_damaged(error: Exception) -> bool:
    if sqlite_errors.is_damaged(error):
        return True
    cause: BaseException | None = error
    while cause is not None:
        state = str(getattr(getattr(cause, "orig", None), "sqlstate", None) or "")
        # PostgreSQL's own; what stands in a row that Optuna has never written: text that is no JSON, an unknown state
        if state.startswith(("XX001", "XX002")) or isinstance(cause, json.JSONDecodeError | UnicodeDecodeError):
            return True
        if type(cause) is LookupError:
            return True
        cause = cause.__cause__
    return False


def exclusive(storage: BesomStorage, name: str) -> AbstractContextManager[object]:
    """One transaction, of one process at a time, on whatever machine; `name` tells two locks of a server apart.

    Raises ServerLost: of what was done in it nothing was kept.
    """
    return storage.transaction(name)


def in_turn(storage: BesomStorage) -> BaseStorage:
    """With Optuna's cache, for the threads of this process: one after the other."""
    return _InTurn(storage)


class _RetryWhileAway:
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
                log.warning("%s: %s; waiting for it: %s", self._where, _what_is_wrong(error), _reason(error))
            away_s = time.monotonic() - self._away_since
        if away_s > PATIENCE_S:
            what, way = ("has been away", "when it is back, the same command goes on")
            if _is_full(error):
                what, way = ("has had no connection left", TOO_FEW)
            raise RunError(
                f"{self._where}: the server {what} for {PATIENCE_S / 60:g} minutes: {_reason(error)}; {way}"
            ) from error
        time.sleep(min(0.1 + away_s / 4, PAUSE_S))

    def _is_back(self) -> None:
        with self._lock:
            if self._away_since is not None:
                away_s, self._away_since = time.monotonic() - self._away_since, None
                log.warning("%s: the server is back, after %.1f s", self._where, away_s)


class _Here(threading.local):
    in_transaction = False


class BesomStorage(RDBStorage):
    """One transaction at a time, and a lease renewed in one write."""

    def __init__(self, url: str, engine_kwargs: dict[str, Any], *, skip_table_creation: bool = False) -> None:
        self.turn = threading.RLock()  # taken before the lock of Optuna's cache, and before the file's or the server's
        self._here = _Here()
        try:
            super().__init__(url, engine_kwargs, skip_table_creation=skip_table_creation)
        except BaseException:
            # it may have got one of the two connections that it asks for: eight processes that kept theirs while they
            # try again would never get the second one of a small server
            if engine := vars(self).get("engine"):
                engine.dispose()
            raise

    @abstractmethod
    def transaction(self, name: str) -> AbstractContextManager[None]:
        """What this thread asks the storage is one transaction, and no other of that name is under way."""

    @abstractmethod
    def renew(self, trial_id: int, token: str, key: str, beat: Any, lease: str) -> bool:
        """Write `beat` under `key`, if the trial is still held under that token, by its attribute `lease`."""

    def counts(self, study_id: int) -> dict[TrialState, int]:
        """Of its trials, by their state."""
        asked = select(TrialModel.state, func.count()).where(TrialModel.study_id == study_id)
        with self._asked() as connection:
            return dict(tuple(row) for row in connection.execute(asked.group_by(TrialModel.state)))

    def first_waiting(self, study_id: int) -> int | None:
        """The trial with the lowest number that waits."""
        asked = select(TrialModel.trial_id).where(
            TrialModel.study_id == study_id, TrialModel.state == TrialState.WAITING
        )
        with self._asked() as connection:
            found = connection.execute(asked.order_by(TrialModel.number).limit(1)).scalar()
        return None if found is None else int(found)

    @contextmanager
    def _asked(self) -> Iterator[Connection]:
        """For a question in SQL: the transaction's connection, where there is one."""
        if self._here.in_transaction:
            yield self.scoped_session().connection()
            return
        with self.turn, self.engine.connect() as connection:
            yield connection

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

    @staticmethod
    def _renewal(trial_id: int, token: str, key: str, beat: Any, lease: str) -> Update:
        other = aliased(TrialUserAttributeModel)
        holds = exists().where(
            other.trial_id == trial_id, other.key == lease, other.value_json.contains(token, autoescape=True)
        )
        runs = exists().where(TrialModel.trial_id == trial_id, TrialModel.state == TrialState.RUNNING)
        mine = (TrialUserAttributeModel.trial_id == trial_id, TrialUserAttributeModel.key == key)
        return update(TrialUserAttributeModel).where(*mine, holds, runs).values(value_json=json.dumps(beat))


class FileStorage(BesomStorage):
    """Who writes to the file waits in turn, and does not ask again and again, as SQLite does: that may never end."""

    def __init__(self, url: str, *, is_whole: bool = False) -> None:
        """`is_whole`: its tables are there."""
        super().__init__(url, FILE_ENGINE, skip_table_creation=is_whole)

    @contextmanager
    def transaction(self, name: str) -> Iterator[None]:
        with told_plainly(self.url), self.turn, sqlite_lock(self.url), self.engine.connect() as connection:
            with _begun_at_once(connection), self._asked_on(connection):
                yield
            connection.commit()

    def renew(self, trial_id: int, token: str, key: str, beat: Any, lease: str) -> bool:
        with sqlite_lock(self.url, first=True), self.engine.begin() as connection:
            return connection.execute(self._renewal(trial_id, token, key, beat, lease)).rowcount == 1


@contextmanager
def _begun_at_once(connection: Connection) -> Iterator[None]:
    """A transaction that may write from the start; Python's driver would begin one with the first write."""
    driver = connection.connection.dbapi_connection
    assert driver is not None
    before = driver.isolation_level
    driver.isolation_level = None
    try:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield
    finally:
        driver.isolation_level = before


def _waiting(method: Callable[..., T]) -> Callable[..., T]:
    @functools.wraps(method)
    def write(self: FileStorage, *args: Any, **kwargs: Any) -> T:
        if self._here.in_transaction:
            return method(self, *args, **kwargs)
        with sqlite_lock(self.url):
            return method(self, *args, **kwargs)

    return write


WRITES = (
    *("create_new_study", "delete_study", "set_study_user_attr", "set_study_system_attr", "create_new_trial"),
    *("_create_new_trial", "set_trial_param", "_set_trial_param", "set_trial_state_values"),
    *("set_trial_intermediate_value", "set_trial_user_attr", "set_trial_system_attr"),
)


class ServerStorage(BesomStorage):
    """Each question waits for the server, except in a transaction: that is begun again as a whole."""

    def __init__(self, url: str, patience: _RetryWhileAway, *, is_whole: bool) -> None:
        """`is_whole`: its tables are there."""
        self._patience = patience
        super().__init__(url, _engine_kwargs(url), skip_table_creation=is_whole)
        self._used = threading.Event()
        event.listen(self.engine, "checkin", lambda *_: self._used.set())
        threading.Thread(target=_hand_back, args=(weakref.ref(self), self._used), daemon=True).start()

    @contextmanager
    def transaction(self, name: str) -> Iterator[None]:
        with self._begun(name) as (connection, number):
            try:
                with self._asked_on(connection):
                    yield
                self._commit(connection, number)
            except Exception as error:
                if connection.invalidated or _is_away(error):
                    raise ServerLost(
                        "the server of hydra.sweeper.storage was lost; the same command goes on"
                    ) from error
                if wrong := _told(self.url, error):
                    raise wrong from error
                raise

    def renew(self, trial_id: int, token: str, key: str, beat: Any, lease: str) -> bool:
        def write() -> bool:
            with self.turn, self.engine.begin() as connection:
                return connection.execute(self._renewal(trial_id, token, key, beat, lease)).rowcount == 1

        return self._patience(write)

    @contextmanager
    def _begun(self, name: str) -> Iterator[tuple[Connection, str]]:
        since, said = time.monotonic(), False
        while True:
            with self.turn:
                if begun := self._patience(lambda: self._begin(name)):
                    try:
                        yield begun
                    finally:
                        with suppress(SQLAlchemyError):  # a server that is lost has let go of its own
                            begun[0].close()
                    return
            if not said and time.monotonic() - since > SAY_S:
                said = True
                log.warning("waiting for the lock %r of the study, which another process holds", name)
            time.sleep(random.uniform(0.005, 0.02))  # for the other threads of this process

    def _begin(self, name: str) -> tuple[Connection, str] | None:
        """None: it is another's turn."""
        connection = self.engine.connect()
        try:
            connection.execute(text(BEGIN))
            return connection, connection.execute(text(LOCK), {"name": name}).one()[2]
        except BaseException as error:
            connection.close()
            if isinstance(error, OperationalError) and _state(error) == NOT_YET:
                return None
            raise

    def _commit(self, connection: Connection, number: str) -> None:
        try:
            connection.commit()
        except DBAPIError:
            lost = connection.invalidated
            with suppress(SQLAlchemyError):
                connection.close()  # the only one there is
            if not (lost and self._was_committed(number)):
                raise

    def _was_committed(self, number: str) -> bool:
        """What the server knows of a transaction whose commit it did not answer."""
        question = text("SELECT pg_xact_status(CAST(:number AS xid8))")

        def status() -> Any:
            try:
                with self.engine.connect() as connection:
                    return connection.execute(question, {"number": number}).scalar()
            except DataError as error:
                if getattr(error.orig, "sqlstate", None) != UNHEARD_OF:
                    raise
                return None  # the server has crashed before it had written anything of it

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
ASKED = (*BaseStorage.__abstractmethods__, "_create_new_trial", "_set_trial_param", "_get_trials")
for _name in ASKED:
    setattr(ServerStorage, _name, _patient(getattr(RDBStorage, _name)))
for _name in ("counts", "first_waiting"):
    setattr(ServerStorage, _name, _patient(getattr(BesomStorage, _name)))
for _name in WRITES:
    if hasattr(RDBStorage, _name):
        setattr(FileStorage, _name, _waiting(getattr(RDBStorage, _name)))


def _plain(method: Callable[..., T]) -> Callable[..., T]:
    """Of a damaged or full storage it is said so, whoever asks and whenever."""
    reads = method.__name__.lstrip("_").startswith("get_")

    @functools.wraps(method)
    def ask(self: BesomStorage, *args: Any, **kwargs: Any) -> T:
        with told_plainly(self.url, reads=reads):
            return method(self, *args, **kwargs)

    return ask


for _class in (FileStorage, ServerStorage):
    for _name in (*ASKED, "counts", "first_waiting", "renew"):
        setattr(_class, _name, _plain(getattr(_class, _name)))


def _hand_back(storage: weakref.ref[ServerStorage], used: threading.Event) -> None:
    """A thread of a storage: its connection goes back to the server when nothing has been asked for a while."""
    while True:
        used.wait()
        used.clear()
        time.sleep(IDLE_S)
        if (one := storage()) is None:
            return
        if not used.is_set():
            with one.turn:
                one.engine.dispose()
        del one


class _InTurn(_CachedStorage):
    """Which has a lock of its own: two threads that took that one and the storage's in turns would wait for ever."""

    _backend: BesomStorage


def _taking_turns(method: Callable[..., T]) -> Callable[..., T]:
    @functools.wraps(method)
    def ask(self: _InTurn, *args: Any, **kwargs: Any) -> T:
        with self._backend.turn:
            return method(self, *args, **kwargs)

    return ask


for _name in BaseStorage.__abstractmethods__:
    setattr(_InTurn, _name, _taking_turns(getattr(_CachedStorage, _name)))


class _Stranger(Exception):  # noqa: N818 - who is met
    """A database whose tables this Optuna cannot use."""


def _open_file(url: str) -> FileStorage:
    make_private(url)
    engine = create_engine(url, **FILE_ENGINE)

    def is_whole() -> bool:
        with engine.connect() as connection:
            return _is_whole(connection)

    try:
        if is_whole():
            return _of_this_schema(url, lambda: FileStorage(url, is_whole=True))
        with sqlite_lock(url):  # two processes that make one fresh file's tables destroy each other's
            return _of_this_schema(url, lambda: FileStorage(url, is_whole=is_whole()))
    finally:
        engine.dispose()


def _open_server(url: str, patience: _RetryWhileAway) -> ServerStorage:
    _refuse_other_servers(url)
    engine = create_engine(url, **_engine_kwargs(url))
    try:
        with engine.begin() as connection:
            is_whole = _is_whole(connection)
            if not is_whole:  # made by one process at a time
                connection.execute(text(LOCK), {"name": "besom: the tables"})
                is_whole = _is_whole(connection)
            if not is_whole:
                return _of_this_schema(url, lambda: ServerStorage(url, patience, is_whole=False))
        engine.dispose()  # before another connection is asked for
        return _of_this_schema(url, lambda: ServerStorage(url, patience, is_whole=True))
    finally:
        engine.dispose()


def _refuse_other_servers(url: str) -> None:
    asked = make_url(url)
    if asked.get_backend_name() != "postgresql" or asked.get_driver_name() not in DRIVERS:
        raise _Stranger("a sweep is kept in SQLite (sqlite:///optuna.db) or PostgreSQL (postgresql://user@host/optuna)")


def _engine_kwargs(url: str) -> dict[str, Any]:
    asked = make_url(url).query
    return {
        # one for the process, which asks one question at a time; only Optuna's look at its tables asks two
        "pool_size": 1,
        "max_overflow": 1,
        "pool_pre_ping": True,  # a server that was restarted leaves dead connections in the pool
        "isolation_level": "READ COMMITTED",  # whose turn it is sees what the last one has left
        "connect_args": {key: value for key, value in CONNECT_ARGS.items() if key not in asked},
    }


def _refuse_strangers(connection: Connection) -> None:
    """Before Optuna adds its tables to another program's: both, and MLflow too, number theirs in `alembic_version`."""
    tables = inspect(connection).get_table_names()
    if "alembic_version" in tables and "version_info" not in tables:
        raise _Stranger("this database is another program's (MLflow's?), whose tables Optuna's would break")


def _is_whole(connection: Connection) -> bool:
    """Whether Optuna has made its tables, the last of them too, and what is in that."""
    _refuse_strangers(connection)
    if "alembic_version" not in inspect(connection).get_table_names():
        return False
    return bool(connection.execute(text("SELECT count(*) FROM alembic_version")).scalar())


def _of_this_schema(url: str, opened: Callable[[], T]) -> T:
    try:
        return opened()
    except RuntimeError as error:
        what = f"its tables are not those of the Optuna installed here ({optuna.__version__})"
        older = "storage upgrade" in str(error)
        way = f"optuna storage upgrade --storage {redact(url)}" if older else "pip install -U optuna"
        raise _Stranger(f"{what}: bring them together with `{way}`") from error


def _is_away(error: BaseException | None) -> bool:
    """Whether the same question may be answered later; Optuna wraps what SQLAlchemy raises."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    if isinstance(error, PendingRollbackError):  # the next question on a connection that was lost
        return True
    if isinstance(error, OperationalError | InterfaceError):
        state = _state(error)
        return state.startswith(AWAY) if state else not any(words in str(error.orig) for words in REFUSALS)
    return isinstance(error, StorageInternalError) and _is_away(error.__cause__)


def _state(error: DBAPIError) -> str | None:
    """PostgreSQL's SQLSTATE."""
    return getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)


def _is_full(error: BaseException) -> bool:
    return any(words in str(error) or words in str(error.__cause__) for words in FULL)


def _what_is_wrong(error: BaseException) -> str:
    return "the server has no connection left" if _is_full(error) else "the server is away"


TOO_FEW = (
    "raise its max_connections: a sweep needs one for each slot and one for itself; or use fewer slots: "
    "hydra.sweeper.n_jobs"
)


def _reason(error: BaseException) -> str:
    """In the driver's words, on one line and without a password."""
    if isinstance(error, StorageInternalError) and error.__cause__:
        error = error.__cause__
    words = str(getattr(error, "orig", None) or error).strip().splitlines()
    return redact(words[0]) if words else type(error).__name__
