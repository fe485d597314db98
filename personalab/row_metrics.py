"""Metrics of one row: of a tweet, or of what a stage cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from statistics import fmean, pstdev

import regex

from personalab.errors import ReplyTruncated
from personalab.registry import metric
from personalab.tweet_text import EMOJI, TWEET_LENGTH_MAX, fits_in_tweet
from personalab.tweet_text import weighted_length as count_units
from personalab.web_addresses import around_addresses
from personalab.words import HASHTAG, MENTION, ngrams, plain_words

COPIED_WORDS = 5
"""Words in a row that count as copied."""


@metric(unit="share of rows", range=(0, 1), direction=1)
def valid(status: str) -> bool:
    """Whether it came to a valid answer (status `done`). Every other metric looks at these only, so read it first."""
    return status == "done"


@metric(unit="share of rows", range=(0, 1), direction=-1)
def cut_off(error: str | None) -> bool:
    """Whether the answer was cut off by the length limit."""
    return error is not None and ReplyTruncated.mend in error


@metric(unit="units of 280", range=(0, None), reference="X, counting characters, v3")
def weighted_length(text: str) -> int:
    """Length as X counts it: most Latin characters 1, others and emoji 2, an address 23."""
    return count_units(text)


@metric(
    unit="share of tweets",
    range=(0, 1),
    direction=-1,
    length_sensitive=True,
    reference="X, counting characters, v3",
)
def over_limit(text: str, *, limit: int = TWEET_LENGTH_MAX) -> bool:
    """Whether it cannot be posted: empty, too long, or with a character that X refuses."""
    return not fits_in_tweet(text, limit)


@metric(unit="words a tweet", range=(0, None))
def word_count(text: str) -> int:
    """Words, without mentions, hashtags and addresses."""
    return len(plain_words(text))


@metric(unit="share of runs of 5 words", range=(0, 1), direction=-1)
def copy_rate(text: str, shown: str, *, n: int = COPIED_WORDS) -> float | None:
    """Share of the runs of 5 words that stand in what the model was shown (prompt, card, examples): column `shown`.

    Read it beside adherence: who repeats the card adheres to it.
    """
    grams = set(ngrams(plain_words(text), n))
    return len(grams & _runs_of_words(shown, n)) / len(grams) if grams else None


@lru_cache(maxsize=64)
def _runs_of_words(shown: str, n: int) -> frozenset[tuple[str, ...]]:
    """Kept, as many texts were shown the same."""
    return frozenset(ngrams(plain_words(shown), n))


@metric(unit="emoji a tweet", range=(0, None))
def emoji(text: str) -> int:
    """Emoji; a family or a flag is one."""
    return len(EMOJI.findall(text))


@metric(unit="hashtags a tweet", range=(0, None))
def hashtags(text: str) -> int:
    """Hashtags."""
    return len(HASHTAG.findall(text))


@metric(unit="mentions a tweet", range=(0, None))
def mentions(text: str) -> int:
    """User names with @."""
    return len(MENTION.findall(text))


@metric(unit="addresses a tweet", range=(0, None))
def links(text: str) -> int:
    """Web addresses, those without a scheme too."""
    return len(list(around_addresses(text))) - 1


@metric(unit="marks a tweet", range=(0, None))
def exclamations(text: str) -> int:
    """Exclamation marks."""
    return len(regex.findall(r"[!！]", text))


@metric(unit="marks a tweet", range=(0, None))
def questions(text: str) -> int:
    """Question marks."""
    return len(regex.findall(r"[?？]", text))


@metric(unit="dashes a tweet", range=(0, None))
def em_dashes(text: str) -> int:
    """Long dashes."""
    return text.count("—")


@metric(unit="share of tweets", range=(0, 1))
def all_lower_case(text: str) -> bool | None:
    """Whether it has letters and none is a capital; unknown in scripts without capitals."""
    return text == text.lower() if text.lower() != text.upper() else None


FORMATS: tuple[Callable[[str], int], ...] = (
    word_count, emoji, hashtags, mentions, links, exclamations, questions, em_dashes,
)  # fmt: skip


def format_distance(texts: Sequence[str], reference: Sequence[str]) -> float | None:
    """How far the format of texts is from that of others, say the lab's own human tweets; 0 is the same.

    Mean over `FORMATS` of the distance of the means, in standard deviations of both groups together. None without texts.
    """
    if not texts or not reference:
        return None
    distances = []
    for count in FORMATS:
        one, other = [count(text) for text in texts], [count(text) for text in reference]
        spread = pstdev(one + other)
        distances.append(abs(fmean(one) - fmean(other)) / spread if spread else 0.0)
    return fmean(distances)


@metric(unit="contradictions", range=(0, None), direction=-1)
def contradictions(contradictions: int) -> int:
    """Contradictions by rule in a persona: column `contradictions` of `personas_df`. Only as good as the rules."""
    return contradictions


@metric(unit="tokens", range=(0, None), direction=-1)
def output_tokens(output_tokens: float) -> float:
    """Tokens of the answer."""
    return output_tokens


@metric(unit="tokens", range=(0, None), direction=-1)
def input_tokens(input_tokens: float) -> float:
    """Tokens of the request."""
    return input_tokens


@metric(unit="seconds", range=(0, None), direction=-1)
def seconds(seconds: float) -> float:
    """Time it took, waiting at the gate included."""
    return seconds


@metric(unit="US dollars", range=(0, None), direction=-1)
def cost(cost: float) -> float:
    """What it cost, where prices are known."""
    return cost


@metric(unit="requests", range=(0, None), direction=-1)
def attempts(attempts: float) -> float:
    """Requests sent until the answer came."""
    return attempts
