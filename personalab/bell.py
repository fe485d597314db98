"""A bell: one thread sleeps beside it, and whoever knows its number can wake it, from any process of this machine."""

from __future__ import annotations

import math
import socket
from contextlib import suppress

_HERE = "127.0.0.1"
_ANY = b"."


class Bell:
    """A port of the loopback network. What is rung says nothing: whoever wakes looks for itself.

    Raises:
        OSError: there is no such network.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((_HERE, 0))
        self.number: int = self._socket.getsockname()[1]

    def ring(self, number: int) -> None:
        """Wake whoever sleeps beside the bell of that number; nothing happens if nobody does."""
        with suppress(OSError):
            self._socket.sendto(_ANY, (_HERE, number))

    def sleep(self, seconds: float) -> None:
        """Until it rings, at most so many seconds, which may be infinite. What rang while nobody slept wakes at once."""
        with suppress(OSError):  # a time-out, or a port that nobody has any more
            self._socket.settimeout(None if math.isinf(seconds) else max(seconds, 0.0))
            self._socket.recv(1)
            self._socket.settimeout(0.0)
            while True:
                self._socket.recv(1)

    def close(self) -> None:
        """Give the port back."""
        self._socket.close()

    def __del__(self) -> None:
        if hasattr(self, "_socket"):
            self.close()
