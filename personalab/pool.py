"""The LLM pool: requests in, replies out; cached, sent once, limited, retried, asked again when they do not fit.

Knows nothing of stages or personas. In order: cache, single flight, gate, attempts, parse.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from pydantic import SecretStr

from personalab import config
from personalab.budgets import Budget, Ceilings
from personalab.cache import Cache, CacheMode, Why, identity, key_of
from personalab.claims import claims_in
from personalab.config import Address, BatchSettings, EndpointSettings, load_settings
from personalab.dialect import asked_again
from personalab.dry import CACHE_BELOW, dry_folder
from personalab.endpoints import Endpoint, GateScope, Journey, Span
from personalab.errors import (
    ConfigError,
    NotRecorded,
    OutputError,
    PersonalabError,
    ProviderError,
    ReplyError,
    ReplyInvalid,
    ReplyRefused,
    ReplyTruncated,
)
from personalab.fleet import ANY_ENDPOINT, Delivery, Fleet, Sleep
from personalab.flights import Flights
from personalab.meters import mark_offline
from personalab.prices import Price
from personalab.records import JsonObject, PoolCounts, Reply, Request, Usage
from personalab.replies import find_object
from personalab.tally import Tally
from personalab.transport import Transport, WireReply

Check = Callable[[str], object]
"""Raises ReplyInvalid if a reply's text does not fit."""


class NotKept(UserWarning):
    """The cache cannot be written, so a reply would be paid again."""


Keep = Callable[[Reply], Awaitable[None]]


class LLMPool:
    """One cache before one endpoint, or before several.

    Arguments win over `OPENAI_API_KEY`, `OPENAI_BASE_URL`, `PERSONALAB_MODEL`, `MAX_CONCURRENT`,
    `REQUESTS_PER_MINUTE`, `TOKENS_PER_MINUTE` and `.env`. With neither key nor base URL the embedded provider answers. Works from any event loop, and several in a row.

    With `endpoints` each request goes to one that has its model and has room; address, key, model and limits are then
    theirs, and the first's model is the pool's. Replies of one model count as the same, whichever endpoint gave them,
    unless `same_model` is False.

    With `batch` (or `PERSONALAB_BATCH`) requests go through the provider's batch endpoint: at its price, without limits, and
    answered within a day. They gather until no more come; stopped at any time, the same work started again waits for what is
    under way. `BatchSettings` say more.

    Raises:
        ConfigError: a setting that cannot be, or an endpoint without a model.
        PriceUnknown: a budget on cost, and nobody knows what the model costs.
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
        endpoints: Sequence[EndpointSettings] = (),
        same_model: bool = True,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        cache: CacheMode = "use",
        cache_dir: Path | str | None = None,
        timeout_seconds: float = config.TIMEOUT_SECONDS,
        attempts_max: int = config.ATTEMPTS_MAX,
        asks_max: int = config.ASKS_MAX,
        patience_seconds: float = config.PATIENCE_SECONDS,
        gate: GateScope = "machine",
        prices: Mapping[str, Price] | None = None,
        budget: Budget | None = None,
        transport: Transport | None = None,
        sleep: Sleep = asyncio.sleep,
        batch: BatchSettings | bool | None = None,
    ) -> None:
        secret = SecretStr(api_key) if api_key else None
        del api_key  # so that no traceback with local variables shows it
        settings = load_settings(
            api_key=secret,
            api_base=api_base,
            model=model,
            max_concurrent=max_concurrent,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            batch=None if batch is None else bool(batch),
        )
        self._settings = settings
        self.batch = _batch(batch, settings.batch)
        if self.batch and transport is not None:
            raise ConfigError("batches need an address: give no transport with batch")
        self.cache = _cache(cache_dir, settings.outputs, cache)
        self._tally = Tally()
        self.budget = budget
        addresses: list[Address] = [*endpoints] or [settings]
        made = [
            Endpoint(
                one,
                self._tally,
                gate=gate,
                timeout_seconds=timeout_seconds,
                prices=prices,
                transport=transport,
                batch=self.batch,
                folder=self.cache.folder / "batches",
            )
            for one in addresses
        ]
        self._fleet = Fleet(
            made,
            self._tally,
            same_model=same_model,
            attempts_max=attempts_max,
            patience_seconds=patience_seconds,
            budget=budget,
            sleep=sleep,
            batch=self.batch is not None,
        )
        self.offline = self._fleet.offline
        if self.offline:
            mark_offline()
        self.model = self._fleet.model
        self.provider = made[0].provider if len(made) == 1 else ANY_ENDPOINT
        self.max_concurrent = sum(one.max_concurrent for one in addresses)
        self._asks_max = asks_max
        self._warned = False
        self._flights: Flights[Reply] = Flights()

    def __repr__(self) -> str:
        return (
            f"LLMPool(model={self.model!r}, provider={self.provider!r}, max_concurrent={self.max_concurrent})"
        )

    @property
    def counts(self) -> PoolCounts:
        """What this pool has done so far."""
        return self._tally.counts

    @property
    def outputs(self) -> Path:
        """The folder for results, as the settings say."""
        return self._settings.outputs

    @property
    def remaining(self) -> Ceilings | None:
        """What the budget leaves; None without one."""
        return self.budget.remaining if self.budget else None

    @property
    def in_flight(self) -> int:
        """Requests at the endpoint now."""
        return self._fleet.in_flight

    @property
    def waiting(self) -> int:
        """Requests that wait for a place in flight."""
        return self._fleet.waiting

    @property
    def window(self) -> int:
        """Items of a long list that are to be under way at once, so that nothing waits for want of requests."""
        return self.batch.window if self.batch else self.max_concurrent + config.WINDOW_SPARE

    @property
    def waves(self) -> str:
        """How far the provider's batches are, in a few words; empty where there are none."""
        return self._fleet.waves

    async def send(self, request: Request, check: Check | None = None, *, key: str | None = None) -> Reply:
        """The reply to a request, from the cache if it is there.

        `check` decides whether an answer fits; one that does not is asked again with what was wrong. `key` is what
        `key(request)` gave, from a caller that has it already.

        Raises:
            NotRecorded: `cache="replay"`, and the reply is not there.
            ProviderError: the endpoint cannot be reached, limits for too long, or refuses key, model or request.
            ReplyError: no answer that can be used, after asking again.
            BudgetError: it might pass a ceiling, or its price is unknown under one; it is not sent.
        """
        key = key or self.key(request)
        if reply := self._cached(key, check):
            self._tally.add(cached=1)
            return reply
        what = self._identity(request)
        if self.cache.mode == "replay":
            why = await asyncio.to_thread(self.cache.why, what, request.stage)
            told = " ".join(str(why).replace("it will be sent", "it would be sent").split())
            raise NotRecorded(request.stage, told)

        async def work() -> Reply:
            if self.cache.mode != "use":
                return await self._ask(request, key, check, keep)
            # Between the look above and now somebody may have finished the same work, here or in another process.
            pause = self.batch.poll_first_seconds if self.batch else None  # another's batch takes its time
            async with claims_in(self.cache.folder).claim(
                key, lambda: self._cached(key, check), pause
            ) as done:
                return done or await self._ask(request, key, check, keep)

        async def keep(reply: Reply) -> None:
            await self._store(key, what, request.stage, reply)

        reply, shared = await self._flights.once(key, work)
        if shared or reply.cached:
            self._tally.add(shared=1)
            return reply.model_copy(update={"cached": True})
        return reply

    def key(self, request: Request) -> str:
        """The cache key of a request."""
        return key_of(self._identity(request))

    def why(self, request: Request) -> Why:
        """Whether a request would be sent, and which part of its key differs from the nearest stored call."""
        return self.cache.why(self._identity(request), request.stage)

    def price(self, model: str | None = None) -> Price | None:
        """What a model costs here: as given, else as `genai-prices` has it, else None. The embedded provider is free."""
        return self._fleet.price(model or self.model)

    def check_price(self, model: str | None) -> None:
        """Whether a model may be asked under the budget: better before the first request than between others.

        Raises:
            PriceUnknown: there is a ceiling on cost, and nobody knows what the model costs.
        """
        if self.budget:
            self.budget.check(model or self.model, self.price(model))

    def _identity(self, request: Request) -> JsonObject:
        model = self._fleet.model_of(request)
        return identity(request, model, self._fleet.provider_of(model))

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
        if not self.cache.writes:
            return
        try:
            await asyncio.to_thread(self.cache.put, key, what, stage, reply)
        except OutputError as error:  # a reply that was paid is not thrown away for it
            if not self._warned:  # once, and not for each of thousands
                self._warned = True
                warnings.warn(f"replies are not kept: {error}", NotKept, stacklevel=2)

    async def _ask(self, request: Request, key: str, check: Check | None, keep: Keep) -> Reply:
        journey = Journey(key)
        try:
            reply = await self._asked(request, journey, check, keep)
        except (ReplyError, ProviderError):
            self._fleet.settled(journey)
            raise
        self._fleet.settled(journey)
        return reply

    async def _asked(self, request: Request, journey: Journey, check: Check | None, keep: Keep) -> Reply:
        asked, usage, spans = request, Usage(), journey.spans
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
                outcome = await self._fleet.deliver(asked, journey, settle)
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
        self._tally.add(failed=1)
        raise error

    def _reply(self, delivery: Delivery, spans: list[Span], usage: Usage) -> Reply:
        return Reply(
            text=delivery.wire.text,
            model=delivery.wire.model,
            finish_reason=delivery.wire.finish_reason,
            usage=usage,
            attempts=len(spans),
            seconds=round(sum(end - begin for begin, end in spans), 6),
            endpoint=delivery.endpoint,
            not_applied=delivery.not_applied,
            spans=tuple(spans),
        )


def _cache(given: Path | str | None, outputs: Path, mode: CacheMode) -> Cache:
    folder, dry = Path(given) if given else outputs / "cache", dry_folder()
    if dry is None:
        return Cache(folder, mode)
    inside = folder.resolve().is_relative_to(dry.resolve())
    return Cache(outputs / "cache", mode, below=dry / CACHE_BELOW if inside else folder)


def _batch(given: BatchSettings | bool | None, wanted: bool) -> BatchSettings | None:
    if isinstance(given, BatchSettings):
        return given
    return BatchSettings() if wanted else None


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
