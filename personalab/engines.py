"""The ways to run a notebook for papermill, by name. The engines themselves are in `kernel_engines`."""

from __future__ import annotations

import sys

# An optional grammar of jsonschema, which takes a second to load and which no notebook's schema uses
# (https://github.com/jupyter-server/jupyter_server/issues/1559).
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

import papermill  # noqa: E402, F401  # first: it loads `kernel_engines`, which needs what is there only then

from personalab.errors import ConfigError, unknown  # noqa: E402
from personalab.forked_kernels import can_fork  # noqa: E402
from personalab.kernel_engines import FORK, SPAWN  # noqa: E402

_NAMES = {"fork": FORK, "spawn": SPAWN, "papermill": None}


def engine_name(wanted: str | None = None) -> str | None:
    """The engine to give papermill: `fork`, `spawn` or `papermill` (its own, None); unsaid, `fork` where it can.

    Raises:
        ConfigError: no such engine, or it cannot run on this system.
    """
    if wanted is None or wanted == "auto":
        return FORK if can_fork() else SPAWN
    if wanted not in _NAMES:
        raise unknown("engine", wanted, ["auto", *_NAMES])
    if wanted == "fork" and not can_fork():
        raise ConfigError("engine 'fork' needs Linux 5.3 or newer; use --engine spawn")
    return _NAMES[wanted]
