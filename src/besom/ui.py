"""`besom ui`: MLflow's own server, on the store the runs are in, for this machine's user only."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from besom.errors import InputError, RunFailed, near
from besom.tracking.store import SERVERS, Store

HOST = "127.0.0.1"
START_S = 60  # a cold MLflow server takes about 5 s here


def serve(study: str | None, port: int) -> int:
    """Run the UI until Ctrl-C; its exit code. Where the store is a server already, only its link is printed.

    Raises:
        InputError: the port is taken, or there is no such study.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    store = Store(uri, os.environ.get("MLFLOW_EXPERIMENT_NAME", "besom"))
    page = _page(store, study)
    if urlsplit(uri).scheme in SERVERS:
        print(f"{uri.rstrip('/')}/{page}")
        return 0
    _check_port(port)
    server = subprocess.Popen(_command(uri, port), env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"})
    try:
        _wait_until_up(server, port)
        print(f"\nMLflow's UI: http://{HOST}:{port}/{page}\nCtrl-C ends it", flush=True)
        return server.wait()
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


def _command(uri: str, port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri),
        *("--host", HOST, "--port", str(port), "--workers", "1"),
        # by default MLflow answers to names like 10.evil.com, which a web page could use to read the runs
        *("--allowed-hosts", f"{HOST}:{port},localhost:{port}"),
        *("--uvicorn-opts", "--log-level warning"),
    ]


def _page(store: Store, study: str | None) -> str:
    """The path of the study's run, or of the experiment's runs."""
    experiment = store.client.get_experiment_by_name(store.experiment)
    if experiment is None:
        if study:
            raise InputError(f"no study {study!r}: nothing has been recorded in {store.experiment!r} yet")
        return ""
    table = f"#/experiments/{experiment.experiment_id}/runs"
    if study is None:
        return table
    wanted = "tags.`besom.study` LIKE '%'"
    runs = store.client.search_runs([experiment.experiment_id], wanted, max_results=1000)
    parents = {run.data.tags["besom.study"]: run.info.run_id for run in reversed(runs) if "besom.trial" not in run.data.tags}
    if study not in parents:
        raise InputError(f"no study {study!r} in experiment {store.experiment!r}{near(study, parents)}")
    return f"{table}/{parents[study]}"


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise InputError(f"port {port} is in use ({error.strerror}); choose another: besom ui --port {port + 1}") from error


def _wait_until_up(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_S
    while server.poll() is None and time.monotonic() < deadline:
        try:
            urlopen(f"http://{HOST}:{port}/health", timeout=1).close()
        except (URLError, OSError):
            time.sleep(0.1)
        else:
            return
    raise RunFailed(f"MLflow's server did not start on port {port}; its own words are above")
