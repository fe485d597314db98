"""Statistics of few units: intervals, paired tests, effect sizes, trend. Pure functions over numbers.

The unit is whatever is independent of the others: here the image, so each value is one image's mean. NaN is refused by
none and removed by none: whoever calls decides what is missing. What cannot be said is None.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from personalab.errors import ConfigError
from personalab.records import Record

CONFIDENCE = 0.95
RESAMPLES = 9999
SEED = 0
BCA_FROM = 20
"""Units from which a mean's interval is bootstrapped; below, the bootstrap is too narrow (docs/statistics.md)."""
EXACT_UNITS_MAX = 20
"""Units up to which all 2^n flips of signs are tried; beyond, `RESAMPLES` random ones."""
_TABLE_UNITS_MAX = 500
"""Units up to which what is drawn is kept as a table, 40 MB at most."""

Numbers = NDArray[np.float64]


class Interval(Record):
    """Where a value lies with the confidence asked for, and how that was found: t, bca, constant, wilson, exact."""

    low: float
    high: float
    method: str

    def excludes(self, value: float) -> bool:
        """Whether `value` lies outside."""
        return not self.low <= value <= self.high


def mean_interval(
    values: ArrayLike,
    *,
    confidence: float = CONFIDENCE,
    method: str | None = None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Interval | None:
    """Interval of the mean: by Student's t below 20 units, by bias-corrected bootstrap (BCa) from there on.

    None for fewer than two values.

    Raises:
        ConfigError: a method other than t and bca.
    """
    options = {"confidence": confidence, "method": method, "resamples": resamples, "seed": seed}
    return mean_intervals([values], **options)[0]  # type: ignore[arg-type]


def mean_intervals(
    samples: Sequence[ArrayLike],
    *,
    confidence: float = CONFIDENCE,
    method: str | None = None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> list[Interval | None]:
    """`mean_interval` of each sample. Those of one length are resampled together, which is several times as fast."""
    if method not in (None, "t", "bca"):
        raise ConfigError(f"unknown interval {method!r}: known: bca, t")
    arrays = [_numbers(values) for values in samples]
    found: list[Interval | None] = [None] * len(arrays)
    by_length: dict[int, list[int]] = {}
    for place, numbers in enumerate(arrays):
        if len(numbers) < 2:
            continue
        if is_constant(numbers):
            found[place] = Interval(low=float(numbers[0]), high=float(numbers[0]), method="constant")
        elif method == "t" or (method is None and len(numbers) < BCA_FROM):
            found[place] = _t_interval(numbers, confidence)
        else:
            by_length.setdefault(len(numbers), []).append(place)
    for places in by_length.values():
        drawn = resampled_means(np.stack([arrays[place] for place in places], axis=1), resamples, seed)
        for column, place in enumerate(places):
            found[place] = _bca_interval(arrays[place], drawn[:, column], confidence)
    return found


def is_constant(values: ArrayLike) -> bool:
    """Whether all values are the same but for rounding."""
    numbers = _numbers(values)
    return bool(len(numbers) and np.ptp(numbers) <= 1e-12 * np.abs(numbers).max())


def _t_interval(numbers: Numbers, confidence: float) -> Interval:
    from scipy.special import stdtrit

    half = stdtrit(len(numbers) - 1, (1 + confidence) / 2) * numbers.std(ddof=1) / len(numbers) ** 0.5
    return Interval(low=float(numbers.mean() - half), high=float(numbers.mean() + half), method="t")


def _bca_interval(numbers: Numbers, drawn: Numbers, confidence: float) -> Interval:
    """Efron's bias-corrected and accelerated bootstrap of the mean."""
    from scipy.special import ndtr, ndtri

    mean, resamples = numbers.mean(), len(drawn)
    below = ((drawn < mean).mean() + (drawn <= mean).mean()) / 2
    bias = ndtri(np.clip(below, 0.5 / resamples, 1 - 0.5 / resamples))
    off = mean - numbers
    # The jackknife's skewness: leaving out x moves the mean by (mean − x) ÷ (n − 1).
    acceleration = -(off**3).sum() / (6 * (off**2).sum() ** 1.5)
    z = ndtri(np.array([(1 - confidence) / 2, (1 + confidence) / 2]))
    shares = ndtr(bias + (bias + z) / (1 - acceleration * (bias + z)))
    low, high = np.quantile(drawn, shares)
    return Interval(low=float(low), high=float(high), method="bca")


def resampled_means(numbers: Numbers, resamples: int = RESAMPLES, seed: int = SEED) -> Numbers:
    """Means of samples drawn with replacement, for each column if there are several.

    Of equal length always the same places are drawn.
    """
    units = len(numbers)
    if units <= _TABLE_UNITS_MAX:
        means: Numbers = draw_counts(units, resamples, seed) @ numbers / units
        return means
    generator = np.random.default_rng(seed)
    return np.array([numbers[generator.integers(0, units, units)].mean(axis=0) for _ in range(resamples)])


@lru_cache(maxsize=2)
def draw_counts(units: int, resamples: int, seed: int) -> Numbers:
    """How often each unit is drawn in each resample, one row a resample.

    Counts instead of places: then all contrasts over the same units share one table, and a mean is a product.
    """
    shares = np.full(units, 1 / units)
    counts = np.random.default_rng(seed).multinomial(units, shares, size=resamples).astype(np.float64)
    counts.setflags(write=False)
    return counts


def _random_sums(numbers: Numbers, resamples: int, seed: int) -> Numbers:
    """Sums of the numbers with random signs, for each column if there are several."""
    if len(numbers) <= _TABLE_UNITS_MAX:
        sums: Numbers = _random_signs(len(numbers), resamples, seed) @ numbers
        return sums
    generator = np.random.default_rng(seed)
    return np.array([_signs(generator, len(numbers)) @ numbers for _ in range(resamples)])


@lru_cache(maxsize=2)
def _random_signs(units: int, resamples: int, seed: int) -> Numbers:
    signs = _signs(np.random.default_rng(seed), (resamples, units))
    signs.setflags(write=False)
    return signs


def _signs(generator: np.random.Generator, shape: int | tuple[int, int]) -> Numbers:
    return generator.integers(0, 2, shape).astype(np.float64) * 2 - 1


def wilson_interval(successes: int, trials: int, *, confidence: float = CONFIDENCE) -> Interval:
    """Wilson's score interval of a share."""
    from scipy.special import ndtri

    _share(successes, trials)
    z = float(ndtri((1 + confidence) / 2))
    share, spread = successes / trials, z * z / trials
    centre = (share + spread / 2) / (1 + spread)
    half = z * (share * (1 - share) / trials + spread / (4 * trials)) ** 0.5 / (1 + spread)
    return Interval(low=max(0.0, centre - half), high=min(1.0, centre + half), method="wilson")


def exact_interval(successes: int, trials: int, *, confidence: float = CONFIDENCE) -> Interval:
    """Clopper and Pearson's interval of a share: never too narrow."""
    from scipy.special import betaincinv

    _share(successes, trials)
    tail = (1 - confidence) / 2
    low = betaincinv(successes, trials - successes + 1, tail) if successes else 0.0
    high = betaincinv(successes + 1, trials - successes, 1 - tail) if successes < trials else 1.0
    return Interval(low=float(low), high=float(high), method="exact")


def standard_error(values: ArrayLike) -> float | None:
    """Standard error of the mean; None for fewer than two values."""
    numbers = _numbers(values)
    return float(numbers.std(ddof=1) / len(numbers) ** 0.5) if len(numbers) > 1 else None


def clustered_error(values: ArrayLike, clusters: Sequence[Hashable]) -> float | None:
    """Standard error of the mean of values that come in clusters (Miller 2024, arXiv 2411.00640).

    Too small below some fifty clusters: prefer `mean_interval` of the clusters' means.
    """
    numbers = _numbers(values)
    error = standard_error(numbers)
    if error is None:
        return None
    off = numbers - numbers.mean()
    sums: dict[Hashable, float] = {}
    for cluster, each in zip(clusters, off, strict=True):
        sums[cluster] = sums.get(cluster, 0.0) + float(each)
    # The sum over pairs within a cluster is the square of its sum without the squares.
    pairs = sum(total**2 for total in sums.values()) - float((off**2).sum())
    return float(max(0.0, error**2 + pairs / len(numbers) ** 2) ** 0.5)


def sign_flip_p(differences: ArrayLike, *, resamples: int = RESAMPLES, seed: int = SEED) -> float | None:
    """Two-sided p of paired differences: how often flipping signs gives a mean as far from 0 as the one seen.

    Exact (all 2^n flips) up to 20 differences, else of `resamples` random flips, (hits + 1) ÷ (resamples + 1). None
    without differences.
    """
    return sign_flip_ps([differences], resamples=resamples, seed=seed)[0]


def sign_flip_ps(
    samples: Sequence[ArrayLike], *, resamples: int = RESAMPLES, seed: int = SEED
) -> list[float | None]:
    """`sign_flip_p` of each sample. Those of one length are flipped together, which is several times as fast."""
    arrays = [_numbers(differences) for differences in samples]
    found: list[float | None] = [None] * len(arrays)
    by_length: dict[int, list[int]] = {}
    for place, numbers in enumerate(arrays):
        if len(numbers) > EXACT_UNITS_MAX:
            by_length.setdefault(len(numbers), []).append(place)
        elif len(numbers):
            found[place] = _exact_p(numbers)
    for places in by_length.values():
        sums = _random_sums(np.stack([arrays[place] for place in places], axis=1), resamples, seed)
        for column, place in enumerate(places):
            hits = (np.abs(sums[:, column]) >= _seen(arrays[place])).sum()
            found[place] = float((hits + 1) / (resamples + 1))
    return found


def _exact_p(numbers: Numbers) -> float:
    sums = numbers[:1]  # the first sign stays: flipping all of them changes no distance from 0
    for each in numbers[1:]:
        sums = np.concatenate([sums + each, sums - each])
    return float((np.abs(sums) >= _seen(numbers)).mean())


def _seen(numbers: Numbers) -> float:
    """How far from 0 the sum is. Sums that are equal but for rounding have to count as equal."""
    return float(abs(numbers.sum()) - 1e-12 * np.abs(numbers).sum())


def sign_flip_floor(units: int, *, resamples: int = RESAMPLES) -> float | None:
    """The smallest p that `sign_flip_p` can give: 2 ÷ 2^n where it is exact."""
    if units < 1:
        return None
    return 2 / 2**units if units <= EXACT_UNITS_MAX else 1 / (resamples + 1)


def sign_flip_level(units: int, alpha: float, *, resamples: int = RESAMPLES) -> float | None:
    """The largest p below `alpha` that `sign_flip_p` can give: p comes in steps. None where it can give none."""
    step = sign_flip_floor(units, resamples=resamples)
    if step is None or step >= alpha:
        return None
    return (math.ceil(alpha / step) - 1) * step


def sign_flip_name(units: int) -> str:
    """What `sign_flip_p` does for so many differences."""
    return "exact sign flip" if units <= EXACT_UNITS_MAX else "random sign flip"


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p values corrected for being several (Holm 1979); None stays None and does not count."""
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, place) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        corrected[place] = highest
    return corrected


def mcnemar_p(only_a: int, only_b: int) -> float:
    """Exact two-sided p of a yes-or-no outcome seen under both conditions; the arguments count the units that differ."""
    from scipy.special import bdtr

    discordant = only_a + only_b
    return min(1.0, 2 * float(bdtr(min(only_a, only_b), discordant, 0.5))) if discordant else 1.0


def cliffs_delta(a: ArrayLike, b: ArrayLike) -> float | None:
    """P(a value of b is higher) − P(it is lower), −1 to 1; None if either is empty. 2·A12 − 1 (Vargha and Delaney)."""
    first, second = np.sort(_numbers(a)), _numbers(b)
    if not len(first) or not len(second):
        return None
    below = np.searchsorted(first, second, "left").sum()
    above = (len(first) - np.searchsorted(first, second, "right")).sum()
    return float((below - above) / (len(first) * len(second)))


def standardised_difference(differences: ArrayLike) -> float | None:
    """Mean difference in standard deviations of the differences (d_z); None where they do not vary."""
    numbers = _numbers(differences)
    if len(numbers) < 2 or is_constant(numbers):
        return None
    return float(numbers.mean() / numbers.std(ddof=1))


def agreement(differences: ArrayLike) -> float | None:
    """Share of the units that go the way most go, 0 to 1; a difference of 0 goes no way."""
    numbers = _numbers(differences)
    if not len(numbers):
        return None
    return float(max((numbers > 0).sum(), (numbers < 0).sum()) / len(numbers))


def slopes(table: ArrayLike, levels: ArrayLike) -> Numbers:
    """Slope of each row (least squares) over the levels: change of the value for one step of 1 of the level."""
    rows, x = np.atleast_2d(np.asarray(table, dtype=np.float64)), _numbers(levels)
    centred = x - x.mean()
    found: Numbers = (rows - rows.mean(axis=1, keepdims=True)) @ centred / (centred @ centred)
    return found


class PageTrend(Record):
    """Page's L, and p of the values rising from column to column (`rising`), falling, or either (`p`, two-sided)."""

    statistic: float
    rising: float
    falling: float

    @property
    def p(self) -> float:
        """Two-sided: twice the smaller."""
        return min(1.0, 2 * min(self.rising, self.falling))


def page_trend(table: ArrayLike) -> PageTrend | None:
    """Page's test of an ordered trend (1963): one row a unit, one column a level in order. None below three levels."""
    from scipy.stats import page_trend_test

    rows = np.atleast_2d(np.asarray(table, dtype=np.float64))
    if rows.shape[0] < 2 or rows.shape[1] < 3:
        return None
    rising, falling = page_trend_test(rows), page_trend_test(rows[:, ::-1])
    return PageTrend(
        statistic=float(rising.statistic), rising=float(rising.pvalue), falling=float(falling.pvalue)
    )


def _numbers(values: ArrayLike) -> Numbers:
    return np.asarray(values, dtype=np.float64).ravel()


def _share(successes: int, trials: int) -> None:
    if not 0 <= successes <= trials or trials < 1:
        raise ConfigError(
            f"{successes} of {trials} is no share: give 0 ≤ successes ≤ trials and one trial or more"
        )
