"""The config of a run, kept beside what it puts out, as Hydra would: without secrets, and for its owner alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, open_dict, read_write
from omegaconf._utils import get_omega_conf_dumper

from besom.config.redaction import redacted


def take_over(config: DictConfig) -> str | None:
    """Tell Hydra to keep nothing; the name of the folder that it would have made."""
    subdir = config.hydra.output_subdir
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.output_subdir = None
    return None if subdir is None else str(subdir)


def keep(config: DictConfig, folder: Path, subdir: str | None) -> None:
    """Write Hydra's three files into `folder/subdir`; nobody else may look into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    if subdir is None:
        return
    written = redacted(config)
    hydra = written.pop("hydra")
    hydra["output_subdir"] = subdir
    (folder / subdir).mkdir(mode=0o700, exist_ok=True)
    for name, content in (("config", written), ("hydra", {"hydra": hydra}), ("overrides", hydra["overrides"]["task"])):
        write(folder / subdir / f"{name}.yaml", content)


def write(path: Path, content: Any) -> None:
    """Plain lists, dicts and values as YAML, for its owner alone; interpolations stay as they are."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(file, "w", encoding="utf-8") as stream:
        # OmegaConf's own dumper puts into quotes what would be read as something else than text
        dumper = get_omega_conf_dumper()
        yaml.dump(content, stream, Dumper=dumper, default_flow_style=False, allow_unicode=True, sort_keys=False)
