from __future__ import annotations

import pytest
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError, PendingRollbackError, ProgrammingError

from besom.errors import RunError
from besom.study.storage import PATIENCE_S, _RetryWhileAway


class Clock:
    """Passes only where someone sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("besom.study.storage.time.monotonic", lambda: self.now)
        monkeypatch.setattr("besom.study.storage.time.sleep", self.sleep)

    def sleep(self, pause_s: float) -> None:
        self.now += pause_s


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture
def patience():
    return _RetryWhileAway("hydra.sweeper.storage=postgresql://me:***@host/runs")


class Driver(Exception):  # noqa: N818 - what a driver raises
    def __init__(self, words: str, sqlstate: str | None = None) -> None:
        super().__init__(words)
        self.sqlstate = sqlstate


def _away(words: str = "Connection refused", sqlstate: str | None = None) -> OperationalError:
    return OperationalError("SELECT 1", {}, Driver(words, sqlstate))


def _wrapped(cause: Exception) -> StorageInternalError:
    error = StorageInternalError("during the commit")
    error.__cause__ = cause
    return error


def _failing(*errors: Exception):
    """Raises each once, then answers."""
    left = list(errors)

    def ask() -> str:
        if left:
            raise left.pop(0)
        return "here"

    return ask


@pytest.mark.parametrize(
    "error",
    [
        _away(),
        _away("the database system is starting up"),
        _away("sorry, too many clients already"),
        _away("terminating connection", "57P01"),
        _away("deadlock detected", "40P01"),
        _wrapped(_away()),
        _wrapped(PendingRollbackError("Can't reconnect until invalid transaction is rolled back")),
    ],
    ids=str,
)
def test_a_server_that_is_away_is_asked_again(clock, patience, error):
    assert patience(_failing(error, error)) == "here"
    assert clock.now > 0


@pytest.mark.parametrize(
    "error",
    [
        _away("FATAL:  password authentication failed for user"),
        _away('FATAL:  database "runs" does not exist'),
        _away("could not extend file: No space left on device", "53100"),
        _wrapped(ProgrammingError("SELECT", {}, Driver("syntax error", "42601"))),
        StorageInternalError("no cause"),
        KeyError("no such study"),
    ],
    ids=str,
)
def test_what_waiting_does_not_mend_is_said_at_once(clock, patience, error):
    with pytest.raises(type(error)) as said:
        patience(_failing(error))

    assert said.value is error
    assert clock.now == 0


def test_a_server_that_is_away_for_too_long_is_given_up_and_then_not_waited_for_again(clock, patience):
    """Else the way out of a sweep, which writes here and there, would wait for minutes at each step."""

    def ask() -> None:
        raise _away()

    with pytest.raises(RunError, match=r"^hydra\.sweeper\.storage=.*away for 5 minutes: Connection refused; when it"):
        patience(ask)
    given_up = clock.now
    assert PATIENCE_S < given_up < PATIENCE_S + 3

    with pytest.raises(RunError, match="away for 5 minutes"):
        patience(ask)

    assert clock.now == given_up


def test_a_server_that_came_back_is_given_all_patience_again(clock, patience):
    patience(_failing(_away()))
    clock.sleep(PATIENCE_S)

    assert patience(_failing(_away())) == "here"


def test_one_line_says_that_the_server_is_away_and_one_that_it_is_back(clock, patience, caplog):
    patience(_failing(*[_away()] * 9))

    assert [record.message.partition(": ")[2] for record in caplog.records] == [
        "the server is away; waiting for it: Connection refused",
        f"the server is back, after {clock.now:.1f} s",
    ]
