"""Compare conditions: paired by image, with intervals, tests, and what so many images could have shown.

rows → one value a unit, level and replicate → mean over replicates → units × levels → differences of complete pairs.
The unit is the image, never the tweet: tweets of one image are alike, and counting them as independent finds effects
that are not there (docs/statistics.md).
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from personalab import comparison_checks, stats
from personalab.comparison_checks import each_row
from personalab.comparison_views import comparison_html, comparison_text
from personalab.contrasts import (
    KINDS,
    Bounds,
    Contrasts,
    Method,
    bounds_of,
    favours,
    level_pairs,
    trend_of,
    within,
)
from personalab.errors import ConfigError, unknown
from personalab.metrics import Embed, Params, scored_groups
from personalab.power import ALPHA, POWER, difference_variance, units_needed
from personalab.registry import Metric, find_metric, known_metrics

if TYPE_CHECKING:
    import pandas as pd

LENGTHS = ("output_tokens", "word_count")
"""What length is checked by: the first that the frame has the columns for."""
_VALUE = "_value"
_BY_PEOPLE = {
    "kept_share": Metric(
        name="kept_share", level="row", unit="share of raters", range=(0, 1), direction=1,
        description="Share of its raters who kept a text.", columns=("kept_share",), compute=float,
    ),
    "mean_rating": Metric(
        name="mean_rating", level="row", unit="rating", range=(1, 5), direction=1,
        description="Mean of its raters' ratings.", columns=("mean_rating",), compute=float,
    ),
}  # fmt: skip
"""Columns of `with_reviews`, which people fill and no code computes."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """One metric under several conditions.

    `levels`: one row a level. `contrasts`: one row a pair of levels, `diff` is b − a. `trend`: one row, or none where
    levels are no numbers or fewer than three. `cells`: means, one row a unit, one column a level. `length_check`: the
    same contrasts on length; None where the frame knows no length. `meta`: what it was computed with.
    """

    levels: pd.DataFrame
    contrasts: pd.DataFrame
    trend: pd.DataFrame
    cells: pd.DataFrame
    length_check: pd.DataFrame | None
    warnings: tuple[str, ...]
    meta: Mapping[str, Any]

    def to_frame(self) -> pd.DataFrame:
        """The contrasts, with the metric's name in front."""
        return self.contrasts.assign(metric=self.meta["metric"])[["metric", *self.contrasts.columns]]

    def how_many_images(
        self,
        effect: float,
        *,
        a: Any = None,
        b: Any = None,
        replicates: int | None = None,
        power: float = POWER,
    ) -> int:
        """Images with which a true difference of `effect` is found with probability `power`, judged by this data.

        Of the contrast a and b; without them of the one that varies most. `replicates`: how many there will be of each
        condition, where that differs from now. No correction for several contrasts.

        Raises:
            ConfigError: no such contrast, or too little data to know how much images differ.
        """
        row = self._contrast(a, b)
        variance = row["se"] ** 2 * row["n_pairs"]
        if replicates is not None:
            variance = self._variance_with(row, variance, replicates)
        return units_needed(variance, effect, alpha=self.meta["alpha"], power=power, small=True)

    def _contrast(self, a: Any, b: Any) -> Mapping[str, Any]:
        chosen = self.contrasts.dropna(subset=["se"])
        if a is not None or b is not None:
            there = {(row.a, row.b) for row in each_row(self.contrasts)}
            if (a, b) not in there:
                raise unknown("contrast", f"{a} → {b}", [f"{one} → {other}" for one, other in there])
            chosen = chosen[(chosen["a"] == a) & (chosen["b"] == b)]
        if chosen.empty:
            raise ConfigError(
                "how much images differ is unknown: compare two images or more under both conditions"
            )
        spread = chosen["se"] * np.sqrt(chosen["n_pairs"].astype(float))
        return dict(chosen.iloc[int(np.argmax(spread))])

    def _variance_with(self, row: Mapping[str, Any], variance: float, replicates: int) -> float:
        within = self.levels.set_index("level").loc[[row["a"], row["b"]]]
        if within["sd_within"].isna().any():
            raise ConfigError(
                "what replicates would help is unknown, as there is one of each: run two or more first"
            )
        noise = tuple(float(each) ** 2 for each in within["sd_within"])
        now = tuple(int(each) for each in within["n_replicates_median"])
        between = max(0.0, variance - difference_variance(0.0, (noise[0], noise[1]), (now[0], now[1])))
        return difference_variance(between, (noise[0], noise[1]), (replicates, replicates))

    def __str__(self) -> str:
        return comparison_text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return comparison_html(self)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Comparisons:
    """Several metrics under the same conditions. `p_adj` is corrected over all of them, unless they are exploratory."""

    comparisons: tuple[Comparison, ...]

    def __getitem__(self, metric: str) -> Comparison:
        """The comparison of a metric."""
        for each in self.comparisons:
            if each.meta["metric"] == metric:
                return each
        raise unknown("metric of these", metric, [each.meta["metric"] for each in self.comparisons])

    @property
    def contrasts(self) -> pd.DataFrame:
        """One row a metric and contrast."""
        import pandas as pd

        return pd.concat([each.to_frame() for each in self.comparisons], ignore_index=True)

    @property
    def warnings(self) -> tuple[str, ...]:
        """All of them, each with its metric in front."""
        return tuple(f"{each.meta['metric']}: {text}" for each in self.comparisons for text in each.warnings)

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.comparisons))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return "<hr>".join(each._repr_html_() for each in self.comparisons)


def compare(
    frame: pd.DataFrame,
    by: str = "condition",
    metric: str = "jaccard_mean",
    paired: str | Sequence[str] = "image",
    *,
    replicate: str = "replicate",
    across: str | None = None,
    contrasts: Contrasts = "default",
    baseline: Any = None,
    alpha: float = ALPHA,
    params: Params | None = None,
    embed: Embed | None = None,
    resamples: int = stats.RESAMPLES,
    seed: int = stats.SEED,
) -> Comparison:
    """A metric, or a column of numbers, under the levels of `by`; each unit of `paired` is compared with itself.

    Levels stand in the order of a categorical, of numbers, else of appearance. `contrasts`: each level with the next and
    with `baseline` (default: the first), `"adjacent"`, `"baseline"` or `"all"`. Holm's correction is over the contrasts.
    A single unit is described, not tested. `across="replicate"`: texts are compared with other replicates' only; then
    neither high nor low is better.

    Raises:
        ConfigError: a column, metric, level or kind of contrast that is not known, or a column without numbers.
    """
    units = [paired] if isinstance(paired, str) else list(paired)
    _check(frame, [by, *units], contrasts)
    replicates = [replicate] if replicate in frame.columns and replicate != across else []
    rows = frame.dropna(subset=[by, *units])
    known = (_BY_PEOPLE | {each.name: each for each in known_metrics()}).get(metric)
    direction = known.direction if known and across != replicate else 0
    values, used, notes = _values(rows, metric, [*units, by, *replicates], across, params, embed)
    levels = _ordered(frame[by])
    _check_baseline(levels, baseline)
    cells = _cells(values, by, units, levels)
    pairs = level_pairs(levels, contrasts, levels[0] if baseline is None else baseline) if levels else []
    method = Method(alpha, resamples, seed)
    table = method.contrasts(cells, pairs, known, direction)
    described = _levels(rows, values, cells, by, units, replicates, levels, method, bounds_of(cells, known))
    trend = trend_of(cells, levels, method)
    lengths = _length_check(rows, metric, by, units, replicates, levels, pairs, method)
    problems = comparison_checks.problems(
        rows=rows, by=by, units=units, replicates=replicates, levels=described, contrasts=table, cells=cells,
        values=values[_VALUE], length_check=lengths, known=known, alpha=alpha, across=across,
    )  # fmt: skip
    if len(rows) < len(frame):
        problems = [
            f"{len(frame) - len(rows)} rows without {by} or {', '.join(units)} are left out",
            *problems,
        ]
    meta = _meta(metric, known, used) | {
        "direction": direction, "asked_again": across == replicate,
        "by": by, "paired": units, "across": across, "alpha": alpha, "resamples": resamples, "seed": seed,
        "contrasts": contrasts, "frame_sha256": _hash(values), "made": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "packages": {name: version(name) for name in ("numpy", "pandas", "scipy")},
    }  # fmt: skip
    return Comparison(described, table, trend, cells, lengths, (*notes, *problems), meta)


def compare_many(
    frame: pd.DataFrame,
    by: str = "condition",
    metrics: Iterable[str] = (),
    paired: str | Sequence[str] = "image",
    *,
    exploratory: bool = False,
    **options: Any,
) -> Comparisons:
    """Several metrics, as `compare` does each; Holm's correction is over all contrasts of all metrics.

    With `exploratory` each is corrected by itself, and a warning says so: then what stands out has to be tested again
    with new images.
    """
    found = [compare(frame, by, each, paired, **options) for each in dict.fromkeys(metrics)]
    if exploratory:
        note = f"exploratory: one of {len(found)} metrics, not corrected for being several; test again with new images"
        return Comparisons(
            tuple(dataclasses.replace(each, warnings=(*each.warnings, note)) for each in found)
        )
    together = stats.holm([p if p == p else None for each in found for p in each.contrasts["p"]])
    corrected = []
    for each in found:
        own, together = together[: len(each.contrasts)], together[len(each.contrasts) :]
        contrasts = each.contrasts.assign(
            p_adj=np.array(own, dtype=float), n_contrasts=sum(len(other.contrasts) for other in found)
        )
        contrasts["favours"] = favours(contrasts, each.meta["direction"], each.meta["alpha"])
        corrected.append(dataclasses.replace(each, contrasts=contrasts))
    return Comparisons(tuple(corrected))


def _check(frame: pd.DataFrame, columns: Sequence[str], contrasts: str) -> None:
    for column in columns:
        if column not in frame.columns:
            raise unknown("column", column, map(str, frame.columns))
    if len(set(columns)) < len(columns):
        raise ConfigError(
            f"by and paired name the same column ({', '.join(columns)}): pair by what is the same under all"
        )
    if contrasts not in KINDS:
        raise unknown("kind of contrasts", contrasts, KINDS)
    if frame.empty:
        raise ConfigError("the frame has no rows: there is nothing to compare")


def _check_baseline(levels: Sequence[Any], baseline: Any) -> None:
    if baseline is not None and baseline not in levels:
        raise unknown("level for baseline", str(baseline), map(str, levels))


def _values(
    rows: pd.DataFrame,
    metric: str,
    keys: list[str],
    across: str | None,
    params: Params | None,
    embed: Embed | None,
) -> tuple[pd.DataFrame, dict[str, Any], list[str]]:
    """One row a unit, level and replicate with its value; what it was computed with; warnings."""
    import pandas as pd

    if metric in rows.columns:
        numbers = pd.to_numeric(rows[metric], errors="coerce").astype(float)
        if (numbers.isna() & rows[metric].notna()).any():
            raise ConfigError(
                f"column {metric!r} holds no numbers: give a column of numbers, or a metric of text"
            )
        if np.isinf(numbers).any():
            raise ConfigError(
                f"column {metric!r} holds infinite numbers, which have no mean: leave them empty"
            )
        grouped = (
            rows[keys].assign(**{_VALUE: numbers}).groupby(keys, sort=False, observed=True, dropna=False)
        )
        return grouped[_VALUE].mean().reset_index(), {}, []
    each = find_metric(metric)
    if each.level == "population":
        mend = f"use score(frame, {metric!r}, by=…)"
        raise ConfigError(
            f"metric {metric} has one value for all images, so there is nothing to pair: {mend}"
        )
    scored = scored_groups(rows, metric, keys, across=across, params=params, embed=embed)
    return scored.frame.rename(columns={metric: _VALUE}), scored.params[metric], list(scored.warnings)


def _ordered(column: pd.Series[Any]) -> list[Any]:
    import pandas as pd

    there = column.dropna()
    if isinstance(column.dtype, pd.CategoricalDtype):
        found = set(there)
        return [level for level in column.cat.categories if level in found]
    levels = list(dict.fromkeys(there.tolist()))
    return sorted(levels) if pd.api.types.is_numeric_dtype(column) else levels


def _cells(values: pd.DataFrame, by: str, units: list[str], levels: list[Any]) -> pd.DataFrame:
    """Mean over the replicates, one row a unit, one column a level."""
    means = values.groupby([*units, by], sort=False, observed=True)[_VALUE].mean()
    cells = means.unstack(by)
    cells.columns = list(cells.columns)  # no index of categories, so that a frame can be joined to it
    return cells.reindex(columns=levels)


def _levels(
    rows: pd.DataFrame,
    values: pd.DataFrame,
    cells: pd.DataFrame,
    by: str,
    units: list[str],
    replicates: list[str],
    levels: list[Any],
    method: Method,
    bounds: Bounds,
) -> pd.DataFrame:
    """One row a level."""
    import pandas as pd

    failed = comparison_checks.failures(rows)
    tokens = rows["output_tokens"] if "output_tokens" in rows.columns else None
    described = []
    every = [cells[level].dropna().to_numpy() for level in levels]
    intervals = [within(each, bounds) for each in method.intervals(every)]
    for level, means, interval in zip(levels, every, intervals, strict=True):
        here, scored = rows[by] == level, values[values[by] == level].dropna(subset=[_VALUE])
        repeats = scored.groupby(units, observed=True)[_VALUE].agg(["size", "var"])
        several = repeats[repeats["size"] > 1]
        described.append(
            {
                "level": level,
                "n_rows": int(here.sum()),
                "n_units": len(means),
                "n_replicates_min": repeats["size"].min() if len(repeats) else 0,
                "n_replicates_median": repeats["size"].median() if len(repeats) else 0,
                "n_replicates_max": repeats["size"].max() if len(repeats) else 0,
                "n_failed": int(failed[here].sum()) if failed is not None else None,
                "mean": float(means.mean()) if len(means) else None,
                "ci_low": interval.low if interval else None,
                "ci_high": interval.high if interval else None,
                "ci_method": interval.method if interval else None,
                "median": float(np.median(means)) if len(means) else None,
                "sd_between": float(means.std(ddof=1)) if len(means) > 1 else None,
                "sd_within": math.sqrt(float(several["var"].mean())) if len(several) and replicates else None,
                "mean_tokens": float(tokens[here].mean())
                if tokens is not None and tokens[here].notna().any()
                else None,
            }
        )
    table = pd.DataFrame(described)
    for column in _LEVEL_NUMBERS:
        table[column] = table[column].astype(float)
    return table


_LEVEL_NUMBERS = ("mean", "ci_low", "ci_high", "median", "sd_between", "sd_within", "mean_tokens")


def _length_check(
    rows: pd.DataFrame,
    metric: str,
    by: str,
    units: list[str],
    replicates: list[str],
    levels: list[Any],
    pairs: list[tuple[Any, Any]],
    method: Method,
) -> pd.DataFrame | None:
    """The same contrasts on length; None where there is none."""
    for name in LENGTHS:
        there = name in rows.columns or set(find_metric(name).columns) <= set(rows.columns)
        if there and name != metric and not (name in rows.columns and rows[name].isna().all()):
            values, _, _ = _values(rows, name, [*units, by, *replicates], None, None, None)
            found = method.contrasts(_cells(values, by, units, levels), pairs, None)
            kept = ["a", "b", "n_pairs", "diff", "diff_rel", "ci_low", "ci_high", "p", "p_adj"]
            return found[kept].assign(length=name)[["length", *kept]]
    return None


def _meta(metric: str, known: Metric | None, used: dict[str, Any]) -> dict[str, Any]:
    params = {name: value for name, value in used.items() if name != "version"}
    if known is None:
        return {
            "metric": metric, "unit": "", "range": (None, None), "direction": 0, "version": None,
            "description": "", "length_sensitive": None, "params": params,
        }  # fmt: skip
    return {
        "metric": metric, "unit": known.unit, "range": known.range, "direction": known.direction,
        "version": known.version, "description": known.description, "length_sensitive": known.length_sensitive,
        "params": params,
    }  # fmt: skip


def _hash(values: pd.DataFrame) -> str:
    """Of the values compared, so that two results can be told to be of the same data."""
    lines = values.to_csv(index=False, float_format="%.12g").splitlines()
    return hashlib.sha256("\n".join(sorted(lines)).encode("utf-8", "replace")).hexdigest()
