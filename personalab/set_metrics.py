"""Metrics of a set of texts, and of a population of personas.

Those of texts look at one shared budget in all sets of a frame: so many words of each text (its first), so many others
that it is compared with, or so many words or pairs of words in all. A budget is the least that any set holds, broken ones
aside: those are unknown. Why: docs/decisions/0012-metrics.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from personalab import attributes, attribution, diversity, slop
from personalab.registry import Group, metric
from personalab.words import plain_text, plain_words, skeleton

Texts = Sequence[str]
Parts = Sequence[Hashable]
Documents = list[tuple[str, ...]]

BROKEN_SHARE = 0.05
"""Share of the sets, the smallest, that have no say where they hold less than half of what the next ones hold."""
SHARED_WORDS = 4
WORDS_MIN = 6
"""The least budget of words: shorter texts say little, and have hardly a run of four words."""
SHORT_SHARE = 0.25
"""Share of the texts that may be too short for the budget of words."""
TEMPLATE_WORDS_MIN = 3
"""Function words and marks from which a skeleton is a template and not an accident."""


def _affordable(capacities: Sequence[int], least: int) -> int:
    """The least that any set holds, `least` at least; broken sets have no say, or one would decide for all."""
    able = sorted(each for each in capacities if each >= least)
    if not able:
        return least
    sound = able[int(BROKEN_SHARE * len(able))]
    return next(each for each in able if 2 * each >= sound)


def _known(texts: Texts) -> Documents:
    return [found for text in texts if (found := plain_words(text))]


def _cut(texts: Texts, parts: Parts, words: int) -> tuple[Documents, list[Hashable]]:
    """The first `words` words of each text that has so many, with its part."""
    pairs = [(plain_words(text), part) for text, part in zip(texts, parts, strict=True)]
    kept = [(found[:words], part) for found, part in pairs if len(found) >= words]
    return [found for found, _ in kept], [part for _, part in kept]


def _other_count(parts: Parts) -> int:
    """The fewest texts that one text can be compared with."""
    sizes = Counter(parts)
    return len(parts) - max(sizes.values()) if len(sizes) > 1 else 0


def _word_budget(groups: Sequence[Group]) -> int:
    """So many words that in nearly each set three of four texts have them, `WORDS_MIN` at least."""
    lengths = [sorted(len(plain_words(text)) for text in group[0]) for group in groups if len(group[0])]
    return max(WORDS_MIN, _affordable([each[int(SHORT_SHARE * len(each))] for each in lengths], 1))


def words_and_others(groups: Sequence[Group]) -> Mapping[str, int]:
    """A budget of words a text and of others to compare with."""
    words = _word_budget(groups)
    return {
        "words": words,
        "others": _affordable([_other_count(_cut(group[0], group[1], words)[1]) for group in groups], 1),
    }


def words_each(groups: Sequence[Group]) -> Mapping[str, int]:
    """A budget of words a text."""
    return {"words": _word_budget(groups)}


def others_only(groups: Sequence[Group]) -> Mapping[str, int]:
    """A budget of others to compare with, among texts that are not empty when they are plain."""
    counts = [
        _other_count([part for text, part in zip(group[0], group[1], strict=True) if plain_text(text)])
        for group in groups
    ]
    return {"others": _affordable(counts, 1)}


def words_in_all(groups: Sequence[Group]) -> Mapping[str, int]:
    """A budget of words in all."""
    return {"budget": _affordable([sum(map(len, _known(group[0]))) for group in groups], 20)}


def pairs_in_all(groups: Sequence[Group]) -> Mapping[str, int]:
    """A budget of pairs of neighbouring words in all."""
    counts = [sum(len(each) - 1 for each in _known(group[0])) for group in groups]
    return {"budget": _affordable(counts, 10)}


def texts_in_all(groups: Sequence[Group]) -> Mapping[str, int]:
    """A budget of texts."""
    return {"budget": _affordable([len(_known(group[0])) for group in groups], 2)}


@metric(level="set", unit="share of tweets", range=(0, 1), direction=-1, min_n=2, prepare=others_only)
def near_duplicate_rate(
    text: Texts, part: Parts, *, others: int | None = None, threshold: float = diversity.SAME
) -> float | None:
    """Share of the texts with a near copy (ratio ≥ 90 of 100) among as many others in every set."""
    pairs = [(plain, each) for one, each in zip(text, part, strict=True) if (plain := plain_text(one))]
    texts, parts = [plain for plain, _ in pairs], [each for _, each in pairs]
    return diversity.near_duplicate_rate(texts, threshold=threshold, others=others, parts=parts)


@metric(
    level="set",
    unit="share of runs of 4 words",
    range=(0, 1),
    direction=-1,
    min_n=2,
    prepare=words_and_others,
    reference="bounded form of self-repetition, Salkar et al. 2022",
)
def shared_4gram_rate(text: Texts, part: Parts, *, words: int, others: int) -> float | None:
    """Share of a text's runs of 4 words that stand in another text too."""
    documents, parts = _cut(text, part, words)
    return diversity.shared_ngram_rate(documents, SHARED_WORDS, others=others, parts=parts)


@metric(level="set", unit="share of words", range=(0, 1), direction=-1, min_n=2, prepare=words_each)
def jaccard_mean(text: Texts, part: Parts, *, words: int) -> float | None:
    """Share of their different words that two texts have in common, mean over all pairs."""
    documents, parts = _cut(text, part, words)
    return diversity.mean_jaccard(documents, parts)


@metric(
    level="set",
    unit="share of pairs of words",
    range=(0, 1),
    direction=1,
    min_n=2,
    prepare=pairs_in_all,
    reference="Li et al. 2016, at a fixed number",
)
def distinct_2(text: Texts, *, budget: int) -> float | None:
    """Share of pairs of neighbouring words that differ, among as many in every set. Nonsense scores high, too."""
    return diversity.distinct_at(_known(text), 2, budget)


@metric(
    level="set",
    unit="times",
    range=(0, None),
    direction=-1,
    min_n=2,
    prepare=words_in_all,
    reference="Shaib et al. 2024, arXiv 2403.00553, at a fixed number of words",
)
def compression_ratio(text: Texts, *, budget: int) -> float | None:
    """How many times smaller zlib makes as many words of every set. Below 2 kB its headers count; builds differ."""
    return diversity.compression_ratio_at(_known(text), budget)


@metric(level="set", unit="share of tweets", range=(0, 1), direction=-1, min_n=2, prepare=texts_in_all)
def opener_top_share(text: Texts, *, budget: int) -> float | None:
    """Share of the texts that begin with the most frequent first word, among as many in every set."""
    return diversity.top_share_at([each[0] for each in _known(text)], budget)


@metric(level="set", unit="share of tweets", range=(0, 1), direction=-1, min_n=2, prepare=others_only)
def template_rate(text: Texts, part: Parts, *, others: int) -> float | None:
    """Share of the texts whose skeleton (function words and marks, other words blotted out) another text has too."""
    pairs = [(skeleton(one), each) for one, each in zip(text, part, strict=True) if plain_text(one)]
    kept = [
        # One without enough of a skeleton is like no other.
        (found if sum(mark != "_" for mark in found) >= TEMPLATE_WORDS_MIN else (str(place), "alone"), each)
        for place, (found, each) in enumerate(pairs)
    ]
    return diversity.repeat_rate(
        [found for found, _ in kept], others=others, parts=[each for _, each in kept]
    )


@metric(level="set", unit="phrases per 1,000 words", range=(0, None), direction=-1, version=slop.SLOP_VERSION)
def slop_rate(text: Texts) -> float | None:
    """Worn phrases of our own English list, an indicator only; its version is the metric's."""
    return slop.slop_rate(text)


@metric(
    level="set",
    unit="cosine",
    range=(-1, 1),
    direction=-1,
    length_sensitive=True,
    needs="embeddings",
    min_n=2,
)
def embedding_mean_cosine(vectors: Any) -> float | None:
    """How alike the texts' embeddings are, mean over pairs. The scale is the embedding model's own."""
    return diversity.mean_cosine(vectors)


@metric(
    level="set",
    unit="cosine",
    range=(-1, 1),
    direction=-1,
    length_sensitive=True,
    needs="embeddings",
    min_n=2,
    prepare=lambda groups: {"budget": _affordable([len(group[0]) for group in groups], 2)},
)
def embedding_nearest_cosine(vectors: Any, *, budget: int) -> float | None:
    """How alike each text's embedding is to the nearest of the others, among as many in every set."""
    return _mean_of_draws(vectors, budget, diversity.nearest_cosine)


@metric(
    level="set",
    unit="texts",
    range=(0, None),
    direction=1,
    length_sensitive=True,
    needs="embeddings",
    min_n=2,
    prepare=lambda groups: {"budget": _affordable([len(group[0]) for group in groups], 2)},
    reference="Friedman and Dieng 2023",
)
def vendi_score(vectors: Any, *, budget: int, order: float = 1.0) -> float | None:
    """Effective number of different texts by their embeddings, among as many in every set."""
    return _mean_of_draws(vectors, budget, lambda drawn: diversity.vendi_score(drawn, order=order))


def _mean_of_draws(vectors: Any, budget: int, compute: Any) -> float | None:
    rows: NDArray[np.float64] = np.asarray(vectors, dtype=np.float64)
    if len(rows) < budget:
        return None
    if len(rows) == budget:
        value: float | None = compute(rows)
        return value
    generator = np.random.default_rng(diversity.SEED)
    ordered = rows[np.lexsort(rows.T)]  # the value must not depend on the order of the rows
    draws = [generator.choice(len(rows), budget, replace=False) for _ in range(diversity.DRAWS)]
    return float(np.mean([compute(ordered[drawn]) for drawn in draws]))


@metric(level="population", unit="share of tweets", range=(0, 1), direction=1, min_n=4)
def attribution_accuracy(text: Texts, image: Parts, *, function_words_only: bool = False) -> float | None:
    """Share of the texts of which one can tell the writer (nearest centroid); by chance 1 ÷ personas.

    Compare it only between equally many personas. Topics give writers away; very high may be caricature.
    """
    return attribution.attribution_accuracy(text, image, function_words_only=function_words_only)


@metric(level="population", unit="share of personas", range=(0, 1), direction=-1, min_n=2)
def name_top_share(first_name: Texts) -> float | None:
    """Share of the personas with the most frequent first name."""
    return attributes.top_share(first_name)


@metric(level="population", unit="of the most possible", range=(0, 1), direction=1, min_n=2)
def name_entropy(first_name: Texts) -> float | None:
    """How evenly first names are spread: 1 if all differ, 0 if all are one."""
    return attributes.evenness(first_name)


@metric(level="population", unit="of the most possible", range=(0, 1), direction=1, min_n=2)
def occupation_entropy(occupation: Texts) -> float | None:
    """How evenly occupations are spread: 1 if all differ, 0 if all are one."""
    return attributes.evenness(occupation)


@metric(level="population", unit="of the most possible", range=(0, 1), direction=1, min_n=2)
def location_entropy(location: Texts) -> float | None:
    """How evenly places are spread: 1 if all differ, 0 if all are one."""
    return attributes.evenness(location)
