"""Whether one can tell who wrote a text: the share of texts that are nearest to their own writer's others.

High means that personas have voices of their own, until it means caricature. Topics and names give writers away as
well as style does, so mentions, hashtags, addresses, emoji and the names given are left out; `function_words_only` leaves
nothing but style.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import regex

from personalab.words import FUNCTION_WORDS, plain_text, plain_words

if TYPE_CHECKING:
    from scipy.sparse import csr_array

GRAMS = (3, 4, 5)
"""Lengths of the runs of characters by which texts are compared."""


def attribution_accuracy(
    texts: Sequence[str],
    writers: Sequence[Hashable],
    *,
    names: Iterable[str] = (),
    function_words_only: bool = False,
) -> float | None:
    """Share of the texts told right, 0 to 1; by chance 1 ÷ number of writers.

    Each text is left out in turn and given to the writer whose centroid is nearest, by cosines of its 3- to 5-grams of
    characters (1 + ln tf, smoothed idf). Where two are equally near, the share that guessing would get. None with fewer
    than two writers who have two texts each; those with one are left out.
    """
    counts = Counter(writers)
    kept = [(text, writer) for text, writer in zip(texts, writers, strict=True) if counts[writer] > 1]
    known = sorted({writer for _, writer in kept}, key=repr)
    if len(known) < 2:
        return None
    masked = [_masked(text, names, function_words_only) for text, _ in kept]
    place = {writer: number for number, writer in enumerate(known)}
    own = np.array([place[writer] for _, writer in kept])
    table = _weights(masked)
    membership = np.zeros((len(known), len(kept)))
    membership[own, np.arange(len(kept))] = 1.0
    sums = (table.T @ membership.T).T
    near = table @ sums.T
    lengths = np.maximum((sums**2).sum(axis=1), 1e-30)
    rows = np.arange(len(kept))
    squares = np.asarray(table.multiply(table).sum(axis=1)).ravel()
    # Leaving a text out of its own writer's sum: x·(S − x) ÷ |S − x|, without building S − x.
    mine = near[rows, own]
    without = lengths[own] - 2 * mine + squares
    cosines = near / np.sqrt(lengths)
    cosines[rows, own] = (mine - squares) / np.sqrt(np.maximum(without, 1e-30))
    best = cosines >= cosines.max(axis=1, keepdims=True) - 1e-12
    return float((best[rows, own] / best.sum(axis=1)).mean())


def _masked(text: str, names: Iterable[str], function_words_only: bool) -> str:
    if function_words_only:
        return " ".join(word for word in plain_words(text) if word in FUNCTION_WORDS)
    plain = plain_text(text)
    for name in names:
        plain = regex.sub(rf"(?<!\w){regex.escape(name.lower())}(?!\w)", " ", plain)
    return " ".join(plain.split())


def _weights(texts: Sequence[str]) -> csr_array:
    """One row a text, one column a run of characters: TF-IDF of length 1."""
    from scipy.sparse import csr_array, diags_array

    places: dict[str, int] = {}
    rows, columns, values = [], [], []
    for row, text in enumerate(texts):
        counts = Counter(text[start : start + n] for n in GRAMS for start in range(len(text) - n + 1))
        for gram, count in counts.items():
            rows.append(row)
            columns.append(places.setdefault(gram, len(places)))
            values.append(1 + math.log(count))
    table = csr_array((values, (rows, columns)), shape=(len(texts), max(1, len(places))), dtype=float)
    holding = np.bincount(columns, minlength=table.shape[1])
    table = table @ diags_array(np.log((1 + len(texts)) / (1 + holding)) + 1)
    lengths = np.sqrt(np.asarray(table.multiply(table).sum(axis=1)).ravel())
    return csr_array(
        diags_array(np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)) @ table
    )
