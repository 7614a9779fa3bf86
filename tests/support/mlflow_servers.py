"""A real MLflow server, and a proxy before it that is as bad as a network can be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

from doors import eventually
from servers import free_port

Fault = Literal["none", "refused", "unanswered", "late"]


class MlflowServer:
    """Killed and started again, it has what it had."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "mlflow", "server", "--port", str(self.port), "--workers", "1"),
                    *("--backend-store-uri", f"sqlite:///{self._folder}/mlflow.db"),
                    *("--artifacts-destination", str(self._folder / "artifacts")),
                ],
                cwd=self._folder,
                env={**_environment(), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        eventually(self._answers, "MLflow's server")

    def kill(self) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health") as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}


class Proxy:
    """Passes all on, unless `fault` says otherwise of a request.

    `refused` is not passed on; `unanswered` is, and its answer is lost; `late` waits until it is released.
    """

    def __init__(self, target: int) -> None:
        self.fault: Callable[[str, str], Fault] = lambda method, path: "none"
        self.faults = 0
        self.release = threading.Event()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                proxy._pass_on(self, target)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _pass_on(self, asked: BaseHTTPRequestHandler, target: int) -> None:
        body = asked.rfile.read(int(asked.headers.get("Content-Length") or 0))
        fault = self.fault(asked.command, asked.path)
        if fault != "none":
            self.faults += 1
        if fault == "late":
            self.release.wait()
        status, headers, answer = 503, [], b"away"
        if fault != "refused":
            connection = HTTPConnection("127.0.0.1", target)
            try:
                given = {key: value for key, value in asked.headers.items() if key.lower() != "host"}
                connection.request(asked.command, asked.path, body, given)
                got = connection.getresponse()
                status, headers, answer = got.status, got.getheaders(), got.read()
            except OSError:  # the server is down
                pass
            finally:
                connection.close()
        if fault == "unanswered":
            status, headers, answer = 500, [], b"lost"
        asked.send_response(status)
        for key, value in headers:
            if key.lower() not in ("transfer-encoding", "content-length", "connection"):
                asked.send_header(key, value)
        asked.send_header("Content-Length", str(len(answer)))
        asked.end_headers()
        asked.wfile.write(answer)
