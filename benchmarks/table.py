"""What every benchmark prints: the machine, and a table whose last column is a ratio of two figures of the same run."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Sequence

from besom.training.step_tuning import has_bf16_units


def heading(title: str) -> str:
    # a machine's speed is no constant: compare ratios, not seconds
    bf16 = "bf16 units" if has_bf16_units() else "no bf16 units"
    machine = f"{os.cpu_count()} cores, {platform.machine()}, {bf16}, Python {platform.python_version()}"
    return f"{title}\n{datetime.datetime.now(datetime.UTC).date()}, {machine}, load {os.getloadavg()[0]:.1f}\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
