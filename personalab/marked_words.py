"""The words that tell two groups of texts apart: log odds with a prior, "Fightin' Words" (Monroe et al. 2008).

An exploratory list: many words are tested at once, and texts from one image are not independent of each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from personalab.errors import ConfigError
from personalab.stats import holm
from personalab.words import plain_words

if TYPE_CHECKING:
    import pandas as pd

MARKED_Z = 1.96
FLAT_PRIOR = 0.01
COLUMNS = ("word", "delta", "z", "p_adj", "count_a", "count_b", "texts_a", "texts_b")


def marked_words(
    texts_a: Iterable[str], texts_b: Iterable[str], *, prior: float | Mapping[str, float] | None = None
) -> pd.DataFrame:
    """One row per word, those of `texts_b` first (z > 0), those of `texts_a` last (z < 0).

    `delta` is the difference of log odds (b − a), `z` delta in standard errors, `p_adj` Holm's over all words, `texts_a`
    the number of texts with the word. The prior is the words' counts in both groups together, one number for each
    word, or counts from elsewhere (0.01 for words that are not there).

    Raises:
        ConfigError: a group without words.
    """
    import pandas as pd
    from scipy.special import ndtr

    a, b = _Counted(texts_a), _Counted(texts_b)
    vocabulary = sorted(a.words | b.words)
    counts_a, counts_b = (np.array([each.words[word] for word in vocabulary], dtype=float) for each in (a, b))
    if not counts_a.sum() or not counts_b.sum():
        raise ConfigError("marked words need two groups of texts with words: one of them has none")
    before = _prior(prior, vocabulary, counts_a + counts_b)
    delta = _log_odds(counts_b, before) - _log_odds(counts_a, before)
    z = delta / np.sqrt(1 / (counts_a + before) + 1 / (counts_b + before))
    frame = pd.DataFrame(
        {
            "word": vocabulary,
            "delta": delta,
            "z": z,
            "p_adj": holm(list(2 * ndtr(-np.abs(z)))),
            "count_a": counts_a.astype(int),
            "count_b": counts_b.astype(int),
            "texts_a": [a.texts[word] for word in vocabulary],
            "texts_b": [b.texts[word] for word in vocabulary],
        },
        columns=list(COLUMNS),
    )
    return frame.sort_values("z", ascending=False, kind="stable", ignore_index=True)


def marked_against_all(
    groups: Mapping[str, Sequence[str]], group: str, *, threshold: float = MARKED_Z
) -> list[str]:
    """The words that mark `group` against every other group (Cheng et al. 2023), the most marked first.

    The prior is the counts of all groups together.

    Raises:
        ConfigError: no such group, or no other.
    """
    others = [name for name in groups if name != group]
    if group not in groups or not others:
        raise ConfigError(
            f"group {group!r} needs to be one of two groups or more: {', '.join(map(repr, groups)) or 'none'}"
        )
    pooled = _Counted(text for texts in groups.values() for text in texts).words
    lowest: dict[str, float] = {}
    for number, other in enumerate(others):
        frame = marked_words(groups[other], groups[group], prior=pooled)
        found = dict(zip(frame["word"], frame["z"], strict=True))
        lowest = {
            word: min(z, lowest.get(word, z))
            for word, z in found.items()
            if z > threshold and (number == 0 or word in lowest)
        }
    return sorted(lowest, key=lambda word: -lowest[word])


class _Counted:
    """How often each word occurs, and in how many texts."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.words: Counter[str] = Counter()
        self.texts: Counter[str] = Counter()
        for text in texts:
            found = plain_words(text)
            self.words.update(found)
            self.texts.update(set(found))


def _prior(
    prior: float | Mapping[str, float] | None, vocabulary: Sequence[str], pooled: NDArray[np.float64]
) -> NDArray[np.float64]:
    if prior is None:
        return pooled
    if isinstance(prior, Mapping):
        return np.array([prior.get(word, 0.0) or FLAT_PRIOR for word in vocabulary])
    if prior <= 0:
        raise ConfigError(
            f"a prior of {prior:g} leaves words unknown that one group never uses: give 0.01 or more"
        )
    return np.full(len(vocabulary), float(prior))


def _log_odds(counts: NDArray[np.float64], prior: NDArray[np.float64]) -> NDArray[np.float64]:
    smoothed = counts + prior
    odds: NDArray[np.float64] = np.log(smoothed / np.maximum(smoothed.sum() - smoothed, FLAT_PRIOR))
    return odds
