"""What is on disk of batches under way: which were ordered, with which lines, and replies that nobody took yet.

    cache/batches/{wave}.json         an ordered batch; gone when its replies are here
    cache/batches/replies/{line}.json one reply as it came; gone when it is in the cache

So whoever starts again, after whatever end, finds what was paid for.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from personalab.errors import OutputError
from personalab.files import clear_parts, write_whole
from personalab.records import JsonObject, Record

_KEPT_SECONDS = 30 * 24 * 3600.0


class Wave(Record):
    """Requests that go together. `file` is theirs at the provider, `batch` None until it said that it made one.

    `ordered` is when it was asked to, in seconds since 1970; `lines` are the names of the requests.
    """

    id: str
    endpoint: str
    url: str
    model: str
    file: str
    ordered: float
    batch: str | None = None
    lines: tuple[str, ...]


class WaveFiles:
    """The waves of a cache folder, and their replies. Safe to use from any thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Replaced as a whole and never changed, so that threads need no lock, which a fork could copy while it is held.
        self._known: dict[str, tuple[str, frozenset[str]]] = {}

    def save(self, wave: Wave) -> None:
        """Write down a wave; it is on disk when this returns.

        Raises:
            OutputError: the folder cannot be written.
        """
        write_whole(self.path(wave.id), wave.model_dump_json().encode())

    def load(self, wave: str) -> Wave | None:
        """A wave by its id; None if it is over.

        Raises:
            OutputError: its file cannot be read, so nobody knows what was ordered with it.
        """
        path = self.path(wave)
        try:
            return Wave.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise OutputError(
                f"{path} cannot be read: it says which batch was ordered; restore it, or delete it to order again what it held"
            ) from error

    def end(self, wave: str) -> None:
        """A wave is over: what it brought is here."""
        self.path(wave).unlink(missing_ok=True)

    def having(self, line: str, endpoint: str) -> str | None:
        """The wave that a line is in, at an endpoint; None if it is in none that is under way."""
        there = {path.stem for path in self.folder.glob("*.json")}
        waves = {name: wave for name, wave in self._known.items() if name in there}
        for name in there - waves.keys():
            if wave := self.load(name):
                waves[name] = wave.endpoint, frozenset(wave.lines)
        self._known = waves
        for name, (where, lines) in waves.items():
            if where == endpoint and line in lines:
                return name
        return None

    def keep(self, line: str, reply: str) -> None:
        """Write down a reply that was paid for, as JSON.

        Raises:
            OutputError: the folder cannot be written.
        """
        write_whole(self._reply(line), reply.encode(), durable=False)

    def reply(self, line: str) -> JsonObject | None:
        """A reply that nobody took yet."""
        try:
            reply = json.loads(self._reply(line).read_bytes())
        except (OSError, ValueError):
            return None
        return reply if isinstance(reply, dict) else None

    def take(self, line: str) -> None:
        """A reply is in the cache, or nobody has a use for it."""
        self._reply(line).unlink(missing_ok=True)

    def clear(self) -> None:
        """Let go of half-written files, and of what nobody asked for in a month, which is as long as providers keep it."""
        clear_parts(self.folder)
        clear_parts(self.folder / "replies")
        for path in (*self.folder.glob("*.json"), *self.folder.glob("replies/*.json")):
            with suppress(OSError):  # another process was faster
                if path.stat().st_mtime < time.time() - _KEPT_SECONDS:
                    path.unlink()

    def path(self, wave: str) -> Path:
        """Where a wave is written down."""
        return self.folder / f"{wave}.json"

    def _reply(self, line: str) -> Path:
        return self.folder / "replies" / f"{line}.json"
