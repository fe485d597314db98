"""Who wins over whom: strengths from comparisons in pairs (Bradley and Terry), with a prior and intervals over images."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from personalab.errors import ConfigError
from personalab.stats import CONFIDENCE, SEED, Interval, draw_counts

PRIOR = 1.0
"""Draws added to each pair that was compared, so that one who always wins gets a finite strength."""
ROUNDS_MAX = 200
STEP_MAX = 2.0
"""Longest step of a logarithm; Newton's own may overshoot where one almost always wins."""
TOLERANCE = 1e-10
RESAMPLES = 999

_Matrix = NDArray[np.float64]


def bradley_terry(wins: ArrayLike, *, prior: float = PRIOR) -> _Matrix:
    """Strengths with geometric mean 1: P(i beats j) = s_i ÷ (s_i + s_j).

    `wins[i][j]` counts how often i won over j; a tie is half a win for each. `prior` draws are added to each pair that
    met at all, half a win each.

    Raises:
        ConfigError: no square table; or with `prior=0`, comparisons that do not tie all of them together.
    """
    table = np.asarray(wins, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1]:
        raise ConfigError(
            f"wins must be a square table, not of shape {table.shape}: a row and a column for each"
        )
    if (table < 0).any() or np.isnan(table).any():
        raise ConfigError("wins must be counts of 0 or more: leave out comparisons that have no outcome")
    met = (table + table.T) > 0
    np.fill_diagonal(met, False)
    table = np.where(met, table + prior / 2, 0.0)
    if not _tied_together(table):
        mend = "give prior=1" if prior == 0 and comparable(met) else "compare more pairs"
        raise ConfigError(
            f"the comparisons do not tie all conditions together, so strengths are unknown: {mend}"
        )
    return _most_likely(table)


def comparable(wins: ArrayLike) -> bool:
    """Whether comparisons tie all together, so that with a prior strengths can be said."""
    table = np.asarray(wins, dtype=np.float64)
    return _tied_together(table + table.T)


def _most_likely(wins: _Matrix) -> _Matrix:
    """Strengths of the greatest likelihood, for one table or a stack of them: Newton's method on their logarithms."""
    games = wins + wins.swapaxes(-1, -2)
    size = wins.shape[-1]
    logs = np.zeros(wins.shape[:-1])
    for _ in range(ROUNDS_MAX):
        chances = 1 / (1 + np.exp(logs[..., None, :] - logs[..., :, None]))
        slope = wins.sum(axis=-1) - (games * chances).sum(axis=-1)
        weights = games * chances * (1 - chances)
        # The strengths' common factor is free; adding 1 / size everywhere keeps their mean logarithm at 0.
        curve = np.eye(size) * weights.sum(axis=-1)[..., None] - weights + 1 / size
        step = np.clip(np.linalg.solve(curve, slope[..., None])[..., 0], -STEP_MAX, STEP_MAX)
        logs = logs + step - step.mean(axis=-1, keepdims=True)
        if np.abs(step).max() < TOLERANCE:
            break
    strengths: _Matrix = np.exp(logs)
    return strengths


def win_chances(strengths: ArrayLike) -> _Matrix:
    """P(row beats column)."""
    each = np.asarray(strengths, dtype=np.float64)
    chances: _Matrix = each[:, None] / (each[:, None] + each)
    return chances


def strength_intervals(
    wins_by_image: ArrayLike,
    *,
    prior: float = PRIOR,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> list[Interval]:
    """An interval for each strength: images are drawn again with replacement, never single comparisons.

    `wins_by_image` has one table of wins an image. Percentiles. The prior is added to the pairs that met in any image.

    Raises:
        ConfigError: as `bradley_terry`; or no prior, without which a draw of images may leave somebody without a win.
    """
    if prior <= 0:
        raise ConfigError("intervals of strengths need a prior above 0: give prior=1")
    tables = np.asarray(wins_by_image, dtype=np.float64)
    total = tables.sum(axis=0)
    bradley_terry(total, prior=prior)  # says what is wrong with the tables, once
    prior_wins = np.where((total + total.T) > 0, prior / 2, 0.0)
    drawn = np.tensordot(draw_counts(len(tables), resamples, seed), tables, 1) + prior_wins
    tails = (1 - confidence) / 2
    low, high = np.quantile(_most_likely(drawn), [tails, 1 - tails], axis=0)
    return [
        Interval(low=float(one), high=float(other), method="percentile over images")
        for one, other in zip(low, high, strict=True)
    ]


def _tied_together(table: _Matrix) -> bool:
    """Whether from each one there is a chain of wins to every other."""
    reach = (table > 0) | np.eye(len(table), dtype=bool)
    for _ in range(len(table)):
        reach = (reach.astype(np.float64) @ reach.astype(np.float64)) > 0
    return bool(reach.all())
