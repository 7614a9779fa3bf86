"""`besom ui`: MLflow's own server, on the store the runs are in, for this machine's user only."""

from __future__ import annotations

import os
import socket
import sys
from urllib.parse import urlsplit

from besom.errors import InputError
from besom.secrecy import masked
from besom.tracking.catalogue import study_run, users_store
from besom.tracking.store import SERVERS, TRAINING, Store

HOST = "127.0.0.1"


def serve(study: str | None, port: int) -> None:
    """Print the link, then become MLflow's server, until Ctrl-C. Where the store is a server already, only print.

    Raises:
        InputError: the port is taken, or there is no such study.

    """
    recorded = users_store()
    uri, page = recorded.uri, _page(recorded, study)
    if urlsplit(uri).scheme in SERVERS:
        print(f"{masked(uri).rstrip('/')}/{page}")
        return
    check_port(port, "besom ui")
    print(f"MLflow's UI, in a few seconds: http://{HOST}:{port}/{page}\nCtrl-C ends it", flush=True)
    command = _command(port)
    lean = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}
    store = {"MLFLOW_BACKEND_STORE_URI": uri}  # and not on the command line, which anybody may read
    # no besom process stays behind it: one server and its one worker are all that runs
    os.execve(command[0], command, {**os.environ, **lean, **store})


def _command(port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--host", HOST, "--port", str(port), "--workers", "1"),
        # by default MLflow answers to names like 10.evil.com, which a web page could use to read the runs
        *("--allowed-hosts", f"{HOST}:{port},localhost:{port}"),
        *("--uvicorn-opts", "--log-level warning"),
    ]


def _page(store: Store, study: str | None) -> str:
    """The path of the study's run, or of the experiment's runs."""
    if study:
        run = study_run(store, study)
        return f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}{TRAINING}"
    experiment = store.client.get_experiment_by_name(store.experiment)
    return f"#/experiments/{experiment.experiment_id}/runs{TRAINING}" if experiment else ""


def check_port(port: int, command: str) -> None:
    """Raises InputError: it is taken, or none."""
    if not 0 < port < 65536:
        raise InputError(f"--port {port}: a port is a number from 1 to 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise InputError(
                f"port {port} is in use ({error.strerror}); choose another: {command} --port {port + 1}"
            ) from error
