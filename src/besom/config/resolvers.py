"""Besom's resolvers for OmegaConf."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from omegaconf import OmegaConf


def register(name: str, resolver: Callable[..., Any]) -> None:
    """Under a name that may be taken: the last one counts."""
    with warnings.catch_warnings():  # OmegaConf 2.4 has another word for it, which 2.3 means otherwise
        warnings.simplefilter("ignore")
        OmegaConf.register_new_resolver(name, resolver, replace=True)
