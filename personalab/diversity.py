"""How alike the texts of a set are: pure functions over words and texts.

Most such numbers move with the number and length of the texts although the writer is the same. So those that are to be
compared take what they look at as an argument (`budget`, `others`), the same for all sets; where a set holds more, the
value is the mean over what could have been drawn from it: exactly where there is a formula, else over seeded draws.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from personalab.errors import ConfigError
from personalab.words import Item, ngrams

Words = Sequence[str]
Parts = Sequence[Hashable]
"""One label a text: texts of the same part are not compared with each other."""

SAME, SIMILAR = 90.0, 75.0
"""`rapidfuzz.fuzz.ratio`, 0 to 100, from which two texts count as the same, or as similar."""
DRAWS = 20
SEED = 0


def distinct(documents: Sequence[Words], n: int = 2) -> float | None:
    """Share of n-grams that differ, pooled over all documents (Li et al. 2016). Falls with the number of words."""
    counts = Counter(gram for document in documents for gram in ngrams(document, n))
    return len(counts) / counts.total() if counts else None


def distinct_at(
    documents: Sequence[Words], n: int, budget: int, *, draws: int = DRAWS, seed: int = SEED
) -> float | None:
    """Share of `budget` n-grams that differ, mean over draws of the documents' order; None where there are fewer."""
    grams = [list(ngrams(document, n)) for document in documents]
    values = [len(set(drawn)) / budget for drawn in _drawn(grams, budget, draws, seed)]
    return math.fsum(values) / len(values) if values else None


def expectation_adjusted_distinct(documents: Sequence[Words], vocabulary: int) -> float | None:
    """Distinct words over those expected of so many draws from `vocabulary` words (Liu et al. 2022)."""
    total = sum(map(len, documents))
    expected = vocabulary * (1 - ((vocabulary - 1) / vocabulary) ** total)
    return len({word for document in documents for word in document}) / expected if total else None


def compression_ratio(texts: Sequence[str]) -> float | None:
    """Bytes of the joined texts over their bytes compressed by zlib (Shaib et al. 2024). Rises with length."""
    raw = " ".join(texts).encode("utf-8", "replace")
    return len(raw) / len(zlib.compress(raw, 9)) if raw else None


def compression_ratio_at(
    documents: Sequence[Words], budget: int, *, draws: int = DRAWS, seed: int = SEED
) -> float | None:
    """`compression_ratio` of `budget` words, mean over draws of the documents' order; None where there are fewer."""
    values = [compression_ratio(drawn) or 0.0 for drawn in _drawn(documents, budget, draws, seed)]
    return math.fsum(values) / len(values) if values else None


def top_share_at(
    items: Sequence[Hashable], budget: int, *, draws: int = DRAWS, seed: int = SEED
) -> float | None:
    """Share of the most frequent among `budget` items, mean over draws; None where there are fewer."""
    values = [
        Counter(drawn).most_common(1)[0][1] / budget
        for drawn in _drawn([[item] for item in items], budget, draws, seed)
    ]
    return math.fsum(values) / len(values) if values else None


def _drawn(lists: Sequence[Sequence[Item]], budget: int, draws: int, seed: int) -> list[list[Item]]:
    """The first `budget` items of the lists, each time in another order of the lists; nothing if there are fewer."""
    total = sum(map(len, lists))
    if budget < 1 or total < budget:
        return []
    ordered = sorted(lists, key=repr)  # the value must not depend on the order of the rows
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        taken: list[Item] = []
        for place in generator.permutation(len(ordered)):
            taken.extend(ordered[place])
            if len(taken) >= budget:
                break
        found.append(taken[:budget])
    return found


def self_repetition(documents: Sequence[Words], n: int = 4) -> float | None:
    """Mean of ln(1 + number of times a document's n-grams occur in others) (Salkar et al. 2022)."""
    grams = [set(ngrams(document, n)) for document in documents]
    held = Counter(gram for each in grams for gram in each)
    return _mean([math.log1p(sum(held[gram] - 1 for gram in each)) for each in grams])


def shared_ngram_rate(
    documents: Sequence[Words], n: int = 4, *, others: int | None = None, parts: Parts | None = None
) -> float | None:
    """Mean share of a document's n-grams that occur in another, 0 to 1.

    With `others`: in one of so many others, the mean over all choices of them. Documents without n-grams are left out.
    """
    labels = _labels(documents, parts)
    grams = [(set(ngrams(document, n)), label) for document, label in zip(documents, labels, strict=True)]
    grams = [(each, label) for each, label in grams if each]
    sizes = Counter(label for _, label in grams)
    held: dict[Hashable, Counter[Hashable]] = defaultdict(Counter)
    for each, label in grams:
        for gram in each:
            held[gram][label] += 1
    rates = []
    for each, label in grams:
        candidates = len(grams) - sizes[label]
        hits = np.array([held[gram].total() - held[gram][label] for gram in each])
        rate = _chance(hits, np.array(candidates), others)
        if rate is None:
            return None
        rates.append(float(rate.mean()))
    return _mean(rates)


def mean_jaccard(documents: Sequence[Sequence[Hashable]], parts: Parts | None = None) -> float | None:
    """Mean over pairs of the share of their items that both have, 0 to 1. Does not depend on the number of documents."""
    overlap = jaccard_matrix(documents)
    compared = _compared(_labels(documents, parts))
    return float(overlap[compared].mean()) if compared.any() else None


def jaccard_matrix(documents: Sequence[Sequence[Hashable]]) -> NDArray[np.float64]:
    """Jaccard similarity of each document with each, of the sets of their items; two empty ones have 1."""
    from scipy.sparse import csr_array

    places: dict[Hashable, int] = {}
    sets = [{places.setdefault(item, len(places)) for item in document} for document in documents]
    sizes = np.array([len(each) for each in sets])
    columns = np.array([place for each in sets for place in each], dtype=np.int64)
    table = csr_array(
        (np.ones(len(columns)), columns, np.concatenate([[0], np.cumsum(sizes)])),
        shape=(len(sets), max(1, len(places))),
    )
    both = (table @ table.T).toarray()
    either = sizes[:, None] + sizes - both
    overlap: NDArray[np.float64] = np.divide(both, either, out=np.ones_like(both), where=either > 0)
    return overlap


def likeness(texts: Sequence[str], least: float = SIMILAR) -> NDArray[np.float32]:
    """`rapidfuzz.fuzz.ratio` of each text with each, 0 to 100; below `least` 0 stands instead, which is faster."""
    from rapidfuzz import fuzz
    from rapidfuzz.process import cdist

    found: NDArray[np.float32] = cdist(
        texts, texts, scorer=fuzz.ratio, score_cutoff=least, dtype=np.float32, workers=-1
    )
    return found


def near_duplicate_rate(
    texts: Sequence[str], *, threshold: float = SAME, others: int | None = None, parts: Parts | None = None
) -> float | None:
    """Share of the texts that have a near copy among the others, 0 to 1.

    With `others`: among so many others, the mean over all choices of them.
    """
    labels = _labels(texts, parts)
    if not len(texts):
        return None
    compared = _compared(labels)
    partners = ((likeness(texts, threshold) >= threshold) & compared).sum(axis=1)
    rates = _chance(partners, compared.sum(axis=1), others)
    return None if rates is None else float(rates.mean())


def near_duplicate_pairs(
    texts: Sequence[str], *, threshold: float = SIMILAR, parts: Parts | None = None
) -> list[tuple[int, int, float]]:
    """Pairs of near copies by their places, with how alike they are (0 to 100), the most alike first."""
    alike = np.triu(likeness(texts, threshold) * _compared(_labels(texts, parts)), 1)
    found = [
        (int(one), int(other), float(alike[one, other]))
        for one, other in np.argwhere(alike >= max(threshold, 1e-9))
    ]
    return sorted(found, key=lambda pair: -pair[2])


def repeat_rate(
    items: Sequence[Hashable], *, others: int | None = None, parts: Parts | None = None
) -> float | None:
    """Share of the items that occur again among the others, or among so many others; 0 to 1."""
    labels = _labels(items, parts)
    sizes, held = Counter(labels), Counter(items)
    together = Counter(zip(items, labels, strict=True))
    if not items:
        return None
    hits = [held[item] - together[item, label] for item, label in zip(items, labels, strict=True)]
    rates = _chance(np.array(hits), np.array([len(items) - sizes[label] for label in labels]), others)
    return None if rates is None else float(rates.mean())


def mean_cosine(vectors: ArrayLike) -> float | None:
    """Mean cosine over pairs of vectors, −1 to 1."""
    units = _units(vectors)
    count = len(units)
    if count < 2:
        return None
    return float(((units.sum(axis=0) ** 2).sum() - count) / (count * (count - 1)))


def nearest_cosine(vectors: ArrayLike) -> float | None:
    """Mean cosine of each vector with the one nearest to it, −1 to 1. Rises with the number of vectors."""
    units = _units(vectors)
    if len(units) < 2:
        return None
    cosines = units @ units.T
    np.fill_diagonal(cosines, -np.inf)
    return float(cosines.max(axis=1).mean())


def vendi_score(vectors: ArrayLike, *, order: float = 1.0) -> float | None:
    """Effective number of different vectors by their cosines, 1 to n (Friedman and Dieng 2023)."""
    units = _units(vectors)
    if not len(units):
        return None
    shares = np.linalg.eigvalsh(units @ units.T / len(units))
    shares = shares[shares > 1e-12]
    if order == 1:
        return float(np.exp(-(shares * np.log(shares)).sum()))
    if math.isinf(order):
        return float(1 / shares.max())
    return float((shares**order).sum() ** (1 / (1 - order)))


def _units(vectors: ArrayLike) -> NDArray[np.float64]:
    table = np.atleast_2d(np.asarray(vectors, dtype=np.float64))
    if not table.size:
        return table[:0]
    lengths = np.linalg.norm(table, axis=1, keepdims=True)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise ConfigError("a vector is zero or not finite, so it has no direction: leave its text out")
    units: NDArray[np.float64] = table / lengths
    return units


def _chance(
    hits: NDArray[np.int64], candidates: NDArray[np.int64], others: int | None
) -> NDArray[np.float64] | None:
    """Chance that one of the hits is among `others` candidates drawn without replacement.

    1 − C(candidates − hits, others) ÷ C(candidates, others). None where somewhere there are not so many candidates.
    """
    from scipy.special import gammaln

    if candidates.min() < (others or 1):
        return None
    if others is None:
        return (hits > 0).astype(np.float64)
    left = candidates - hits
    possible = left >= others  # else any draw holds a hit
    safe = np.where(possible, left, others)
    logs = (
        gammaln(safe + 1)
        - gammaln(safe - others + 1)
        - gammaln(candidates + 1)
        + gammaln(candidates - others + 1)
    )
    chance: NDArray[np.float64] = np.where(hits == 0, 0.0, 1 - np.where(possible, np.exp(logs), 0.0))
    return chance


def _labels(items: Sequence[object], parts: Parts | None) -> list[Hashable]:
    return list(range(len(items))) if parts is None else list(parts)


def _compared(labels: Sequence[Hashable]) -> NDArray[np.bool_]:
    """Which texts are compared with which: those of different parts."""
    numbers: dict[Hashable, int] = {}
    codes = np.array([numbers.setdefault(label, len(numbers)) for label in labels], dtype=np.int64)
    compared: NDArray[np.bool_] = codes[:, None] != codes
    return compared


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
