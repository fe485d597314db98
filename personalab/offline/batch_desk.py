"""Files and batches, as OpenAI's batch endpoint has them: quickly done, replies in any order, everything in memory.

Knows nothing of how a request is answered; whoever makes the desk gives that along.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import orjson

from personalab.offline.faults import Faults
from personalab.offline.ledger import LedgerBook
from personalab.offline.wire import ApiError, read_json
from personalab.records import JsonObject

URLS = ("/v1/chat/completions", "/v1/embeddings")
LINES_MOST = 50_000
FILE_BYTES_MOST = 200_000_000
WINDOW_SECONDS = 24 * 3600
PAGE_MOST = 100

AnswerLine = Callable[[str, Any, str], Awaitable[tuple[int, JsonObject]]]
"""Status and body for a request: its URL, its body, and the replicate that its name ends with."""


@dataclass
class _Batch:
    id: str
    order: JsonObject
    made: int
    polls: int = 0
    status: str = "validating"
    problems: list[JsonObject] = field(default_factory=list)
    completed: int = 0
    failed: int = 0
    total: int = 0
    output: str | None = None
    errors: str | None = None
    work: asyncio.Task[None] | None = None


class BatchDesk:
    """Takes files and makes batches of them. Used from one event loop only."""

    def __init__(self, faults: Faults, book: LedgerBook, answer: AnswerLine) -> None:
        self._faults = faults
        self._book = book
        self._answer = answer
        self._files: dict[str, tuple[str, bytes, int]] = {}
        self._batches: dict[str, _Batch] = {}
        self._numbers = itertools.count()

    def check_open(self) -> None:
        """Raises 404 where batches are not served."""
        if self._faults.no_batches:
            raise ApiError(404, "Invalid URL: batches are not served here.", code="unknown_url")

    def take_file(self, purpose: str, name: str, content: bytes) -> JsonObject:
        """A file that was sent, as an object."""
        if purpose != "batch":
            raise ApiError(400, f"'{purpose}' is not one of ['batch'].", param="purpose")
        return self._file_object(self._keep(name, content))

    def content(self, file: str) -> bytes:
        """What is in a file."""
        if file not in self._files:
            raise ApiError(404, f"No such File object: {file}", param="id")
        return self._files[file][1]

    def make(self, order: Any) -> JsonObject:
        """A batch of a file, which is worked on from now on."""
        if not isinstance(order, dict):
            raise ApiError(400, "The body of your request must be a JSON object.")
        if order.get("endpoint") not in URLS:
            raise ApiError(400, f"Invalid value: '{order.get('endpoint')}'.", param="endpoint")
        if order.get("completion_window") != "24h":
            raise ApiError(400, "Supported values are: '24h'.", param="completion_window")
        if order.get("input_file_id") not in self._files:
            raise ApiError(400, f"No such File object: {order.get('input_file_id')}", param="input_file_id")
        batch = _Batch(f"batch_{next(self._numbers):06d}", order, int(time.time()))
        self._batches[batch.id] = batch
        self._book.batch()
        batch.work = asyncio.create_task(self._work(batch))
        return self._object(batch)

    def look(self, batch: str) -> JsonObject:
        """A batch as it is now; a look brings it nearer to its end."""
        if batch not in self._batches:
            raise ApiError(404, f"No batch found with id '{batch}'.", param="batch_id")
        found = self._batches[batch]
        found.polls += 1
        return self._object(found)

    def cancel(self, batch: str) -> JsonObject:
        """Stop a batch; what is answered stays."""
        found = self._batches.get(batch)
        if found is None:
            raise ApiError(404, f"No batch found with id '{batch}'.", param="batch_id")
        if found.work:
            found.work.cancel()
        found.status = "cancelled"
        return self._object(found)

    def listed(self, after: str, limit: int) -> JsonObject:
        """A page of the batches, the newest first."""
        every = list(reversed(self._batches.values()))
        start = next((at + 1 for at, batch in enumerate(every) if batch.id == after), 0)
        page = every[start : start + max(1, min(limit, PAGE_MOST))]
        data = [self._object(batch) for batch in page]
        return {"object": "list", "data": data, "has_more": start + len(page) < len(every)}

    async def _work(self, batch: _Batch) -> None:
        lines = self._valid(batch)
        if batch.problems:
            batch.status = "failed"
            return
        batch.total = len(lines)
        batch.status = "in_progress"
        random = Random(f"{self._faults.seed} batch {batch.id}")
        replies: list[JsonObject] = []
        errors: list[JsonObject] = []
        for line in lines:
            if random.random() < self._faults.batch_expires:
                error = {"code": "batch_expired", "message": "This request could not be executed before the completion window expired."}  # fmt: skip
                errors.append(_line(line, None, error))
                continue
            status, body = await self._answer(line["url"], line["body"], line["custom_id"].rpartition("-")[2])
            good = status < 400
            (replies if good else errors).append(_line(line, {"status_code": status, "request_id": "", "body": body}))  # fmt: skip
            batch.completed += good
            batch.failed += not good
            await asyncio.sleep(0)
        for each in (replies, errors):
            random.shuffle(each)
        batch.output = self._keep(f"{batch.id}_output.jsonl", _jsonl(replies)) if replies else None
        batch.errors = self._keep(f"{batch.id}_error.jsonl", _jsonl(errors)) if errors else None
        expired = any(line["response"] is None for line in errors)
        batch.status = "expired" if expired else "completed"

    def _valid(self, batch: _Batch) -> list[Any]:
        """The lines of a batch's file; what is wrong with them is noted on the batch."""

        def wrong(code: str, message: str, line: int | None = None) -> None:
            batch.problems.append({"code": code, "message": message, "param": None, "line": line})

        if self._faults.batch_fails:
            wrong("invalid_batch", "The batch was told to fail.")
            return []
        raw = self._files[batch.order["input_file_id"]][1].splitlines()
        if not raw or len(raw) > LINES_MOST:
            wrong("invalid_file", f"A batch has 1 to {LINES_MOST} requests, not {len(raw)}.")
            return []
        lines: list[Any] = []
        names: set[str] = set()
        models: set[str] = set()
        for number, content in enumerate(raw, start=1):
            try:
                line = read_json(content)
                name, body = line["custom_id"], line["body"]
                good = line["method"] == "POST" and line["url"] == batch.order["endpoint"]
                models.add(str(body["model"]))
            except (ApiError, KeyError, TypeError):
                wrong("invalid_json_line", "This line is not a request with custom_id, method, url and body.", number)  # fmt: skip
                continue
            if not good:
                wrong("invalid_url", "The url of this line is not the batch's endpoint.", number)
            if name in names:
                wrong("duplicate_custom_id", f"The custom_id '{name}' is there already.", number)
            names.add(name)
            lines.append(line)
        if len(models) > 1:
            wrong("mismatched_model", "All requests of a batch must be for the same model.")
        return lines

    def _keep(self, name: str, content: bytes) -> str:
        file = f"file-{next(self._numbers):06d}"
        self._files[file] = (name, content, int(time.time()))
        return file

    def _file_object(self, file: str) -> JsonObject:
        name, content, made = self._files[file]
        return {
            "id": file, "object": "file", "bytes": len(content), "created_at": made, "filename": name,
            "purpose": "batch", "status": "processed",
        }  # fmt: skip

    def _object(self, batch: _Batch) -> JsonObject:
        worked_on = batch.status in ("completed", "expired", "failed")
        shown = "in_progress" if worked_on and batch.polls <= self._faults.batch_polls else batch.status
        done = shown in ("completed", "expired", "failed")
        return {
            "id": batch.id, "object": "batch", "endpoint": batch.order["endpoint"],
            "input_file_id": batch.order["input_file_id"], "completion_window": "24h", "status": shown,
            "errors": {"object": "list", "data": batch.problems} if done and batch.problems else None,
            "output_file_id": batch.output if done else None, "error_file_id": batch.errors if done else None,
            "created_at": batch.made, "expires_at": batch.made + WINDOW_SECONDS,
            "request_counts": {"total": batch.total, "completed": batch.completed, "failed": batch.failed},
            "metadata": batch.order.get("metadata"),
        }  # fmt: skip


def _line(line: Any, response: JsonObject | None, error: JsonObject | None = None) -> JsonObject:
    name = line["custom_id"]
    return {"id": f"batch_req_{name}", "custom_id": name, "response": response, "error": error}


def _jsonl(lines: list[JsonObject]) -> bytes:
    return b"".join(orjson.dumps(line) + b"\n" for line in lines)
