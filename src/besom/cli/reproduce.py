"""`besom reproduce`: a run trained again from the config that was frozen in it, and the two objectives side by side."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import yaml
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from besom.config.load import shipped
from besom.config.redaction import hidden_keys
from besom.errors import InputError
from besom.hydra_app.trust import ask_on_terminal, refuse_untrusted
from besom.system.encoding import say
from besom.tracking import environment
from besom.tracking.mlflow_store import Store
from besom.tracking.run_log import read
from besom.tracking.run_lookup import STUDY, TRIAL, chosen, used_store

if TYPE_CHECKING:
    from mlflow.entities import Run

FROZEN = "config.yaml"  # the artifact that `besom train` leaves in each run
REPRODUCES = "besom.reproduces"  # a tag: the id of the original
COMMIT, DIRTY = "mlflow.source.git.commit", "git.dirty"


@contextmanager
def frozen(name: str, overrides: Sequence[str], *, force: bool, trusted: Sequence[str] = ()) -> Iterator[list[str]]:
    """The arguments with which `besom train` runs the config of that run, and nothing of today's `conf/`.

    Raises:
        InputError: there is no such run, it cannot be repeated, or (unless `force`) not by this code; or its config
            names what neither besom nor the user (`trusted` packages) trusts.
    """
    _refuse_options(overrides)
    store = used_store()
    run = chosen(store, name)
    _refuse_what_is_no_training(run)
    config = _config(store, run)
    _refuse_what_was_not_kept(config, overrides)
    refuse_untrusted(OmegaConf.to_container(config, resolve=False), trusted, ask_on_terminal)
    say(_said_of_code(run, force=force), flush=True)
    with TemporaryDirectory(prefix="besom-") as folder:
        (Path(folder) / "frozen.yaml").write_text(OmegaConf.to_yaml(_to_run(config, run)))
        yield ["--config-path", folder, "--config-name", "frozen", *overrides]


def _refuse_options(overrides: Sequence[str]) -> None:
    groups = {path.name for path in shipped("conf").iterdir() if path.is_dir()} | {"sweeps"}
    for word in overrides:
        key, _, value = word.partition("=")
        if key.lstrip("+~") in groups and not value.startswith("{"):
            raise InputError(
                f"{word}: in a frozen config there are no options to choose, only values: {key}.KEY=...; "
                "to train something else: besom train"
            )


def _refuse_what_was_not_kept(config: DictConfig, overrides: Sequence[str]) -> None:
    """Secrets, which are to be given again."""
    given = {word.partition("=")[0].lstrip("+") for word in overrides}
    sections = OmegaConf.masked_copy(config, [str(key) for key in config if key != "tracking"])
    for key in hidden_keys(sections):
        if key not in given:
            raise InputError(f"{key}: its value is a secret, and was not kept: give it again, {key}=...")


def _refuse_what_is_no_training(run: Run) -> None:
    tags = run.data.tags
    if STUDY in tags and TRIAL not in tags:
        study = tags[STUDY]
        raise InputError(f"run {_short(run)} is the study {study!r} itself: name one of its trials, such as {study}/0")
    if run.info.status in ("RUNNING", "SCHEDULED"):
        raise InputError(f"run {_short(run)} is {run.info.status}: wait for its end")


def _config(store: Store, run: Run) -> DictConfig:
    """Raises InputError: it is not there, or no config."""
    try:
        text = _frozen_text(store, run)
        config = None if text is None else OmegaConf.create(text)
    except Exception as error:  # whatever MLflow, the artifacts' store or YAML raise
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(f"run {_short(run)}: its {FROZEN} cannot be read: {reason}") from error
    if config is None:
        raise InputError(f"run {_short(run)} has no {FROZEN} among its artifacts: {_whose(store, run)}")
    if not isinstance(config, DictConfig) or not config:
        raise InputError(f"run {_short(run)}: its {FROZEN} is no config")
    if hydras := [key for key in ("hydra", "defaults") if key in config]:  # none that besom has frozen has them
        raise InputError(f"run {_short(run)}: its {FROZEN} has {hydras[0]!r} in it, which is not taken from a store")
    return config


def _frozen_text(store: Store, run: Run) -> str | None:
    if not any(file.path == FROZEN for file in store.client.list_artifacts(run.info.run_id)):
        return None
    with TemporaryDirectory(prefix="besom-") as folder:
        return Path(store.client.download_artifacts(run.info.run_id, FROZEN, folder)).read_text()


def _whose(store: Store, run: Run) -> str:
    """Which app made a run that is none of `besom train`'s, and how its user repeats it."""
    tags = run.data.tags
    program = tags.get("mlflow.source.name", "an unknown program")
    made = f"it was made by {program}"
    if (parent := tags.get("mlflow.parentRunId")) is None or TRIAL not in tags:
        return f"{made}, and besom repeats runs of `besom train` and of its sweeps"
    folder = Path(store.client.get_run(parent).data.tags.get("besom.folder", "")) / tags[TRIAL]
    try:
        overrides = yaml.safe_load((folder / ".hydra" / "overrides.yaml").read_text())
    except (OSError, yaml.YAMLError):
        return f"{made}, and its trial's folder {folder} is not here; start {program} with the overrides of its params"
    return f"{made}; repeat it with: {shlex.join([*shlex.split(program), *map(str, overrides or [])])}"


# ── the code ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def _said_of_code(run: Run, force: bool) -> str:
    """Raises InputError: the code is another, and that is not to be."""
    then, now = run.data.tags, environment.tags()
    differences = _differences(then, now)
    if differences and not force:
        way = f" (git checkout {then[COMMIT][:10]})" if COMMIT in then and then[COMMIT] != now.get(COMMIT) else ""
        raise InputError(
            f"run {_short(run)} was made by other code:\n  " + "\n  ".join(differences) + f"\ngo back to that{way}, "
            f"or train with what is here: besom reproduce {_short(run)} --force"
        )
    lines = [f"reproducing run {run.info.run_id} ({run.info.run_name})"]
    lines += [f"other code: {difference}" for difference in differences]
    return "\n".join([*lines, *_checked(then, now)])


def _differences(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Of the commit, of whether it was changed, and of each package's version."""
    versions = sorted({key for key in {**then, **now} if key.startswith("version.")})
    return [
        f"{_word(key)}: {then.get(key, 'none')} then, {now.get(key, 'none')} now"
        for key in (COMMIT, DIRTY, *versions)
        if then.get(key) != now.get(key)
    ]


def _checked(then: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """What is known to be the same, and what nobody can know."""
    same = [f"{key.removeprefix('version.')} {now[key]}" for key in now if key.startswith("version.")]
    if all(then.get(key) == now[key] for key in now if key.startswith("version.")):
        yield f"the same versions: {', '.join(same)}"
    if COMMIT not in then and COMMIT not in now:
        yield "not checked: there was no git repository then, and is none now, so your own code may have changed"
    elif then.get(COMMIT) == now.get(COMMIT) and then.get(DIRTY) == now.get(DIRTY) == "false":
        yield f"the same commit: {now[COMMIT][:10]}, nothing changed since; what git does not track is not checked"
    elif then.get(DIRTY) == now.get(DIRTY) == "true":
        yield "not checked: there were changes not committed then, and there are some now, which may be others"


def _word(key: str) -> str:
    return {COMMIT: "git commit", DIRTY: "changes not committed"}.get(key, key.removeprefix("version."))


def _short(run: Run) -> str:
    return str(run.info.run_id)[:8]


# ── the run ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def _to_run(config: DictConfig, run: Run) -> DictConfig:
    """As Hydra's primary config: with the settings of Hydra that all besom's runs have, recorded where it was found."""
    hydra = OmegaConf.load(shipped("conf") / "train.yaml").hydra
    hydra.callbacks.comparison = {
        "_target_": "besom.cli.reproduce.Comparison",
        "objective": run.data.metrics.get("objective"),
        "ended": run.info.status,
        "metric": str(OmegaConf.select(config, "objective.metric", default="objective")),
        "data": sorted(given.dataset.digest for given in (run.inputs.dataset_inputs if run.inputs else ())),
    }
    # which option of each group it was: a config has only what the options say
    options = {key: value for key, value in run.data.params.items() if isinstance(config.get(key), DictConfig)}
    hydra.runtime = {"choices": options}
    usual = OmegaConf.load(shipped("conf") / "tracking" / "mlflow.yaml")
    own = {"run_name": f"{run.info.run_name} again", "tags": {REPRODUCES: run.info.run_id}}
    where = {key: node for key, node in usual.items_ex(resolve=False) if key in ("uri", "experiment")}
    return OmegaConf.merge(config, {"hydra": hydra, "tracking": {**where, **own}})  # type: ignore[return-value]


class Comparison(Callback):
    """Hydra calls it when the run has ended."""

    def __init__(self, objective: float | None, ended: str, metric: str, data: Sequence[str]) -> None:
        """`data`: its digests."""
        self._then = objective
        self._ended = ended
        self._metric = metric
        self._data = list(data)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        first = os.environ.get("LOCAL_RANK", "0") == "0"
        if job_return.status is not JobStatus.COMPLETED or not first:
            return
        if self._data != (data := _digests(Path(config.hydra.runtime.output_dir))):
            say(f"other data: digest {', '.join(self._data) or 'none'} then, {', '.join(data) or 'none'} now")
        now = float(job_return.return_value)
        if self._then is None:
            say(f"{self._metric}: {now!r} now; the original has none, it ended {self._ended}")
        else:
            changed = " ".join(config.hydra.overrides.task)
            otherwise = f", with {changed}" if changed else ""
            say(f"{self._metric}: {self._then!r} then, {now!r} now{otherwise}, difference {now - self._then!r}")


def _digests(folder: Path) -> list[str]:
    """Of the data that the run in that folder has written down."""
    return sorted(entry["values"]["digest"] for entry, _ in read(folder / "run.jsonl") if entry["kind"] == "dataset")
