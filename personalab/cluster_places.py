"""A place in flight among all machines of a cluster, as a kernel takes it.

A Dask worker gives its kernels a socket by `PERSONALAB_PLACES`. A place is a connection to it: who wants one connects
and says for which endpoint, a byte back means go, and hanging up, also by dying, gives it back. Who may go is for the
cluster's scheduler to say: `place_book.py`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import socket
import weakref

from personalab.errors import ClusterError

PLACES = "PERSONALAB_PLACES"
"""Environment variable with the socket of the worker that this process belongs to; not set outside of clusters."""
_BUSY_SECONDS = 0.01


class ClusterPlaces:
    """The places of one endpoint and key in the whole cluster, of which `limit` may be taken at once."""

    def __init__(self, path: str, endpoint: str, limit: int) -> None:
        self._path = path
        self._wanted = json.dumps({"endpoint": endpoint, "limit": limit}).encode() + b"\n"

    async def take(self) -> socket.socket:
        """A place when one is free, after those who came before; `free` has to follow.

        Raises:
            ClusterError: the worker is gone.
        """
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        _lines.add(line)
        loop = asyncio.get_running_loop()
        try:
            line.setblocking(False)
            await self._connect(line)
            await loop.sock_sendall(line, self._wanted)
            if await loop.sock_recv(line, 1):
                return line
            problem = "it hung up"
        except OSError as error:
            problem = error.strerror or str(error)
        except BaseException:
            self.free(line)
            raise
        self.free(line)
        raise ClusterError(
            f"the Dask worker of this trial gives no place in flight: {problem}; run the sweep again"
        )

    def free(self, line: socket.socket) -> None:
        """Give a place back."""
        line.close()

    async def _connect(self, line: socket.socket) -> None:
        while True:
            try:
                line.connect(self._path)
                return
            except BlockingIOError:  # many knock at once; such a socket cannot be waited for
                await asyncio.sleep(_BUSY_SECONDS)


def cluster_places(endpoint: str, key: str, limit: int) -> ClusterPlaces | None:
    """The places of an endpoint and key in the cluster that this process works for; None where it works for none."""
    path = os.environ.get(PLACES)
    # A hash, so that the key is not told to the cluster.
    name = hashlib.sha256(f"{endpoint}\n{key}".encode()).hexdigest()[:24]
    return ClusterPlaces(path, name, limit) if path else None


_lines: weakref.WeakSet[socket.socket] = weakref.WeakSet()


def _after_fork() -> None:
    # A child that kept its parent's connections would hold the places after the parent's death.
    for line in list(_lines):
        line.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
