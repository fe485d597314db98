"""What a reader of a comparison has to be warned of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from personalab.registry import Metric
from personalab.stats import is_constant

if TYPE_CHECKING:
    import pandas as pd

PAIRS_MIN = 6
"""Pairs below which the exact test can never reach 5 %."""
FAILURE_GAP = 0.05
"""Difference between two levels' shares of failures from which it matters."""
_ONE_OF_EACH = (
    "model", "prompt", "prompt_sha256", "temperature", "embedding_model", "language", "criterion", "judge_model",
    "judge_prompt_sha256",
)  # fmt: skip
"""Columns of which a level should hold one value, unless it is what is compared."""


def each_row(frame: pd.DataFrame) -> list[Any]:
    """The rows, each with its columns as attributes."""
    return list(frame.itertuples())


def is_shown(contrast: Any, alpha: float) -> bool:
    """Whether a contrast (a row) has an interval without 0 and a corrected p below alpha."""
    if not contrast.p_adj < alpha:  # NaN is not
        return False
    return bool(contrast.ci_low > 0 or contrast.ci_high < 0)


def failures(rows: pd.DataFrame) -> pd.Series[bool] | None:
    """Which rows failed; None where the frame does not say."""
    if "status" in rows.columns:
        return rows["status"] == "failed"
    if "judge_model" in rows.columns:  # a judge's rows say what could not be judged
        return rows["missing"].notna()
    return rows["error"].notna() if "error" in rows.columns else None


def problems(
    *,
    rows: pd.DataFrame,
    by: str,
    units: list[str],
    replicates: list[str],
    levels: pd.DataFrame,
    contrasts: pd.DataFrame,
    cells: pd.DataFrame,
    values: pd.Series[float],
    length_check: pd.DataFrame | None,
    known: Metric | None,
    alpha: float,
    across: str | None,
) -> list[str]:
    """Every warning, one line each."""
    return [
        *_few_pairs(contrasts, alpha, units),
        *_missing(cells, units),
        *_failing(rows, by, units, replicates),
        *_constant(values),
        *([] if across else _replicates(rows, values, levels, by, units, replicates)),
        *_mixed(rows, by),
        *_length(length_check, known, alpha),
    ]


def _few_pairs(contrasts: pd.DataFrame, alpha: float, units: list[str]) -> list[str]:
    if contrasts.empty:
        return ["there is one level only: nothing to compare"]
    fewest, what = int(contrasts["n_pairs"].min()), f"pairs of {' and '.join(units)}"
    floor = contrasts["p_floor"].max()
    found = []
    if fewest < PAIRS_MIN:
        found.append(f"fewer than {PAIRS_MIN} {what} ({fewest}): read this as a description")
    if fewest > 1 and floor > alpha:
        found.append(
            f"with {fewest} {what} p cannot fall below {floor:.3g}, so nothing can be shown at {alpha:g}"
        )
    elif fewest > 1 and floor * len(contrasts) > alpha:
        needed = int(np.floor(np.log2(2 * len(contrasts) / alpha))) + 1
        found.append(
            f"with {fewest} {what} and {len(contrasts)} contrasts the corrected p cannot fall below "
            f"{min(1.0, floor * len(contrasts)):.3g}: {needed} pairs are needed, or fewer contrasts"
        )
    return found


def _missing(cells: pd.DataFrame, units: list[str]) -> list[str]:
    holes = cells.isna()
    if not holes.any(axis=None):
        return []
    where = ", ".join(f"{level}: {count}" for level, count in holes.sum().items() if count)
    return [
        f"{int(holes.any(axis=1).sum())} of {len(cells)} units ({' and '.join(units)}) lack a level ({where})"
    ]


def _failing(rows: pd.DataFrame, by: str, units: list[str], replicates: list[str]) -> list[str]:
    """Failures by level. Each cell counts once: a failed one has one row, where one that is done has one a tweet."""
    failed = failures(rows)
    if failed is None:
        return []
    cells = (
        failed.astype(float).groupby([rows[each] for each in (by, *units, *replicates)], observed=True).mean()
    )
    shares = cells.groupby(level=0, observed=True).mean()
    if shares.max() - shares.min() <= FAILURE_GAP:
        return []
    shown = ", ".join(f"{level}: {share:.0%}" for level, share in shares.items())
    return [f"failures differ between levels ({shown}); what is compared are the survivors"]


def _constant(values: pd.Series[float]) -> list[str]:
    there = values.dropna()
    if there.empty:
        return ["the metric is unknown everywhere"]
    if not is_constant(there.to_numpy()):
        return []
    return [f"the metric is {there.iloc[0]:g} everywhere: it cannot tell these levels apart"]


def _replicates(
    rows: pd.DataFrame,
    values: pd.Series[float],
    levels: pd.DataFrame,
    by: str,
    units: list[str],
    replicates: list[str],
) -> list[str]:
    if levels["n_replicates_max"].max() < 2:
        return ["one replicate of each: how much a condition varies by itself is unknown"]
    if not replicates or "text" not in rows.columns:
        return []
    texts = rows.groupby([*units, by, *replicates], observed=True, sort=False)["text"].agg(
        lambda each: "\0".join(map(str, each))
    )
    per_cell = texts.groupby(level=[*units, by], observed=True).agg(["size", "nunique"]).reset_index()
    same = per_cell[(per_cell["size"] > 1) & (per_cell["nunique"] == 1)]
    if same.empty:
        return []
    where = ", ".join(map(str, dict.fromkeys(same[by])))
    return [f"replicates are word for word the same under {where}: they are no evidence of their own"]


def _mixed(rows: pd.DataFrame, by: str) -> list[str]:
    found = []
    for column in _ONE_OF_EACH:
        if column in rows.columns and column != by:
            kinds = rows.groupby(by, observed=True)[column].nunique()
            found += [
                f"level {level} mixes {count} values of {column}: compare within one of them"
                for level, count in kinds[kinds > 1].items()
            ]
    return found


def _length(length_check: pd.DataFrame | None, known: Metric | None, alpha: float) -> list[str]:
    if known is None or not known.length_sensitive:
        return []
    if length_check is None:
        return [f"{known.name} moves with length, and the frame knows no length (output_tokens or text)"]
    return [
        f"length-confounded: from {row.a} to {row.b} length ({row.length}) changes too ({_relative(row.diff_rel)}), and "
        f"{known.name} moves with length"
        for row in each_row(length_check)
        if is_shown(row, alpha)
    ]


def _relative(change: Any) -> str:
    return f"{change:+.0%}" if change == change else "from 0"
