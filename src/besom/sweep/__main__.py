"""A process for one Hydra job: `python -m besom.sweep`, with the pickled `Job` on standard input.

Its starter keeps that pipe open. When it closes, the starter is gone: the process is hung up (SIGHUP).
"""

import os
import signal
import sys
import threading

import cloudpickle

if __name__ == "__main__":
    job = cloudpickle.load(sys.stdin.buffer)

    def wait_for_hangup() -> None:
        # not through sys.stdin: a thread that waits inside it would abort the interpreter's end
        while os.read(sys.stdin.fileno(), 4096):
            pass
        os.kill(os.getpid(), signal.SIGHUP)

    threading.Thread(target=wait_for_hangup, name="besom-hangup", daemon=True).start()
    job.run()
