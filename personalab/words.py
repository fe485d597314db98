"""Texts as words: what counts as one, what is left out before texts are compared.

A word is a run of letters and digits of any script, with apostrophes inside; of scripts without spaces (Chinese,
Japanese) each character is one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Hashable, Iterator, Sequence
from functools import lru_cache
from typing import TypeVar

import regex

from personalab.tweet_text import EMOJI
from personalab.web_addresses import around_addresses

MENTION = regex.compile(r"(?<![\w@＠.])[@＠]\w+")
HASHTAG = regex.compile(r"(?<![\w&])[#＃]\w*[\p{L}\p{M}]\w*")
_IDEOGRAPH = r"\p{Han}\p{Hiragana}\p{Katakana}"
_RUN = rf"[[\p{{L}}\p{{M}}\p{{N}}]--[{_IDEOGRAPH}]]+"
_WORD = regex.compile(rf"[{_IDEOGRAPH}]|{_RUN}(?:'{_RUN})*", regex.V1)
_WORD_OR_MARK = regex.compile(rf"{_WORD.pattern}|[^\w\s]", regex.V1)
_CACHED_TEXTS = 1 << 16

Item = TypeVar("Item", bound=Hashable)

# What holds sentences together in English, Spanish and Chinese: short lists of the most frequent, to be extended.
_ENGLISH = """
a about after all am an and any are as at be because been before but by can could did do does don't down for from had has
have he her here him his how i i'm i've if in into is isn't it it's its just like me more my no not now of off on one only
or other our out over she should so some than that that's the their them then there these they this those to too up was
wasn't we were what when where which who why will with would you you're your
"""
_SPANISH = """
al como con cuando de del el ella ellos en es esta está este esto hay la las le lo los más me mi muy ni no nos o para pero
por porque que qué se si sí sin sobre su sus te tu un una ya y yo
"""
_CHINESE = "的了是我你他她它们在有不这那和也就都很还又一个上下到说要会着没吗呢吧啊把被给让"
FUNCTION_WORDS = frozenset([*_ENGLISH.split(), *_SPANISH.split(), *_CHINESE])


def words(text: str) -> tuple[str, ...]:
    """The words of a text, in lower case."""
    return tuple(_WORD.findall(unicodedata.normalize("NFC", text).replace("’", "'").lower()))


@lru_cache(maxsize=_CACHED_TEXTS)
def plain_text(text: str) -> str:
    """A text to be compared: lower case, without addresses, mentions, hashtags and emoji, which texts share by habit."""
    without = " ".join(around_addresses(unicodedata.normalize("NFC", text)))
    for pattern in (MENTION, HASHTAG, EMOJI):
        without = pattern.sub(" ", without)
    return " ".join(without.lower().split())


@lru_cache(maxsize=_CACHED_TEXTS)
def plain_words(text: str) -> tuple[str, ...]:
    """The words of `plain_text`."""
    return words(plain_text(text))


def ngrams(items: Sequence[Item], n: int) -> Iterator[tuple[Item, ...]]:
    """Each run of `n` neighbours."""
    return zip(*(items[start:] for start in range(n)), strict=False)


def skeleton(text: str) -> tuple[str, ...]:
    """A text's template: its function words and marks, each run of other words as one `_`."""
    kept: list[str] = []
    for part in _WORD_OR_MARK.findall(plain_text(text).replace("’", "'")):
        mark = part if part in FUNCTION_WORDS or not part[0].isalnum() else "_"
        if mark != "_" or kept[-1:] != ["_"]:
            kept.append(mark)
    return tuple(kept)
