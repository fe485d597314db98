"""An endpoint: one address with its key, its limits, and the wording it takes.

Knows nothing of caches, stages or what a good answer is.
"""

from __future__ import annotations

import tempfile
import threading
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from personalab import config
from personalab.batch_routes import BatchRoutes
from personalab.board import Board, NotShared, can_share, folder_of
from personalab.clients import load_client
from personalab.cluster_places import ClusterPlaces, cluster_places
from personalab.config import OFFLINE_MODEL, OPENAI_URL, Address, BatchSettings
from personalab.dialect import Dialect, is_about_pictures
from personalab.dry import PlannedCall, dry_folder, note_call
from personalab.errors import ConfigError, ImagesUnsupported, RequestRefused
from personalab.estimates import Estimate
from personalab.limits import Known, Limits, NoLimits
from personalab.pace import Pace
from personalab.prices import FREE, Price, price_of
from personalab.records import JsonObject, Request
from personalab.tally import Tally
from personalab.transport import OpenAITransport, Transport, WireReply
from personalab.waves import Waves, line_of

Span = tuple[float, float]
"""Begin and end of an attempt, in seconds since 1970."""


@dataclass(slots=True)
class Journey:
    """What one question has been through: the spans of its attempts, and the lines of batches that answered it.

    `key` is its key in the cache.
    """

    key: str
    spans: list[Span] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


class NotApplied(UserWarning):
    """A model does not take a sampling parameter that was asked for."""


GateScope = Literal["machine", "process"]
"""Whose requests a limit counts: those of all processes of this machine (in a trial on a cluster, of all its machines),
or of this process."""


class Endpoint:
    """Where requests go: the address and key of the settings, or the embedded provider if they have neither.

    With `batch` they go through its batch endpoint, and `folder` is where that is written down.

    Raises:
        ConfigError: an address without a model, or a model that is not the embedded provider's without an address.
    """

    def __init__(
        self,
        settings: Address,
        tally: Tally,
        *,
        gate: GateScope = "machine",
        timeout_seconds: float = config.TIMEOUT_SECONDS,
        prices: Mapping[str, Price] | None = None,
        transport: Transport | None = None,
        batch: BatchSettings | None = None,
        folder: Path | None = None,
    ) -> None:
        self.offline = settings.offline and transport is None
        self.model = _model(settings, self.offline)
        self.models = {self.model, *settings.models}
        self.provider = OFFLINE_MODEL if self.offline else _provider(settings, transport)
        self._settings = settings
        self._tally = tally
        self._timeout_seconds = timeout_seconds
        self._prices = dict(prices or {})
        self._transport = transport
        self._batch, self._folder = batch, folder
        self._dry = dry_folder() is not None
        self._waves: Waves | None = None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self.limits = self._new_limits(gate)
        self._estimate = Estimate()
        self._dialects: dict[str, Dialect] = {}
        self._lock = threading.Lock()
        if transport is None:
            load_client()

    def tokens(self, request: Request) -> int:
        """Tokens that a request may take, where that matters here; else 0."""
        return self._estimate.tokens(request) if self.limits.counts_tokens else 0

    def price(self, model: str | None = None) -> Price | None:
        """What a model costs here: as given, else as `genai-prices` has it, else None. The embedded provider is free."""
        model = model or self.model
        if model in self._prices:
            return self._prices[model].batched() if self._batch else self._prices[model]
        return FREE if self.offline else price_of(model, self.provider, batch=self._batch is not None)

    async def attempt(self, request: Request, model: str, dialect: Dialect, journey: Journey) -> WireReply:
        """The reply to a request as it is worded for the model; its span is added, however it ends.

        Raises:
            ProviderError: of the kind that says what happened.
        """
        self._tally.add(sent=1)
        began, started = time.time(), time.perf_counter()
        try:
            carry = self._in_batch if self._batch and not self._dry else self._at_once
            wire = await carry(request, model, dialect, journey)
        finally:
            journey.spans.append((round(began, 4), round(began + time.perf_counter() - started, 4)))
        if self._dry:
            self._note(request, model, wire)
        self._estimate.learn(wire.usage)
        self._tally.paid(wire.usage, self.price(model))
        return wire

    async def _at_once(self, request: Request, model: str, dialect: Dialect, journey: Journey) -> WireReply:
        headers = {"x-personalab-replicate": str(request.replicate)} if request.replicate else {}
        return await self._connected().send(dialect.body(request, model), headers)

    async def _in_batch(self, request: Request, model: str, dialect: Dialect, journey: Journey) -> WireReply:
        def body() -> JsonObject:
            return dialect.body(request, model)

        line = line_of(body(), journey.key, request.replicate, journey.lines)
        wire = await self._through_batches().send(line, body)
        journey.lines.append(line.id)
        return wire

    def _note(self, request: Request, model: str, wire: WireReply) -> None:
        price = self.price(model)
        cost = price.cost(wire.usage) if price else None
        note_call(PlannedCall(stage=request.stage, model=model, usage=wire.usage, cost=cost))

    def settled(self, journey: Journey) -> None:
        """A question is at its end: what batches brought for it is in the cache, or of no use."""
        if self._waves is not None:
            self._waves.settled(journey.lines)

    @property
    def waves(self) -> str:
        """How far its batches are, in a few words."""
        return self._waves.now if self._waves is not None else ""

    async def list_models(self) -> tuple[str, ...]:
        """Names of the models that it says it has.

        Raises:
            ProviderError: of the kind that says what happened; many endpoints have no such list.
        """
        return await self._connected().models()

    def dialect(self, model: str) -> Dialect:
        """What is known of the wording a model takes here."""
        return self._dialects.get(model, Dialect())

    def reworded(self, dialect: Dialect, refusal: RequestRefused, request: Request) -> Dialect:
        """What to try after a refusal.

        Raises:
            RequestRefused: the refusal, if it is not about wording.
        """
        if is_about_pictures(refusal, request):
            blind = ImagesUnsupported(
                f"model {refusal.model!r} takes no images ({refusal.endpoint}: {refusal.said}); use a model with vision for "
                f"stage {request.stage}, or start from a text (--description)",
                endpoint=refusal.endpoint,
                model=refusal.model,
                status=refusal.status,
            )
            blind.said = refusal.said
            raise blind from None
        lesson = dialect.learn(refusal, request)
        if lesson is None:
            raise refusal
        return lesson

    def learn(self, model: str, lesson: Dialect) -> None:
        """Keep a lesson for the requests to come."""
        with self._lock:
            before = self.dialect(model)
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
        key = None if self._dry else self._settings.api_key
        return OpenAITransport(self._url(), key, self._timeout_seconds)

    def _through_batches(self) -> Waves:
        with self._lock:
            if self._waves is None:
                assert self._batch is not None
                routes = BatchRoutes(self._url(), self._settings.api_key)
                self._waves = Waves(routes, self._waves_folder(), self._batch)
            return self._waves

    def _waves_folder(self) -> Path:
        if self._folder is not None and not self.offline:
            return self._folder
        # The embedded provider's batches end with this process, so nothing of them is to outlive it.
        self._temporary = tempfile.TemporaryDirectory(prefix="personalab-", ignore_cleanup_errors=True)
        return Path(self._temporary.name)

    def _url(self) -> str:
        if not self.offline and not self._dry:
            return self._settings.api_base or OPENAI_URL
        from personalab.offline.embedded import embedded_url

        return embedded_url()

    def _new_limits(self, gate: GateScope) -> Limits:
        if self._batch or self._dry:
            return NoLimits(self._settings.max_concurrent)
        pace = Pace(self._settings.requests_per_minute, self._settings.tokens_per_minute)
        return Limits(
            self._settings.max_concurrent, self._board(gate), pace, cluster=self._cluster_places(gate)
        )

    @property
    def _secret(self) -> str:
        return self._settings.api_key.get_secret_value() if self._settings.api_key else ""

    def _cluster_places(self, gate: GateScope) -> ClusterPlaces | None:
        if gate == "process" or self.offline:
            return None
        return cluster_places(self.provider, self._secret, self._settings.max_concurrent)

    def _board(self, gate: GateScope) -> Board[Known] | None:
        if gate == "process" or self.offline:  # each process has an embedded provider of its own
            return None
        why = "this system has no file locks of the kind needed"
        if can_share():
            try:
                return Board(Known, folder_of(self.provider, self._secret))
            except (OSError, RuntimeError) as error:  # RuntimeError: a user without a home folder
                why = str(error)
        warnings.warn(f"limits hold for this process only: {why}", NotShared, stacklevel=6)
        return None


def _model(settings: Address, offline: bool) -> str:
    if offline:
        model = settings.model or OFFLINE_MODEL
        must_be_offline(model)
        return model
    if settings.model is None:
        raise ConfigError(
            "which model? a key or an address is set, but no model: set PERSONALAB_MODEL or give model=… (personalab check names "
            "those that are there)"
        )
    return settings.model


def must_be_offline(model: str) -> None:
    """Raises ConfigError for a model that the embedded provider is not."""
    if not model.startswith(OFFLINE_MODEL):
        raise ConfigError(
            f"model {model!r} needs an endpoint: set OPENAI_API_KEY, or OPENAI_BASE_URL for a server of your own "
            f"(without them the embedded provider answers, as {OFFLINE_MODEL!r})"
        )


def _provider(settings: Address, transport: Transport | None) -> str:
    return (transport.endpoint if transport else settings.api_base or OPENAI_URL).rstrip("/")
