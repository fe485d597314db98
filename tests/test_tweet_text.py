"""X's weighted length.

The numbers are those that X's reference implementation, the JavaScript `twitter-text` 3.1.0, gave for these texts; the
texts are our own. Emoji newer than it count 2, as X's documentation says.
"""

from __future__ import annotations

import string
import time
import unicodedata

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
    "❤️‍🔥": 2, "🫠": 2, "🐙🏿": 4, "🏿": 2, "🧑🏻‍🤝‍🧑🏿": 2, "🫶🏽": 2, "go to https://example.com.": 30,
}  # fmt: skip

ADDRESSES = {
    "https://x.com/abc日本語": 29, "看https://x.com/a吧": 27, "日本example.com": 27, "sub_domain.example.com": 27,
    "my_site.com": 11, "example.com:8080/x": 23, "example.com:8080": 28, "example.com?q=1": 27,
    "example.com/?q=1": 23, "https://example.com:8080?q=1": 23, "(https://x.com/a_(b))": 25,
    "https://x.com/a_(b_(c))": 23, "https://x.com/a.(b)": 27, "https://x.com/a(b": 25,
    "https://x.com/a…": 25, "“https://x.com/a”": 25, "foo.museum": 23, "https://foo.notatld": 19,
    "foo.notatld": 11, "http://a.b": 10, "http://1.2.3.4/a": 16, "http://localhost/a": 18,
    "http://[::1]/a": 14, "it was good.so was the tea": 42, "the end.The beginning": 21, "x.com,y.org": 47,
    "x.com y.org z.net": 71, "x.com/y.org": 23, "-x.com": 6, "_x.com": 6, "/x.com": 6, "@x.com": 6,
    "#x.com": 6, "$x.com": 6, "＠x.com": 25, "a@x.com": 7, "ftp://x.com/a": 13, "//x.com": 7,
    "HTTPS://X.COM/A": 23, "x.Com": 23, "x.com-": 6, "x.com@y": 7, "x.com+1": 7, "x.com1": 6, "x.com_": 24,
    "x.com吧": 25, "x.com.吧": 26, "a.中国": 23, "http://例え.テスト": 18, "http://例え.みんな/é": 23, "例え.com/パス": 13,
    "кино.рф": 7, "http://кино.рф/путь": 23, "http://кино.РФ": 23, "café.com/é": 23, "éa.com": 24,
    "http://xn--p1ai.xn--p1ai/a": 23, "xn--p1ai.xn--p1ai": 23, "http://xn--日本.com": 19,
    "https://t.co/abc": 23, "https://t.co/abc-def": 27, "https://t.co/abc/photo/1": 31, "👍x.com": 25,
    "x.com👍": 25, "https://👍.com/a": 23, "http://x.com/1\ufe0f\u20e3": 27, "x.com/@a/b": 23,
    "https://x.com/a?b=c&d=[e].": 25, "https://x.com/a#b!c": 23, "https://x.com/a#é.": 24,
    "https://x.com/путь": 23, "https://x.com/ñ–a": 23, "https://x.com/a'b\"c": 25, "\u202ax.com\u202c": 27,
    "\u200bx.com": 24, "a\ufeffx.com": 8, "a..com": 6, "a.b.com.au/c": 23, "日.a.com.日.b.org/c": 53,
    "muſeum.museum": 23, "x.muſeum": 27, "x.İs": 4, "http://x。y.com/é": 23, "e.g.this": 8, "3.14": 4,
    "v2.0.io": 23, "me@mail.co.uk": 13, "x.onion": 23,
    "https://t.co/" + "a" * 40: 23, "https://t.co/" + "a" * 41: 54, f"http://{'a' * 63}.com": 23,
    f"http://{'a' * 64}.com": 75, f"http://{'é' * 50}.com": 23, f"http://{'日' * 60}.com": 131,
    "https://x.com/" + "a" * 4074: 23, "https://x.com/" + "a" * 4075: 4089,
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "length"),
    [*VECTORS.items(), *ADDRESSES.items()],
    ids=[ascii(text[:30]) for text in [*VECTORS, *ADDRESSES]],
)
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


WORDS = st.text(alphabet=string.ascii_letters + "éßñжяب日本語가คहि👍🫠", min_size=1, max_size=8)


@given(st.lists(WORDS, min_size=1))
def test_words_add_up(words: list[str]) -> None:
    """Plain words with spaces between them."""
    assert weighted_length(" ".join(words)) == sum(map(weighted_length, words)) + len(words) - 1


@given(st.text(alphabet=st.sampled_from("ab.é日e\u0301か\u3099\u1100\u1161 /:👍") | st.characters()))
def test_the_way_of_writing_accents_does_not_matter(text: str) -> None:
    """Composed or not."""
    for form in ("NFC", "NFD"):
        assert weighted_length(unicodedata.normalize(form, text)) == weighted_length(text)


@given(st.text(alphabet=string.ascii_letters + string.digits + "/_-=", max_size=300), WORDS)
def test_an_address_counts_23_however_long(path: str, word: str) -> None:
    """With a scheme and without, at the end and in the middle."""
    for address in (f"https://example.com/{path}", f"example.com/{path}"):
        assert weighted_length(address) == 23
        assert weighted_length(f"{word} {address} {word}") == 2 * weighted_length(word) + 25


@given(st.lists(st.sampled_from([*"aé日.:/?#@-_()xn 👍\ufeff\ud83d", "com", "https://"])).map("".join))
def test_what_looks_like_an_address_has_a_length(text: str) -> None:
    """Never an error, not even for half a character."""
    assert weighted_length(text) >= 0


@pytest.mark.parametrize(
    "text", ["a." * 5000 + "日", "x.com " + "a.b-" * 2500, "https://x.com/" + "(a" * 5000, "日" * 9000]
)
def test_a_model_that_repeats_itself_is_measured_soon(text: str) -> None:
    """Long texts of one pattern take no more than moments."""
    begin = time.process_time()
    assert weighted_length(text) > 280 or text.startswith("https")
    assert time.process_time() - begin < 5
