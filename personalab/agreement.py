"""How far raters agree: Krippendorff's alpha, the kappas. 1 is perfect, 0 what chance would give, below 0 worse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from personalab.errors import ConfigError, unknown

Scale = Literal["nominal", "ordinal", "interval", "ratio"]
Weights = Literal["none", "linear", "quadratic"]
_Matrix = NDArray[np.float64]


def krippendorff_alpha(ratings: ArrayLike, scale: Scale = "ordinal") -> float | None:
    """Agreement of any number of raters (rows) on units (columns); NaN is a rating not given.

    None where nothing can be compared: no unit with two ratings, or one value only. Source: Krippendorff, "Computing
    Krippendorff's Alpha-Reliability" (2011).
    """
    if scale not in _DISTANCES:
        raise unknown("scale", scale, _DISTANCES)
    table = np.atleast_2d(np.asarray(ratings, dtype=np.float64))
    values = np.unique(table[~np.isnan(table)])
    counts = (table[:, :, None] == values).sum(axis=0).astype(np.float64)  # units × values
    rated = counts.sum(axis=1)
    counts, rated = counts[rated > 1], rated[rated > 1]
    if len(values) < 2 or not len(counts):
        return None
    shares = counts / (rated - 1)[:, None]
    coincidences = shares.T @ counts - np.diag(shares.sum(axis=0))
    totals = coincidences.sum(axis=0)
    distances = _DISTANCES[scale](values, totals)
    expected = (np.outer(totals, totals) * distances).sum()
    if expected == 0:
        return None
    return float(1 - (totals.sum() - 1) * (coincidences * distances).sum() / expected)


def cohens_kappa(one: Sequence[float], other: Sequence[float], weights: Weights = "none") -> float | None:
    """Agreement of two raters beyond chance. `quadratic` for grades: two apart is four times as bad as one.

    The distance of two grades is that of their places among all grades given. None where both gave one same grade.

    Raises:
        ConfigError: lists of different length, or unknown weights.
    """
    if len(one) != len(other) or not len(one):
        raise ConfigError(
            f"two raters of the same things are needed: one has {len(one)} ratings, the other {len(other)}"
        )
    powers = {"none": 0, "linear": 1, "quadratic": 2}
    if weights not in powers:
        raise unknown("weights", weights, powers)
    values, places = np.unique(np.concatenate([one, other]), return_inverse=True)
    seen = np.zeros((len(values), len(values)))
    np.add.at(seen, (places[: len(one)], places[len(one) :]), 1 / len(one))
    grid = np.arange(len(values))
    apart = np.abs(grid[:, None] - grid)
    cost = (
        (apart > 0).astype(np.float64) if weights == "none" else apart.astype(np.float64) ** powers[weights]
    )
    expected = (np.outer(seen.sum(axis=1), seen.sum(axis=0)) * cost).sum()
    return float(1 - (seen * cost).sum() / expected) if expected else None


def graded_kappa(one: ArrayLike, other: ArrayLike) -> float | None:
    """Quadratic kappa by the distance of the grades themselves, so that means of several ratings may be given as well.

    Of whole grades without a gap it is `cohens_kappa` with `quadratic`. None where both gave one same grade.
    """
    first, second = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    expected = ((first[:, None] - second) ** 2).mean()
    return float(1 - ((first - second) ** 2).mean() / expected) if expected else None


def fleiss_kappa(counts: ArrayLike) -> float | None:
    """Agreement of equally many raters on each unit: `counts` has a row a unit, a column a category (Fleiss 1971).

    Raises:
        ConfigError: units with different numbers of ratings, or with one only.
    """
    table = np.atleast_2d(np.asarray(counts, dtype=np.float64))
    raters = table.sum(axis=1)
    if np.ptp(raters) or raters[0] < 2:
        raise ConfigError(
            "every unit needs the same number of ratings, two or more: use krippendorff_alpha instead"
        )
    each = (table * (table - 1)).sum(axis=1) / (raters * (raters - 1))
    chance = float(((table.sum(axis=0) / table.sum()) ** 2).sum())
    return float((each.mean() - chance) / (1 - chance)) if chance < 1 else None


def _nominal(values: _Matrix, totals: _Matrix) -> _Matrix:
    differ: _Matrix = (values[:, None] != values).astype(np.float64)
    return differ


def _ordinal(values: _Matrix, totals: _Matrix) -> _Matrix:
    # The ratings from one rank to the other, those at the two ends counted half.
    middle = np.cumsum(totals) - totals / 2
    ranks: _Matrix = (middle[:, None] - middle) ** 2
    return ranks


def _interval(values: _Matrix, totals: _Matrix) -> _Matrix:
    squares: _Matrix = (values[:, None] - values) ** 2
    return squares


def _ratio(values: _Matrix, totals: _Matrix) -> _Matrix:
    sums = values[:, None] + values
    shares: _Matrix = np.divide(values[:, None] - values, sums, out=np.zeros_like(sums), where=sums != 0) ** 2
    return shares


_DISTANCES: dict[str, Callable[[_Matrix, _Matrix], _Matrix]] = {
    "nominal": _nominal,
    "ordinal": _ordinal,
    "interval": _interval,
    "ratio": _ratio,
}
