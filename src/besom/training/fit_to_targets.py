"""A class named by a bare `_target_`, beside the keys of the option whose place it takes.

`model._target_=mine.Net` leaves the other keys of `conf/model/cnn.yaml` where they are. Those that the class does not
take, and nobody has given, are left out; what a class that besom knows is still missing is as in its own option.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from besom.config.hydra_compat import VERSION_BASE
from besom.config.load import shipped
from besom.config.schema import LOGGED, known
from besom.errors import InputError, near

PARTS = ("optimizer", "loss", "scheduler")  # that a LightningModule may make by itself
SECTIONS = {"model": "model", "data.source": "data", **{part: part for part in PARTS}}  # each with its group
OWN_KEYS = {"_target_", "interval"}  # of a section, and not of its class
Find = Callable[[str, str], Any]  # what a `_target_` of a section is
Other = tuple[str, str, DictConfig]  # a section, its `_target_`, and what the option has in whose place that is


def fit_to_targets(config: DictConfig, hydra: Any) -> tuple[DictConfig, list[str]]:
    """`fitted`; classes of the user's own are imported, with torch, where something is said that only they can answer.

    Raises:
        InputError: a class cannot be imported, or what is set has no effect on it.
    """
    others = list(_in_place_of_options(config, hydra))
    if not _asks_own_classes(config, hydra, others):
        return fitted(config, hydra, others=others)
    from besom.training.instantiate import fit_to_classes

    return fit_to_classes(config, hydra)


def refuse_unlogged(metric: str) -> None:
    """Raises InputError: it is none of those that besom logs of a network."""
    if metric not in LOGGED:
        raise InputError(f"objective.metric={metric} is never logged{near(metric, LOGGED)}")


def _asks_own_classes(config: DictConfig, hydra: Any, others: Iterable[Other]) -> bool:
    if (target := _target(config, "model")) is None:
        return False
    own = [section for section, target, _ in others if known(section, target) is None]
    if own:
        return True
    return known("model", target) is None and (config.objective.metric not in LOGGED or any(ignored(config, hydra, ())))


def fitted(
    config: DictConfig, hydra: Any, find: Find | None = None, others: Iterable[Other] | None = None
) -> tuple[DictConfig, list[str]]:
    """The config without the keys that its classes do not take, and what to say of them.

    `find` imports a class of the user's own; without it those are left as they are. `others`: as they are found in it.

    Raises:
        InputError: what `find` raises.
    """
    found, said = config, []
    for section, target, usual in _in_place_of_options(config, hydra) if others is None else others:
        group, node = SECTIONS[section], OmegaConf.select(config, section)
        option = hydra.runtime.choices[group]
        takes = _taken(target, section, find)
        if takes is None:
            continue
        here, there, own = _raw(node), _raw(usual), _option_of(group, target)
        is_usual = {key for key in there if key in here and here[key] == there[key]} - set(_given(hydra, section))
        dropped = sorted(is_usual - takes - OWN_KEYS)
        kept = {key: here[key] for key in there if key in (is_usual & takes) - OWN_KEYS}
        instead = (
            {} if own is None else {key: value for key, value in own[1].items() if key in is_usual or key not in here}
        )
        if not (dropped or kept or instead):
            continue
        found = config.copy() if found is config else found
        with read_write(found), open_dict(found):
            changed = OmegaConf.select(found, section)
            for key in dropped:
                del changed[key]
            for key, value in instead.items():
                changed[key] = value
        place = f"{section}._target_={target} in the place of {group}={option}"
        said.append(f"{place}: {_as_option(group, own[0], instead) if own else _said(dropped, kept)}")
    return found, said


def _in_place_of_options(config: DictConfig, hydra: Any) -> Iterator[Other]:
    """Each section with a `_target_` that is not its option's, and what the option says."""
    for section, group in SECTIONS.items():
        target = _target(config, section)
        usual = _option(group, hydra.runtime.choices.get(group), hydra)
        if target and usual is not None and usual.get("_target_") not in (None, target):
            yield section, target, usual


def _target(config: DictConfig, section: str) -> str | None:
    node = OmegaConf.select(config, section, throw_on_resolution_failure=False)
    target = (
        OmegaConf.select(node, "_target_", throw_on_resolution_failure=False) if OmegaConf.is_config(node) else None
    )
    return target if isinstance(target, str) else None


def ignored(config: DictConfig, hydra: Any, declared: Sequence[str]) -> Iterator[str]:
    """What is set of the parts that a LightningModule makes by itself: overrides, or sections that a file changes."""
    others = [part for part in PARTS if part not in declared]
    usual = _unchanged(hydra)
    for part in others:
        words = [word for word in _overrides(hydra) if _key(word).partition(".")[0].partition("/")[0] == part]
        if words:
            yield from words
        elif usual is not None and part in config and _raw(config[part]) != _raw(usual[part]):
            old, new = (_raw(of[part]) for of in (usual, config))
            key = next(key for key in {**new, **old} if new.get(key) != old.get(key))
            yield f"{part}.{key}={new.get(key)}"
    fused = config.trainer.get("fused", "auto")
    if "optimizer" in others and fused != "auto":
        yield f"trainer.fused={str(fused).lower()}"


def _taken(target: str, section: str, find: Find | None) -> set[str] | None:
    """The keys that it takes; None: that is not known."""
    if model := known(section, target):
        return {field.alias or name for name, field in model.model_fields.items()}
    if find is None:
        return None
    try:
        names = set(inspect.signature(find(target, section)).parameters)
    except ValueError:  # of a class written in C nothing is known
        return None
    return names


def _option_of(group: str, target: str) -> tuple[str, dict[str, Any]] | None:
    """The name and the values of besom's own option for it."""
    for file in sorted((shipped("conf") / group).glob("*.yaml")) if group in (*PARTS, "model") else ():
        values = _raw(OmegaConf.load(file))
        if values.get("_target_") == target:
            return file.stem, values
    return None


def _option(group: str, option: Any, hydra: Any) -> DictConfig | None:
    """What the option's file says, the working directory's before besom's; None: there is no such file."""
    for folder in (Path(hydra.runtime.cwd) / "conf", shipped("conf")):
        file = folder / group / f"{option}.yaml"
        if file.is_file():
            content = OmegaConf.load(file)
            section = content.get("source") if group == "data" and isinstance(content, DictConfig) else content
            return section if isinstance(section, DictConfig) else None
    return None


def _given(hydra: Any, section: str) -> Iterator[str]:
    """The keys of the section that overrides name."""
    for override in OverridesParser.create().parse_overrides(_overrides(hydra)):
        key = override.get_key_element().lstrip("+~")
        value = None if override.is_sweep_override() or override.is_delete() else override.value()
        if key == section and isinstance(value, dict):
            yield from map(str, value)
        elif key.startswith(f"{section}."):
            yield key.removeprefix(f"{section}.").partition(".")[0]


def _raw(node: Any) -> dict[str, Any]:
    content: Any = OmegaConf.to_container(node, resolve=False)
    return dict(content)


def _as_option(group: str, option: str, values: Mapping[str, Any]) -> str:
    shown = ", ".join(f"{key}={_text(value)}" for key, value in values.items() if key != "_target_")
    return f"as {group}={option} has it{f', {shown}' if shown else ''}"


def _said(dropped: Sequence[str], kept: Mapping[str, Any]) -> str:
    keeps = f"keeps {', '.join(f'{key}={_text(value)}' for key, value in kept.items())}" if kept else ""
    misses = f"is not given {', '.join(dropped)}, which it does not take" if dropped else ""
    return " and ".join(filter(None, (keeps, misses)))


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _overrides(hydra: Any) -> list[str]:
    """As they were given: what they refer to is not looked up."""
    words: Any = OmegaConf.to_container(hydra.overrides.task, resolve=False)
    return list(words)


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0].partition("@")[0]


def _unchanged(hydra: Any) -> DictConfig | None:
    """The config without any override; None: this is another one, as that of a run which is reproduced."""
    if hydra.job.config_name != "train":
        return None
    if GlobalHydra.instance().is_initialized():
        return GlobalHydra.instance().config_loader().load_configuration("train", [], RunMode.RUN)
    with initialize_config_dir(str(shipped("conf")), **VERSION_BASE):
        return compose("train")
