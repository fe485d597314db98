"""HTTP clients: one a loop for each address and key, closed when its loop ends.

aiohttp itself, as everything on top of it costs more CPU than it does (docs/decisions/0011-transport.md). What can be
done once a client is: headers, address, certificates, proxy.
"""

from __future__ import annotations

import asyncio
import io
import os
import weakref
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from pydantic import SecretStr

from personalab.config import CONNECT_TIMEOUT_SECONDS

if TYPE_CHECKING:
    from ssl import SSLContext

    from aiohttp import ClientSession

_LARGE_BYTES = 1 << 20
"""From this size on aiohttp wants a body as a file, to be sent in pieces."""
_ACCOUNT_HEADERS = {"OPENAI_ORG_ID": "OpenAI-Organization", "OPENAI_PROJECT_ID": "OpenAI-Project"}


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """What a server said. Header names are read in any case. It may echo the key, so no repr shows it."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Client:
    """Talks to one address, and to what lies below it, with one key over connections of its own.

    It ends with its loop: `asyncio.run` and every other proper end of a loop closes the async generators that were
    started in it, so a generator that waits with the session in its hands is told in time, and nobody has to close
    the pool.
    """

    def __init__(self, url: str, key: SecretStr) -> None:
        self._url = url
        self._session = _new_session(url, key)
        self._held = self._hold()

    async def open(self) -> None:
        """Begin to be held by the loop."""
        await anext(self._held)

    async def post(self, body: bytes, headers: Mapping[str, str], path: str = "") -> Answer:
        """The answer, whatever its status.

        Raises:
            aiohttp.ClientError, OSError: there was none.
        """
        data = body if len(body) < _LARGE_BYTES else io.BytesIO(body)
        async with self._session.post(self._url + path, data=data, headers=headers) as response:
            return Answer(response.status, response.headers, await response.read())

    async def upload(self, path: str, fields: Mapping[str, str], name: str, file: BinaryIO) -> Answer:
        """The answer to a form with a file of that name, sent in pieces. Raises as `post`."""
        from aiohttp import FormData

        form = FormData(dict(fields))
        form.add_field("file", file, filename=name, content_type="application/jsonl")
        data = form()
        headers = {"Content-Type": data.content_type}
        async with self._session.post(self._url + path, data=data, headers=headers) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, path: str, into: BinaryIO | None = None) -> Answer:
        """What lies at a path. `into` takes the content of a good answer in pieces, as it may be large. Raises as `post`."""
        async with self._session.get(self._url + path) as response:
            if into is None or response.status >= 400:
                return Answer(response.status, response.headers, await response.read())
            async for piece in response.content.iter_chunked(_LARGE_BYTES):
                into.write(piece)
            return Answer(response.status, response.headers, b"")

    async def _hold(self) -> AsyncGenerator[None, None]:
        loop = asyncio.get_running_loop()
        try:
            yield
        finally:
            _clients.pop(loop, None)
            await self._session.close()


async def client_of(url: str, key: SecretStr) -> Client:
    """The running loop's client for an address and key."""
    clients = _clients.setdefault(asyncio.get_running_loop(), {})
    if (url, key) not in clients:
        clients[url, key] = client = Client(url, key)
        await client.open()
    return clients[url, key]


def load_client() -> None:
    """Import the client's library, which takes some tenths of a second: better before the first request than during it."""
    import aiohttp  # noqa: F401


def _new_session(url: str, key: SecretStr) -> ClientSession:
    from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

    address = urlsplit(url)
    certificates = _certificates() if address.scheme == "https" else True
    return ClientSession(
        # No limit on connections: the gate is the one place that limits.
        connector=TCPConnector(limit=0, ssl=certificates),
        headers=_headers(key),
        cookie_jar=DummyCookieJar(),
        proxy=None if proxy_bypass(address.hostname or "") else getproxies().get(address.scheme),
        # How long a whole attempt may take is the transport's concern.
        timeout=ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_SECONDS),
    )


def _headers(key: SecretStr) -> dict[str, str]:
    account = {header: os.environ[name] for name, header in _ACCOUNT_HEADERS.items() if os.environ.get(name)}
    return {
        "Authorization": f"Bearer {key.get_secret_value()}",
        "Content-Type": "application/json",
        "Accept": "application/json",
        "User-Agent": "personalab",
        **account,
    }


def _certificates() -> SSLContext:
    """The system's, or those that SSL_CERT_FILE names."""
    import httpx2

    return httpx2.create_ssl_context()


# By loop, then by address and key: pools that come and go in one loop share the client and its connections. Not held by
# the pool, as a pool that is let go in the last moment of a loop could no longer close it.
_clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, SecretStr], Client]] = (
    weakref.WeakKeyDictionary()
)
