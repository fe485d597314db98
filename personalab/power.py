"""How small an effect so many images can show, and how many images an effect needs (Miller 2024, arXiv 2411.00640).

Of a paired comparison: each unit is seen under both conditions, `replicates` times each. The variance of the mean
difference is (between + within_a ÷ replicates_a + within_b ÷ replicates_b) ÷ units, where `between` is the variance of
the units' true differences and `within` that of one unit's replicates.
"""

from __future__ import annotations

import math
from bisect import bisect_left

from personalab.errors import ConfigError

ALPHA = 0.05
POWER = 0.8
UNITS_MAX = 1_000_000


def difference_variance(
    between: float, within: tuple[float, float] = (0.0, 0.0), replicates: tuple[int, int] = (1, 1)
) -> float:
    """Variance of one unit's measured difference."""
    return between + within[0] / replicates[0] + within[1] / replicates[1]


def minimal_detectable_effect(
    variance: float, units: int, *, alpha: float = ALPHA, power: float = POWER, small: bool = False
) -> float | None:
    """The true difference that is found with probability `power`.

    `variance` is `difference_variance`. By the normal distribution; with `small` by Student's t, which is right for few
    units (within 1 % of the noncentral t from 6 units on) and needs two at least: None below.
    """
    if units < 1 + small:
        return None
    quantiles = _quantile(1 - alpha / 2, units, small) + _quantile(power, units, small)
    return quantiles * math.sqrt(variance / units)


def units_needed(
    variance: float, effect: float, *, alpha: float = ALPHA, power: float = POWER, small: bool = False
) -> int:
    """The fewest units with which a true difference of `effect` is found with probability `power`.

    Raises:
        ConfigError: an effect of 0, or one so small that no million units would do.
    """
    if not effect:
        raise ConfigError("an effect of 0 cannot be found: give the smallest difference that would matter")

    def enough(units: int) -> bool:
        found = minimal_detectable_effect(variance, units, alpha=alpha, power=power, small=small)
        return found is not None and found <= abs(effect)

    most = 1
    while not enough(most):
        most *= 2
        if most > UNITS_MAX:
            raise ConfigError(
                f"an effect of {effect:g} needs more than {UNITS_MAX:,} images: ask for a larger one"
            )
    return bisect_left(range(most), True, key=enough)


def _quantile(share: float, units: int, small: bool) -> float:
    from scipy.special import ndtri, stdtrit

    return float(stdtrit(units - 1, share) if small else ndtri(share))
