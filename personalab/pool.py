"""The LLM pool: requests in, replies out; cached, sent once, limited, retried, asked again when they do not fit.

Knows nothing of stages or personas. In order: cache, single flight, gate, attempts, parse.
"""

from __future__ import annotations

import asyncio
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Literal

from pydantic import SecretStr

from personalab import config
from personalab.cache import Cache, CacheMode, Why, identity, key_of
from personalab.claims import claims_in
from personalab.config import OFFLINE_MODEL, OPENAI_URL, Settings, load_settings
from personalab.dialect import Dialect, asked_again, is_about_pictures
from personalab.errors import (
    ConfigError,
    ImagesUnsupported,
    NotRecorded,
    OutputError,
    PersonalabError,
    ProviderError,
    RateLimited,
    ReplyError,
    ReplyInvalid,
    ReplyRefused,
    ReplyTruncated,
    RequestRefused,
)
from personalab.flights import Flights
from personalab.gate import Gate
from personalab.pauses import Pause
from personalab.prices import FREE, Price, price_of
from personalab.records import JsonObject, PoolCounts, Record, Reply, Request, Usage
from personalab.replies import find_object
from personalab.slots import Slots, slots_of
from personalab.transport import OpenAITransport, Transport, WireReply, load_client

Span = tuple[float, float]
Check = Callable[[str], object]
"""Raises ReplyInvalid if a reply's text does not fit."""


class NotApplied(UserWarning):
    """A model does not take a sampling parameter that was asked for."""


class NotKept(UserWarning):
    """The cache cannot be written, so a reply would be paid again."""


class NotShared(UserWarning):
    """The limit on requests at once holds for this process only, not for all of this machine."""


GateScope = Literal["machine", "process"]
"""Whose requests a limit counts: those of all processes of this machine, or of this one."""


class Delivery(Record):
    """A reply that arrived, with what it took."""

    wire: WireReply
    not_applied: tuple[str, ...]


Keep = Callable[[Reply], Awaitable[None]]
Settle = Callable[[Delivery], Awaitable[Reply | ReplyError]]


class LLMPool:
    """One endpoint, one limit, one cache.

    Arguments win over `OPENAI_API_KEY`, `OPENAI_BASE_URL`, `PERSONALAB_MODEL`, `MAX_CONCURRENT` and `.env`. With
    neither key nor base URL the embedded provider answers. Works from any event loop, and several in a row.

    Raises:
        ConfigError: a setting that cannot be, or an endpoint without a model.
    """

    # For the repr of a pool whose settings were refused, which a traceback may show.
    model = provider = ""
    max_concurrent = 0

    def __init__(
        self,
        api_key: str | None = None,
        api_base: str | None = None,
        model: str | None = None,
        max_concurrent: int | None = None,
        *,
        cache: CacheMode = "use",
        cache_dir: Path | str | None = None,
        timeout_seconds: float = config.TIMEOUT_SECONDS,
        attempts_max: int = config.ATTEMPTS_MAX,
        asks_max: int = config.ASKS_MAX,
        patience_seconds: float = config.PATIENCE_SECONDS,
        gate: GateScope = "machine",
        prices: Mapping[str, Price] | None = None,
        transport: Transport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        secret = SecretStr(api_key) if api_key else None
        del api_key  # so that no traceback with local variables shows it
        settings = load_settings(
            api_key=secret,
            api_base=api_base,
            model=model,
            max_concurrent=max_concurrent,
        )
        self.offline = settings.offline and transport is None
        self.model = _model(settings, self.offline)
        self.provider = OFFLINE_MODEL if self.offline else _provider(settings, transport)
        self.max_concurrent = settings.max_concurrent
        self.cache = Cache(Path(cache_dir) if cache_dir else settings.outputs / "cache", cache)
        self._settings = settings
        self._timeout_seconds = timeout_seconds
        self._attempts_max = attempts_max
        self._asks_max = asks_max
        self._patience_seconds = patience_seconds
        self._sleep = sleep
        self._transport = transport
        self._prices = dict(prices or {})
        self._gate = Gate(settings.max_concurrent, self._slots(gate))
        self._flights: Flights[Reply] = Flights()
        self._dialects: dict[str, Dialect] = {}
        self._lock = threading.Lock()
        self._counts = PoolCounts()
        if transport is None:
            load_client()

    def __repr__(self) -> str:
        return (
            f"LLMPool(model={self.model!r}, provider={self.provider!r}, max_concurrent={self.max_concurrent})"
        )

    @property
    def counts(self) -> PoolCounts:
        """What this pool has done so far."""
        return self._counts

    @property
    def outputs(self) -> Path:
        """The folder for results, as the settings say."""
        return self._settings.outputs

    @property
    def in_flight(self) -> int:
        """Requests at the endpoint now."""
        return self._gate.in_flight

    @property
    def waiting(self) -> int:
        """Requests that wait for a place in flight."""
        return self._gate.waiting

    async def send(self, request: Request, check: Check | None = None) -> Reply:
        """The reply to a request, from the cache if it is there.

        `check` decides whether an answer fits; one that does not is asked again with what was wrong.

        Raises:
            NotRecorded: `cache="replay"`, and the reply is not there.
            ProviderError: the endpoint cannot be reached, limits for too long, or refuses key, model or request.
            ReplyError: no answer that can be used, after asking again.
        """
        what = self._identity(request)
        key = key_of(what)
        if reply := self._cached(key, check):
            self._count(cached=1)
            return reply
        if self.cache.mode == "replay":
            why = await asyncio.to_thread(self.cache.why, what, request.stage)
            raise NotRecorded(request.stage, str(why).replace("it will be sent", "it would be sent"))

        async def work() -> Reply:
            if self.cache.mode != "use":
                return await self._ask(request, check, keep)
            # Between the look above and now somebody may have finished the same work, here or in another process.
            async with claims_in(self.cache.folder).claim(key, lambda: self._cached(key, check)) as done:
                return done or await self._ask(request, check, keep)

        async def keep(reply: Reply) -> None:
            await self._store(key, what, request.stage, reply)

        reply, shared = await self._flights.once(key, work)
        if shared or reply.cached:
            self._count(shared=1)
            return reply.model_copy(update={"cached": True})
        return reply

    def key(self, request: Request) -> str:
        """The cache key of a request."""
        return key_of(self._identity(request))

    def why(self, request: Request) -> Why:
        """Whether a request would be sent, and which part of its key differs from the nearest stored call."""
        return self.cache.why(self._identity(request), request.stage)

    def _slots(self, gate: GateScope) -> Slots | None:
        if gate == "process" or self.offline:  # each process has an embedded provider of its own
            return None
        secret = self._settings.api_key
        try:
            slots = slots_of(self.provider, secret.get_secret_value() if secret else "")
        except OSError as error:
            slots, why = None, str(error)
        else:
            why = "this system has no file locks of the kind needed"
        if slots is None:
            warnings.warn(f"max_concurrent holds for this process only: {why}", NotShared, stacklevel=3)
        return slots

    def _identity(self, request: Request) -> JsonObject:
        return identity(request, self._model_of(request), self.provider)

    def _model_of(self, request: Request) -> str:
        model = request.model or self.model
        if self.offline:
            _must_be_offline(model)
        return model

    def _cached(self, key: str, check: Check | None) -> Reply | None:
        reply = self.cache.get(key)
        if reply is None or check is None:
            return reply
        try:
            check(reply.text)
        except ReplyInvalid:  # stored under rules that were laxer: it does not count
            return None
        return reply

    async def _store(self, key: str, what: JsonObject, stage: str, reply: Reply) -> None:
        try:
            await asyncio.to_thread(self.cache.put, key, what, stage, reply)
        except OutputError as error:  # a reply that was paid is not thrown away for it
            warnings.warn(f"replies are not kept: {error}", NotKept, stacklevel=2)

    async def _ask(self, request: Request, check: Check | None, keep: Keep) -> Reply:
        asked, usage, spans = request, Usage(), list[Span]()
        error: ReplyError | None = None

        async def settle(delivery: Delivery) -> Reply | ReplyError:
            # Still inside the gate: what is paid is on disk before the next request may be sent, so that after a kill
            # at most as many are paid again as were in flight.
            nonlocal usage
            usage += delivery.wire.usage
            try:
                _judge(delivery.wire, request, check)
            except ReplyError as unusable:
                unusable.text = delivery.wire.text
                return unusable
            reply = self._reply(delivery, spans, usage)
            await keep(reply)
            return reply

        for _ in range(self._asks_max):
            try:
                outcome = await self._deliver(asked, spans, settle)
            except PersonalabError as failed:
                failed.usage, failed.attempts = usage, len(spans)
                raise
            if isinstance(outcome, Reply):
                return outcome
            error, asked = outcome, request
            if isinstance(error, ReplyInvalid):
                asked = asked_again(request, error.text, error.problem)
        assert error is not None  # asks_max is at least 1
        error.usage, error.attempts = usage, len(spans)
        self._count(failed=1)
        raise error

    def _reply(self, delivery: Delivery, spans: list[Span], usage: Usage) -> Reply:
        return Reply(
            text=delivery.wire.text,
            model=delivery.wire.model,
            finish_reason=delivery.wire.finish_reason,
            usage=usage,
            attempts=len(spans),
            seconds=round(sum(end - begin for begin, end in spans), 6),
            endpoint=self.provider,
            not_applied=delivery.not_applied,
            spans=tuple(spans),
        )

    async def _deliver(self, request: Request, spans: list[Span], settle: Settle) -> Reply | ReplyError:
        """One answer, settled: attempts with back-off, and the wording the endpoint takes. Each attempt's span is added."""
        model = self._model_of(request)
        pause = Pause(self._attempts_max, self._patience_seconds)
        learnt, before = Dialect(), len(spans)
        while True:
            dialect = learnt
            try:
                async with self._gate.slot(request.rank):
                    # Chosen only now: while this one waited, others may have learnt what the endpoint takes.
                    dialect = self._dialect(model).with_lessons(learnt)
                    wire = await self._attempt(request, model, dialect, spans)
                    outcome = await settle(Delivery(wire=wire, not_applied=dialect.not_applied(request)))
            except RequestRefused as refusal:
                if dialect == self._dialect(model).with_lessons(learnt):
                    learnt = self._reworded(dialect, refusal, request)
                    self._learn(model, learnt)
            except ProviderError as error:
                if isinstance(error, RateLimited):
                    self._count(rate_limited=1)
                await self._sleep(pause.after(error, len(spans) - before))
            else:
                return outcome

    async def _attempt(self, request: Request, model: str, dialect: Dialect, spans: list[Span]) -> WireReply:
        transport = self._connected()
        body = dialect.body(request, model)
        headers = {"x-personalab-replicate": str(request.replicate)} if request.replicate else {}
        self._count(sent=1)
        began, started = time.time(), time.perf_counter()
        try:
            wire = await transport.send(body, headers)
        finally:
            spans.append((round(began, 4), round(began + time.perf_counter() - started, 4)))
        self._paid(wire.usage, model)
        return wire

    def _dialect(self, model: str) -> Dialect:
        return self._dialects.get(model, Dialect())

    def _reworded(self, dialect: Dialect, refusal: RequestRefused, request: Request) -> Dialect:
        if is_about_pictures(refusal, request):
            raise ImagesUnsupported(
                f"model {refusal.model!r} takes no images ({refusal}); use a model with vision for stage "
                f"{request.stage}, or start from a text description",
                endpoint=refusal.endpoint,
                model=refusal.model,
                status=refusal.status,
            ) from None
        lesson = dialect.learn(refusal, request)
        if lesson is None:
            raise refusal
        return lesson

    def _learn(self, model: str, lesson: Dialect) -> None:
        with self._lock:
            before = self._dialect(model)
            self._dialects[model] = before.with_lessons(lesson.certain())
        for name in lesson.left_out:
            if name not in before.left_out:
                warnings.warn(
                    f"model {model!r} takes no {name}: it was not applied", NotApplied, stacklevel=2
                )

    def _connected(self) -> Transport:
        with self._lock:
            if self._transport is None:
                self._transport = self._new_transport()
            return self._transport

    def _new_transport(self) -> Transport:
        if not self.offline:
            url = self._settings.api_base or OPENAI_URL
            return OpenAITransport(url, self._settings.api_key, self._timeout_seconds)
        from personalab.offline.embedded import embedded_url

        return OpenAITransport(embedded_url(), None, self._timeout_seconds)

    def price(self, model: str | None = None) -> Price | None:
        """What a model costs here: as given, else as `genai-prices` has it, else None. The embedded provider is free."""
        model = model or self.model
        if model in self._prices:
            return self._prices[model]
        return FREE if self.offline else price_of(model, self.provider)

    def _paid(self, usage: Usage, model: str) -> None:
        price = self.price(model)
        cost = price.cost(usage) if price else None
        with self._lock:
            before = self._counts
            total = None if before.cost is None or cost is None else before.cost + cost
            self._counts = before.model_copy(update={"usage": before.usage + usage, "cost": total})

    def _count(self, **steps: int) -> None:
        with self._lock:
            counts = self._counts
            update = {name: getattr(counts, name) + step for name, step in steps.items()}
            self._counts = counts.model_copy(update=update)


def _judge(wire: WireReply, request: Request, check: Check | None) -> None:
    if wire.refusal or wire.finish_reason == "content_filter":
        raise ReplyRefused(
            request.stage, f"the model declined: {(wire.refusal or 'content filter')[:200]!r}", text=wire.text
        )
    if wire.finish_reason == "length":
        raise ReplyTruncated(
            request.stage, f"the reply was cut off after {len(wire.text)} characters", text=wire.text
        )
    if check is not None:
        check(wire.text)
    elif request.answer and find_object(wire.text) is None:
        raise ReplyInvalid(request.stage, "no JSON object in the reply", text=wire.text)


def _model(settings: Settings, offline: bool) -> str:
    if offline:
        model = settings.model or OFFLINE_MODEL
        _must_be_offline(model)
        return model
    if settings.model is None:
        raise ConfigError(
            "which model? set PERSONALAB_MODEL or give model=…: an endpoint is set, but no model"
        )
    return settings.model


def _must_be_offline(model: str) -> None:
    if not model.startswith(OFFLINE_MODEL):
        raise ConfigError(
            f"model {model!r} needs an endpoint: set OPENAI_API_KEY, or OPENAI_BASE_URL for a server of your own "
            f"(without them the embedded provider answers, as {OFFLINE_MODEL!r})"
        )


def _provider(settings: Settings, transport: Transport | None) -> str:
    return (transport.endpoint if transport else settings.api_base or OPENAI_URL).rstrip("/")
