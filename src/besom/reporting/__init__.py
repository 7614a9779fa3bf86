"""The study's report: its page, its trials as a table, its best, and the main charts as pictures."""

from __future__ import annotations

import importlib
from contextlib import suppress
from pathlib import Path

from besom.errors import InputError
from besom.study.snapshot import StudySnapshot

LIBRARIES = (
    *("besom.reporting.html", "besom.reporting.pictures", "besom.reporting.tables"),
    *("jinja2", "plotly.offline", "plotly.graph_objs._scatter", "plotly.graph_objs._figure", "plotly.subplots"),
    *("matplotlib.figure", "matplotlib.backends.backend_agg"),
)
PAGE, TRIALS, BEST = "report.html", "trials.csv", "best.yaml"


def write(snapshot: StudySnapshot, folder: Path) -> list[Path]:
    """All files of the report, into a folder that is there; which they are."""
    from besom.reporting.html import page
    from besom.reporting.pictures import pictures
    from besom.reporting.tables import best_yaml, trials_csv

    texts = {PAGE: page(snapshot), TRIALS: trials_csv(snapshot), BEST: best_yaml(snapshot)}
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", errors="backslashreplace")
    return [*(folder / name for name in texts), *pictures(snapshot, folder)]


def load() -> None:
    """What the files are made with, which takes a second. One that is missing is the report's to name."""
    for module in LIBRARIES:
        with suppress(ImportError):
            importlib.import_module(module)


def save(snapshot: StudySnapshot, file: Path) -> None:
    """The page alone; or, where the file's name ends on `.csv`, the table of trials.

    Raises:
        InputError: the file cannot be written.
    """
    from besom.reporting.html import page
    from besom.reporting.tables import trials_csv

    text = trials_csv(snapshot) if file.suffix == ".csv" else page(snapshot)
    try:
        file.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise InputError(f"{file} cannot be written ({error.strerror}); choose another: -o FILE") from error
