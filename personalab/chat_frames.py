"""Chats as a table: what was said in all transcripts, ready to be scored, judged or reviewed as tweets are."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personalab.config import load_settings
from personalab.errors import OutputError
from personalab.transcripts import Transcript, Turn, load_transcript

if TYPE_CHECKING:
    import pandas as pd

TURN_COLUMNS: dict[str, Callable[[Path, Transcript, int, Turn], Any]] = {
    "persona": lambda path, chat, number, turn: chat.persona,
    "turn": lambda path, chat, number, turn: number,
    "said": lambda path, chat, number, turn: turn.said,
    "text": lambda path, chat, number, turn: turn.text,
    "lore": lambda path, chat, number, turn: turn.speaking,
    "replicate": lambda path, chat, number, turn: turn.replicate,
    "model": lambda path, chat, number, turn: turn.reply.model,
    "temperature": lambda path, chat, number, turn: chat.sampling.temperature,
    "cached": lambda path, chat, number, turn: turn.reply.cached,
    "input_tokens": lambda path, chat, number, turn: turn.reply.usage.input_tokens,
    "output_tokens": lambda path, chat, number, turn: turn.reply.usage.output_tokens,
    "forgotten": lambda path, chat, number, turn: turn.forgotten,
    "key": lambda path, chat, number, turn: turn.key,
    "card_sha256": lambda path, chat, number, turn: chat.card_sha256,
    "begun": lambda path, chat, number, turn: chat.begun,
    "file": lambda path, chat, number, turn: str(path),
    "notice": lambda path, chat, number, turn: chat.notice,
}


def turns_df(chats: Path | str | Iterable[Path | str] | None = None) -> pd.DataFrame:
    """One row per turn of chats as they stand: of a folder of them (`outputs/chats` if none is given), or of such files.

    Turns that were taken back or answered again are left out. In a folder a file that is no transcript is left out with a
    warning.

    Raises:
        OutputError: there is no such folder, or a file is no transcript.
    """
    import pandas as pd

    source = load_settings().outputs / "chats" if chats is None else chats
    loaded = _in_folder(Path(source)) if isinstance(source, Path | str) else _files(source)
    rows = [
        {name: column(path, chat, number, turn) for name, column in TURN_COLUMNS.items()}
        for path, chat in loaded
        for number, turn in enumerate(chat.turns, 1)
    ]
    return pd.DataFrame(rows, columns=list(TURN_COLUMNS))


def _files(paths: Iterable[Path | str]) -> Iterator[tuple[Path, Transcript]]:
    for path in paths:
        yield Path(path), load_transcript(path)[0]


def _in_folder(folder: Path) -> Iterator[tuple[Path, Transcript]]:
    if not folder.is_dir():
        raise OutputError(
            f"there is no folder {folder}: talk with a persona first, with personalab chat PERSONA"
        )
    for path in sorted(folder.rglob("*.json")):
        try:
            yield path, load_transcript(path)[0]
        except OutputError as error:
            warnings.warn(str(error), stacklevel=3)
