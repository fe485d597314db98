"""The endpoints of a pool: each request goes where there is room, and again elsewhere after trouble.

An endpoint that does not answer is left alone for a while; one that refuses the key or does not have the model is left
out, as long as another has it.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Callable, Sequence

from personalab import config
from personalab.budgets import Budget
from personalab.dialect import Dialect
from personalab.endpoints import Endpoint, Journey, must_be_offline
from personalab.errors import (
    AccessRefused,
    ProviderError,
    RateLimited,
    ReplyError,
    RequestRefused,
    unknown,
)
from personalab.gate import Doors, Gate
from personalab.pauses import Pause
from personalab.prices import Price
from personalab.records import Record, Reply, Request
from personalab.tally import Tally
from personalab.transport import WireReply

ANY_ENDPOINT = "any endpoint"
"""Whose a reply is, where several endpoints of a pool count as one."""
Sleep = Callable[[float], Awaitable[None]]


class EndpointLeftOut(UserWarning):
    """One of several endpoints refuses the key, has no quota or lacks the model; the others go on."""


class Delivery(Record):
    """A reply that arrived, with what it took and where it came from."""

    wire: WireReply
    endpoint: str
    not_applied: tuple[str, ...]


Settle = Callable[[Delivery], Awaitable[Reply | ReplyError]]


class Fleet:
    """One endpoint, or several before which requests stand in one queue. Batches go to the first that has their model.

    Raises:
        PriceUnknown: there is a ceiling on cost, and nobody knows what the model costs.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        tally: Tally,
        *,
        same_model: bool = True,
        attempts_max: int = config.ATTEMPTS_MAX,
        patience_seconds: float = config.PATIENCE_SECONDS,
        budget: Budget | None = None,
        sleep: Sleep = asyncio.sleep,
        batch: bool = False,
    ) -> None:
        self._batch = batch
        self._endpoints = tuple(endpoints)
        self._tally = tally
        self._same_model = same_model
        self._attempts_max = attempts_max
        self._patience_seconds = patience_seconds
        self._budget = budget or Budget()
        self._sleep = sleep
        self._left_out: set[tuple[str, Endpoint]] = set()
        self._of_limits = {endpoint.limits: endpoint for endpoint in self._endpoints}
        self._gate = Gate(tuple(self._of_limits), self._doors_of)
        self.model = self._endpoints[0].model
        self.offline = self._endpoints[0].offline
        self._budget.check(self.model, self.price(self.model))

    @property
    def in_flight(self) -> int:
        """Requests at the endpoints now."""
        return self._gate.in_flight

    @property
    def waiting(self) -> int:
        """Requests that wait for a place in flight."""
        return self._gate.waiting

    def model_of(self, request: Request) -> str:
        """The model that a request goes to.

        Raises:
            ConfigError: no endpoint has it.
        """
        model = request.model or self.model
        if self.offline:
            must_be_offline(model)
        elif len(self._endpoints) > 1 and not self._having(model):
            raise unknown("model", model, {name for endpoint in self._endpoints for name in endpoint.models})
        return model

    def provider_of(self, model: str) -> str:
        """Whose a model's replies are, for the cache: an address, or whichever of several endpoints answers."""
        having = self._having(model)
        if len(self._endpoints) == 1:
            return having[0].provider
        return ANY_ENDPOINT if self._same_model else ", ".join(sorted({one.provider for one in having}))

    def price(self, model: str) -> Price | None:
        """What a model costs at the dearest endpoint that has it; None if it is unknown at one."""
        prices = [endpoint.price(model) for endpoint in self._having(model)]
        known = [price for price in prices if price is not None]
        if not known or len(known) < len(prices):
            return None
        return max(known, key=lambda price: price.input + price.output)

    @property
    def waves(self) -> str:
        """How far the batches of requests are, in a few words; empty where there are none."""
        return " · ".join(filter(None, (endpoint.waves for endpoint in self._endpoints)))

    def settled(self, journey: Journey) -> None:
        """A question is at its end; nothing that was written down for it is needed any more."""
        for endpoint in self._endpoints:
            endpoint.settled(journey)

    async def deliver(self, request: Request, journey: Journey, settle: Settle) -> Reply | ReplyError:
        """One answer, settled: attempts with back-off, and the wording an endpoint takes. The journey learns of each."""
        model = self.model_of(request)
        pause = Pause(self._attempts_max, self._patience_seconds)
        learnt: dict[Endpoint, Dialect] = {}
        before = len(journey.spans)
        while True:
            endpoint, dialect = self._well(model)[0], Dialect()
            try:
                tokens = max(one.tokens(request) for one in self._well(model))
                async with self._gate.slot(request.rank, tokens, model) as ticket:
                    endpoint = self._of_limits[ticket.limits]
                    async with self._budget.hold(request, model, endpoint.price(model)) as hold:
                        # Chosen only now: while this one waited, others may have learnt what the endpoint takes.
                        dialect = endpoint.dialect(model).with_lessons(learnt.get(endpoint, Dialect()))
                        wire = await endpoint.attempt(request, model, dialect, journey)
                        hold.paid(wire.usage)
                        ticket.quotas, ticket.used = wire.quotas, wire.usage.tokens
                        not_applied = dialect.not_applied(request)
                        return await settle(
                            Delivery(wire=wire, endpoint=endpoint.provider, not_applied=not_applied)
                        )
            except RequestRefused as refusal:
                if dialect == endpoint.dialect(model).with_lessons(learnt.get(endpoint, Dialect())):
                    learnt[endpoint] = endpoint.reworded(dialect, refusal, request)
                    endpoint.learn(model, learnt[endpoint])
            except AccessRefused as refusal:
                self._leave_out(endpoint, model, refusal)
            except ProviderError as error:
                await self._wait(endpoint, model, error, pause, len(journey.spans) - before)

    async def _wait(
        self, endpoint: Endpoint, model: str, error: ProviderError, pause: Pause, attempts: int
    ) -> None:
        limited = isinstance(error, RateLimited)
        if limited:
            self._tally.add(rate_limited=1)
        others = [other for other in self._well(model) if other is not endpoint]
        closed = endpoint.limits.closed_seconds if limited else None
        if any(not other.limits.rests and other.limits.closed_seconds is None for other in others) and (
            closed is not None or not limited
        ):
            pause.after(error, attempts, 0.0)  # it counts, but it can go elsewhere at once
            return
        wait = pause.after(error, attempts, closed)
        if closed is None:  # else it waits at the gate, with the others
            await self._sleep(wait)

    def _having(self, model: str) -> list[Endpoint]:
        if len(self._endpoints) == 1:  # whatever model it is asked for, it may have it
            return list(self._endpoints)
        return [endpoint for endpoint in self._endpoints if model in endpoint.models]

    def _well(self, model: str) -> list[Endpoint]:
        return [one for one in self._having(model) if (model, one) not in self._left_out]

    def _doors_of(self, model: str) -> Doors:
        well = self._well(model)[:1] if self._batch else self._well(model)
        return tuple(endpoint.limits for endpoint in well)

    def _leave_out(self, endpoint: Endpoint, model: str, refusal: AccessRefused) -> None:
        if (model, endpoint) in self._left_out:
            return
        if len(self._well(model)) == 1:  # nobody else has it: there is nothing to go on with
            raise refusal
        self._left_out.add((model, endpoint))
        warnings.warn(
            f"endpoint {endpoint.provider} is left out for model {model!r}: {refusal}",
            EndpointLeftOut,
            stacklevel=2,
        )
