"""How long a tweet is by X's own count.

Source: the "weighted length" of X's counting-characters documentation, configuration v3: 280 units, most Latin text
counts 1 a character, other scripts 2, every emoji 2, every web address 23. It agrees with X's reference implementation,
the JavaScript `twitter-text` 3.1.0, with one difference on purpose: that one knows the emoji of 2018 and counts the parts
of later ones one by one; here each counts 2, as the documentation says. Whatever has the form of an emoji is taken for
one: newer characters, skin tones on whoever can have them, joined sequences, two regional indicators.
"""

from __future__ import annotations

import unicodedata

import regex

from personalab.web_addresses import around_addresses

TWEET_LENGTH_MAX = 280
"""Weighted units of an ordinary post."""

_ADDRESS_LENGTH = 23
_HEAVY = regex.compile(r"[^\u0000-\u10ff\u2000-\u200d\u2010-\u201f\u2032-\u2037]")
_FORBIDDEN = ("\ufffe", "\ufeff", "\uffff")

_PICTOGRAPH = (
    r"(?:\p{Emoji_Modifier_Base}\p{EMod}|\p{Extended_Pictographic}\uFE0F?)"
    r"(?:[\U000E0020-\U000E007E]+\U000E007F)?"
)
EMOJI = regex.compile(
    rf"\p{{RI}}\p{{RI}}|[0-9#*]\uFE0F?\u20E3|[©®]\uFE0F|(?![©®]){_PICTOGRAPH}(?:\u200D{_PICTOGRAPH})*",
    regex.V1,
)


def weighted_length(text: str) -> int:
    """Units that `text` takes of a post's 280."""
    pieces = around_addresses(unicodedata.normalize("NFC", text))
    return sum(map(_plain_length, pieces)) + _ADDRESS_LENGTH * (len(pieces) - 1)


def fits_in_tweet(text: str, limit: int = TWEET_LENGTH_MAX) -> bool:
    """Whether `text` can be posted: not empty, within `limit`, and free of the characters X refuses."""
    return 0 < weighted_length(text) <= limit and not any(mark in text for mark in _FORBIDDEN)


def _plain_length(text: str) -> int:
    if text.isascii():
        return len(text)
    without_emoji, emoji = EMOJI.subn("", text)
    return 2 * emoji + len(without_emoji) + len(_HEAVY.findall(without_emoji))
