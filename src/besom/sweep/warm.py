"""What each trial's process needs, loaded once by the fork server that they are forked from: its first import."""

import gc

from hydra.core.plugins import Plugins

import besom.sweep.attempt  # noqa: F401

gc.disable()  # nothing of what is imported is garbage; till `warmed`
Plugins.instance()  # imports each plugin there is; what they register is forked too
