"""Decks: near copies beside each other, search, filters, order, and what would tell the condition."""

from __future__ import annotations

import hashlib
import itertools
import random

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz import fuzz

from personalab.decks import Deck, Query, hidden_columns, near_copies
from personalab.errors import ConfigError
from personalab.reviews import Judgement
from personalab.words import plain_text


@pytest.fixture
def frame() -> pd.DataFrame:
    """Six tweets of two conditions, two of them near copies."""
    return pd.DataFrame(
        {
            "text": [
                "the gulls stole my toast again this morning",
                "nobody answers letters in March",
                "the gulls stole my toast again this evening",
                "a fine day for copper pipes",
                "I counted eleven herons",
                "soup, again",
            ],
            "persona": ["Ann", "Bo"] * 3,
            "condition": ["hot", "cool"] * 3,
            "temperature": [1.2, 0.2] * 3,
            "warmth": ["much", "little"] * 3,
            "length": [43, 31, 43, 27, 23, 11],
        }
    )


def test_near_copies_stand_together(frame: pd.DataFrame) -> None:
    """Where the first of them comes; the rest keeps its order."""
    deck = Deck.of(frame)
    assert deck.order == (0, 2, 1, 3, 4, 5)
    assert deck.group(2) == (0, 2)
    assert deck.group(1) == (1,)
    assert deck.found(Query(show="near copies"), {}) == (0, 2)


def test_near_copies_are_found_without_comparing_all() -> None:
    """Of 1,200 texts with 200 altered copies every pair at 80 of 100 or more is in one group."""
    made = random.Random(5)
    words = ["".join(made.choices("abcdefghijklmnopqrstuvwxyz", k=made.randint(2, 9))) for _ in range(900)]
    texts = [" ".join(made.choices(words, k=made.randint(8, 40))) for _ in range(1000)]
    for text in texts[:200]:
        parts = text.split()
        for _ in range(made.randint(1, max(1, len(parts) // 6))):
            parts[made.randrange(len(parts))] = made.choice(words)
        texts.append(" ".join(parts))
    groups = near_copies(texts)
    plain = [plain_text(text) for text in texts]
    alike = [
        (one, other)
        for one, other in itertools.combinations(range(200), 2)
        if fuzz.ratio(plain[one], plain[other]) >= 80
    ]
    alike += [
        (place, 1000 + place) for place in range(200) if fuzz.ratio(plain[place], plain[1000 + place]) >= 80
    ]
    assert len(alike) > 150
    assert all(groups[one] == groups[other] for one, other in alike)


@settings(deadline=None)
@given(st.lists(st.text(max_size=30), max_size=12))
def test_groups_are_whole(texts: list[str]) -> None:
    """A group is named by its first; the same texts are in one group, unless nothing is left of them to compare."""
    groups = near_copies(texts)
    assert all(groups[group] == group <= place for place, group in enumerate(groups))
    for one, other in itertools.combinations(range(len(texts)), 2):
        if texts[one] == texts[other] and plain_text(texts[one]):
            assert groups[one] == groups[other]


def test_search_filter_and_order(frame: pd.DataFrame) -> None:
    """All words have to be there, also in notes and tags; any numeric column sorts, both ways."""
    deck = Deck.of(frame)
    said = {
        deck.keys[1]: Judgement(verdict="keep"),
        deck.keys[3]: Judgement(verdict="reject", note="plumbing"),
        deck.keys[4]: Judgement(rating=2),
    }
    assert deck.found(Query(search="AGAIN toast"), said) == (0, 2)
    assert deck.found(Query(search="plumbing"), said) == (3,)
    assert deck.found(Query(show="undecided"), said) == (0, 2, 5)
    assert deck.found(Query(show="kept"), said) == (1,)
    assert deck.found(Query(show="noted"), said) == (3,)
    assert deck.found(Query(sort="length", descending=False), said) == (5, 4, 3, 1, 0, 2)
    with pytest.raises(ConfigError, match="did you mean 'length'"):
        deck.found(Query(sort="lenght"), said)


def test_what_would_tell_the_condition_is_hidden(frame: pd.DataFrame) -> None:
    """What is known to, and any column that has one value in every condition; it cannot be sorted by either."""
    assert set(hidden_columns(frame)) == {"condition", "temperature", "warmth"}
    assert Deck.of(frame).sortable == ("length",)
    assert Deck.of(frame, blind=False).hidden == ()


def test_an_order_that_tells_nothing(frame: pd.DataFrame) -> None:
    """The same for one seed, whatever the frame's order; another for another."""
    one, again = Deck.of(frame, shuffle="a"), Deck.of(frame.iloc[::-1], shuffle="a")
    assert [one.texts[place] for place in one.order if place not in (0, 2)] == [
        again.texts[place] for place in again.order if "gulls" not in again.texts[place]
    ]
    assert len({Deck.of(frame, shuffle=seed).order for seed in "abcdef"}) > 1


def test_raters_who_stop_early_have_read_the_same() -> None:
    """Agreement needs tweets that several have read: the first fifty are the same for all, in an order of each one's own."""
    texts = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(400)]
    frame = pd.DataFrame({"text": texts})
    orders = [Deck.of(frame, shuffle="tweets", rater=rater).order for rater in ("anna", "bert")]
    assert set(orders[0][:50]) == set(orders[1][:50])
    assert orders[0][:50] != orders[1][:50]
    assert set(orders[0]) == set(range(400))
    assert set(orders[0][:50]) != set(Deck.of(frame, shuffle="others", rater="anna").order[:50])


def test_which_near_copy_comes_first_tells_nothing() -> None:
    """Where each tweet has a near copy under the other condition, either comes first."""
    texts = [f"{hashlib.sha256(str(number).encode()).hexdigest()} and more" for number in range(40)]
    frame = pd.DataFrame(
        {"text": [*texts, *(f"{text}!" for text in texts)], "condition": ["hot"] * 40 + ["cool"] * 40}
    )
    deck = Deck.of(frame, shuffle="tweets", rater="anna")
    assert all(len(deck.group(place)) == 2 for place in deck.order)
    assert 5 < sum(place < 40 for place in deck.order[::2]) < 35


def test_nothing_to_review() -> None:
    """An empty frame is said, not shown."""
    with pytest.raises(ConfigError, match="nothing to review"):
        Deck.of(pd.DataFrame({"text": []}))
