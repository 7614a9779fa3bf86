"""A PostgreSQL server of the test's own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import pytest
from sqlalchemy import Engine, create_engine, inspect, text

PASSWORD = "se:cr@et/%"  # all that a URL could stumble over
CONFIG = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
fsync = off
"""


class Server:
    """Can be stopped and started; what has been committed stays."""

    def __init__(self, folder: Path, programs: Path, settings: Sequence[str] = ()) -> None:
        self._folder = folder
        self._programs = programs
        self.port = free_port()
        (folder / "password").write_text(PASSWORD)
        words = ("-D", "data", "-U", "besom", "--pwfile=password", "-A", "scram-sha-256", "-E", "UTF8", "--no-locale")
        _run_in(folder, str(programs / "initdb"), *words)
        with (folder / "data" / "postgresql.conf").open("a") as config:
            config.write("\n".join([CONFIG.format(port=self.port), *settings, ""]))

    def url(self, database: str = "postgres", password: str = PASSWORD, port: int | None = None) -> str:
        return f"postgresql://besom:{quote(password, safe='')}@127.0.0.1:{port or self.port}/{database}"

    def new_database(self, name: str) -> str:
        """Its URL."""
        self.execute(self.url(), f'CREATE DATABASE "{name}"')
        return self.url(name)

    def execute(self, url: str, sql: str) -> None:
        with _engine(url) as engine, engine.connect() as connection:
            connection.execute(text(sql))

    def tables(self, url: str) -> list[str]:
        with _engine(url) as engine:
            return sorted(inspect(engine).get_table_names())

    def disconnect_all(self) -> None:
        self.execute(
            self.url(),
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
        )

    def start(self) -> None:
        self._control("start")

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """`fast` ends all connections; `immediate` is a crash."""
        self._control("stop", "-m", mode)

    def restart(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        self._control("restart", "-m", mode)

    def _control(self, *words: str) -> None:
        """Returns when it is done."""
        _run_in(self._folder, str(self._programs / "pg_ctl"), "-D", "data", "-l", "log", "-w", *words)


@contextmanager
def serving(*settings: str) -> Iterator[Server]:
    """`settings`: further lines of its configuration."""
    programs = _programs()
    if programs is None:
        pytest.skip("no PostgreSQL server here: initdb is neither on PATH nor in /usr/lib/postgresql/*/bin")
    # not pytest's own folder, into which only its owner may look
    folder = Path(tempfile.mkdtemp(prefix="besom-postgresql-"))
    if os.getuid() == 0:
        shutil.chown(folder, "postgres")
    try:
        server = Server(folder, programs, settings)
        server.start()
        try:
            yield server
        finally:
            if (folder / "data" / "postmaster.pid").exists():
                server.stop("immediate")
    finally:
        shutil.rmtree(folder)


@contextmanager
def _engine(url: str) -> Iterator[Engine]:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    yield engine
    engine.dispose()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _programs() -> Path | None:
    if on_path := shutil.which("initdb"):
        return Path(on_path).resolve().parent
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max(found, key=lambda programs: int(programs.parent.name), default=None)


def _run_in(folder: Path, *words: str) -> None:
    """PostgreSQL refuses to run as root."""
    user = "postgres" if os.getuid() == 0 else None
    said = folder / "said"  # a pipe would stay open for as long as the server runs
    with said.open("w") as output:
        done = subprocess.run(words, cwd=folder, user=user, stdout=output, stderr=subprocess.STDOUT, check=False)
    assert done.returncode == 0, said.read_text()
