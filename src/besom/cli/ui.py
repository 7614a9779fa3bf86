"""`besom ui`: MLflow's own server, on the store the runs are in, for this machine's user only."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

from besom.config.redaction import redact
from besom.errors import InputError
from besom.tracking import saved_view
from besom.tracking.mlflow_store import SERVERS, TRAINING, Store
from besom.tracking.run_lookup import study_run, used_store

HOST = "127.0.0.1"
# browsers take each name under localhost for this machine; on a first visit under one of its usual names, MLflow opens
# a panel of its assistant over the right part of every page
NAME = "besom.localhost"


def serve(study: str | None, port: int) -> None:
    """Print the links, then become MLflow's server, until Ctrl-C. Where the store is a server already, only print.

    Raises:
        InputError: the port is taken, nothing has been recorded, or there is no such study.

    """
    recorded = used_store()
    uri, pages = recorded.uri, list(_pages(recorded, study))
    if urlsplit(uri).scheme in SERVERS:
        print("\n".join(_lines(redact(uri).rstrip("/"), pages)))
        return
    check_port(port, "besom ui")
    print("MLflow's UI, in a few seconds:", *_lines(f"http://{NAME}:{port}", pages), sep="\n")
    print(f"a browser that does not find {NAME} takes {HOST} in its place", flush=True)
    print("whoever has an account on this machine can see and change these runs meanwhile\nCtrl-C ends it", flush=True)
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
        *("--allowed-hosts", f"{HOST}:{port},localhost:{port},{NAME}:{port}"),
        *("--cors-allowed-origins", f"http://{NAME}:{port}"),
        *("--uvicorn-opts", "--log-level warning"),
    ]


def _lines(server: str, pages: list[tuple[str, str]]) -> Iterator[str]:
    for what, path in pages:
        yield f"{what}{server}/{path}"


def _pages(store: Store, study: str | None) -> Iterator[tuple[str, str]]:
    """What there is to see, and its path: of a study the table of its trials and its own page."""
    if study:
        run = study_run(store, study)
        experiment, own = run.info.experiment_id, run.info.run_id
        if saved_view.is_saved(store, experiment, own):
            yield "trials: ", saved_view.link(experiment, own)
        yield "study:  ", f"#/experiments/{experiment}/runs/{own}{TRAINING}"
        return
    found = store.client.get_experiment_by_name(store.experiment)
    yield "", f"#/experiments/{found.experiment_id}/runs{TRAINING}" if found else ""


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
