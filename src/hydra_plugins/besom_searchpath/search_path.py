"""Where `besom train` and `besom sweep` find configs: the working directory's folders before besom's own."""

from __future__ import annotations

import os
from pathlib import Path

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig

from besom.config.load import shipped
from besom.errors import InputError

GROUP = "sweeps"
SCHEME = "besom-sweeps"


class BesomSearchPath(SearchPathPlugin):
    """Touches besom's own app only; every other Hydra app keeps its path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        main = next((element for element in search_path.get_path() if element.provider == "main"), None)
        if main is None or main.path.removeprefix("file://") != str(shipped("conf")):
            return
        first = SearchPathQuery(provider="main")
        if Path("conf").is_dir():
            search_path.prepend("conf of the working directory", f"file://{Path('conf').absolute()}", anchor=first)
        # the folder of a sweep named by its file (set by `besom sweep`), the working directory's, besom's own
        for folder in (os.environ.get("BESOM_SWEEPS"), "sweeps", str(shipped("sweeps"))):
            if folder and Path(folder).is_dir():
                search_path.append("sweeps", f"{SCHEME}://{Path(folder).absolute()}")


class SweepsSource(ConfigSource):
    """A folder of YAML files as the config group `sweeps`; sweeps lie beside `conf/`, not in it."""

    def __init__(self, provider: str, path: str) -> None:
        super().__init__(provider, path)
        self._files = FileConfigSource(provider, f"file://{self.path}")

    @staticmethod
    def scheme() -> str:
        return SCHEME

    def available(self) -> bool:
        return self._files.available()

    def load_config(self, config_path: str) -> ConfigResult:
        found = self._files.load_config(_inside(config_path))
        if _in_group(config_path):
            _refuse_no_sweep(found, Path(self.path) / f"{_inside(config_path).removesuffix('.yaml')}.yaml")
        return found

    def is_group(self, config_path: str) -> bool:
        if config_path in ("", GROUP):
            return True
        return _in_group(config_path) and self._files.is_group(_inside(config_path))

    def is_config(self, config_path: str) -> bool:
        return _in_group(config_path) and self._files.is_config(_inside(config_path))

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        if config_path == "":
            return [] if results_filter == ObjectType.CONFIG else [GROUP]
        return self._files.list(_inside(config_path), results_filter)


def _in_group(config_path: str) -> bool:
    return config_path.startswith(f"{GROUP}/")


def _inside(config_path: str) -> str:
    return config_path.removeprefix(GROUP).removeprefix("/")


def _refuse_no_sweep(found: ConfigResult, file: Path) -> None:
    """Raises InputError: as it stands, the file would change nothing."""
    first = "a sweep's file begins with the line '# @package _global_'"
    if not isinstance(found.config, DictConfig):
        raise InputError(f"{file}: this is no mapping of keys to values: {first}, and below it hydra: {{sweeper: ...}}")
    if not found.config and "defaults" not in found.config and not found.defaults_list:
        raise InputError(f"{file} is empty: {first}, and says below it what to search, in hydra.sweeper.params")
    if found.header.get("package") != "_global_":
        raise InputError(f"{file}: {first}; without it all its keys would be taken for sweeps.{file.stem}'s own")
