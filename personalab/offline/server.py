"""The embedded provider: an HTTP server on loopback that speaks OpenAI's chat-completions protocol.

    with OfflineServer() as server:
        client = AsyncOpenAI(base_url=server.base_url, api_key="any")

It logs nothing and fetches nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from random import Random
from typing import Any, Self

import orjson
from aiohttp import BodyPartReader, MultipartReader, web

from personalab.errors import ConfigError
from personalab.offline.batch_desk import FILE_BYTES_MOST, BatchDesk
from personalab.offline.damage import damaged
from personalab.offline.door import Door
from personalab.offline.faults import Faults
from personalab.offline.ledger import Ledger, LedgerBook
from personalab.offline.vectors import embedded
from personalab.offline.wire import (
    MODEL,
    Answer,
    ApiError,
    Chat,
    asked_tokens,
    chunks,
    completion,
    cut,
    models,
    read_chat,
    read_json,
    written_tokens,
)
from personalab.offline.writer import compose
from personalab.records import JsonObject

HOST = "127.0.0.1"
BODY_BYTES_MAX = 64 * 1024**2
BODIES_KEPT = 100
BACKLOG = 4096
SHUTDOWN_SECONDS = 0.2
REPLICATE_HEADER = "x-personalab-replicate"

_NO_LOG = logging.Logger("personalab.offline", level=logging.CRITICAL + 1)
_SERVER_ERRORS = (
    (500, "The server had an error while processing your request."),
    (502, "Bad gateway."),
    (503, "Overloaded."),
)


class OfflineServer:
    """The server on a thread of its own. `start` and `close` may be called twice; the port is free if none is given."""

    def __init__(
        self,
        faults: Faults | None = None,
        *,
        host: str = HOST,
        port: int = 0,
        record_bodies: bool = False,
    ) -> None:
        self._faults = faults or Faults()
        self._host = host
        self._port = port
        self._book = LedgerBook(BODIES_KEPT if record_bodies else 0)
        self._thread: threading.Thread | None = None
        self._address = ""
        self._stop: Callable[[], object] = lambda: None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_about: object) -> None:
        self.close()

    @property
    def base_url(self) -> str:
        """Where clients find it; empty before it is started."""
        return self._address

    @property
    def ledger(self) -> Ledger:
        """What it saw so far."""
        return self._book.snapshot()

    def start(self) -> Self:
        """Begin to serve.

        Raises:
            ConfigError: the address is taken or is not this machine's.
        """
        if self._thread is None:
            ready: Future[str] = Future()
            self._thread = threading.Thread(
                target=self._serve, args=(ready,), name="personalab-offline", daemon=True
            )
            self._thread.start()
            try:
                self._address = ready.result()
            except (ConfigError, RuntimeError):
                self._thread.join()
                self._thread = None
                raise
        return self

    def close(self) -> None:
        """Stop serving; requests under way are cut off."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stop()
            thread.join()
            self._address = ""

    def _serve(self, ready: Future[str]) -> None:
        try:
            asyncio.run(self._until_stopped(ready))
        except ConfigError as error:
            ready.set_exception(error)
        finally:
            if not ready.done():
                ready.set_exception(RuntimeError("the offline provider did not start"))

    async def _until_stopped(self, ready: Future[str]) -> None:
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        self._stop = lambda: loop.call_soon_threadsafe(stopped.set)
        await _run(self._faults, self._host, self._port, self._book, ready.set_result, stopped)


def serve(
    host: str = HOST, port: int = 0, faults: Faults | None = None, *, ready: Callable[[str], object]
) -> None:
    """Serve until Ctrl-C; `ready` is told the base URL as soon as connections are taken.

    Raises:
        ConfigError: the address is taken or is not this machine's.
    """

    async def forever() -> None:
        await _run(faults or Faults(), host, port, LedgerBook(0), ready, asyncio.Event())

    try:
        asyncio.run(forever())
    except KeyboardInterrupt:
        return


def application(faults: Faults, book: LedgerBook) -> web.Application:
    """The routes; for whoever wants to serve them otherwise."""
    service = _Service(faults, book)
    app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[_errors_as_json])
    app.router.add_post("/v1/chat/completions", service.chat_completions)
    app.router.add_post("/v1/embeddings", service.embeddings)
    app.router.add_get("/v1/models", service.list_models)
    app.router.add_post("/v1/files", service.take_file)
    app.router.add_get("/v1/files/{file}/content", service.file_content)
    app.router.add_post("/v1/batches", service.make_batch)
    app.router.add_get("/v1/batches", service.list_batches)
    app.router.add_get("/v1/batches/{batch}", service.look_at_batch)
    app.router.add_post("/v1/batches/{batch}/cancel", service.cancel_batch)
    return app


async def _run(
    faults: Faults,
    host: str,
    port: int,
    book: LedgerBook,
    ready: Callable[[str], object],
    stopped: asyncio.Event,
) -> None:
    runner = web.AppRunner(
        application(faults, book),
        access_log=None,
        logger=_NO_LOG,
        handler_cancellation=True,
        shutdown_timeout=SHUTDOWN_SECONDS,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, backlog=BACKLOG)
        try:
            await site.start()
        except (OSError, OverflowError) as error:
            why = str(error).rstrip(".")
            raise ConfigError(f"cannot serve on {host} port {port}: {why}; choose another port") from error
        name = f"[{host}]" if ":" in host else host
        ready(f"http://{name}:{runner.addresses[0][1]}/v1")
        await stopped.wait()
    finally:
        await runner.cleanup()


class _Service:
    """Answers requests, with the faults that are on."""

    def __init__(self, faults: Faults, book: LedgerBook) -> None:
        self._faults = faults
        self._book = book
        self._door = Door(faults)
        self._desk = BatchDesk(faults, book, self._line_answered)
        # Its own, as a loop cannot close its default one in a process that ends (Python 3.12).
        self._readers = ThreadPoolExecutor(thread_name_prefix="personalab-picture")

    async def list_models(self, request: web.Request) -> web.Response:
        self._door.check_key(request.headers.get("Authorization", ""))
        return _json(models(self._faults.models or (MODEL,)))

    async def embeddings(self, request: web.Request) -> web.Response:
        count, status = self._book.arrive(), None
        try:
            self._door.check_key(request.headers.get("Authorization", ""))
            body = read_json(await request.read())
            self._book.read("embedding", body)
            response = _json(embedded(body))
            await asyncio.sleep(self._faults.seconds("embedding", count))
            status = response.status
            return response
        finally:
            self._book.leave(status)

    async def chat_completions(self, request: web.Request) -> web.StreamResponse:
        count, status = self._book.arrive(), None
        try:
            response = await _errors_as_json(request, lambda request: self._answered(request, count))
            status = response.status
            return response
        finally:
            self._book.leave(status)

    async def _answered(self, request: web.Request, count: int) -> web.StreamResponse:
        self._door.check_key(request.headers.get("Authorization", ""))
        body = read_json(await request.read())
        chat = read_chat(body)
        self._book.read(chat.label, body)
        self._door.check(chat)
        told = self._door.enter(asked_tokens(chat))
        written = 0
        try:
            replicate = request.headers.get(REPLICATE_HEADER, "")
            answer = await self._written(chat, count, replicate, request)
            written = written_tokens(answer)
        finally:
            self._door.leave(written)
        return await _delivered(request, chat, answer, told)

    async def take_file(self, request: web.Request) -> web.Response:
        self._enter_desk(request)
        fields, name = {"file": b"", "purpose": b""}, ""
        # Not `request.multipart()`, which allows no more than a single request may have.
        async for part in MultipartReader(request.headers, request.content):
            if isinstance(part, BodyPartReader) and part.name in fields:
                fields[part.name] = bytes(await part.read())
                name = part.filename or name
        if len(fields["file"]) > FILE_BYTES_MOST:
            raise ApiError(413, f"The file is larger than {FILE_BYTES_MOST} bytes.", code="file_too_large")
        return _json(self._desk.take_file(fields["purpose"].decode(), name, fields["file"]))

    async def file_content(self, request: web.Request) -> web.Response:
        self._enter_desk(request)
        content = self._desk.content(request.match_info["file"])
        return web.Response(body=content, content_type="application/jsonl")

    async def make_batch(self, request: web.Request) -> web.Response:
        self._enter_desk(request)
        return _json(self._desk.make(read_json(await request.read())))

    async def list_batches(self, request: web.Request) -> web.Response:
        self._enter_desk(request)
        limit = request.query.get("limit", "20")
        return _json(self._desk.listed(request.query.get("after", ""), int(limit) if limit.isdigit() else 20))

    async def look_at_batch(self, request: web.Request) -> web.Response:
        self._enter_desk(request)
        return _json(self._desk.look(request.match_info["batch"]))

    async def cancel_batch(self, request: web.Request) -> web.Response:
        self._enter_desk(request)
        return _json(self._desk.cancel(request.match_info["batch"]))

    def _enter_desk(self, request: web.Request) -> None:
        self._door.check_key(request.headers.get("Authorization", ""))
        self._desk.check_open()

    async def _line_answered(self, url: str, body: Any, replicate: str) -> tuple[int, JsonObject]:
        """Status and body for a line of a batch, with the faults that single requests have, but for limits and latency."""
        count, status = self._book.arrive(), 500
        try:
            if url == "/v1/embeddings":
                self._book.read("embedding", body)
                data = embedded(body)
            else:
                chat = read_chat(body)
                self._book.read(chat.label, body)
                self._door.check(chat)
                answer = await self._written(chat, count, "" if replicate == "0" else replicate)
                data = completion(chat, answer, _identity(answer))
            status = 200
        except ApiError as error:
            status, data = error.status, error.body()
        finally:
            self._book.leave(status)
        return status, data

    async def _written(
        self, chat: Chat, count: int, replicate: str, request: web.Request | None = None
    ) -> Answer:
        """The answer to a chat; `request` is None for a line of a batch."""
        fault = self._faults.drawn(count)
        random = Random(f"{self._faults.seed} damage {count}")
        if fault == "rate_limit":
            raise self._door.limited("requests", self._faults.retry_after)
        # Decoding a picture takes tens of milliseconds, during which the others are to be answered.
        if chat.images:
            loop = asyncio.get_running_loop()
            text = await loop.run_in_executor(self._readers, compose, chat, replicate)
        else:
            text = compose(chat, replicate)
        if request is not None:
            await asyncio.sleep(self._faults.seconds(chat.label, count))
        if fault == "reset" and request is not None:
            raise _reset(request)
        if fault in ("server_error", "reset"):
            status, message = random.choice(_SERVER_ERRORS)
            raise ApiError(status, message, kind="server_error")
        answer = Answer(text) if fault is None else damaged(fault, text, random)
        return cut(answer, chat.max_tokens)


async def _delivered(
    request: web.Request, chat: Chat, answer: Answer, told: dict[str, str]
) -> web.StreamResponse:
    identity = _identity(answer)
    if not chat.stream:
        return _json(completion(chat, answer, identity), headers=told)
    headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
    response = web.StreamResponse(headers=headers | told)
    await response.prepare(request)
    for chunk in chunks(chat, answer, identity):
        await response.write(chunk)
    await response.write_eof()
    return response


def _identity(answer: Answer) -> str:
    said = answer.text if answer.text is not None else answer.refusal or ""
    return hashlib.sha256(said.encode()).hexdigest()[:24]


def _reset(request: web.Request) -> ConnectionResetError:
    if request.transport is not None:
        request.transport.abort()
    return ConnectionResetError()


@web.middleware
async def _errors_as_json(request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
    """Every error in OpenAI's shape, also those of the framework and those nobody thought of."""
    try:
        response: web.StreamResponse = await handler(request)
        return response
    except ApiError as error:
        return _json(error.body(), error.status, error.headers)
    except web.HTTPException as error:
        return _json(_of_framework(request, error).body(), error.status, _kept(error))
    except (ConnectionError, asyncio.CancelledError):
        raise
    except Exception as error:  # noqa: BLE001 - a bug here has to reach the client as an answer it can read
        message = f"The offline provider failed: {type(error).__name__}: {error}"
        return _json(ApiError(500, message, kind="server_error", code="offline_bug").body(), 500)


def _of_framework(request: web.Request, error: web.HTTPException) -> ApiError:
    if error.status == 413:
        return ApiError(
            413, f"The body of your request is larger than {BODY_BYTES_MAX} bytes.", code="request_too_large"
        )
    if error.status == 405:
        return ApiError(405, f"Not allowed to {request.method} on {request.path}.", code="method_not_allowed")
    return ApiError(error.status, f"Invalid URL ({request.method} {request.path})", code="unknown_url")


def _kept(error: web.HTTPException) -> dict[str, str]:
    return {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}


def _json(data: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=orjson.dumps(data), status=status, headers=headers, content_type="application/json"
    )
