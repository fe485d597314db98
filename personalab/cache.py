"""Replies on disk, under the hash of everything that can change the answer and nothing else.

One readable JSON file a reply, `ab/abcd….json`. A folder may be copied, shared or deleted at any time. Only replies
that could be used are ever put here.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import ValidationError

from personalab.files import write_whole
from personalab.records import JsonObject, Record, Reply, Request

CACHE_VERSION = 1
_USE_SECONDS = 24 * 3600.0
"""How precisely the time of an entry's last use is kept: a hit writes it at most once in this time."""
CacheMode = Literal["use", "refresh", "replay", "off"]
"""`use` reads and writes, `refresh` asks again and writes, `replay` reads and never sends, `off` does neither."""


def identity(request: Request, model: str, provider: str) -> JsonObject:
    """What decides the answer, readable: whose model, the messages with pictures by content, sampling, schema, replicate."""
    kind = {} if request.kind == "chat" else {"kind": request.kind}
    return kind | {
        "version": CACHE_VERSION,
        "provider": provider,
        "model": model,
        "messages": [
            _message(message.role, message.text, [p.sha256 for p in message.pictures])
            for message in request.messages
        ],
        "sampling": request.sampling.model_dump(exclude_none=True),
        "schema": request.answer.body if request.answer else None,
        "replicate": request.replicate,
    }


def key_of(what: JsonObject) -> str:
    """sha256 of the canonical JSON of an identity."""
    return hash_of(what)


def hash_of(value: JsonObject) -> str:
    """sha256 of the canonical JSON of an object."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class Difference(Record):
    """One part of the key that differs from the nearest stored call."""

    part: str
    stored: str
    asked: str


class Why(Record):
    """Whether a request is in the cache, and if not, what differs from the nearest stored call of its stage."""

    key: str
    cached: bool
    nearest: str | None = None
    mode: CacheMode = "use"
    differences: tuple[Difference, ...] = ()

    def __str__(self) -> str:
        if self.cached:
            return f"in the cache as {self.key[:12]}: it will not be sent"
        if self.mode != "use":
            return f"the cache is not read (mode {self.mode!r}): it will be sent"
        if self.nearest is None:
            return "not in the cache, and no call of this stage is: it will be sent"
        lines = [f"not in the cache: it will be sent. Nearest stored call {self.nearest[:12]} differs in"]
        return "\n".join(lines + [_told(difference) for difference in self.differences])


def differences(stored: JsonObject, asked: JsonObject) -> tuple[Difference, ...]:
    """The parts in which two identities differ."""
    return _differences(_parts(stored), _parts(asked))


class Cache:
    """A folder of replies. Those `below` it are read as well, and nothing there is changed, not even when one was last used."""

    def __init__(self, folder: Path, mode: CacheMode = "use", below: Path | None = None) -> None:
        self.folder = folder
        self.mode = mode
        self._below = below

    @property
    def reads(self) -> bool:
        """Whether stored replies are taken."""
        return self.mode in ("use", "replay")

    @property
    def writes(self) -> bool:
        """Whether replies are stored."""
        return self.mode in ("use", "refresh")

    def path(self, key: str) -> Path:
        """Where the reply of a key lies, or would."""
        return self.folder / key[:2] / f"{key}.json"

    def get(self, key: str) -> Reply | None:
        """The stored reply, marked as cached; None if there is none. A damaged entry counts as none: it is asked again."""
        if not self.reads:
            return None
        path = self.path(key)
        reply = _reply(_read(path), key)
        if reply:
            _note_use(path)
        elif self._below is not None:
            reply = _reply(_read(self._below / key[:2] / path.name), key)
        return reply

    def put(self, key: str, what: JsonObject, stage: str, reply: Reply) -> None:
        """Store a reply."""
        if not self.writes:
            return
        stored = reply.model_dump(mode="json")
        entry = {
            "key": key,
            "stage": stage,
            "identity": what,
            "reply": stored,
            "reply_sha256": hash_of(stored),
        }
        # Not flushed: a slot is held meanwhile, and an entry that a power cut damages counts as none and is asked again.
        write_whole(self.path(key), json.dumps(entry, ensure_ascii=False, indent=1).encode(), durable=False)

    def why(self, what: JsonObject, stage: str) -> Why:
        """What tells a request from the nearest stored call of its stage. Reads the whole folder."""
        key = key_of(what)
        if not self.reads:
            return Why(key=key, cached=False, mode=self.mode)
        if any(_reply(_read(folder / key[:2] / f"{key}.json"), key) for folder in self._folders):
            return Why(key=key, cached=True)
        parts = _parts(what)
        nearest = min(
            (entry for entry in self._entries() if entry.get("stage") == stage),
            key=lambda entry: _distance(parts, _parts(entry["identity"])),
            default=None,
        )
        if nearest is None:
            return Why(key=key, cached=False)
        return Why(
            key=key,
            cached=False,
            nearest=nearest["key"],
            differences=_differences(_parts(nearest["identity"]), parts),
        )

    @property
    def _folders(self) -> tuple[Path, ...]:
        return (self.folder,) if self._below is None else (self.folder, self._below)

    def _entries(self) -> Iterator[JsonObject]:
        for path in sorted(path for folder in self._folders for path in folder.glob("??/*.json")):
            entry = _read(path)
            if entry and {"key", "identity", "stage"} <= entry.keys():
                yield entry


def _message(role: str, text: str, pictures: list[str]) -> JsonObject:
    return {"role": role, "text": text, **({"pictures": pictures} if pictures else {})}


def _note_use(path: Path) -> None:
    """Keep, as the file's time, the day an entry was last used."""
    with suppress(OSError):  # a folder that cannot be written cannot be pruned either
        if time.time() - path.stat().st_mtime > _USE_SECONDS:
            os.utime(path)


def _read(path: Path) -> JsonObject | None:
    try:
        entry = orjson.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return entry if isinstance(entry, dict) else None


def _reply(entry: JsonObject | None, key: str) -> Reply | None:
    if entry is None or entry.get("key") != key:
        return None
    try:
        return Reply.model_validate({**entry["reply"], "cached": True})
    except (KeyError, TypeError, ValidationError):
        return None


def _parts(what: JsonObject) -> dict[str, Any]:
    parts = {name: what.get(name) for name in ("provider", "model", "schema", "replicate", "version")}
    parts |= {f"sampling.{name}": value for name, value in what.get("sampling", {}).items()}
    for message in what.get("messages", []):
        parts[f"messages.{message['role']}"] = message["text"]
        if "pictures" in message:
            parts[f"messages.{message['role']}.pictures"] = message["pictures"]
    return parts


def _distance(asked: dict[str, Any], stored: dict[str, Any]) -> tuple[int, float]:
    names = [name for name in asked.keys() | stored.keys() if asked.get(name) != stored.get(name)]
    unlike = 0.0
    for name in names:
        one, other = asked.get(name), stored.get(name)
        if isinstance(one, str) and isinstance(other, str):
            unlike += 1 - difflib.SequenceMatcher(None, one, other).quick_ratio()
    return len(names), unlike


def _differences(stored: dict[str, Any], asked: dict[str, Any]) -> tuple[Difference, ...]:
    return tuple(
        Difference(part=name, stored=_shown(stored.get(name)), asked=_shown(asked.get(name)))
        for name in sorted(asked.keys() | stored.keys())
        if asked.get(name) != stored.get(name)
    )


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _told(difference: Difference) -> str:
    if "\n" not in difference.stored + difference.asked:
        return f"  {difference.part}: stored {difference.stored}, asked {difference.asked}"
    lines = difflib.unified_diff(
        difference.stored.splitlines(), difference.asked.splitlines(), "stored", "asked", lineterm="", n=0
    )
    return f"  {difference.part}:\n" + "\n".join(f"    {line}" for line in lines)
