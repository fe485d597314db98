"""X's weighted length, by the vectors of its documentation and reference library."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personalab.tweet_text import fits_in_tweet, weighted_length

VECTORS = {
    "": 0, "a" * 280: 280, "a" * 281: 281, "hello world": 11, "日本語": 6, "日" * 140: 280, "日" * 141: 282, "é": 1,
    "e\u0301": 1, "ﬁ": 2, "👍": 2, "👍🏽": 2, "👨‍👩‍👧‍👦": 2, "🇯🇵": 2, "1️⃣": 2, "❤️": 2, "❤": 2, "☺": 2, "©": 1, "©️": 2, "™": 2,
    "—": 1, "–": 1, "…": 2, "“hi”": 4, "•": 2, "→": 2, "example.com": 23, "e.g. this": 9, "Node.js": 7,
    "see https://example.com/some/really/long/path?with=query&and=more": 27, "user@example.com": 16, "#tag @user": 10,
    "line1\nline2": 11, "\u200bzero": 5, "a\ufeffb": 4, "𝔘𝔫𝔦": 6, "가나다": 6, "ａｂｃ": 6, "Привет": 6, "مرحبا": 5, "नमस्ते": 6,
    "ไทย": 3, "\u1100": 2, "a" * 256 + " https://x.com/abc": 280, "a" * 257 + " https://x.com/abc": 281, "🫱🏽": 2, "🧑‍🎄": 2,
    "❤️‍🔥": 2, "🫠": 2, "go to https://example.com.": 30,
}  # fmt: skip


@pytest.mark.parametrize(("text", "length"), VECTORS.items(), ids=[ascii(text[:12]) for text in VECTORS])
def test_vectors(text: str, length: int) -> None:
    """The length X counts."""
    assert weighted_length(text) == length


@pytest.mark.parametrize(
    ("text", "fits"),
    [("", False), ("a" * 280, True), ("a" * 281, False), ("a\ufeffb", False), ("日" * 141, False)],
)
def test_what_can_be_posted(text: str, fits: bool) -> None:
    """Not empty, at most 280, without the marks X refuses."""
    assert fits_in_tweet(text) is fits


@given(st.text())
def test_any_text_has_a_length(text: str) -> None:
    """Never an error, never less than one unit for a character that shows, never more than what two a code point give."""
    assert (
        0
        <= weighted_length(text)
        <= max(2 * len(text) * 3, 23 * (text.count(".") + text.count("://")) + 6 * len(text))
    )
