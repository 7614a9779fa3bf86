"""The study on a real PostgreSQL server, which is stopped, crashed and started again while trials run."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import pytest
from doors import PATIENCE_S, Shell, eventually
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from servers import PASSWORD, Server, free_port, serving
from sqlalchemy import Connection, NullPool, create_engine, text

from besom.study.attrs import ENDS
from besom.study.lease import LeaseMonitor
from besom.study.objective import objectives
from besom.study.queue import Queue
from besom.study.storage import ServerLost, ServerStorage, exclusive, in_turn, open_storage
from besom.study.study import Study
from sweeps import UNRECORDED, Sweep, assert_whole, lives, study

pytestmark = pytest.mark.usefixtures("stocked")

LONG = ("hydra.sweeper.lease=30", UNRECORDED)  # longer than any outage here


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def storage(server: Server, request: pytest.FixtureRequest) -> str:
    """A fresh database."""
    return server.new_database(request.node.name[-60:])


@pytest.fixture
def shell(tmp_path: Path, storage: str) -> Iterator[Shell]:
    """Whatever the sweep did, its password is written nowhere a user would not have written it."""
    shell = Shell(tmp_path)
    yield shell
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or not says_password(path.read_bytes().decode(errors="replace")), path


def says_password(text: str) -> bool:
    return PASSWORD in text or "se%3Acr" in text


def on(storage: str) -> str:
    return f"hydra.sweeper.storage='{storage}'"


def logs(shell: Shell) -> str:
    return "".join(path.read_text() for path in shell.folder.glob("multirun/*/*/workers/*/job.log"))


def is_waiting(shell: Shell) -> bool:
    """A worker has found the server away."""
    return "the server is away" in logs(shell)


# ── as on SQLite ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_eight_workers_spend_the_budget_of_a_fresh_database_exactly(shell: Shell, storage: str) -> None:
    code, said = Sweep(shell, on(storage), "hydra.sweeper.n_jobs=8", "hydra.sweeper.n_trials=24").end()
    assert code == 0, said
    assert "anew" not in said  # no worker has died of its own
    assert not says_password(said)
    assert_whole(shell, 24, storage)
    assert not list(shell.folder.glob("optuna.db"))


def test_a_password_in_the_environment_reaches_the_workers_and_is_written_nowhere(
    shell: Shell, server: Server, storage: str
) -> None:
    without = storage.replace(f":{quote(PASSWORD, safe='')}@", "@")
    code, said = Sweep(shell, on(without), "hydra.sweeper.n_trials=1", PGPASSWORD=PASSWORD).end()
    assert code == 0, said
    assert len(study(shell, storage=storage).trials) == 1
    for path in shell.folder.rglob("*"):
        assert not path.is_file() or not says_password(path.read_bytes().decode(errors="replace")), path


def test_a_killed_trial_is_tried_again_as_the_same_trial(shell: Shell, storage: str) -> None:
    sweep = Sweep(shell, on(storage), "+how=hang once", "hydra.sweeper.n_trials=1")
    os.kill(sweep.wait_for_attempt(0), signal.SIGKILL)
    code, said = sweep.end()
    assert code == 0, said
    assert_whole(shell, 1, storage)
    assert study(shell, storage=storage).trials[0].user_attrs["besom.ends"] == ["killed"]


def test_a_killed_workers_trial_is_finished_by_another(shell: Shell, storage: str) -> None:
    sweep = Sweep(shell, on(storage), "+how=hang once", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2")
    pids = [sweep.wait_for_attempt(0), sweep.wait_for_attempt(1)]
    sweep.workers()[0].kill()
    eventually(lambda: not all(lives(pid) for pid in pids), "the orphan to end itself")
    for pid in pids:
        if lives(pid):
            os.kill(pid, signal.SIGKILL)
    code, said = sweep.end()
    assert code == 0, said
    assert_whole(shell, 2, storage)
    ends = [trial.user_attrs["besom.ends"] for trial in study(shell, storage=storage).trials]
    assert sorted(ends) == [["killed"], ["lost"]]


def test_of_two_supervisors_at_once_the_second_is_told_of_the_first(shell: Shell, storage: str) -> None:
    words = (on(storage), "+how=until told", "hydra.sweeper.n_trials=2", UNRECORDED)
    sweeps = [Sweep(shell, *words), Sweep(shell, *words)]
    eventually(lambda: any(sweep.process.poll() is not None for sweep in sweeps), "one of the two to give way")
    refused, other = sorted(sweeps, key=lambda sweep: sweep.process.poll() is None)
    code, said = refused.end()
    assert code == 2, said
    assert f"is being swept by process {other.process.pid}" in said
    (shell.folder / "go").touch()
    code, said = other.end()
    assert code == 0, said
    assert_whole(shell, 2, storage, recorded=False)


# ── the server goes away ──────────────────────────────────────────────────────────────────────────────────────────────
def test_trials_run_on_while_the_server_is_restarted(shell: Shell, server: Server, storage: str) -> None:
    sweep = Sweep(shell, on(storage), *LONG, "+how=until told", "hydra.sweeper.n_jobs=3", "hydra.sweeper.n_trials=6")
    for number in range(3):
        sweep.wait_for_attempt(number)
    server.restart()
    (shell.folder / "go").touch()
    code, said = sweep.end()
    assert code == 0, said
    assert "anew" not in said  # no worker has died
    assert_whole(shell, 6, storage, recorded=False)
    assert [len(sweep.trial_pids(number)) for number in range(6)] == [1] * 6


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_server_restarted_in_the_midst_of_claims_and_ends_loses_and_doubles_nothing(
    shell: Shell, server: Server, storage: str, mode: Literal["fast", "immediate"]
) -> None:
    sweep = Sweep(shell, on(storage), *LONG, "hydra.sweeper.n_jobs=4", "hydra.sweeper.n_trials=24")
    for number in (3, 8, 13, 18):
        sweep.wait_for_attempt(number)
        server.restart(mode)
    code, said = sweep.end()
    assert code == 0, said
    assert "anew" not in said
    assert_whole(shell, 24, storage, recorded=False)
    assert {trial.state.name for trial in study(shell, storage=storage).trials} == {"COMPLETE"}
    assert [len(sweep.trial_pids(number)) for number in range(24)] == [1] * 24


def test_all_wait_for_a_server_that_is_away_and_say_so_once(shell: Shell, server: Server, storage: str) -> None:
    sweep = Sweep(shell, on(storage), *LONG, "+how=until told", "hydra.sweeper.n_trials=2")
    sweep.wait_for_attempt(0)
    server.stop()
    eventually(lambda: is_waiting(shell), "the worker to miss the server")
    (shell.folder / "go").touch()
    server.start()
    code, said = sweep.end()
    assert code == 0, said
    assert_whole(shell, 2, storage, recorded=False)
    assert [len(sweep.trial_pids(number)) for number in range(2)] == [1, 1]
    assert logs(shell).count("the server is away") == 1
    assert logs(shell).count("the server is back") == 1
    assert not says_password(said)


def test_a_server_that_is_away_for_longer_than_a_lease_costs_no_trial_a_retry(
    shell: Shell, server: Server, storage: str
) -> None:
    """Nor is any holder taken for dead, whom nobody could hear."""
    sweep = Sweep(
        shell,
        *(on(storage), "+how=hang once", "hydra.sweeper.max_retries=0"),
        *("hydra.sweeper.n_jobs=2", "hydra.sweeper.n_trials=2", UNRECORDED),
    )
    pids = [sweep.wait_for_attempt(0), sweep.wait_for_attempt(1)]
    server.stop("immediate")
    eventually(lambda: not any(lives(pid) for pid in pids), "the trials to end themselves")
    server.start()
    code, said = sweep.end()
    assert code == 0, said
    assert_whole(shell, 2, storage, recorded=False)
    assert [trial.user_attrs["besom.ends"] for trial in study(shell, storage=storage).trials] == [["cut off"]] * 2


TRIALS, WORKERS = 100, 4


def _pull(url: str, ended: multiprocessing.Queue[int]) -> None:
    """A worker whose trials take no time: nearly all it does is to claim and to tell."""
    study = Study(url, "app", wait=True)
    watch = LeaseMonitor(lease_s=3600)
    while study.remaining(TRIALS):
        Queue(study).reap(watch, max_retries=0)
        if claim := Queue(study).claim(TRIALS, lambda _: RandomSampler(), NopPruner()):
            claim.trial.report(claim.trial.suggest_float("x", 0, 1), step=0)
            Queue(study).complete(claim, [float(claim.number)])
            ended.put(claim.number)


@pytest.mark.parametrize(("crash", "every"), [(False, 1), (True, 10)], ids=["connections cut", "server crashed"])
def test_workers_cut_off_at_any_moment_end_each_trial_once(
    shell: Shell, server: Server, storage: str, crash: bool, every: int
) -> None:
    context = multiprocessing.get_context("spawn")
    maker = context.Process(target=Study.create, args=(storage, "app", objectives("maximize", "x"), shell.folder, {}))
    maker.start()
    maker.join()
    ended: multiprocessing.Queue[int] = context.Queue()
    workers = [context.Process(target=_pull, args=(storage, ended), daemon=True) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    numbers = []
    for told in range(1, TRIALS + 1):
        numbers.append(ended.get(timeout=PATIENCE_S))
        if told % every == 0:
            server.restart("immediate") if crash else server.disconnect_all()
    for worker in workers:
        worker.join(PATIENCE_S)
    ended.close()
    assert [worker.exitcode for worker in workers] == [0] * WORKERS
    assert sorted(numbers) == list(range(TRIALS))
    trials = study(shell, storage=storage).trials
    assert [(trial.number, trial.value) for trial in trials] == [(number, number) for number in range(TRIALS)]
    assert all(ENDS not in trial.user_attrs for trial in trials)


def test_a_transaction_that_a_crashed_server_has_forgotten_was_not_kept(storage: str) -> None:
    opened = open_storage(storage)
    assert isinstance(opened, ServerStorage)
    assert not opened._was_committed(str(1 << 40))  # a number that it has not given yet
    opened.engine.dispose()


@pytest.fixture
def rdb(storage: str) -> Iterator[RDBStorage]:
    rdb = open_storage(storage)
    yield rdb
    rdb.engine.dispose()


def names(rdb: RDBStorage) -> list[str]:
    return [study.study_name for study in rdb.get_all_studies()]


def test_who_loses_the_server_in_its_turn_has_changed_nothing(server: Server, rdb: RDBStorage) -> None:
    def in_turn() -> None:
        with exclusive(rdb, "turn"):
            rdb.create_new_study([StudyDirection.MAXIMIZE], "app")
            server.disconnect_all()

    with pytest.raises(ServerLost, match="the same command goes on"):
        in_turn()
    assert names(rdb) == []


def test_a_turn_is_over_although_the_answer_to_its_commit_was_lost(
    server: Server, rdb: RDBStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Done again, it would be done twice."""
    commit = Connection.commit

    def commit_unanswered(connection: Connection) -> None:
        commit(connection)
        server.disconnect_all()
        connection.execute(text("SELECT 'where are you?'"))

    monkeypatch.setattr(Connection, "commit", commit_unanswered)
    with exclusive(rdb, "turn"):
        rdb.create_new_study([StudyDirection.MAXIMIZE], "app")
    assert names(rdb) == ["app"]


# ── refused before anything starts ────────────────────────────────────────────────────────────────────────────────────
def refused(shell: Shell, storage: str, **env: str) -> str:
    """The one message."""
    code, said = Sweep(shell, on(storage), "hydra.sweeper.n_trials=1", **env).end()
    assert code == 2, said
    assert "Traceback" not in said
    assert not says_password(said)
    assert shell.runs() == []
    [message] = [line for line in said.splitlines() if line.startswith("besom: ")]
    return message


def test_an_unreachable_server_is_refused_at_once(shell: Shell, server: Server) -> None:
    message = refused(shell, server.url(port=free_port()))
    assert "hydra.sweeper.storage=postgresql://besom:***@127.0.0.1" in message
    assert "Connection refused" in message


def test_a_wrong_password_is_refused(shell: Shell, server: Server) -> None:
    message = refused(shell, server.url(password="se:cr@t"))
    assert "password authentication failed" in message


def test_a_database_that_is_not_there_is_refused(shell: Shell, server: Server) -> None:
    message = refused(shell, server.url("nowhere"))
    assert 'database "nowhere" does not exist' in message


def test_where_the_driver_is_not_installed_the_message_names_the_extra(shell: Shell, storage: str) -> None:
    shell.write("missing/psycopg.py", "raise ModuleNotFoundError(\"No module named 'psycopg'\", name='psycopg')")
    message = refused(shell, storage, PYTHONPATH=f"missing{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    assert "pip install 'besom[postgres]'" in message


def test_another_programs_database_is_refused_and_left_as_it_is(shell: Shell, server: Server, storage: str) -> None:
    server.execute(storage, "CREATE TABLE alembic_version (version_num VARCHAR(32)); CREATE TABLE runs (id INT)")
    message = refused(shell, storage)
    assert "another program's" in message
    assert server.tables(storage) == ["alembic_version", "runs"]


# ── a server with few connections ─────────────────────────────────────────────────────────────────────────────────────
def test_eight_workers_share_the_few_connections_of_a_small_server(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    with serving("max_connections = 10", "superuser_reserved_connections = 3") as small:
        storage = small.new_database("few")
        small.execute(storage, "CREATE ROLE me LOGIN PASSWORD 'me'; ALTER DATABASE few OWNER TO me")
        small.execute(storage, "GRANT ALL ON SCHEMA public TO me")
        mine = storage.replace(f"besom:{quote(PASSWORD, safe='')}", "me:me")  # whom seven are left
        sweep = Sweep(shell, on(mine), "hydra.sweeper.n_trials=16", "hydra.sweeper.n_jobs=8", UNRECORDED)
        code, said = sweep.end()
        assert code == 0, said + logs(shell)
        assert_whole(shell, 16, mine, recorded=False)


def test_a_server_that_is_full_is_told_from_one_that_is_away(tmp_path: Path) -> None:
    with serving("max_connections = 4", "superuser_reserved_connections = 0") as small:
        engine = create_engine(small.url())
        taken = [engine.connect() for _ in range(4)]
        message = refused(Shell(tmp_path), small.url())
        for connection in taken:
            connection.close()
        engine.dispose()
    assert "the server has no connection left" in message
    assert "raise its max_connections" in message


def test_a_process_hands_its_only_connection_back_when_it_asks_nothing(server: Server, storage: str) -> None:
    asked_in_turn = in_turn(open_storage(storage))
    [asked] = ["SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"]
    engine = create_engine(storage, poolclass=NullPool)

    def connections() -> int:
        with engine.connect() as connection:
            return int(connection.execute(text(asked)).scalar() or 0)

    threads = [threading.Thread(target=lambda: [asked_in_turn.get_all_studies() for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    seen = {connections() for _ in range(10)}
    for thread in threads:
        thread.join()
    assert max(seen) <= 1
    eventually(lambda: connections() == 0, "the connection to be handed back")
