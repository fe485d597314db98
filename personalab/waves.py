"""Waves: requests gather until no more come, go to the provider as one batch, and each is told its reply when that is over.

A persona's stages follow one another, so a run goes in as many waves as its longest chain has stages. Whoever waits here is
an ordinary request on its ordinary way; nothing above knows of batches. Every step that costs is written down before and
after it (`wave_files`), so a batch is never made twice: docs/decisions/0022-batch-requests.md.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
import uuid
import warnings
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from personalab.batch_routes import BatchRoutes, BatchState, Url, answer_in, lines_in
from personalab.claims import claims_in
from personalab.config import BATCH_POLL_GROWTH, BatchSettings
from personalab.errors import BatchRefused, ProviderError, ProviderUnreachable
from personalab.files import scratch_file
from personalab.line_files import LineFile
from personalab.records import JsonObject
from personalab.transport import WireReply, read_answer, without
from personalab.wave_files import Wave, WaveFiles

_LOG = logging.getLogger(__name__)
_TICKS = 4
"""In which nothing may come until a wave is sent: turns of the loop, so that a busy one does not pass for a quiet one."""
_LOOK_AGAIN_SECONDS = 2.0
_STEM = 40
_NOT_TOLD = (408, 409)
"""With these, and with 500 and more, a provider does not say that it made no batch."""


class BatchGoesOn(UserWarning):
    """Nobody here waits for a batch any more. The provider works on, and the same work started again waits for it."""


@dataclass(frozen=True, slots=True)
class Line:
    """A request as it stands in a file; `id` tells it from all others."""

    id: str
    url: Url
    model: str

    def content(self, body: JsonObject) -> bytes:
        """The line itself."""
        return orjson.dumps({"custom_id": self.id, "method": "POST", "url": self.url, "body": body}) + b"\n"


def line_of(body: JsonObject, key: str, replicate: int, before: Iterable[str]) -> Line:
    """The line of a request with that body and cache key.

    The same question may be put again in the same words, where its answer was of no use; `before` are the lines that were
    answered so far, so that each has a name of its own, and the same one after a restart.
    """
    url: Url = "/v1/embeddings" if "input" in body else "/v1/chat/completions"
    stem = hashlib.sha256(f"{key}\0{url}\0".encode() + orjson.dumps(body)).hexdigest()[:_STEM]
    again = sum(line.startswith(stem) for line in before)
    # The replicate stands at the end for the embedded provider, which tells replicates apart by it.
    return Line(f"{stem}-{again}-{replicate}", url, str(body.get("model")))


class Waves:
    """The batches of one endpoint. Works from any event loop; each gathers for itself."""

    def __init__(self, routes: BatchRoutes, folder: Path, settings: BatchSettings) -> None:
        self._routes = routes
        self._files = WaveFiles(folder)
        self._settings = settings
        self._files.clear()
        self._desks: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Desk] = weakref.WeakKeyDictionary()

    async def send(self, line: Line, body: Callable[[], JsonObject]) -> WireReply:
        """The reply to a line: that of a batch under way, one that is here already, or of a batch that is made with it.

        `body` is made when it is needed, as it holds a picture, and who waits here waits for hours.

        Raises:
            BatchRefused: the endpoint takes no batches, or not this one.
            ProviderError: of the kind that says what happened to the batch, or to the line.
        """
        desk = self._desks.setdefault(asyncio.get_running_loop(), _Desk())
        while True:
            # First the waves: of one under way only a part may be here, left by who was killed while it came down.
            under_way = await asyncio.to_thread(self._files.having, line.id, self._routes.endpoint)
            if under_way is not None:
                found = await self._watch(desk, under_way).answer(line.id)
            elif (found := await asyncio.to_thread(self._files.reply, line.id)) is None:
                found = await self._gathered(desk, line, line.content(body())).answer(line.id)
            if found is not None:
                return self._read(line, found)

    def settled(self, lines: Iterable[str]) -> None:
        """What came of these lines is in the cache, or of no use."""
        for line in lines:
            self._files.take(line)

    @property
    def now(self) -> str:
        """How far they are, in a few words; empty when there are none."""
        waves = [wave for desk in list(self._desks.values()) for wave in list(desk.under_way.values())]
        told = [str(wave) for wave in waves if wave.state]
        gathering = sum(len(wave.waiting) for wave in waves if wave.state is None)
        return " · ".join([*told, *([f"{gathering} requests for the next batch"] if gathering else [])])

    def _watch(self, desk: _Desk, wave: str) -> _Wave:
        there = desk.under_way.get(wave)
        if there is None or there.ended:
            there = desk.add(_Wave(self._routes, self._files, self._settings, wave))
        return there

    def _gathered(self, desk: _Desk, line: Line, content: bytes) -> _Wave:
        """The wave that a line goes with, put into it."""
        kind = line.url, line.model  # a file is for one of each
        wave = desk.gathering.get(kind)
        if wave is None or wave.ended or not wave.takes(content):
            wave = desk.gathering[kind] = desk.add(_Wave(self._routes, self._files, self._settings))
        wave.add(line, content)
        return wave

    def _read(self, line: Line, found: JsonObject) -> WireReply:
        routes = self._routes
        answer = answer_in(found)
        if answer is not None:
            embedding = line.url == "/v1/embeddings"
            try:
                return read_answer(answer, routes.endpoint, line.model, routes.key, embedding=embedding)
            except ProviderError:
                self._files.take(line.id)  # it would be of no use the next time either
                raise
        problem = found.get("error") or {}
        said = problem.get("message") or problem.get("code") or "it came back without an answer"
        # What was not asked costs nothing: the status says so.
        raise ProviderUnreachable(
            f"{routes.endpoint}: a request of a batch was not asked: {said}",
            endpoint=routes.endpoint,
            model=line.model,
            status=408,
        )


@dataclass(slots=True)
class _Desk:
    """The waves of one event loop."""

    gathering: dict[tuple[Url, str], _Wave] = field(default_factory=dict)
    under_way: dict[str, _Wave] = field(default_factory=dict)

    def add(self, wave: _Wave) -> _Wave:
        """One more, until it is over: then nothing here holds it, nor the loop that it ran in."""
        self.under_way[wave.id] = wave
        wave.task.add_done_callback(lambda task: self._forget(wave))
        return wave

    def _forget(self, wave: _Wave) -> None:
        if self.under_way.get(wave.id) is wave:
            del self.under_way[wave.id]
        self.gathering = {kind: other for kind, other in self.gathering.items() if other is not wave}


class _Wave:
    """A wave as one event loop sees it: who waits for which line, and the task that sees it through."""

    def __init__(
        self, routes: BatchRoutes, files: WaveFiles, settings: BatchSettings, under_way: str | None = None
    ) -> None:
        self.id = under_way or uuid.uuid4().hex
        self.waiting: dict[str, asyncio.Future[JsonObject | None]] = {}
        self.state: BatchState | None = None
        self.ended = False
        self._routes, self._files, self._settings = routes, files, settings
        self._gathering = LineFile(files.folder) if under_way is None else None
        self._kind: Line | None = None
        self._came = 0
        self._full = asyncio.Event()
        self._since = time.time()
        self.task = asyncio.create_task(self._see_through())

    def __str__(self) -> str:
        assert self.state is not None
        since = time.strftime("%H:%M", time.localtime(self._since))
        return f"batch {self.state.id} {self.state.status}: {self.state.completed} of {self.state.total}, waiting since {since}"

    def takes(self, content: bytes) -> bool:
        """Whether it still gathers and has room for a line. One for which it has none has it sent."""
        if (lines := self._gathering) is None or self._full.is_set():
            return False
        most = self._settings
        if lines and (len(lines) >= most.requests_max or lines.size + len(content) > most.bytes_max):
            self._full.set()
        return not self._full.is_set()

    def add(self, line: Line, content: bytes) -> None:
        """One line more, for which it has room."""
        assert self._gathering is not None
        self._gathering.add(line.id, content)
        self._kind = line
        self._came += 1

    async def answer(self, name: str) -> JsonObject | None:
        """The provider's line of that name; None if it is not in this wave after all.

        Raises:
            ProviderError: the wave failed as a whole.
        """
        future = self.waiting[name] = asyncio.get_running_loop().create_future()
        try:
            answer: JsonObject | None = await future
            return answer
        finally:
            self._left(name)

    def _left(self, name: str) -> None:
        """Somebody waits no longer. Without anybody nothing more is sent and nothing more is asked."""
        del self.waiting[name]
        if self._gathering is not None:
            self._gathering.leave_out(name)
        if not self.waiting and not self.ended:
            self.ended = True
            self.task.cancel()

    async def _see_through(self) -> None:
        try:
            if self._gathering is not None:
                await self._quiet()
                await self._order()
            answers = await self._answers()
        except asyncio.CancelledError:
            self._tell_that_it_goes_on()
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait have to hear it
            self._over({}, error)
        else:
            self._over(answers)
        finally:
            if self._gathering is not None:
                self._gathering.remove()

    def _over(self, answers: dict[str, JsonObject], error: Exception | None = None) -> None:
        self.ended = True
        for name, future in self.waiting.items():
            if future.done():
                continue
            if name in answers or error is None:
                future.set_result(answers.get(name))
            else:
                future.set_exception(_another(error))

    async def _quiet(self) -> None:
        """Until nothing has come for a while, or nothing more has room."""
        quiet = 0
        while quiet < _TICKS:
            came = self._came
            try:
                await asyncio.wait_for(self._full.wait(), self._settings.quiet_seconds / _TICKS)
            except TimeoutError:
                quiet = quiet + 1 if self._came == came else 0
            else:
                return

    async def _order(self) -> None:
        """Send the lines up and have a batch made; what that takes is on disk before it is asked for."""
        assert self._gathering is not None
        assert self._kind is not None
        url, model = self._kind.url, self._kind.model
        lines, self._gathering = self._gathering, None
        try:
            await asyncio.to_thread(lines.close)
            file = await self._routes.upload(lines.path, model)
        finally:
            lines.remove()
        wave = Wave(
            id=self.id,
            endpoint=self._routes.endpoint,
            url=url,
            model=model,
            file=file,
            ordered=time.time(),
            lines=lines.names,
        )
        async with self._alone():
            await asyncio.to_thread(self._files.save, wave)
            try:
                self.state = await self._routes.make(file, url, self.id, model)
            except ProviderError as error:
                if error.status is not None and error.status < 500 and error.status not in _NOT_TOLD:
                    await asyncio.to_thread(self._files.end, self.id)  # it was surely not made
                raise
            await asyncio.to_thread(self._files.save, wave.model_copy(update={"batch": self.state.id}))
        _LOG.info("batch %s at %s: %d requests", self.state.id, self._routes.endpoint, len(wave.lines))

    async def _answers(self) -> dict[str, JsonObject]:
        """The lines of the provider's for who waits here, once the batch is over."""
        async with self._alone():
            wave = await asyncio.to_thread(self._files.load, self.id)
            if wave is not None and wave.batch is None:
                wave = await self._confirmed(wave)
        if wave is None:  # over: what came of it is on disk, and was looked for there just now
            return {}
        self._since = wave.ordered
        self.state = await self._ended(wave)
        return await self._fetched(wave, self.state)

    async def _confirmed(self, wave: Wave) -> Wave | None:
        """A wave that was ordered, with its batch; None, and its lines are free, if none was made."""
        while True:
            found = await self._routes.find(wave.file, wave.id, wave.ordered, wave.model)
            if found is not None:
                self.state = found
                confirmed = wave.model_copy(update={"batch": found.id})
                await asyncio.to_thread(self._files.save, confirmed)
                return confirmed
            # What a process ordered in its last moment may be made a moment later.
            if time.time() >= wave.ordered + self._settings.settle_seconds:
                await asyncio.to_thread(self._files.end, wave.id)
                return None
            await asyncio.sleep(min(_LOOK_AGAIN_SECONDS, self._settings.settle_seconds / _TICKS))

    async def _ended(self, wave: Wave) -> BatchState:
        """The batch when it is over. Looked at less and less often; a provider that does not answer may do so again."""
        assert wave.batch is not None
        most = self._settings
        pause, answered = most.poll_first_seconds, time.monotonic()
        while True:
            try:
                self.state = await self._routes.look(wave.batch, wave.model)
            except BatchRefused as refused:
                raise BatchRefused(
                    f"{self._routes.endpoint}: batch {wave.batch} is not known ({refused.status}): was it made with another "
                    f"key? With that key it is found again; to send its requests anew delete {self._files.path(wave.id)}",
                    endpoint=refused.endpoint,
                    model=refused.model,
                    status=refused.status,
                ) from None
            except ProviderError as error:
                if not error.passing or time.monotonic() - answered > most.unreachable_seconds:
                    raise
            else:
                answered = time.monotonic()
                if self.state.over:
                    _LOG.info("%s", self)
                    return self.state
            await asyncio.sleep(pause)
            pause = min(most.poll_max_seconds, BATCH_POLL_GROWTH * pause)

    async def _fetched(self, wave: Wave, state: BatchState) -> dict[str, JsonObject]:
        """Keep what the batch brought, and give those lines that somebody waits for here."""
        async with self._alone():
            if await asyncio.to_thread(self._files.load, wave.id) is None:  # another process was faster
                return {}
            waiting = set(self.waiting)
            answers: dict[str, JsonObject] = {name: {} for name in waiting}
            for file in state.files:
                path = scratch_file(self._files.folder)
                try:
                    await self._routes.download(file, path, wave.model)
                    answers |= await asyncio.to_thread(self._kept, path, set(wave.lines), waiting)
                finally:
                    path.unlink(missing_ok=True)
            await asyncio.to_thread(self._files.end, wave.id)
        if state.status in ("failed", "cancelled"):
            came = {name: answer for name, answer in answers.items() if answer}
            self._over(came, self._routes.failure(state))
        return answers

    def _kept(self, path: Path, lines: set[str], waiting: set[str]) -> dict[str, JsonObject]:
        """Write the replies of a file to disk; give what somebody waits for, errors too."""
        wanted: dict[str, JsonObject] = {}
        for line in lines_in(path):
            name = line["custom_id"]
            if name not in lines:
                continue
            answer = answer_in(line)
            if answer is not None and answer.status < 400:
                self._files.keep(name, without(self._routes.key, orjson.dumps(line).decode()))
            if name in waiting:
                wanted[name] = line
        return wanted

    def _alone(self) -> Any:
        """The right to go on with the wave, among all processes; the system frees it when its holder dies."""
        return claims_in(self._files.folder).claim(self.id, lambda: None)

    def _tell_that_it_goes_on(self) -> None:
        if self.state is not None and not self.state.over:
            warnings.warn(
                f"batch {self.state.id} at {self._routes.endpoint} goes on; the same command or cell waits for it again",
                BatchGoesOn,
                stacklevel=2,
            )


def _another(error: Exception) -> Exception:
    """The same error for one more of those who wait: each adds to its own where it was raised."""
    if isinstance(error, ProviderError):
        return type(error)(
            str(error),
            endpoint=error.endpoint,
            model=error.model,
            status=error.status,
            retry_after=error.retry_after,
        )
    return error
