"""What endpoints say is left: their headers, in all the ways that are documented, and how they are kept to."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personalab.quotas import Quota, Quotas, quotas_in, seconds_in


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("1s", 1), ("6m0s", 360), ("120ms", 0.12), ("12ms", 0.012), ("1h2m3.5s", 3723.5), ("1d", 86_400), ("30", 30),
        ("0.25", 0.25), ("2m59.56s", 179.56), ("soon", None), ("", None), ("-1", None), ("nan", None), ("inf", None),
    ],
)  # fmt: skip
def test_durations(said: str, seconds: float | None) -> None:
    """As Go writes them, and plain numbers; anything else is as if it were not there."""
    assert seconds_in(said) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize("scale", [1, 1000])
def test_a_reset_at_a_time(scale: int) -> None:
    """Seconds and milliseconds since 1970 are told from seconds to wait; a time that has passed is now."""
    assert seconds_in(str((time.time() + 30) * scale)) == pytest.approx(30, abs=5)
    assert seconds_in(str((time.time() - 30) * scale)) == 0


@given(st.floats(min_value=0, max_value=50_000, allow_nan=False))
def test_durations_are_read_as_they_are_written(seconds: float) -> None:
    """Hours, minutes and seconds to the millisecond."""
    hours, rest = divmod(round(seconds, 3), 3600)
    minutes, rest = divmod(rest, 60)
    said = f"{hours:.0f}h{minutes:.0f}m{rest:.3f}s"
    assert seconds_in(said) == pytest.approx(seconds, abs=0.002)


@given(st.dictionaries(st.sampled_from([
    "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests", "x-ratelimit-limit-requests", "ratelimit",
    "ratelimit-policy", "x-ratelimit-remaining", "x-ratelimit-reset",
]), st.text()))  # fmt: skip
def test_nothing_that_is_said_is_an_error(headers: dict[str, str]) -> None:
    """Whatever stands in the headers."""
    for quota in quotas_in(headers):
        assert quota.remaining >= 0
        assert quota.reset_seconds >= 0


@pytest.mark.parametrize(
    ("headers", "quotas"),
    [
        (
            {
                "X-RateLimit-Limit-Requests": "5000", "X-RateLimit-Remaining-Requests": "4999",
                "X-RateLimit-Reset-Requests": "12ms", "x-ratelimit-limit-tokens": "160000",
                "x-ratelimit-remaining-tokens": "159976", "x-ratelimit-reset-tokens": "9ms",
            },
            {("requests", 4999, 0.012), ("tokens", 159976, 0.009)},
        ),
        ({"x-ratelimit-limit": "20", "x-ratelimit-remaining": "7", "x-ratelimit-reset": "30"}, {("requests", 7, 30)}),
        ({"ratelimit-limit": "100, 100;w=60", "ratelimit-remaining": "50", "ratelimit-reset": "50"}, {("requests", 50, 50)}),
        ({"ratelimit": '"default";r=50;t=30'}, {("requests", 50, 30)}),
        ({"ratelimit": '"burst";r=1;t=1, "daily";r=50;t=30'}, {("requests", 1, 1), ("requests", 50, 30)}),
        ({"ratelimit": '"size";r=50;t=30', "ratelimit-policy": '"size";q=100;qu="content-bytes"'}, set()),
        ({"x-ratelimit-remaining-req-minute": "3", "x-ratelimit-limit-req-minute": "9"}, {("requests", 3, 60)}),
        ({"x-ratelimit-remaining-tokens-minute": "3", "x-ratelimit-reset-tokens-minute": "17.5"}, {("tokens", 3, 17.5)}),
        ({"x-ratelimit-limit-tokens": "-1", "x-ratelimit-remaining-tokens": "-1", "x-ratelimit-reset-tokens": "0"}, set()),
        ({"x-ratelimit-remaining-requests": "5"}, set()),
        ({"content-type": "text/html"}, set()),
    ],
)  # fmt: skip
def test_headers(headers: dict[str, str], quotas: set[tuple[str, float, float]]) -> None:
    """OpenAI's, the plain ones, the drafts of the IETF, Mistral's and Cerebras's; what says nothing is left out."""
    lower = {name.lower(): value for name, value in headers.items()}
    assert {(one.kind, one.remaining, round(one.reset_seconds, 6)) for one in quotas_in(lower)} == quotas


def left(kind: str, remaining: float, reset_seconds: float) -> tuple[Quota, ...]:
    return (Quota(name=kind, kind=kind, remaining=remaining, reset_seconds=reset_seconds),)  # type: ignore[arg-type]


def test_no_more_is_sent_than_is_left() -> None:
    """Those sent since count; after the reset nothing is known any more."""
    quotas = Quotas()
    first = quotas.send(0)
    quotas.send(0)
    quotas.told(left("requests", 2, 10), first, now=0)
    assert quotas.wait(0, now=1) == 0
    quotas.send(0)
    assert quotas.wait(0, now=1) == 9
    assert quotas.wait(0, now=10) == 0


def test_what_was_asked_earlier_is_older_news() -> None:
    """An answer that comes late does not replace what a later request was told."""
    quotas = Quotas()
    early, late = quotas.send(0), quotas.send(0)
    quotas.told(left("requests", 0, 10), late, now=0)
    quotas.told(left("requests", 1, 10), early, now=1)
    assert quotas.wait(0, now=2) == 8


def test_tokens_that_are_left() -> None:
    """A request waits if it takes more than is left; a smaller one goes. A day's limit holds for a minute at most."""
    quotas = Quotas()
    quotas.told(left("tokens", 100, 86_400), quotas.send(50), now=0)
    assert quotas.wait(100, now=0) == 0
    assert quotas.wait(101, now=0) == 60
