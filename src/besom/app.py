"""Runs a Hydra app so that the user hears one message and the shell one exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from besom.errors import BesomError

INTERRUPTED = 130


def run(main: Callable[[], Any]) -> NoReturn:
    """Exit: 0 done, 1 a run failed, 2 the input was wrong, 130 interrupted."""
    asked_for_traces = "HYDRA_FULL_ERROR" in os.environ
    # Hydra's own handler prints and exits 1 whatever went wrong; with this set it hands the exception on
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Exception as error:
        if asked_for_traces:
            traceback.print_exc()
        sys.exit(_tell(error))
    sys.exit(0)


def _tell(error: Exception) -> int:
    """Say what went wrong; the exit code."""
    from besom.composition import as_input_error

    wrong = error if isinstance(error, BesomError) else as_input_error(error)
    if wrong is not None:
        print(f"besom: {wrong}", file=sys.stderr)
        return wrong.exit_code
    traceback.print_exception(error)
    return 1
