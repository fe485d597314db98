"""Differences between levels, and the trend over them, judged: intervals, tests, effect sizes."""

from __future__ import annotations

import dataclasses
import itertools
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
    "diff", "diff_rel", "se", "ci_low", "ci_high", "p", "p_floor", "agree", "d_z", "cliffs_delta", "mde_80",
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


@dataclasses.dataclass(frozen=True)
class Method:
    """How means and differences are judged."""

    alpha: float
    resamples: int
    seed: int

    def interval(self, values: Any) -> stats.Interval | None:
        """Interval of a mean."""
        return stats.mean_interval(
            values, confidence=1 - self.alpha, resamples=self.resamples, seed=self.seed
        )

    def p(self, differences: Any) -> float | None:
        """Two-sided p of differences; None for one or none."""
        if len(differences) < 2:
            return None
        return stats.sign_flip_p(differences, resamples=self.resamples, seed=self.seed)

    def contrasts(
        self, cells: pd.DataFrame, pairs: list[tuple[Any, Any]], known: Metric | None
    ) -> pd.DataFrame:
        """One row a pair of levels."""
        import pandas as pd

        rows = [{"a": a, "b": b, **self._contrast(cells[a], cells[b])} for a, b in pairs]
        table = pd.DataFrame(rows, columns=["a", "b", *_CONTRAST_COLUMNS])
        table["p_adj"] = np.array(stats.holm([row["p"] for row in rows]), dtype=float)
        table["adjust"], table["n_contrasts"] = "holm", len(pairs)
        for column in _NUMBER_COLUMNS:
            table[column] = table[column].astype(float)
        table["favours"] = favours(table, known.direction if known else 0, self.alpha)
        return table

    def _contrast(self, a: pd.Series[float], b: pd.Series[float]) -> dict[str, Any]:
        complete = a.notna() & b.notna()
        one, other = a[complete].to_numpy(), b[complete].to_numpy()
        differences = other - one
        count = len(differences)
        interval, error = self.interval(differences), stats.standard_error(differences)
        diff = float(differences.mean()) if count else None
        base = abs(float(one.mean())) if count else 0.0
        return {
            "n_pairs": count,
            "n_dropped_units": int((a.notna() | b.notna()).sum()) - count,
            "diff": diff,
            "diff_rel": diff / base if diff is not None and base else None,
            "se": error,
            "ci_low": interval.low if interval else None,
            "ci_high": interval.high if interval else None,
            "ci_method": interval.method if interval else None,
            "p": self.p(differences),
            "p_floor": stats.sign_flip_floor(count, resamples=self.resamples),
            "test": stats.sign_flip_name(count) if count > 1 else None,
            "agree": stats.agreement(differences),
            "d_z": stats.standardised_difference(differences),
            "cliffs_delta": stats.cliffs_delta(one, other),
            "mde_80": minimal_detectable_effect(error**2 * count, count, alpha=self.alpha, small=True)
            if error is not None
            else None,
        }


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
    interval, page = method.interval(steepness), stats.page_trend(whole.to_numpy())
    row = {
        "n_units": len(whole),
        "slope": float(steepness.mean()),
        "ci_low": interval.low if interval else None,
        "ci_high": interval.high if interval else None,
        "ci_method": interval.method if interval else None,
        "p": method.p(steepness),
        "page_l": page.statistic if page else None,
        "page_p": page.p if page else None,
    }
    table = pd.DataFrame([row], columns=columns)
    return table.astype({name: float for name in columns if name not in ("n_units", "ci_method")})
