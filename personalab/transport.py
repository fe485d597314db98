"""The one seam to a provider, one method wide, and the one place where its errors are translated.

Everything else thinks in requests and replies; here they become HTTP, in OpenAI's chat-completions protocol.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import math
import re
import time
from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

import orjson
from pydantic import SecretStr

from personalab.clients import Answer, client_of
from personalab.config import TIMEOUT_SECONDS
from personalab.connection_problems import likely_urls, problem_of
from personalab.errors import (
    AccessRefused,
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

_NO_KEY = SecretStr("no-key")
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
# OpenRouter says of a model without vision that there is no endpoint (404), llama.cpp that there is a server error (500).
_IMAGE_WORDS = re.compile(r"image input|image_url|images? (is|are) not supported", re.IGNORECASE)
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
    """Carries the body of one request to a provider: a chat completion, or with `input` an embedding."""

    endpoint: str

    async def send(self, body: JsonObject, headers: Mapping[str, str]) -> WireReply:
        """The reply, or a ProviderError."""
        ...

    async def models(self) -> tuple[str, ...]:
        """Names of the models that the provider lists, or a ProviderError."""
        ...


class OpenAITransport:
    """Speaks OpenAI's protocol to one address: chat completions and embeddings."""

    def __init__(
        self, endpoint: str, api_key: SecretStr | None, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        self.endpoint = endpoint.rstrip("/")
        self._key = api_key or _NO_KEY
        self._timeout_seconds = timeout_seconds

    def __repr__(self) -> str:
        return f"OpenAITransport({self.endpoint!r})"

    async def send(self, body: JsonObject, headers: Mapping[str, str]) -> WireReply:
        """The reply to a body.

        Raises:
            ProviderError: of the kind that says what happened; never any other library's error.
        """
        model, embedding = str(body.get("model")), "input" in body
        client = await client_of(
            f"{self.endpoint}/{'embeddings' if embedding else 'chat/completions'}", self._key
        )
        answer = await self._answer(client.post(orjson.dumps(body), headers), model)
        return read_answer(answer, self.endpoint, model, self._key, embedding=embedding)

    async def models(self) -> tuple[str, ...]:
        """Names of the models that the endpoint lists, in its order.

        Raises:
            ProviderError: of the kind that says what happened; many endpoints have no such list.
        """
        client = await client_of(f"{self.endpoint}/models", self._key)
        answer = await self._answer(client.get(""), "")
        try:
            return tuple(without(self._key, str(model["id"])) for model in json.loads(answer.content)["data"])
        except (ValueError, KeyError, TypeError):
            problem = _is_no("list of models", answer, self.endpoint, "", self._key)
        raise problem

    async def _answer(self, coming: Awaitable[Answer], model: str) -> Answer:
        """An answer that is no error."""
        import aiohttp

        try:
            async with asyncio.timeout(self._timeout_seconds):
                answer = await coming
        except (aiohttp.ClientError, OSError) as error:
            cause = short(problem_of(error, self.endpoint, self._timeout_seconds), self._key)
            # The cause is left out on purpose: its traceback may hold what a server echoes of the key.
            raise ProviderUnreachable(
                f"{self.endpoint}: no answer: {cause}", endpoint=self.endpoint, model=model
            ) from None
        if answer.status >= 400:
            raise from_status(answer, self.endpoint, model, self._key)
        return answer


def read_answer(
    answer: Answer, endpoint: str, model: str, key: SecretStr, *, embedding: bool = False
) -> WireReply:
    """The reply in an answer to a chat completion or an embedding, however it came.

    Raises:
        ProviderError: of the kind that says what happened.
    """
    if answer.status >= 400:
        raise from_status(answer, endpoint, model, key)
    try:
        quotas = quotas_in(answer.headers)
        read = _vector_reply if embedding else _wire_reply
        return read(answer.content, model, key, quotas)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        problem = _is_no("embedding" if embedding else "chat completion", answer, endpoint, model, key)
    raise problem


def _is_no(what: str, answer: Answer, endpoint: str, model: str, key: SecretStr) -> ProviderUnreachable:
    """A gateway's page, an error in a 200, a body cut off: the same request may fare better."""
    said = short(answer.content.decode("utf-8", "replace"), key) or "nothing"
    return ProviderUnreachable(
        f"{endpoint}: answered {answer.status} with something that is no {what}: {said}; {_check_url(endpoint)}",
        endpoint=endpoint,
        model=model,
        status=answer.status,
    )


def _wire_reply(content: bytes, model: str, key: SecretStr, quotas: tuple[Quota, ...]) -> WireReply:
    data = json.loads(content)
    choice = data["choices"][0]
    message = choice["message"]
    usage = data.get("usage") or {}
    return WireReply(
        text=without(key, _whole(message.get("content"))),
        model=without(key, str(data.get("model") or model)),
        finish_reason=without(key, str(choice.get("finish_reason") or "stop")),
        usage=Usage(input_tokens=usage.get("prompt_tokens"), output_tokens=usage.get("completion_tokens")),
        refusal=without(key, message.get("refusal") or "") or None,
        quotas=quotas,
    )


def _vector_reply(content: bytes, model: str, key: SecretStr, quotas: tuple[Quota, ...]) -> WireReply:
    data = json.loads(content)
    vector = [float(number) for number in data["data"][0]["embedding"]]
    if not vector:
        raise ValueError("an empty vector")
    return WireReply(
        text=json.dumps(vector),
        model=without(key, str(data.get("model") or model)),
        finish_reason="stop",
        usage=Usage(input_tokens=(data.get("usage") or {}).get("prompt_tokens"), output_tokens=0),
        quotas=quotas,
    )


def without(key: SecretStr, text: str) -> str:
    """A reply without the key, for a server that echoes what it was sent; a key that is a common word stays."""
    secret = key.get_secret_value()
    return text.replace(secret, "[key]") if len(secret) >= _REPLY_KEY_CHARACTERS else text


def _whole(content: Any) -> str:
    """The text of a message; some servers send a list of parts. Half a surrogate pair becomes U+FFFD."""
    if isinstance(content, list):
        content = "".join(part.get("text", "") for part in content if isinstance(part, dict))
    return (content or "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def from_status(answer: Answer, endpoint: str, model: str, key: SecretStr) -> ProviderError:
    """The error that an answer with a status of 400 or more is."""
    status, body = answer.status, _error_in(answer.content)
    code = str(body.get("code") or body.get("type") or "")
    whole = str(body.get("message") or answer.content.decode("utf-8", "replace"))
    said = short(whole, key).rstrip(".") or "nothing more"
    about: dict[str, Any] = {"endpoint": endpoint, "model": model, "status": status}
    wait = retry_after(answer.headers)
    if status in (402, 429) and (status == 402 or code in _QUOTA_CODES):
        return QuotaExhausted(
            f"{endpoint}: no quota left: {said}; mend the account's billing or use another key", **about
        )
    if status == 429:
        limited = RateLimited(
            f"{endpoint}: rate limit: {said}; lower max_concurrent or wait", retry_after=wait, **about
        )
        limited.quotas = quotas_in(answer.headers)
        return limited
    if (refused := _refused_access(status, code, said, about, key)) is not None:
        return refused
    if status in (408, 409) or (status >= 500 and not _IMAGE_WORDS.search(said)):
        return ProviderUnreachable(
            f"{endpoint}: server error {status}: {said}; the server's own log may say why",
            retry_after=wait,
            **about,
        )
    refusal = RequestRefused(
        f"{endpoint}: request refused ({status}): {said}; change what it names or use another model", **about
    )
    refusal.said = said
    refusal.parameter = short(str(body["param"]), key) if body.get("param") else None
    return refusal


def _refused_access(
    status: int, code: str, said: str, about: Mapping[str, Any], key: SecretStr
) -> AccessRefused | None:
    """The error of a refused key or of a model or address that is not there; None if it is something else."""
    endpoint, model = about["endpoint"], about["model"]
    # Some servers say of a wrong key or model that the request is bad.
    if status in (401, 403) or (status == 400 and _KEY_WORDS.search(f"{code} {said}")):
        mend = "no key is set: set OPENAI_API_KEY" if key is _NO_KEY else "check OPENAI_API_KEY"
        return KeyRefused(f"{endpoint}: the key is refused ({status}): {said}; {mend}", **about)
    if status in (400, 404) and _MODEL_WORDS.search(f"{code} {said}"):
        return ModelNotFound(
            f"{endpoint}: not found: model {model!r}: {said}; check PERSONALAB_MODEL (personalab check names the models "
            "that are there)",
            **about,
        )
    if status in (404, 405) and not _IMAGE_WORDS.search(said):
        asked = f", model {model!r}" if model else ""
        return ModelNotFound(
            f"{endpoint}: not found ({status}{asked}): {said}; {_check_url(endpoint)} and PERSONALAB_MODEL",
            **about,
        )
    return None


def _check_url(endpoint: str) -> str:
    """What to do about an address that answers, but not as it should."""
    meant = [url for url in likely_urls(endpoint) if not endpoint.endswith("/v1")]
    return f"check OPENAI_BASE_URL (did you mean {meant[0]}?)" if meant else "check OPENAI_BASE_URL"


def _error_in(content: bytes) -> JsonObject:
    """What stands under `error` in an answer's JSON, or the JSON itself; empty if it is no object."""
    try:
        body = json.loads(content)
    except ValueError:
        return {}
    inner = body.get("error", body) if isinstance(body, dict) else body
    return inner if isinstance(inner, dict) else {}


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


def short(text: str, key: SecretStr) -> str:
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
