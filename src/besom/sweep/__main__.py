"""A process for one Hydra job: `python -m besom.sweep`, with the pickled `Job` on standard input."""

import sys

import cloudpickle

from besom.leaving import leave_at_once

if __name__ == "__main__":
    leave_at_once()
    cloudpickle.load(sys.stdin.buffer).run()
