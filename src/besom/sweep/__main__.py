"""A process for one Hydra job: `python -m besom.sweep`, with the pickled `Job` on standard input."""

import sys

import cloudpickle

if __name__ == "__main__":
    cloudpickle.load(sys.stdin.buffer).run()
