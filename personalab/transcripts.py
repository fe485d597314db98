"""Transcripts: a chat as it is kept in a file, with where each reply comes from.

A transcript is written again after each turn, under the name it got at first. A file that somebody else has gone on with in
the meantime is left alone, and the chat goes on under another name, so nothing that was said is lost.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from pydantic import ValidationError

from personalab.errors import OutputError
from personalab.files import write_new, write_whole
from personalab.lorebooks import Verdict
from personalab.names import slug
from personalab.records import AS_WRITTEN, Record, Reply, SamplingParams, Usage, explain

NOTICE = "AI-made fiction: this person does not exist."
TRANSCRIPT_VERSION = 1
_LOCK_SECONDS = 60.0


class Turn(Record):
    """What was said and what was answered. `text` is the answer as it is shown and sent again, `reply` as it came.

    `key` is the request's cache key; with the card, the request can be built again. `lore` are the entries that matched, those
    that the budget left out included. `forgotten` counts the messages for which there was no room any more.
    """

    said: str
    text: str
    reply: Reply
    key: str
    replicate: int = 0
    lore: tuple[Verdict, ...] = ()
    forgotten: int = 0

    @property
    def paid(self) -> Usage:
        """Tokens paid for it: none if it came from the cache."""
        return Usage() if self.reply.cached else self.reply.usage

    @property
    def speaking(self) -> tuple[str, ...]:
        """The names of the lorebook entries that spoke."""
        return tuple(each.name or f"entry {each.number}" for each in self.lore if each.speaks)

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        lore = _dim(f"lore: {', '.join(self.speaking)}") if self.speaking else ""
        return _boxed(_line("", self.said, dim=True) + _line("", self.text) + lore)


class Transcript(Record):
    """A chat as it was so far. `model` is who answers now; each reply says who gave it. `set_aside` holds turns that were taken back or answered again: they were paid, too.

    `greeting` is the number of the greeting, `opening` its text. `card_sha256` is of the card's V3 document, `card` the
    name of its file, `main_prompt` what a card's own system prompt may replace, `context_tokens` what a prompt may take.
    """

    version: int = TRANSCRIPT_VERSION
    notice: str = NOTICE
    persona: str
    user: str
    card: str = ""
    card_sha256: str
    model: str
    sampling: SamplingParams = SamplingParams()
    main_prompt: str
    context_tokens: int | None = None
    greeting: int = 0
    opening: str = ""
    begun: str = ""
    turns: tuple[Turn, ...] = ()
    set_aside: tuple[Turn, ...] = ()

    @property
    def paid(self) -> Usage:
        """Tokens paid in the whole chat."""
        return sum((turn.paid for turn in (*self.turns, *self.set_aside)), Usage())

    def lines(self) -> Iterator[tuple[Literal["user", "assistant"], str]]:
        """Who said what, in order."""
        if self.opening:
            yield "assistant", self.opening
        for turn in self.turns:
            yield "user", turn.said
            yield "assistant", turn.text

    def _repr_html_(self) -> str:
        opening = _line(self.persona, self.opening) if self.opening else ""
        turns = [
            _line(self.user, turn.said, dim=True)
            + _line(self.persona, turn.text)
            + (_dim(f"lore: {', '.join(turn.speaking)}") if turn.speaking else "")
            for turn in self.turns
        ]
        return _boxed("".join((opening, *turns, _dim(self.notice))))


class Kept(Record):
    """Where a transcript lies, and the hash of what was written there."""

    path: Path
    sha256: str


def save_transcript(transcript: Transcript, folder: Path | str, kept: Kept | None = None) -> Kept:
    """Write `<folder>/<persona>/<time>.json`, or the file of `kept` again unless somebody else has changed it.

    Raises:
        OutputError: the folder cannot be written.
    """
    content = json.dumps(transcript.model_dump(mode="json"), ensure_ascii=False, indent=1).encode()
    digest = hashlib.sha256(content).hexdigest()
    place = kept.path.parent if kept else Path(folder) / slug(transcript.persona)
    try:
        place.mkdir(parents=True, exist_ok=True)
        with FileLock(place / ".chats.lock", timeout=_LOCK_SECONDS):
            if kept and _is_ours(kept):
                return Kept(path=write_whole(kept.path, content), sha256=digest)
            return Kept(path=write_new(_names(place), content), sha256=digest)
    except Timeout as error:
        raise OutputError(f"cannot write into {place}: another process holds {error.lock_file}") from error
    except OSError as error:
        raise OutputError(
            f"cannot write into {place}: {error.strerror or error}; choose another folder"
        ) from error


def load_transcript(path: Path | str) -> tuple[Transcript, Kept]:
    """The transcript in a file, and what goes on writing it.

    Raises:
        OutputError: missing, or no transcript.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        transcript = Transcript.model_validate(json.loads(content))
    except ValidationError as error:
        raise OutputError(f"{path} is no transcript: {explain(error)}") from error
    except (OSError, ValueError) as error:
        raise OutputError(f"{path} cannot be read as a transcript: {error}") from error
    return transcript, Kept(path=path, sha256=hashlib.sha256(content).hexdigest())


def find_transcripts(folder: Path | str, persona: str, card_sha256: str) -> list[Path]:
    """The transcripts with a card; the one that was written last comes last. Other files, and others of the name, are left out."""
    found = []
    paths = (Path(folder) / slug(persona)).glob("*.json")
    for path in sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path.name)):
        try:
            transcript, _ = load_transcript(path)
        except OutputError:
            continue
        if transcript.card_sha256 == card_sha256:
            found.append(path)
    return found


# Styles stand at each element, as a notebook that is not trusted loses its style sheets. Model text is hostile: all of it
# is escaped here.


def _line(name: str, text: str, *, dim: bool = False) -> str:
    who = f"<b>{escape(name)}</b><br>" if name else ""
    look = "white-space:pre-line;overflow-wrap:anywhere;margin:8px 0" + (";opacity:.7" if dim else "")
    return f'<div style="{look}">{who}{escape(text)}</div>'


def _dim(text: str) -> str:
    return f'<div style="opacity:.6;font-size:12px">{escape(text)}</div>'


def _boxed(inside: str) -> str:
    return f'<div class="{AS_WRITTEN}" style="max-width:80ch;line-height:1.45">{inside}</div>'


def now() -> str:
    """The time, as transcripts hold it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _is_ours(kept: Kept) -> bool:
    try:
        return hashlib.sha256(kept.path.read_bytes()).hexdigest() == kept.sha256
    except FileNotFoundError:
        return True


def _names(place: Path) -> Iterator[Path]:
    stem = f"{datetime.now(UTC):%Y%m%dT%H%M%S_%fZ}"
    yield place / f"{stem}.json"
    yield from (place / f"{stem}-{number}.json" for number in itertools.count(2))
