"""Worn phrases in tweets: an indicator to look at, never a gate.

The list is our own, for English tweets, to be tuned by those who review; whoever changes it raises `SLOP_VERSION`, since
rates of two lists cannot be compared. Better than any list is one learnt from the lab's own human tweets
(`marked_words`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import regex

from personalab.words import words

SLOP_VERSION = 1

SLOP = (
    r"let that sink in",
    r"here's the thing",
    r"hot take",
    r"unpopular opinion",
    r"game[- ]changer",
    r"(?:it's |this is |that's )?not (?:just|only|about) [^.!?\n]{1,60}?[,;.—–-] ?(?:it's|it is|but)",
    r"in a world (?:where|of)",
    r"delv(?:e|es|ed|ing)",
    r"tapestry",
    r"testament to",
    r"embrac(?:e|es|ing)",
    r"(?:my|the|this|a|our) journey",
    r"vibes only",
    r"who's with me",
    r"who else",
    r"drop your",
    r"tag someone who",
    r"and honestly\?",
    r"plot twist:",
    r"pro tip:",
    r"friendly reminder",
    r"the little things",
    r"small joys",
    r"hits different",
    r"living my best life",
    r"main character energy",
    r"chef's kiss",
    r"it's giving",
    r"(?:that|this) is the tweet",
    r"(?:barely above )?a whisper",
    r"symphony of",
    r"dance of",
)
"""Patterns, matched in lower case at the bounds of words."""


def find_slop(text: str, patterns: Sequence[str] = SLOP) -> tuple[str, ...]:
    """The worn phrases of a text, in the order they stand."""
    plain = text.replace("’", "'").lower()
    return tuple(match.group() for match in _compiled(tuple(patterns)).finditer(plain))


def slop_rate(texts: Iterable[str], patterns: Sequence[str] = SLOP) -> float | None:
    """Worn phrases per 1,000 words, of all texts together; None without words."""
    found = total = 0
    for text in texts:
        found += len(find_slop(text, patterns))
        total += len(words(text))
    return 1000 * found / total if total else None


def _compiled(patterns: tuple[str, ...]) -> regex.Pattern[str]:
    # The regex module keeps what it has compiled.
    return regex.compile(rf"(?<!\w)(?:{'|'.join(patterns)})(?!\w)")
