"""What each trial's process needs, loaded once by the fork server that they are forked from."""

from hydra.core.plugins import Plugins

import besom.sweep.attempt  # noqa: F401

Plugins.instance()  # imports each plugin there is; what they register is forked too
