"""How long a tweet is by X's own count.

Source: the "weighted length" of X's counting-characters documentation, configuration v3: 280 units, most Latin text
counts 1 a character, other scripts 2, every emoji 2, every web address 23.
"""

from __future__ import annotations

import unicodedata

import regex

TWEET_LENGTH_MAX = 280
"""Weighted units of an ordinary post."""

_ADDRESS_LENGTH = 23
_LIGHT = ((0x0000, 0x10FF), (0x2000, 0x200D), (0x2010, 0x201F), (0x2032, 0x2037))
_FORBIDDEN = ("\ufffe", "\ufeff", "\uffff")

_PICTOGRAPH = r"\p{Extended_Pictographic}(?:\uFE0F|\p{EMod})?(?:[\U000E0020-\U000E007E]+\U000E007F)?"
_EMOJI = regex.compile(
    rf"\p{{RI}}\p{{RI}}|[0-9#*]\uFE0F?\u20E3|[©®]\uFE0F|(?![©®]){_PICTOGRAPH}(?:\u200D{_PICTOGRAPH})*",
    regex.V1,
)
# A bare domain counts as an address only under endings that are common in posts: "example.com" yes, "Node.js" no.
_ENDINGS = "com|org|net|edu|gov|io|co|app|dev|ai|info|biz|me|tv|ly|gg|xyz|uk|de|fr|es|it|nl|jp|cn|kr|in|br|au|ca|ru|eu"
_ADDRESS = regex.compile(
    r"https?://[\w-]+(?:\.[\w-]+)+(?::\d+)?(?:[/?#][^\s<>\"'）】」]*)?"
    rf"|(?<![\w@./$#-])(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+(?:{_ENDINGS})\b(?![@.]\w)(?:/[^\s<>\"'）】」]*)?",
    regex.V1 | regex.IGNORECASE,
)
_TRAILING = ".,;:!?)]}'\""


def weighted_length(text: str) -> int:
    """Units that `text` takes of a post's 280."""
    text = unicodedata.normalize("NFC", text)
    length = position = 0
    for match in _ADDRESS.finditer(text):
        length += _plain_length(text[position : match.start()]) + _ADDRESS_LENGTH
        position = match.start() + len(match.group().rstrip(_TRAILING))
    return length + _plain_length(text[position:])


def fits_in_tweet(text: str, limit: int = TWEET_LENGTH_MAX) -> bool:
    """Whether `text` can be posted: not empty, within `limit`, and free of the characters X refuses."""
    return 0 < weighted_length(text) <= limit and not any(mark in text for mark in _FORBIDDEN)


def _plain_length(text: str) -> int:
    if text.isascii():
        return len(text)
    without_emoji, emoji = _EMOJI.subn("", text)
    return 2 * emoji + sum(
        1 if any(low <= ord(mark) <= high for low, high in _LIGHT) else 2 for mark in without_emoji
    )
