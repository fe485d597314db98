"""The embedded provider of this process: started when first needed, ended with the process."""

from __future__ import annotations

import atexit
import os
import threading

from personalab.offline.server import OfflineServer

_lock = threading.Lock()
_server: OfflineServer | None = None


def embedded_url() -> str:
    """Base URL of the embedded provider, which is started if it is not running yet."""
    global _server
    with _lock:
        if _server is None:
            server = OfflineServer().start()
            atexit.register(server.close)
            _server = server
        return _server.base_url


def _after_fork() -> None:
    # A fork copies the socket but not the thread that answers it.
    global _server, _lock
    _server, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
