"""The ways to run a notebook for papermill, by name."""

from __future__ import annotations

import sys

# An optional grammar of jsonschema, which takes a second to load and which no notebook's schema uses
# (https://github.com/jupyter-server/jupyter_server/issues/1559).
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

from papermill.engines import papermill_engines  # noqa: E402

from personalab.errors import ConfigError, unknown  # noqa: E402
from personalab.forked_kernels import can_fork  # noqa: E402
from personalab.notebook_engines import ForkEngine, SpawnEngine  # noqa: E402

FORK, SPAWN = "personalab-fork", "personalab-spawn"
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


# Also by entry point, for `papermill --engine`; here, so that a check-out on the path alone has them.
papermill_engines.register(FORK, ForkEngine)
papermill_engines.register(SPAWN, SpawnEngine)
