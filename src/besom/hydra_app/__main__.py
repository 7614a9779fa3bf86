"""A process for one Hydra job: `python -m besom.hydra_app`, with the pickled `Job` on standard input."""

import sys

import cloudpickle

from besom.system.leaving import leave_at_once

if __name__ == "__main__":
    leave_at_once()
    cloudpickle.load(sys.stdin.buffer).run()
