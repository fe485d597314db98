"""Which metric predicts what people keep.

    predictors_df(score_rows(with_reviews(tweets, reviews_df("tweets"))))

The measure is the AUC: how likely a kept tweet has a higher value than a rejected one, ties as half. 0.5 says nothing. Its
interval is a bootstrap over images, as tweets of one image are no independent witnesses.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from personalab.errors import ConfigError, unknown
from personalab.stats import BCA_FROM, CONFIDENCE, RESAMPLES, SEED, draw_counts

if TYPE_CHECKING:
    import pandas as pd

_NOT_METRICS = ("kept_share", "mean_rating", "raters", "replicate", "temperature", "rating", "kept")


def predictors_df(
    frame: pd.DataFrame,
    metrics: str | Iterable[str] | None = None,
    *,
    outcome: str = "kept_share",
    unit: str = "image",
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> pd.DataFrame:
    """One row per metric, the best predictor first: `auc` with its interval (`low`, `high`), and what it was computed from.

    A tweet counts as kept where more than half of `outcome` says so, as rejected where less; the rest is left out.
    `rank_biserial` is 2·AUC − 1, −1 to 1. `within` is the AUC among tweets of the same image only: where it is much nearer to
    0.5 than `auc`, the metric tells images apart, not tweets. Without `metrics`: every numeric column. `note` says what the
    numbers cannot show. What is unknown is empty.

    Raises:
        ConfigError: no such column, or nothing was kept or nothing rejected.
    """
    import pandas as pd

    for column in (outcome, unit):
        if column not in frame.columns:
            raise unknown("column", column, map(str, frame.columns))
    share = pd.to_numeric(frame[outcome], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    numeric = [str(name) for name in frame.select_dtypes(["number", "bool"]).columns if name not in (*_NOT_METRICS, outcome, unit)]  # fmt: skip
    names = [metrics] if isinstance(metrics, str) else numeric if metrics is None else list(metrics)
    for name in names:
        if name not in frame.columns:
            raise unknown("metric column", name, numeric)
    if not (share > 0.5).any() or not (share < 0.5).any():
        raise ConfigError("nothing can be predicted: the review has no kept tweet, or no rejected one")
    codes = pd.factorize(frame[unit])[0]
    rows = [
        {"metric": name, **_row(pd.to_numeric(frame[name]).to_numpy(dtype=float, na_value=np.nan), share, codes, confidence, resamples, seed)}
        for name in names
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    strength = (table["auc"] - 0.5).abs()
    return table.iloc[
        strength.sort_values(ascending=False, kind="stable", na_position="last").index
    ].reset_index(drop=True)


def wins_by_unit(
    values: NDArray[np.float64], kept: NDArray[np.bool_], units: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For the kept of each unit (row) and the rejected of each (column): comparisons that the kept win, ties as half; and all.

    With counts of how often each unit was drawn, the AUC of a resample is one quotient of two products.
    """
    size = int(units.max()) + 1
    order = np.argsort(values[~kept], kind="stable")
    lower = values[~kept][order]
    before = np.zeros((len(lower) + 1, size))
    np.cumsum(np.eye(size)[units[~kept][order]], axis=0, out=before[1:])
    left, right = (np.searchsorted(lower, values[kept], side) for side in ("left", "right"))
    won = np.zeros((size, size))
    np.add.at(won, units[kept], (before[left] + before[right]) / 2)
    met = np.outer(np.bincount(units[kept], minlength=size), np.bincount(units[~kept], minlength=size))
    return won, met.astype(float)


def _row(
    values: NDArray[np.float64], share: NDArray[np.float64], codes: NDArray[np.intp],
    confidence: float, resamples: int, seed: int,
) -> dict[str, Any]:  # fmt: skip
    usable = ~np.isnan(values) & ~np.isnan(share) & (share != 0.5) & (codes >= 0)
    values, kept, (_, units) = (
        values[usable],
        share[usable] > 0.5,
        np.unique(codes[usable], return_inverse=True),
    )
    images = len(set(units.tolist()))
    row: dict[str, Any] = {"auc": None, "low": None, "high": None, "rank_biserial": None, "within": None}
    counts = {"kept": int(kept.sum()), "rejected": int((~kept).sum()), "images": images}
    if not kept.any() or kept.all():
        return {
            **row,
            **counts,
            "note": "nothing to compare: only kept, or only rejected tweets have a value",
        }
    won, met = wins_by_unit(values, kept, units)
    auc = float(won.sum() / met.sum())
    row |= {"auc": auc, "rank_biserial": 2 * auc - 1}
    if np.trace(met):
        row["within"] = float(np.trace(won) / np.trace(met))
    if images < 2:
        return {**row, **counts, "note": "one image: nobody knows how sure that is"}
    drawn = draw_counts(images, resamples, seed)
    above, below = ((drawn @ table * drawn).sum(axis=1) for table in (won, met))
    aucs = above[below > 0] / below[below > 0]
    low, high = np.quantile(aucs, [(1 - confidence) / 2, (1 + confidence) / 2])
    few = f"{images} images: the interval is too narrow below {BCA_FROM}" if images < BCA_FROM else ""
    says = "predicts" if not low <= 0.5 <= high else "shows nothing"
    return {
        **row,
        "low": float(low),
        "high": float(high),
        **counts,
        "note": "; ".join(filter(None, [says, few])),
    }
