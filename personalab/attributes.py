"""How often names, occupations, places and ages repeat in a set of personas. Pure functions over values.

Images differ, and so may the people in them: compare settings only on the same set of images.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from personalab.errors import ConfigError
from personalab.records import Record

CHI_SQUARE_EXPECTED_MIN = 5


def counted(values: Sequence[Any]) -> Counter[str]:
    """How often each value occurs; capitals and spaces do not make a difference, empty and unknown ones are left out."""
    plain = (
        " ".join(unicodedata.normalize("NFC", str(value)).casefold().split())
        for value in values
        if known(value)
    )
    return Counter(value for value in plain if value)


def known(value: Any) -> bool:
    """Whether there is a value: neither None nor NaN."""
    return value is not None and value == value


def top_share(values: Sequence[Any]) -> float | None:
    """Share of the most frequent value."""
    counts = counted(values)
    return counts.most_common(1)[0][1] / counts.total() if counts else None


def distinct_share(values: Sequence[Any]) -> float | None:
    """Different values over values."""
    counts = counted(values)
    return len(counts) / counts.total() if counts else None


def evenness(values: Sequence[Any]) -> float | None:
    """Entropy over the most that so many values could have, ln n: 1 if all differ, 0 if all are the same."""
    counts = counted(values)
    if counts.total() < 2:
        return None
    return entropy(list(counts.values())) / math.log(counts.total())


def entropy(counts: Sequence[float]) -> float:
    """Entropy of a distribution, in nats."""
    total = math.fsum(counts)
    return -math.fsum(count / total * math.log(count / total) for count in counts if count)


def effective_number(counts: Sequence[float]) -> float:
    """How many equally frequent values would be as diverse: exp of the entropy."""
    return math.exp(entropy(counts))


def simpson(counts: Sequence[float]) -> float:
    """Chance that two drawn with replacement differ."""
    total = math.fsum(counts)
    return 1 - math.fsum((count / total) ** 2 for count in counts)


class Coverage(Record):
    """How far counts over known categories are from what was expected.

    `covered`: share of the categories that occur. `evenness`: entropy over ln of the categories, None for one only.
    `variation`: total variation, 0 to 1. `divergence_bits`: Jensen and Shannon's, 0 to 1. `divergence_nats`: Kullback and
    Leibler's, None where something came that was never expected. `chi_square` with `p`; p is None where less than 5 are
    expected in some category and it would not hold, unless asked for.
    """

    covered: float
    evenness: float | None
    effective: float
    simpson: float
    variation: float
    divergence_bits: float
    divergence_nats: float | None
    chi_square: float | None
    p: float | None


def coverage(
    counts: Mapping[str, int] | Sequence[int],
    expected: Mapping[str, float] | Sequence[float] | None = None,
    *,
    expected_min: float = CHI_SQUARE_EXPECTED_MIN,
) -> Coverage:
    """Counts over all known categories (those with 0 too) against expected shares; evenly, where none are given.

    Raises:
        ConfigError: no counts, or other categories expected.
    """
    if isinstance(counts, Mapping):
        if isinstance(expected, Mapping) and expected.keys() != counts.keys():
            strange = ", ".join(sorted(map(str, expected.keys() ^ counts.keys())))
            raise ConfigError(
                f"counts and expected shares have other categories: {strange}: give both the same"
            )
        expected = [expected[name] for name in counts] if isinstance(expected, Mapping) else expected
        counts = list(counts.values())
    wanted = (
        list(expected.values()) if isinstance(expected, Mapping) else list(expected or [1.0] * len(counts))
    )
    total = sum(counts)
    if not total or len(wanted) != len(counts) or math.fsum(wanted) <= 0:
        raise ConfigError(
            "coverage needs counts above 0 and an expected share for each: give all known categories"
        )
    p = [count / total for count in counts]
    q = [each / math.fsum(wanted) for each in wanted]
    middle = [(one + other) / 2 for one, other in zip(p, q, strict=True)]
    apart = _kullback_leibler(p, q)
    chi_square, chance = _chi_square(counts, [total * each for each in q], expected_min)
    return Coverage(
        covered=sum(count > 0 for count in counts) / len(counts),
        evenness=entropy(counts) / math.log(len(counts)) if len(counts) > 1 else None,
        effective=effective_number(counts),
        simpson=simpson(counts),
        variation=math.fsum(abs(one - other) for one, other in zip(p, q, strict=True)) / 2,
        divergence_bits=((_kullback_leibler(p, middle) or 0.0) + (_kullback_leibler(q, middle) or 0.0))
        / (2 * math.log(2)),
        divergence_nats=apart,
        chi_square=chi_square,
        p=chance,
    )


def _kullback_leibler(p: Sequence[float], q: Sequence[float]) -> float | None:
    if any(one and not other for one, other in zip(p, q, strict=True)):
        return None
    return math.fsum(one * math.log(one / other) for one, other in zip(p, q, strict=True) if one)


def _chi_square(
    counts: Sequence[int], expected: Sequence[float], expected_min: float
) -> tuple[float | None, float | None]:
    from scipy.special import chdtrc

    if not all(expected) or len(counts) < 2:
        return None, None
    statistic = math.fsum((count - each) ** 2 / each for count, each in zip(counts, expected, strict=True))
    chance = float(chdtrc(len(counts) - 1, statistic)) if min(expected) >= expected_min else None
    return statistic, chance
