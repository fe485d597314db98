"""What a cache folder holds: entries and bytes by model and stage, what is damaged, what nobody has used for long.

An entry's time of last use is its file's time, precise to a day; copying a folder without its times makes all of it new.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from personalab.cache import hash_of, key_of
from personalab.errors import CacheError, ConfigError
from personalab.files import clear_parts
from personalab.records import Record, Reply

_AGE = re.compile(r"(\d{1,6})\s*([hdw])")
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_KEY = re.compile(r"[0-9a-f]{64}")
_RESULTS = ("*_run.json", "calendars/*.json", "tweets/*.json", "chats/*/*.json")
UNKNOWN = "?"
"""Model and stage of an entry that cannot be read."""


class Entry(Record):
    """One stored reply. `size` is in bytes, `used` in seconds since 1970; `problem` says what is wrong with it.

    `sealed` is False for an entry of a version that stored no hash of the reply: it cannot tell whether it was changed.
    """

    path: Path
    key: str
    model: str = UNKNOWN
    stage: str = UNKNOWN
    size: int
    used: float
    sealed: bool = False
    problem: str | None = None

    def __str__(self) -> str:
        return f"{self.path}: {self.problem or 'good'}"


class Share(Record):
    """The entries of one model and stage. `hits` counts stored replies that results on disk took without paying."""

    model: str
    stage: str
    entries: int
    size: int
    hits: int
    used: float


def entries(folder: Path) -> Iterator[Entry]:
    """Every entry of a folder by key, checked. One that is deleted meanwhile is left out.

    Raises:
        CacheError: there is no such folder.
    """
    if not folder.is_dir():
        raise CacheError(f"no cache in {folder}: nothing was asked yet, or it lies elsewhere")
    for path in sorted(_files(folder)):
        try:
            stat, content = path.stat(), path.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise CacheError(f"{path} cannot be read: {error.strerror or error}") from error
        yield _entry(path, content, stat.st_mtime)


def shares(found: Iterable[Entry], hits: Counter[str]) -> list[Share]:
    """One row per model and stage, by name."""
    rows: dict[tuple[str, str], Share] = {}
    for entry in found:
        name = (entry.model, entry.stage)
        row = rows.get(name) or Share(model=name[0], stage=name[1], entries=0, size=0, hits=0, used=0.0)
        rows[name] = Share(
            model=row.model,
            stage=row.stage,
            entries=row.entries + 1,
            size=row.size + entry.size,
            hits=row.hits + hits[entry.key],
            used=max(row.used, entry.used),
        )
    return [rows[name] for name in sorted(rows)]


def hits_in(outputs: Path) -> Counter[str]:
    """How often each key stands in the runs, calendars, tweets and chats of a folder as not paid for there.

    Nothing is counted when it happens: a result that was replaced or deleted takes its hits along.
    """
    hits: Counter[str] = Counter()
    for pattern in _RESULTS:
        for path in outputs.rglob(pattern):
            try:
                hits.update(_taken(json.loads(path.read_bytes())))
            except (OSError, ValueError):  # half a result says nothing of hits
                continue
    return hits


def prune(folder: Path, older: timedelta) -> tuple[int, int]:
    """Delete the entries last used before that time, damaged ones too; how many they were, and their bytes.

    Raises:
        CacheError: there is no such folder, or it cannot be written.
    """
    count, size, until = 0, 0, time.time() - older.total_seconds()
    if not folder.is_dir():
        raise CacheError(f"no cache in {folder}: nothing to prune")
    for path in _files(folder):
        try:
            stat = path.stat()
            if stat.st_mtime >= until:
                continue
            path.unlink()
        except FileNotFoundError:  # another process was faster
            continue
        except OSError as error:
            raise CacheError(f"{path} cannot be deleted: {error.strerror or error}") from error
        count, size = count + 1, size + stat.st_size
    for part in folder.glob("??"):
        clear_parts(part)
    return count, size


def parse_age(text: str) -> timedelta:
    """An age such as 12h, 30d or 8w.

    Raises:
        ConfigError: not of this form.
    """
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"an age is a number with h, d or w, such as 30d, not {text!r}")
    return int(match[1]) * _UNITS[match[2]]


def _files(folder: Path) -> Iterator[Path]:
    """The files named by a key. Any others are not the cache's: they are neither counted nor deleted."""
    return (path for path in folder.glob("??/*.json") if _KEY.fullmatch(path.stem))


def _entry(path: Path, content: bytes, used: float) -> Entry:
    about: dict[str, Any] = {"path": path, "key": path.stem, "size": len(content), "used": used}
    try:
        stored = json.loads(content)
        key, what, reply = stored["key"], stored["identity"], stored["reply"]
        about |= {
            "model": str(what["model"]),
            "stage": str(stored["stage"]),
            "sealed": "reply_sha256" in stored,
        }
        Reply.model_validate(reply)
    except ValueError as error:
        kind = "its reply" if isinstance(error, ValidationError) else "it"
        return Entry(**about, problem=f"{kind} cannot be read; it will be asked again")
    except (KeyError, TypeError):
        return Entry(**about, problem="it lacks a part; it will be asked again")
    return Entry(
        **about, problem=_mismatch(path, key, key_of(what), stored.get("reply_sha256"), hash_of(reply))
    )


def _mismatch(path: Path, key: object, request: str, seal: object, reply: str) -> str | None:
    if key != path.stem or path.parent.name != path.stem[:2]:
        return f"it is the entry of {str(key)[:12]}… under another name; delete it"
    if request != key:
        return "its request was changed after it was stored; delete it to ask again"
    if seal is not None and seal != reply:
        return "its reply was changed after it was stored; delete it to ask again"
    return None


def _taken(result: Any) -> Iterator[str]:
    """The keys of replies in a result, at whatever depth, that were not paid for there."""
    if isinstance(result, list):
        for item in result:
            yield from _taken(item)
    elif isinstance(result, dict):
        reply = result.get("reply")
        cached = reply.get("cached") if isinstance(reply, dict) else result.get("cached")
        if cached is True and isinstance(result.get("key"), str):
            yield result["key"]
        for item in result.values():
            yield from _taken(item)
