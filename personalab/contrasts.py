"""Differences between levels, and the trend over them, judged: intervals, tests, effect sizes."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from personalab import stats
from personalab.comparison_checks import each_row, is_shown
from personalab.power import minimal_detectable_effect
from personalab.registry import Metric

if TYPE_CHECKING:
    import pandas as pd

Contrasts = Literal["default", "adjacent", "baseline", "all"]
KINDS = ("default", "adjacent", "baseline", "all")

_CONTRAST_COLUMNS = (
    "n_pairs", "n_dropped_units", "diff", "diff_rel", "se", "ci_low", "ci_high", "ci_method", "p", "p_adj", "adjust",
    "n_contrasts", "p_floor", "test", "agree", "d_z", "cliffs_delta", "mde_80", "favours",
)  # fmt: skip
_NUMBER_COLUMNS = (
    "diff", "diff_rel", "se", "ci_low", "ci_high", "p", "p_adj", "p_floor", "agree", "d_z", "cliffs_delta", "mde_80",
)  # fmt: skip


def level_pairs(levels: list[Any], contrasts: Contrasts, baseline: Any) -> list[tuple[Any, Any]]:
    """The pairs of levels to be compared."""
    adjacent = list(itertools.pairwise(levels))
    against = [(baseline, level) for level in levels if level != baseline]
    if contrasts == "all":
        return [(one, other) for place, one in enumerate(levels) for other in levels[place + 1 :]]
    if contrasts == "adjacent":
        return adjacent
    if contrasts == "baseline":
        return against
    # A pair is one contrast whichever way round it stands.
    return [*adjacent, *(pair for pair in against if pair not in adjacent and pair[::-1] not in adjacent)]


Bounds = tuple[float | None, float | None]
"""Lowest and highest value there can be, None where open."""


def bounds_of(cells: pd.DataFrame, known: Metric | None) -> Bounds:
    """The metric's range; open where values pass it, as those of a column with a metric's name may."""
    low, high = known.range if known else (None, None)
    values = cells.to_numpy()
    return (
        None if low is None or (values < low).any() else low,
        None if high is None or (values > high).any() else high,
    )


def within(interval: stats.Interval | None, bounds: Bounds) -> stats.Interval | None:
    """The part of an interval where the true value can lie: it is found there as often as in the whole."""
    if interval is None:
        return None
    low, high = bounds
    return interval.model_copy(
        update={
            "low": interval.low if low is None else max(low, interval.low),
            "high": interval.high if high is None else min(high, interval.high),
        }
    )


@dataclasses.dataclass(frozen=True)
class Method:
    """How means and differences are judged."""

    alpha: float
    resamples: int
    seed: int

    def intervals(self, samples: Sequence[Any]) -> list[stats.Interval | None]:
        """Interval of the mean of each sample."""
        return stats.mean_intervals(
            samples, confidence=1 - self.alpha, resamples=self.resamples, seed=self.seed
        )

    def p_values(self, samples: Sequence[Any]) -> list[float | None]:
        """Two-sided p of each sample of differences; None for one difference or none."""
        found = stats.sign_flip_ps(samples, resamples=self.resamples, seed=self.seed)
        return [p if len(sample) > 1 else None for p, sample in zip(found, samples, strict=True)]

    def contrasts(
        self, cells: pd.DataFrame, pairs: list[tuple[Any, Any]], known: Metric | None, direction: int = 0
    ) -> pd.DataFrame:
        """One row a pair of levels. `direction`: 1 if higher is better, −1 if lower, 0 if neither."""
        import pandas as pd

        whole = [cells[[a, b]].dropna().to_numpy() for a, b in pairs]
        differences = [table[:, 1] - table[:, 0] for table in whole]
        low, high = bounds_of(cells, known)
        widest = high - low if low is not None and high is not None else None
        bounds = (-widest, widest) if widest is not None else (None, None)
        intervals = [within(each, bounds) for each in self.intervals(differences)]
        p_values = self.p_values(differences)
        rows = [
            {
                "a": a,
                "b": b,
                "n_dropped_units": len(cells[[a, b]].dropna(how="all")) - len(table),
                **self._contrast(table, interval),
                "p": p,
                "p_adj": adjusted,
                "adjust": "holm",
                "n_contrasts": len(pairs),
            }
            for (a, b), table, interval, p, adjusted in zip(
                pairs, whole, intervals, p_values, stats.holm(p_values), strict=True
            )
        ]
        contrasts = pd.DataFrame(rows, columns=["a", "b", *_CONTRAST_COLUMNS]).astype(
            dict.fromkeys(_NUMBER_COLUMNS, float)
        )
        contrasts["favours"] = favours(contrasts, direction, self.alpha)
        return contrasts

    def _contrast(self, table: Any, interval: stats.Interval | None) -> dict[str, Any]:
        """Numbers of one contrast. `table`: the complete pairs, a in the first column and b in the second."""
        one, other = table[:, 0], table[:, 1]
        differences, count = other - one, len(table)
        error = stats.standard_error(differences)
        diff = float(differences.mean()) if count else None
        base = abs(float(one.mean())) if count else 0.0
        return {
            "n_pairs": count,
            "diff": diff,
            "diff_rel": diff / base if diff is not None and base else None,
            "se": error,
            "ci_low": interval.low if interval else None,
            "ci_high": interval.high if interval else None,
            "ci_method": interval.method if interval else None,
            "p_floor": stats.sign_flip_floor(count, resamples=self.resamples),
            "test": stats.sign_flip_name(count) if count > 1 else None,
            "agree": stats.agreement(differences),
            "d_z": stats.standardised_difference(differences),
            "cliffs_delta": stats.cliffs_delta(one, other),
            "mde_80": self._detectable(error, count),
        }

    def _detectable(self, error: float | None, count: int) -> float | None:
        """The difference that four of five such studies would find; None where the test can find none."""
        level = stats.sign_flip_level(count, self.alpha, resamples=self.resamples)
        if error is None or level is None:
            return None
        return minimal_detectable_effect(error**2 * count, count, alpha=level, small=True)


def favours(contrasts: pd.DataFrame, direction: int, alpha: float) -> list[str]:
    """`a` or `b` where the interval excludes 0 and the corrected p is below alpha, else `unclear`; `-` without direction."""
    return [
        "-"
        if not direction
        else ("b" if row.diff * direction > 0 else "a")
        if is_shown(row, alpha)
        else "unclear"
        for row in each_row(contrasts)
    ]


def trend_of(cells: pd.DataFrame, levels: list[Any], method: Method) -> pd.DataFrame:
    """One row: the mean slope of the units seen under all levels, and Page's test. Empty where there is no trend."""
    import pandas as pd

    columns = ["n_units", "slope", "ci_low", "ci_high", "ci_method", "p", "page_l", "page_p"]
    numeric = all(
        isinstance(level, int | float | np.number) and not isinstance(level, bool) for level in levels
    )
    whole = cells.dropna()
    if not numeric or len(levels) < 3 or whole.empty:
        return pd.DataFrame(columns=columns)
    steepness = stats.slopes(whole.to_numpy(), levels)
    [interval], page = method.intervals([steepness]), stats.page_trend(whole.to_numpy())
    row = {
        "n_units": len(whole),
        "slope": float(steepness.mean()),
        "ci_low": interval.low if interval else None,
        "ci_high": interval.high if interval else None,
        "ci_method": interval.method if interval else None,
        "p": method.p_values([steepness])[0],
        "page_l": page.statistic if page else None,
        "page_p": page.p if page else None,
    }
    table = pd.DataFrame([row], columns=columns)
    return table.astype({name: float for name in columns if name not in ("n_units", "ci_method")})
