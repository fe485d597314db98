"""How alike texts are, what marks them, who wrote them: worked examples, and what holds for all texts."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personalab.attributes import counted, coverage, distinct_share, entropy, evenness, top_share
from personalab.attribution import attribution_accuracy
from personalab.diversity import (
    compression_ratio,
    compression_ratio_at,
    distinct,
    distinct_at,
    expectation_adjusted_distinct,
    jaccard_matrix,
    likeness,
    mean_cosine,
    mean_jaccard,
    near_duplicate_pairs,
    near_duplicate_rate,
    nearest_cosine,
    repeat_rate,
    self_repetition,
    shared_ngram_rate,
    top_share_at,
    vendi_score,
)
from personalab.errors import ConfigError
from personalab.marked_words import marked_against_all, marked_words
from personalab.slop import find_slop, slop_rate
from personalab.words import ngrams, plain_text, skeleton, words

TOY = [
    "the cat sat on the mat",
    "the cat sat on the hat",
    "a dog ran in the park today",
    "the cat sat on the mat",
]
ALL_DIFFERENT = ["alpha beta gamma delta epsilon", "one two three four five", "red green blue cyan mauve"]
SAME = ["the cat sat on the mat"] * 3
COFFEE = "just made coffee and the cat knocked it over, classic monday"
SUNSET = "the sunset over the bay tonight was unreal"

texts = st.lists(st.text("abc déf 日本!#@", max_size=30), min_size=2, max_size=7)


def split(documents: list[str]) -> list[tuple[str, ...]]:
    """As words."""
    return [words(document) for document in documents]


@pytest.mark.parametrize(
    ("documents", "expected"),
    [
        (TOY, [0.48, 0.571429, 0.588235, 0.615385]),
        (ALL_DIFFERENT, [1, 1, 1, 1]),
        (SAME, [0.277778, 0.333333, 0.333333, 0.333333]),
    ],
)
def test_distinct(documents: list[str], expected: list[float]) -> None:
    """Share of n-grams that differ, for n from 1 to 4."""
    assert [distinct(split(documents), n) for n in (1, 2, 3, 4)] == pytest.approx(expected, abs=5e-7)


@pytest.mark.parametrize(
    ("documents", "small", "large"),
    [(TOY, 0.485785, 0.480189), (ALL_DIFFERENT, 1.007019, 1.000229), (SAME, 0.280146, 0.277855)],
)
def test_expectation_adjusted_distinct(documents: list[str], small: float, large: float) -> None:
    """For two sizes of vocabulary."""
    assert expectation_adjusted_distinct(split(documents), 1000) == pytest.approx(small, abs=5e-7)
    assert expectation_adjusted_distinct(split(documents), 30522) == pytest.approx(large, abs=5e-7)


@pytest.mark.parametrize(
    ("documents", "ratio", "repetition", "shared_2", "shared_4", "jaccard"),
    [
        (TOY, 96 / 60, 1.298239, 0.7, 0.666667, (0.6 + 0 + 1 + 0 + 0.6 + 0) / 6),
        (ALL_DIFFERENT, 80 / 71, 0, 0, 0, 0),
        (SAME, 68 / 30, math.log(7), 1, 1, 1),
    ],
)
def test_repetition(
    documents: list[str], ratio: float, repetition: float, shared_2: float, shared_4: float, jaccard: float
) -> None:
    """Compression (zlib builds differ by a few bytes), self-repetition, shared n-grams, Jaccard of 3-grams."""
    assert compression_ratio(documents) == pytest.approx(ratio, rel=0.05)
    assert self_repetition(split(documents)) == pytest.approx(repetition, abs=5e-7)
    assert shared_ngram_rate(split(documents), 2) == pytest.approx(shared_2)
    assert shared_ngram_rate(split(documents), 4) == pytest.approx(shared_4, abs=5e-7)
    assert mean_jaccard([list(ngrams(each, 3)) for each in split(documents)]) == pytest.approx(jaccard)


def test_near_duplicates() -> None:
    """Likeness of two near copies and of two others, and what is counted as a pair."""
    other = COFFEE.replace("cat", "dog")
    characters = jaccard_matrix([list(ngrams(text, 5)) for text in (COFFEE, other, SUNSET)])
    assert characters[0, 1:] == pytest.approx([0.777778, 0.032967], abs=5e-7)
    assert jaccard_matrix([list(ngrams(words(text), 3)) for text in (COFFEE, other)])[0, 1] == 0.5
    assert likeness([COFFEE, other])[0, 1] == pytest.approx(95)
    assert near_duplicate_pairs([COFFEE, SUNSET, other]) == [(0, 2, pytest.approx(95))]
    assert near_duplicate_rate([COFFEE, SUNSET, other]) == pytest.approx(2 / 3)
    assert near_duplicate_rate([COFFEE, SUNSET, other], parts=["a", "b", "a"]) == 0
    assert near_duplicate_rate([COFFEE]) is None


def test_embeddings() -> None:
    """Cosines and the Vendi score of three vectors; length does not count."""
    vectors = np.array([(1, 0), (0, 1), (0.6, 0.8)])
    for scaled in (vectors, 7 * vectors):
        assert mean_cosine(scaled) == pytest.approx(0.466667, abs=5e-7)
        assert nearest_cosine(scaled) == pytest.approx(0.733333, abs=5e-7)
        assert vendi_score(scaled) == pytest.approx(1.889882, abs=5e-7)
    assert vendi_score(vectors, order=2) == pytest.approx(1.8)
    assert vendi_score(vectors, order=math.inf) == pytest.approx(1.5)
    assert mean_cosine([[1, 0]]) is nearest_cosine([[1, 0]]) is None


def test_what_a_smaller_set_would_have_shown() -> None:
    """With `others` the rate is the mean over all choices of so many others, by hand."""
    from itertools import combinations

    documents = split([*TOY, *ALL_DIFFERENT])
    for others in (1, 3, 6):
        by_hand = []
        for place, document in enumerate(documents):
            rest = [each for number, each in enumerate(documents) if number != place]
            for chosen in combinations(rest, others):
                found = {gram for each in chosen for gram in ngrams(each, 2)}
                grams = set(ngrams(document, 2))
                by_hand.append(len(grams & found) / len(grams))
        assert shared_ngram_rate(documents, 2, others=others) == pytest.approx(np.mean(by_hand))
    assert shared_ngram_rate(documents, 2, others=7) is None
    assert repeat_rate(["a", "a", "b", "c"], others=1) == pytest.approx(2 / 3 / 4 * 1)
    assert near_duplicate_rate(TOY, others=4) is None


def test_budgets() -> None:
    """Exactly the budget is looked at; a set below it is unknown, never measured with less."""
    documents = split(TOY)
    assert distinct_at(documents, 2, 21) == pytest.approx(12 / 21)
    assert distinct_at(documents, 2, 22) is None
    assert compression_ratio_at(documents, 26) is None
    assert compression_ratio_at(documents, 25) == pytest.approx(1.6, rel=0.1)
    assert top_share_at(["just", "just", "honestly", "just", "ok"], 5) == 0.6
    assert top_share_at(["just"], 2) is None


@given(texts, st.randoms(use_true_random=False))
def test_the_order_of_the_texts_does_not_matter(documents: list[str], order: random.Random) -> None:
    """Whatever a measure says of a set it says of the set in another order, and it stays in its range."""
    mixed = documents[:]
    order.shuffle(mixed)
    for measure in (
        lambda each: distinct_at(split(each), 2, 3),
        lambda each: compression_ratio_at(split(each), 3),
        lambda each: shared_ngram_rate(split(each), 2, others=1),
        lambda each: mean_jaccard(split(each)),
        lambda each: near_duplicate_rate(each, others=1),
        lambda each: repeat_rate([skeleton(text) for text in each], others=1),
    ):
        value = measure(documents)
        assert measure(mixed) == (None if value is None else pytest.approx(value))
        assert value is None or value >= 0


def test_words() -> None:
    """Letters of any script, apostrophes inside, each Chinese character by itself."""
    assert words("Don’t stop, naïve café!") == ("don't", "stop", "naïve", "café")
    assert words("e\u0301te\u0301") == ("été",)
    assert words("abc漢字 カタ 3rd") == ("abc", "漢", "字", "カ", "タ", "3rd")
    assert words("…!?") == ()


def test_plain_text() -> None:
    """Addresses, mentions, hashtags and emoji are what texts share by habit."""
    assert plain_text("Hi @bob_1, see #MondayMood https://x.com/a?b=1 👨‍👩‍👧 OK") == "hi , see ok"
    assert plain_text("mail a@b.example, C# and 1 # 2") == "mail a@b.example, c# and 1 # 2"


def test_skeleton() -> None:
    """Content is blotted out, and what holds it together stays."""
    assert skeleton("The cat is on my mat.") == skeleton("The old dog is on my sofa.")
    assert skeleton("The cat is on my mat.") == ("the", "_", "is", "on", "my", "_", ".")


@given(st.text(max_size=60))
def test_any_text_has_words(text: str) -> None:
    """No text breaks it, and plain text stays plain."""
    assert all(word == word.lower() and word for word in words(text))
    assert isinstance(skeleton(text), tuple)
    assert "  " not in plain_text(text)


MARKED = "warm strong proud heritage vibrant strong culture"
UNMARKED = "calm strong quiet works office calm coffee"


def test_marked_words() -> None:
    """Log odds with the pooled prior and with a flat one."""
    frame = marked_words([UNMARKED], [MARKED]).set_index("word")
    for word, delta, z in [("strong", 0.2838, 0.4230), ("warm", 0.7444, 0.6078), ("calm", -0.8044, -0.9288)]:
        assert (frame.loc[word, "delta"], frame.loc[word, "z"]) == pytest.approx((delta, z), abs=5e-5)
    flat = marked_words([UNMARKED], [MARKED], prior=0.01).set_index("word")["z"]
    assert [flat[word] for word in ("strong", "warm", "calm")] == pytest.approx(
        [0.711, 0.4744, -0.562], abs=5e-4
    )
    assert (frame.loc["strong", "count_a"], frame.loc["strong", "count_b"]) == (1, 2)
    assert (frame["p_adj"] <= 1).all()
    assert (frame["p_adj"] >= 0).all()


def test_marked_words_of_nothing() -> None:
    """A group without words is an error that says so, and so is a prior of nothing."""
    with pytest.raises(ConfigError, match="one of them has none"):
        marked_words([MARKED], ["#tag https://x.com"])
    with pytest.raises(ConfigError, match=r"give 0\.01 or more"):
        marked_words([MARKED], [UNMARKED], prior=0)


@given(st.lists(st.sampled_from(["warm calm", "calm tea", "tea tea warm"]), min_size=1, max_size=4))
def test_marked_words_are_antisymmetric(group: list[str]) -> None:
    """Groups swapped, every z has the other sign."""
    one = marked_words(group, [MARKED]).set_index("word")["z"]
    other = marked_words([MARKED], group).set_index("word")["z"]
    assert all(other[word] == pytest.approx(-z) for word, z in one.items())


def test_marked_against_all() -> None:
    """A word marks a group only if it does so against each other group."""
    groups = {"a": ["sea salt sea wind"] * 9, "b": ["city noise salt"] * 9, "c": ["hill path wind"] * 9}
    assert marked_against_all(groups, "a") == ["sea"]
    with pytest.raises(ConfigError, match="'x'"):
        marked_against_all(groups, "x")


RUNNER = [
    "trail at dawn, mud up to my knees",
    "ten miles on the trail and mud everywhere",
    "new shoes, same trail, same mud",
    "hill repeats on the muddy trail again",
]
PROGRAMMER = [
    "the compiler hates me today",
    "spent the day with the compiler and a bug",
    "one bug fixed, the compiler found two",
    "tests pass, the bug is gone, the compiler smiles",
]


def test_attribution() -> None:
    """Two voices are told apart, shuffled labels are not, and masked names give nobody away."""
    writers = ["runner"] * 4 + ["programmer"] * 4
    assert attribution_accuracy(RUNNER + PROGRAMMER, writers) == 1
    assert attribution_accuracy(RUNNER + PROGRAMMER, ["runner", "programmer"] * 4) < 0.5
    signed = ["Ana says so"] * 3 + ["Bo says so"] * 3
    assert attribution_accuracy(signed, list("aaabbb")) == 1
    assert attribution_accuracy(signed, list("aaabbb"), names=["Ana", "Bo"]) == 0.5
    assert attribution_accuracy(RUNNER, ["runner"] * 4) is None
    assert attribution_accuracy(RUNNER, list("abcd")) is None


def test_attribution_agrees_with_a_plain_account() -> None:
    """The sums without each text are what leaving it out gives."""
    documents = [f"{a} {b} {c}" for a, b, c in zip("xyzxyzxy", "kkllmmkk", "pqpqppqq", strict=True)]
    documents = [f"some words {each} and others {each}" for each in documents]
    writers = list("aabbaabb")

    def vector(text: str, frequency: dict[str, float]) -> dict[str, float]:
        counts: dict[str, int] = {}
        for n in (3, 4, 5):
            for start in range(len(text) - n + 1):
                counts[text[start : start + n]] = counts.get(text[start : start + n], 0) + 1
        found = {gram: (1 + math.log(count)) * frequency[gram] for gram, count in counts.items()}
        length = math.sqrt(sum(value**2 for value in found.values()))
        return {gram: value / length for gram, value in found.items()}

    grams = {text[s : s + n] for text in documents for n in (3, 4, 5) for s in range(len(text) - n + 1)}
    inverse = {gram: math.log(9 / (1 + sum(gram in text for text in documents))) + 1 for gram in grams}
    vectors = [vector(text, inverse) for text in documents]
    right = 0.0
    for place, own in enumerate(vectors):
        near = {}
        for writer in "ab":
            centroid: dict[str, float] = {}
            for other, each in enumerate(vectors):
                if other != place and writers[other] == writer:
                    for gram, value in each.items():
                        centroid[gram] = centroid.get(gram, 0) + value
            length = math.sqrt(sum(value**2 for value in centroid.values()))
            near[writer] = sum(value * centroid.get(gram, 0) for gram, value in own.items()) / length
        best = [writer for writer in near if near[writer] >= max(near.values()) - 1e-12]
        right += (writers[place] in best) / len(best)
    assert attribution_accuracy(documents, writers) == pytest.approx(right / 8)


def test_slop() -> None:
    """The rate is per 1,000 words; the list finds its phrases whatever apostrophe they have."""
    text = "in a world of noise, let's delve into the tapestry of mondays"
    assert slop_rate([text], ["delve", "tapestry"]) == pytest.approx(166.67, abs=0.005)
    assert find_slop("Here’s the thing: it’s not just coffee, it’s a ritual. Let that sink in.") == (
        "here's the thing",
        "it's not just coffee, it's",
        "let that sink in",
    )
    assert find_slop("the hot takeaway from a delver") == ()
    assert slop_rate([""]) is None


def test_coverage() -> None:
    """Counts against even expectation."""
    found = coverage([6, 3, 1], expected_min=3)
    assert entropy([6, 3, 1]) == pytest.approx(0.897946, abs=5e-7)
    assert (found.covered, found.simpson) == (1, pytest.approx(0.54))
    assert found.evenness == pytest.approx(0.817345, abs=5e-7)
    assert found.effective == pytest.approx(2.454556, abs=5e-7)
    assert found.variation == pytest.approx(0.266667, abs=5e-7)
    assert found.divergence_bits == pytest.approx(0.076307, abs=5e-7)
    assert found.divergence_nats == pytest.approx(0.200667, abs=5e-7)
    assert (found.chi_square, found.p) == (pytest.approx(3.8), pytest.approx(0.149569, abs=5e-7))
    assert coverage([6, 3, 1]).p is None, "fewer than five are expected, so its p would not hold"
    assert coverage({"a": 1, "b": 0}, {"a": 0.0, "b": 1.0}).divergence_nats is None
    with pytest.raises(ConfigError, match="other categories: c"):
        coverage({"a": 1}, {"a": 1.0, "c": 1.0})


def test_repeated_attributes() -> None:
    """Capitals, spaces and unknown values make no difference; the opener's example of evenness."""
    assert counted(["Maya ", "maya", None, float("nan"), "", "Lin"]) == {"maya": 2, "lin": 1}
    openers = ["just", "just", "honestly", "just", "ok"]
    assert (top_share(openers), distinct_share(openers)) == (0.6, 0.6)
    assert evenness(openers) == pytest.approx(0.590436, abs=5e-7)
    assert top_share([]) is evenness(["one"]) is None
