"""The words of one language: lists and small records, read from lexicons/<code>.json and never changed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from types import MappingProxyType

import orjson

from personalab.offline.wire import ApiError

LEXICONS_DIR = Path(__file__).parent / "lexicons"
CODES = ("en", "zh", "es")

Entry = Mapping[str, str]


@dataclass(frozen=True)
class Lexicon:
    """Lists of texts and lists of entries, by name. Texts may have [holes]; see `pen`."""

    code: str
    texts: Mapping[str, tuple[str, ...]]
    entries: Mapping[str, tuple[Entry, ...]]


@cache
def open_lexicon(code: str) -> Lexicon:
    """The lexicon of a language, by its code."""
    data = orjson.loads((LEXICONS_DIR / f"{code}.json").read_bytes())
    texts = {name: tuple(items) for name, items in data.items() if not items or isinstance(items[0], str)}
    entries = {
        name: tuple(MappingProxyType(item) for item in items)
        for name, items in data.items()
        if name not in texts
    }
    return Lexicon(code, MappingProxyType(texts), MappingProxyType(entries))


@lru_cache(maxsize=256)
def language_code(language: str) -> str:
    """The code of a language by any of its names.

    Raises:
        ApiError: 400, a language the offline provider does not write.
    """
    words = re.findall(r"\w+", language.casefold())
    for code in CODES:
        aliases = open_lexicon(code).texts["aliases"]
        if language.casefold().strip() in aliases or any(
            _means(word, at, aliases) for at, word in enumerate(words)
        ):
            return code
    raise ApiError(
        400,
        f"The offline provider writes English, Chinese and Spanish, not {language!r}; "
        "set OPENAI_API_KEY or OPENAI_BASE_URL and use a real model for other languages.",
        param="messages",
        code="unsupported_language",
    )


def _means(word: str, at: int, aliases: tuple[str, ...]) -> bool:
    """Whether a word names the language; codes of two letters only count in front, as in es-MX."""
    return word in aliases and (at == 0 or len(word) > 2 or not word.isascii())
