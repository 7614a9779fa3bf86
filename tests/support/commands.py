"""Commands of besom and of Hydra apps, forked from a process of the test session that has imported what they import.

A command's words, folder, environment, streams, signals and exit code are real; it is spared only the imports of other
people's packages, and so is the first warm process of a sweep (`_Nursery`). What a fresh interpreter would do otherwise
is started as one (`is_alike`).
"""

from __future__ import annotations

import builtins
import contextlib
import gc
import os
import pickle
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import IO, Any, NoReturn

from besom.engine import warm_main, warm_process
from besom.engine.fork_server import Forked, ForkServer, pair, serve

BESOM = str(Path(sys.executable).parent / "besom")
HEAVY = (
    *("hydra", "optuna", "sqlalchemy.orm", "pandas", "plotly.graph_objects", "matplotlib.figure", "yaml", "pydantic"),
    *("torch", "torchvision", "torchmetrics", "pytorch_lightning", "torch.utils.data", "torch.optim"),
    *("mlflow", "mlflow.tracking._tracking_service.client", "mlflow.store.tracking.sqlalchemy_store"),
)
# an interpreter, its C libraries or MLflow read them when they start
READ_EARLY = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC", "TZ", "OMP_", "OPENBLAS_", "MKL_", "GLIBC_", "CUDA_")


def is_alike(words: Sequence[str], env: Mapping[str, str]) -> bool:
    """Whether the command does in a forked process what it does in a fresh one."""
    if words[0] != BESOM and not (words[0] == sys.executable and (words[1] == "-m" or words[1].endswith(".py"))):
        return False
    names = {name for name in {*os.environ, *env} if name.startswith(READ_EARLY)}
    return all(env.get(name) == os.environ.get(name) for name in names) and not any(
        name.startswith("MLFLOW_") for name in env
    )


class ForkedCommand(subprocess.Popen[str]):
    """As `subprocess.Popen`, by a fork."""

    def __init__(self, words: Sequence[str], **more: Any) -> None:
        self._forked: Forked | None = None
        super().__init__(words, **more)

    def _execute_child(self, args: Any, executable: Any, preexec_fn: Any, close_fds: Any, pass_fds: Any, cwd: Any,
                       env: Any, *more: Any) -> None:  # fmt: skip
        files = [one for one in more if isinstance(one, int) and not isinstance(one, bool)]
        p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite = files[1:7]
        fds = [p2cread, c2pwrite, errwrite]
        self._forked = _server().fork("commands:be", list(args), str(cwd), dict(env), fds=fds)
        self.pid = self._forked.pid
        self._child_created = True
        for fd in {p2cread, c2pwrite, errwrite} - {p2cwrite, c2pread, errread, getattr(self, "_devnull", -1), -1}:
            os.close(fd)
        if hasattr(self, "_devnull"):
            os.close(self._devnull)

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        return self._look(0.0)

    def _wait(self, timeout: float | None) -> int:
        if (code := self._look(timeout)) is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        return code

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None and self._forked and (code := self._forked.join(timeout)) is not None:
            self.returncode = code
            self._forked.close()
        return self.returncode


# ── the session's server ──────────────────────────────────────────────────────────────────────────────────────────────
_running: tuple[subprocess.Popen[bytes], ForkServer] | None = None


def _server() -> ForkServer:
    global _running
    if _running is None:
        requests, ask = pair()
        with requests:
            here = str(Path(__file__).parent)
            start = f"import sys; sys.path.insert(0, {here!r}); import commands; commands.main({requests.fileno()})"
            process = subprocess.Popen(
                [sys.executable, "-c", start],
                pass_fds=[requests.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"},
            )
        _running = process, ForkServer(ask)
    return _running[1]


def close() -> None:
    """At the session's end."""
    global _running
    if _running:
        process, server = _running
        server.close()
        process.wait()
        _running = None


def main(requests: int) -> None:
    """The server's."""
    import importlib

    from besom.tracking.mlflow_store import keep_mlflow_quiet

    keep_mlflow_quiet()
    for module in HEAVY:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    serve(socket.socket(fileno=requests))


# ── a command's process ───────────────────────────────────────────────────────────────────────────────────────────────
def be(words: list[str], folder: str, env: dict[str, str], *streams: int) -> None:
    """Do what the words say, as the interpreter that they would start."""
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
    for fd in streams:
        os.close(fd)

    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    tempfile.tempdir = None
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(sign, signal.default_int_handler if sign == signal.SIGINT else signal.SIG_DFL)
    sys.path.remove(str(Path(__file__).parent))
    if "-m" in words[2:] or "--multirun" in words or "sweep" in words:
        warm_process._start = _Nursery(warm_process._start).start  # type: ignore[assignment]
    sys.orig_argv = words if words[0] == sys.executable else [sys.executable, *words]
    sys.argv = words if words[0] == BESOM else words[1:]
    if sys.argv[0] == "-m":
        module = sys.argv[1]
        sys.argv = ["-m", *sys.argv[2:]]
        sys.path[0] = folder  # that of `-c`
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        return
    script = Path(sys.argv[0]).absolute()
    sys.path[0] = str(script.parent)
    main = ModuleType("__main__")
    vars(main).update(__file__=str(script), __builtins__=builtins, __cached__=None)
    sys.modules["__main__"] = main
    exec(compile(script.read_bytes(), str(script), "exec", dont_inherit=True), vars(main))


# ── the warm process of a command ─────────────────────────────────────────────────────────────────────────────────────
class _Nursery:
    """A child of a command's process that has nothing of the app in it, and becomes its warm process when it is asked.

    It ends with the command.
    """

    def __init__(self, otherwise: Callable[..., Any]) -> None:
        """`otherwise` starts any further one."""
        self._otherwise = otherwise
        self._ask, asked = socket.socketpair()
        self._pid = os.fork()
        if self._pid == 0:
            self._ask.close()
            _wait_to_be_warm(asked)
        asked.close()

    def start(self, fds: Sequence[int], words: Sequence[str], output: IO[bytes]) -> Any:
        if self._pid == 0:
            return self._otherwise(fds, words, output)
        child, self._pid = _Child(self._pid), 0
        environ = {**os.environ, **warm_process.ONE_THREAD}
        socket.send_fds(self._ask, [pickle.dumps((environ, sys.path, words))], [output.fileno(), *fds])
        self._ask.close()
        return child


def _wait_to_be_warm(asked: socket.socket) -> NoReturn:
    for sign in (signal.SIGINT, *warm_process.TO_WORKER):  # whoever is not asked ends by itself
        signal.signal(sign, signal.SIG_IGN)
    message, given, _, _ = socket.recv_fds(asked, 1 << 20, 16)
    if not message:
        os._exit(0)
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    environ, path, words = pickle.loads(message)
    output, *fds = given
    with Path(os.devnull).open("rb") as nothing:
        for number, fd in enumerate((nothing.fileno(), output, output)):
            os.dup2(fd, number)
    for fd in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        if fd > 2 and fd not in fds:
            with contextlib.suppress(OSError):
                os.close(fd)
    os.environ.clear()
    os.environ.update(environ)
    sys.path[:] = path
    code = 1
    try:
        warm_main.main(warm_main.Fds(*fds), makes_workers="workers" in words, records="records" in words)
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


class _Child:
    """What `subprocess.Popen` is to those who use it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(["besom-warm"], timeout)
            time.sleep(0.005)
        return code
