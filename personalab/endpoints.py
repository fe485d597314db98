"""An endpoint: one address with its key, asked as many at once as it allows, in the wording it takes, again after trouble.

Knows nothing of caches, stages or what a good answer is.
"""

from __future__ import annotations

import asyncio
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

from personalab import config
from personalab.budgets import Budget
from personalab.clients import load_client
from personalab.config import OFFLINE_MODEL, OPENAI_URL, Settings
from personalab.dialect import Dialect, is_about_pictures
from personalab.errors import (
    ConfigError,
    ImagesUnsupported,
    ProviderError,
    RateLimited,
    ReplyError,
    RequestRefused,
)
from personalab.estimates import Estimate
from personalab.gate import Gate
from personalab.limits import Limits
from personalab.pace import Pace
from personalab.pauses import Pause
from personalab.prices import FREE, Price, price_of
from personalab.records import Record, Reply, Request
from personalab.slots import Slots, folder_of, slots_of
from personalab.tally import Tally
from personalab.transport import OpenAITransport, Transport, WireReply

Span = tuple[float, float]
"""Begin and end of an attempt, in seconds since 1970."""
Sleep = Callable[[float], Awaitable[None]]


class NotApplied(UserWarning):
    """A model does not take a sampling parameter that was asked for."""


class NotShared(UserWarning):
    """The limit on requests at once holds for this process only, not for all of this machine."""


GateScope = Literal["machine", "process"]
"""Whose requests a limit counts: those of all processes of this machine, or of this one."""


class Delivery(Record):
    """A reply that arrived, with what it took."""

    wire: WireReply
    not_applied: tuple[str, ...]


Settle = Callable[[Delivery], Awaitable[Reply | ReplyError]]


class Endpoint:
    """Where requests go: the address and key of the settings, or the embedded provider if they have neither.

    Raises:
        ConfigError: an address without a model, or a model that is not the embedded provider's without an address.
    """

    def __init__(
        self,
        settings: Settings,
        tally: Tally,
        *,
        gate: GateScope = "machine",
        timeout_seconds: float = config.TIMEOUT_SECONDS,
        attempts_max: int = config.ATTEMPTS_MAX,
        patience_seconds: float = config.PATIENCE_SECONDS,
        prices: Mapping[str, Price] | None = None,
        budget: Budget | None = None,
        transport: Transport | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.offline = settings.offline and transport is None
        self.model = _model(settings, self.offline)
        self.provider = OFFLINE_MODEL if self.offline else _provider(settings, transport)
        self._settings = settings
        self._tally = tally
        self._timeout_seconds = timeout_seconds
        self._attempts_max = attempts_max
        self._patience_seconds = patience_seconds
        self._prices = dict(prices or {})
        self._budget = budget or Budget()
        self._budget.check(self.model, self.price())
        self._transport = transport
        self._sleep = sleep
        slots = self._slots(gate)
        self._limits = Limits(settings.max_concurrent, slots, self._pace(shared=slots is not None))
        self._gate = Gate([self._limits])
        self._estimate = Estimate()
        self._dialects: dict[str, Dialect] = {}
        self._lock = threading.Lock()
        if transport is None:
            load_client()

    @property
    def in_flight(self) -> int:
        """Requests at the endpoint now."""
        return self._gate.in_flight

    @property
    def waiting(self) -> int:
        """Requests that wait for a place in flight."""
        return self._gate.waiting

    def model_of(self, request: Request) -> str:
        """The model that a request goes to."""
        model = request.model or self.model
        if self.offline:
            _must_be_offline(model)
        return model

    def price(self, model: str | None = None) -> Price | None:
        """What a model costs here: as given, else as `genai-prices` has it, else None. The embedded provider is free."""
        model = model or self.model
        if model in self._prices:
            return self._prices[model]
        return FREE if self.offline else price_of(model, self.provider)

    async def deliver(self, request: Request, spans: list[Span], settle: Settle) -> Reply | ReplyError:
        """One answer, settled: attempts with back-off, and the wording the endpoint takes. Each attempt's span is added."""
        model = self.model_of(request)
        pause = Pause(self._attempts_max, self._patience_seconds)
        learnt, before = Dialect(), len(spans)
        while True:
            dialect = learnt
            try:
                tokens = self._estimate.tokens(request) if self._limits.counts_tokens else 0
                async with (
                    self._gate.slot(request.rank, tokens) as ticket,
                    self._budget.hold(request, model, self.price(model)) as hold,
                ):
                    # Chosen only now: while this one waited, others may have learnt what the endpoint takes.
                    dialect = self._dialect(model).with_lessons(learnt)
                    wire = await self._attempt(request, model, dialect, spans)
                    hold.paid(wire.usage)
                    ticket.quotas, ticket.used = wire.quotas, wire.usage.tokens
                    outcome = await settle(Delivery(wire=wire, not_applied=dialect.not_applied(request)))
            except RequestRefused as refusal:
                if dialect == self._dialect(model).with_lessons(learnt):
                    learnt = self._reworded(dialect, refusal, request)
                    self._learn(model, learnt)
            except ProviderError as error:
                closed = None
                if isinstance(error, RateLimited):
                    self._tally.add(rate_limited=1)
                    closed = self._limits.closed_seconds
                wait = pause.after(error, len(spans) - before, closed)
                if closed is None:  # else it waits at the gate, with the others
                    await self._sleep(wait)
            else:
                return outcome

    async def _attempt(self, request: Request, model: str, dialect: Dialect, spans: list[Span]) -> WireReply:
        transport = self._connected()
        body = dialect.body(request, model)
        headers = {"x-personalab-replicate": str(request.replicate)} if request.replicate else {}
        self._tally.add(sent=1)
        began, started = time.time(), time.perf_counter()
        try:
            wire = await transport.send(body, headers)
        finally:
            spans.append((round(began, 4), round(began + time.perf_counter() - started, 4)))
        self._estimate.learn(wire.usage)
        self._tally.paid(wire.usage, self.price(model))
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

    def _pace(self, *, shared: bool) -> Pace | None:
        settings = self._settings
        if not settings.requests_per_minute and not settings.tokens_per_minute:
            return None
        file = folder_of(self.provider, self._secret) / "pace" if shared else None
        return Pace(settings.requests_per_minute, settings.tokens_per_minute, file)

    @property
    def _secret(self) -> str:
        return self._settings.api_key.get_secret_value() if self._settings.api_key else ""

    def _slots(self, gate: GateScope) -> Slots | None:
        if gate == "process" or self.offline:  # each process has an embedded provider of its own
            return None
        try:
            slots = slots_of(self.provider, self._secret)
        except OSError as error:
            slots, why = None, str(error)
        else:
            why = "this system has no file locks of the kind needed"
        if slots is None:
            warnings.warn(f"max_concurrent holds for this process only: {why}", NotShared, stacklevel=4)
        return slots


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
