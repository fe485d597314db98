"""The one seam to a provider, one method wide, and the one place where its errors are translated.

Everything else thinks in requests and replies; here they become HTTP, by way of the `openai` package.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import math
import re
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import SecretStr

from personalab.config import CONNECT_TIMEOUT_SECONDS, TIMEOUT_SECONDS
from personalab.errors import (
    KeyRefused,
    ModelNotFound,
    ProviderError,
    ProviderUnreachable,
    QuotaExhausted,
    RateLimited,
    RequestRefused,
)
from personalab.quotas import Quota, quotas_in
from personalab.records import JsonObject, Record, Usage

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_MESSAGE_CHARACTERS = 400
_LOOKED_AT_CHARACTERS = 20_000
_HEAD_CHARACTERS = 6
_TAIL_CHARACTERS = 4
_REPLY_KEY_CHARACTERS = 12
_CHARACTER = re.compile(
    r"\\u00(?P<json>[0-9a-fA-F]{2})|%(?P<url>[0-9a-fA-F]{2})|&#x(?P<html>[0-9a-fA-F]{2});|&#(?P<decimal>\d{2,3});"
    r"|\\?(?P<plain>.)",
    re.DOTALL,
)
_QUOTA_CODES = (
    "insufficient_quota",
    "billing_hard_limit_reached",
    "billing_not_active",
    "insufficient_balance",
)
_KEY_WORDS = re.compile(
    r"invalid[ _]api[ _]key|api key not valid|incorrect api key|no connected db", re.IGNORECASE
)
_MODEL_WORDS = re.compile(
    r"model_not_found|invalid model name|unknown model|model\b[^.]{0,80}(not found|does ?n[o']t exist)",
    re.IGNORECASE,
)


class WireReply(Record):
    """A reply as it came: text, who answered, why it stopped, what it cost, what was declined, what is left."""

    text: str
    model: str
    finish_reason: str
    usage: Usage
    refusal: str | None = None
    quotas: tuple[Quota, ...] = ()


class Transport(Protocol):
    """Carries one chat-completions body to a provider."""

    endpoint: str

    async def send(self, body: JsonObject, headers: Mapping[str, str]) -> WireReply:
        """The reply, or a ProviderError."""
        ...


class OpenAITransport:
    """The `openai` package's client, over aiohttp, one a loop, closed when its loop ends."""

    def __init__(
        self, endpoint: str, api_key: SecretStr | None, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        self.endpoint = endpoint.rstrip("/")
        self._key = api_key or SecretStr("no-key")
        self._timeout_seconds = timeout_seconds
        self._clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Keeper] = (
            weakref.WeakKeyDictionary()
        )

    def __repr__(self) -> str:
        return f"OpenAITransport({self.endpoint!r})"

    async def send(self, body: JsonObject, headers: Mapping[str, str]) -> WireReply:
        """The reply to a chat-completions body.

        Raises:
            ProviderError: of the kind that says what happened; never any other library's error.
        """
        import httpx2
        import openai

        client = await self._client()
        try:
            # The client's own limit is on each read; a server that drips would hold a slot for ever.
            async with asyncio.timeout(self._timeout_seconds):
                response = await client.post(
                    "/chat/completions",
                    cast_to=httpx2.Response,
                    body=body,
                    options={"headers": dict(headers)},
                )
            content = response.content
        except (openai.OpenAIError, httpx2.HTTPError, OSError) as error:
            # The cause is left out on purpose: its traceback may hold what a server echoes of the key.
            raise self._translated(error, str(body.get("model"))) from None
        try:
            quotas = quotas_in(response.headers)
            return _wire_reply(content, str(body.get("model")), self._key, quotas)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            said = _short(content.decode("utf-8", "replace"), self._key)
            del content  # it may echo the key, and a traceback can show local variables
        # A gateway's page, an error in a 200, a body cut off: the same request may fare better.
        raise ProviderUnreachable(
            f"{self.endpoint}: answered 200 with something that is no chat completion: {said}",
            endpoint=self.endpoint,
            model=str(body.get("model")),
            status=200,
        )

    async def _client(self) -> AsyncOpenAI:
        keepers = _keepers.setdefault(asyncio.get_running_loop(), {})
        name = (self.endpoint, self._key, self._timeout_seconds)
        if name not in keepers:
            keepers[name] = Keeper(self._new_client(), ended=lambda: keepers.pop(name, None))
            await keepers[name].open()
        return keepers[name].client

    def _new_client(self) -> AsyncOpenAI:
        import httpx2
        import openai

        timeout = httpx2.Timeout(self._timeout_seconds, connect=CONNECT_TIMEOUT_SECONDS)
        # No limit on connections: the gate is the one place that limits. No retries: the pool's attempts are the only ones.
        http = openai.DefaultAioHttpClient(
            timeout=timeout, limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        )
        return openai.AsyncOpenAI(
            api_key=self._key.get_secret_value(),
            base_url=self.endpoint,
            max_retries=0,
            timeout=timeout,
            http_client=http,
        )

    def _translated(self, error: Exception, model: str) -> ProviderError:
        import openai

        if isinstance(error, openai.APIStatusError):
            return _from_status(error, self.endpoint, model, self._key)
        # The client calls a refused connection a time-out as well, so only its cause says which it was.
        cause = str(error.__cause__ or error) or type(error).__name__
        return ProviderUnreachable(
            f"{self.endpoint}: no answer ({_short(cause, self._key)}); is the server running and the base URL right?",
            endpoint=self.endpoint,
            model=model,
        )


def load_client() -> None:
    """Import the client's libraries, which takes about a second: better before the first request than during it."""
    import httpx2  # noqa: F401
    import openai  # noqa: F401


class Keeper:
    """Closes a client when its loop ends.

    `asyncio.run` and every other proper end of a loop closes the async generators that were started in it, so a
    generator that waits with the client in its hands is told in time, without anybody having to close the pool.
    """

    def __init__(self, client: AsyncOpenAI, ended: Callable[[], object]) -> None:
        self.client = client
        self._ended = ended
        self._held = self._hold()

    async def open(self) -> None:
        await anext(self._held)

    async def _hold(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self._ended()
            await self.client.close()


# By loop, then by endpoint, key and timeout: pools that come and go in one loop share the client and its connections.
# Not held by the pool, as a pool that is let go in the last moment of a loop could no longer close it.
_keepers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, SecretStr, float], Keeper]] = (
    weakref.WeakKeyDictionary()
)


def _wire_reply(content: bytes, model: str, key: SecretStr, quotas: tuple[Quota, ...]) -> WireReply:
    data = json.loads(content)
    choice = data["choices"][0]
    message = choice["message"]
    usage = data.get("usage") or {}
    return WireReply(
        text=_without(key, _whole(message.get("content"))),
        model=_without(key, str(data.get("model") or model)),
        finish_reason=_without(key, str(choice.get("finish_reason") or "stop")),
        usage=Usage(input_tokens=usage.get("prompt_tokens"), output_tokens=usage.get("completion_tokens")),
        refusal=_without(key, message.get("refusal") or "") or None,
        quotas=quotas,
    )


def _without(key: SecretStr, text: str) -> str:
    """A reply without the key, for a server that echoes what it was sent; a key that is a common word stays."""
    secret = key.get_secret_value()
    return text.replace(secret, "[key]") if len(secret) >= _REPLY_KEY_CHARACTERS else text


def _whole(content: Any) -> str:
    """The text of a message; some servers send a list of parts. Half a surrogate pair becomes U+FFFD."""
    if isinstance(content, list):
        content = "".join(part.get("text", "") for part in content if isinstance(part, dict))
    return (content or "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _from_status(error: Any, endpoint: str, model: str, key: SecretStr) -> ProviderError:
    status = int(error.status_code)
    body = error.body if isinstance(error.body, dict) else {}
    code = str(body.get("code") or body.get("type") or "")
    said = _short(str(body.get("message") or error.message or error), key)
    about: dict[str, Any] = {"endpoint": endpoint, "model": model, "status": status}
    wait = retry_after(error.response.headers)
    if status in (402, 429) and (status == 402 or code in _QUOTA_CODES):
        return QuotaExhausted(
            f"{endpoint}: no quota left: {said}; mend the account's billing or use another key", **about
        )
    if status == 429:
        limited = RateLimited(
            f"{endpoint}: rate limit: {said}; lower max_concurrent or wait", retry_after=wait, **about
        )
        limited.quotas = quotas_in(error.response.headers)
        return limited
    # Some servers say of a wrong key or model that the request is bad.
    if status in (401, 403) or (status == 400 and _KEY_WORDS.search(f"{code} {said}")):
        return KeyRefused(f"{endpoint}: the key is refused ({status}): {said}; check OPENAI_API_KEY", **about)
    if status == 404 or (status == 400 and _MODEL_WORDS.search(f"{code} {said}")):
        return ModelNotFound(
            f"{endpoint}: not found: model {model!r}: {said}; check PERSONALAB_MODEL and OPENAI_BASE_URL",
            **about,
        )
    if status in (408, 409) or status >= 500:
        return ProviderUnreachable(f"{endpoint}: server error {status}: {said}", retry_after=wait, **about)
    refusal = RequestRefused(f"{endpoint}: request refused ({status}): {said}", **about)
    refusal.said = said
    refusal.parameter = _short(str(body["param"]), key) if body.get("param") else None
    return refusal


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by `retry-after-ms`, or `Retry-After` in seconds or as a date; None if neither is there."""
    seconds = _asked_wait(headers)
    return max(0.0, seconds) if seconds is not None and math.isfinite(seconds) else None


def _asked_wait(headers: Mapping[str, str]) -> float | None:
    try:
        if milliseconds := headers.get("retry-after-ms"):
            return float(milliseconds) / 1000
        value = headers.get("retry-after")
        if not value:
            return None
        try:
            return float(value)
        except ValueError:
            return email.utils.parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None


def _short(text: str, key: SecretStr) -> str:
    text = " ".join(_masked(text[:_LOOKED_AT_CHARACTERS], key.get_secret_value()).split())
    return text if len(text) <= _MESSAGE_CHARACTERS else text[:_MESSAGE_CHARACTERS] + " …"


def _masked(text: str, secret: str) -> str:
    """Text without the key: as it is, escaped for JSON, HTML or a URL, or its beginning or end alone.

    Servers that mask a key themselves still show so much of it ("sk-ab***yz09") that it can be recognised.
    """
    spans = [match.span() for match in _CHARACTER.finditer(text)]
    plain = "".join(map(_unescaped, _CHARACTER.finditer(text)))
    kept: list[str] = []
    at = 0
    while at < len(plain):
        if length := _length_of_key(plain, at, secret):
            kept.append("[key]")
            at += length
        else:
            kept.append(text[slice(*spans[at])])
            at += 1
    return "".join(kept)


def _length_of_key(text: str, at: int, secret: str) -> int:
    """How many characters from here on are the key, its beginning or its end; 0 for none."""
    alone = at == 0 or not text[at - 1].isalnum()
    head = 0
    while head < len(secret) and text.startswith(secret[: head + 1], at):
        head += 1
    if head >= _HEAD_CHARACTERS or (head == len(secret) and alone and _ends(text, at + head)):
        return head
    if not alone:
        return 0
    tails = (secret[start:] for start in range(1, len(secret) - _TAIL_CHARACTERS + 1))
    return next((len(tail) for tail in tails if text.startswith(tail, at) and _ends(text, at + len(tail))), 0)


def _ends(text: str, at: int) -> bool:
    return at >= len(text) or not text[at].isalnum()


def _unescaped(match: re.Match[str]) -> str:
    code = match["json"] or match["url"] or match["html"]
    if code:
        return chr(int(code, 16))
    if match["decimal"]:
        return chr(min(int(match["decimal"]), 0x10FFFF))
    return match["plain"]
