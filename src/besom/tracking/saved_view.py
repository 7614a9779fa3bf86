"""A study's trials as a saved view of MLflow's runs table: its columns are there without a click.

MLflow keeps a view in a tag of the experiment, and opens it by a link that names the tag's end. MLflow documents
neither: where a later version no longer reads the tag, the link shows its plain table.
"""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

if TYPE_CHECKING:
    from besom.tracking.mlflow_store import Store

TAG = "mlflow.sharedViewState."  # followed by the id of the study's run
MAX_PARAMETERS = 30  # columns; MLflow's limit of a tag is 20,000 characters, and nobody reads more
NAME_WIDTH, OUTCOME_WIDTH = 290, 130  # pixels: of a trial's number and values, and of one word
OUTCOME = "besom.outcome"


def link(experiment: str, run: str) -> str:
    """The address of the view behind MLflow's own. Any further word in it would disable the view."""
    asked = urlencode({"viewStateShareKey": run, "workflowType": "machine_learning"})
    return f"#/experiments/{experiment}/runs?{asked}"


def is_saved(store: Store, experiment: str, run: str) -> bool:
    """Whether the study's run has a view: one that an older besom recorded has none."""
    return f"{TAG}{run}" in store.client.get_experiment(experiment).tags


def save(store: Store, run: str, study: str, objectives: Sequence[tuple[str, bool]], parameters: Sequence[str]) -> None:
    """Keep the view, unless there is one already, which its user may have changed.

    `objectives` are metrics, each with whether more is better; `parameters` are the names that trials search.
    """
    experiment = store.experiment_of(run)
    if is_saved(store, experiment, run):
        return
    view = {
        "name": f"{study}: trials",
        "createdAt": int(time.time() * 1000),
        "state": _packed(_state(run, objectives, parameters[:MAX_PARAMETERS])),
    }
    store.client.set_experiment_tag(experiment, f"{TAG}{run}", json.dumps(view))


def _state(run: str, objectives: Sequence[tuple[str, bool]], parameters: Sequence[str]) -> dict[str, Any]:
    metrics = [f"metrics.`{key}`" for key, _ in objectives]
    outcome, name = f"tags.`{OUTCOME}`", "attributes.`Run Name`"
    chosen = [*metrics, outcome, *(f"params.`{key}`" for key in parameters)]
    return {
        "searchFilter": f"tags.`mlflow.parentRunId` = '{run}'",
        "orderByKey": metrics[0],
        "orderByAsc": not objectives[0][1],
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": chosen,
        "columnOrder": [name, *metrics, outcome, "duration", *chosen[len(metrics) + 1 :], "runDateAndNestInfo"],
        "columnWidths": {name: NAME_WIDTH, outcome: OUTCOME_WIDTH},
        "runsHiddenMode": "SHOW_ALL",
    }


def _packed(state: dict[str, Any]) -> str:
    return f"deflate;{base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()}"
