"""A provider's batch endpoint, in OpenAI's protocol: a file of requests goes up, a batch is made of it, replies come down.

Knows nothing of who waits for what; `waves` does.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlencode

import orjson
from pydantic import SecretStr, ValidationError

from personalab.clients import Answer, Client, client_of
from personalab.config import BATCH_FILE_SECONDS, TIMEOUT_SECONDS
from personalab.errors import (
    BatchRefused,
    ModelNotFound,
    ProviderError,
    ProviderUnreachable,
    QuotaExhausted,
    RateLimited,
    RequestRefused,
)
from personalab.records import JsonObject, Record
from personalab.transport import from_status, short

Read = TypeVar("Read")
Url = Literal["/v1/chat/completions", "/v1/embeddings"]
_WINDOW = "24h"
_MARK = "personalab"
"""In a batch's metadata: whose it is, so that one which was ordered and not confirmed can be found."""
_PAGE = 100
_CLOCKS_APART_SECONDS = 600.0
_OVER = ("failed", "completed", "expired", "cancelled")
_TOO_LARGE = 413
_LATER_SECONDS = 60.0
_TOO_MANY_TOKENS = "token_limit_exceeded"


class BatchState(Record):
    """A batch as the provider tells of it. `problem` is why one that failed did, `code` its name for that."""

    id: str
    status: str
    model: str
    completed: int = 0
    total: int = 0
    output_file: str | None = None
    error_file: str | None = None
    problem: str = ""
    code: str = ""

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in _OVER

    @property
    def files(self) -> tuple[str, ...]:
        """Its files, replies first."""
        return tuple(file for file in (self.output_file, self.error_file) if file)


class BatchRoutes:
    """The routes of one address: `/files`, `/batches`."""

    def __init__(self, endpoint: str, api_key: SecretStr | None) -> None:
        self.endpoint = endpoint.rstrip("/")
        self.key = api_key or SecretStr("no-key")

    def __repr__(self) -> str:
        return f"BatchRoutes({self.endpoint!r})"

    async def upload(self, lines: Path, model: str) -> str:
        """The id of a file of requests that was sent up.

        Raises:
            BatchRefused: there is no such route here, or the file is refused.
            ProviderError: of the kind that says what happened.
        """
        with lines.open("rb") as file:
            answer = await self._answer(
                lambda client: client.upload("/files", {"purpose": "batch"}, "personalab.jsonl", file),
                model,
                BATCH_FILE_SECONDS,
            )
        return self._read(answer, model, lambda data: str(data["id"]))

    async def make(self, file: str, url: Url, wave: str, model: str) -> BatchState:
        """Have a batch made of a file. From here on it costs.

        Raises:
            BatchRefused: there is no such route here, or the batch is refused.
            ProviderError: of the kind that says what happened. One without a status, or with 408, 409 or 500 and more,
                does not say that no batch was made.
        """
        order = {
            "input_file_id": file,
            "endpoint": url,
            "completion_window": _WINDOW,
            "metadata": {_MARK: wave},
        }
        answer = await self._answer(
            lambda client: client.post(orjson.dumps(order), {}, "/batches"), model, TIMEOUT_SECONDS
        )
        return self._read(answer, model, lambda data: _state(data, model, self.key))

    async def find(self, file: str, wave: str, since: float, model: str) -> BatchState | None:
        """The batch that was made of a file, if there is one; `since` is when it was ordered, in seconds since 1970.

        Raises:
            ProviderError: of the kind that says what happened.
        """
        after: str | None = None
        while True:
            query = urlencode({"limit": _PAGE} | ({"after": after} if after else {}))
            answer = await self._get(f"/batches?{query}", model)
            page = self._read(answer, model, lambda data: (list(data["data"]), bool(data.get("has_more"))))
            for data in page[0]:
                if data.get("input_file_id") == file or (data.get("metadata") or {}).get(_MARK) == wave:
                    return _state(data, model, self.key)
            if not page[1] or not page[0] or page[0][-1]["created_at"] < since - _CLOCKS_APART_SECONDS:
                return None
            after = str(page[0][-1]["id"])

    async def look(self, batch: str, model: str) -> BatchState:
        """A batch as it is now.

        Raises:
            BatchRefused: it is not known here.
            ProviderError: of the kind that says what happened.
        """
        answer = await self._get(f"/batches/{batch}", model)
        return self._read(answer, model, lambda data: _state(data, model, self.key))

    async def download(self, file: str, into: Path, model: str) -> None:
        """Write a file's lines to disk.

        Raises:
            ProviderError: of the kind that says what happened.
        """
        with into.open("wb") as to:
            await self._answer(
                lambda client: client.get(f"/files/{file}/content", to), model, BATCH_FILE_SECONDS
            )

    def failure(self, batch: BatchState) -> ProviderError:
        """The error of a batch that failed as a whole."""
        about: dict[str, Any] = {
            "endpoint": self.endpoint,
            "model": batch.model,
            "status": 400,
        }  # nothing is charged
        said = f"{self.endpoint}: batch {batch.id} {batch.status}: {batch.problem or 'no reason given'}"
        if batch.code == _TOO_MANY_TOKENS:
            return RateLimited(
                f"{said}; let other batches end, or make smaller ones (BatchSettings.requests_max)",
                retry_after=_LATER_SECONDS,
                **about,
            )
        if "quota" in batch.code or "billing" in batch.code:
            return QuotaExhausted(f"{said}; mend the account's billing or use another key", **about)
        if "model" in batch.code:
            return ModelNotFound(f"{said}; check PERSONALAB_MODEL", **about)
        if batch.status == "cancelled":
            return BatchRefused(
                f"{said}; what was answered before is kept: start again to send the rest", **about
            )
        return BatchRefused(f"{said}; leave batch out for this endpoint if that cannot be mended", **about)

    async def _get(self, path: str, model: str) -> Answer:
        return await self._answer(lambda client: client.get(path), model, TIMEOUT_SECONDS)

    async def _answer(self, ask: Callable[[Client], Awaitable[Answer]], model: str, seconds: float) -> Answer:
        import aiohttp

        client = await client_of(self.endpoint, self.key)
        try:
            async with asyncio.timeout(seconds):
                answer = await ask(client)
        except (aiohttp.ClientError, OSError) as error:
            cause = short(str(error) or type(error).__name__, self.key)
            raise ProviderUnreachable(
                f"{self.endpoint}: no answer ({cause}); is the server running and the base URL right?",
                endpoint=self.endpoint,
                model=model,
            ) from None
        if answer.status < 400:
            return answer
        refusal = from_status(answer, self.endpoint, model, self.key)
        if answer.status in (404, 405, 501):
            raise BatchRefused(
                f"{self.endpoint}: no batch or file of that name, or no batches at all ({answer.status}): "
                f"{short(answer.content.decode('utf-8', 'replace'), self.key)}; leave batch out for this endpoint",
                endpoint=self.endpoint,
                model=model,
                status=answer.status,
            )
        if isinstance(refusal, RequestRefused):
            mend = "leave batch out for this endpoint if that cannot be mended"
            if answer.status == _TOO_LARGE:
                mend = "make smaller ones (BatchSettings.bytes_max)"
            raise BatchRefused(
                f"{self.endpoint}: the batch is refused ({answer.status}): {refusal.said}; {mend}",
                endpoint=self.endpoint,
                model=model,
                status=answer.status,
            )
        raise refusal

    def _read(self, answer: Answer, model: str, read: Callable[[Any], Read]) -> Read:
        try:
            return read(json.loads(answer.content))
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, ValidationError):
            said = short(answer.content.decode("utf-8", "replace"), self.key)
        raise ProviderUnreachable(
            f"{self.endpoint}: answered {answer.status} with something that is no batch or file: {said}",
            endpoint=self.endpoint,
            model=model,
        )


def lines_in(file: Path) -> Iterator[JsonObject]:
    """The lines of a file of replies; one that is no object with a `custom_id` is left out."""
    with file.open("rb") as lines:
        for line in lines:
            try:
                data = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue
            if isinstance(data, dict) and isinstance(data.get("custom_id"), str):
                yield data


def answer_in(line: JsonObject) -> Answer | None:
    """What the provider answered to the request of a line; None where it was not asked."""
    response = line.get("response")
    if not isinstance(response, dict) or not isinstance(response.get("status_code"), int):
        return None
    return Answer(response["status_code"], {}, orjson.dumps(response.get("body")))


def _state(data: JsonObject, model: str, key: SecretStr) -> BatchState:
    counts = data.get("request_counts") or {}
    problems = [
        problem for problem in (data.get("errors") or {}).get("data") or [] if isinstance(problem, dict)
    ]
    return BatchState(
        id=data["id"],
        status=data["status"],
        model=model,
        completed=counts.get("completed") or 0,
        total=counts.get("total") or 0,
        output_file=data.get("output_file_id"),
        error_file=data.get("error_file_id"),
        problem=short("; ".join(_told(problem) for problem in problems), key),
        code=str(problems[0].get("code") or "") if problems else "",
    )


def _told(problem: JsonObject) -> str:
    line = f" (line {problem['line']})" if problem.get("line") is not None else ""
    return f"{problem.get('message') or problem.get('code')}{line}"
