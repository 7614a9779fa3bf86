"""All charts of a study, in the order in which they are read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from besom.reporting.chart import Chart, NothingToShow
from besom.reporting.contours import contours
from besom.reporting.importances import importance
from besom.reporting.lanes import lanes
from besom.reporting.parallel import parallel
from besom.reporting.slices import slices
from besom.reporting.steps import steps
from besom.reporting.values import history, pareto
from besom.study.snapshot import StudySnapshot

log = logging.getLogger(__name__)


def charts(snapshot: StudySnapshot) -> Iterator[Chart]:
    several = len(snapshot.objectives) > 1
    yield from _made("Pareto front" if several else "Optimisation history", pareto if several else history, snapshot)
    yield from _made("Parameter importances", importance, snapshot)
    yield from _made("Intermediate values", steps, snapshot)
    yield from _made("Timeline of slots", lanes, snapshot)
    yield from _made("Parallel coordinates", parallel, snapshot)
    yield from _made("Slices", slices, snapshot)
    yield from _made("Contours", contours, snapshot)


def _made(title: str, make: Callable[[StudySnapshot], Chart | list[Chart]], snapshot: StudySnapshot) -> list[Chart]:
    try:
        made = make(snapshot)
    except NothingToShow as nothing:
        return [Chart(title, str(nothing))]
    except Exception as error:  # of values that plotly, numpy or Optuna cannot take: the rest of the page is as good
        log.warning("the report goes without a chart, %s", title, exc_info=True)
        return [Chart(title, f"This chart could not be made ({type(error).__name__}: {error}).")]
    return made if isinstance(made, list) else [made]
