"""Stand-ins for the launchers that are not installed: who asks for one is told what to install."""

# no `from __future__ import annotations`, as in all plugins: Hydra runs them before they are in sys.modules
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig

# of besom's extras: the package and the names that it registers
LAUNCHERS = {
    "joblib": ("hydra_joblib_launcher", ["joblib"]),
    "submitit": ("hydra_submitit_launcher", ["submitit_local", "submitit_slurm"]),
    "ray": ("hydra_ray_launcher", ["ray", "ray_aws"]),
}


class MissingLauncher(Launcher):
    def __init__(self, extra: str, **_: Any) -> None:
        self._extra = extra

    def setup(self, **_: Any) -> None:
        """Raises InputError."""
        from besom.errors import InputError

        package, names = LAUNCHERS[self._extra]
        raise InputError(
            f"hydra/launcher={'|'.join(names)} needs {package.replace('_', '-')}, which is not installed: "
            f"pip install 'besom[{self._extra}]'"
        )

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        raise AssertionError("a launcher is set up before it launches")


there = ConfigStore.instance().list("hydra/launcher")
for extra, (package, names) in LAUNCHERS.items():
    if find_spec(f"hydra_plugins.{package}") is None:
        target = {"_target_": "hydra_plugins.besom_launcher.missing.MissingLauncher", "extra": extra}
        for name in names:
            if f"{name}.yaml" in there:  # Hydra may import its plugins more than once
                continue
            # the real one's keys may be given too: no word about them before the one that matters
            node = DictConfig(target, flags={"struct": False})
            ConfigStore.instance().store(group="hydra/launcher", name=name, node=node, provider="besom")
