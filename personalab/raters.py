"""How far raters agree with each other: people, judges, metrics that give grades.

ratings = pd.concat([people[["item", "rater", "rating"]],
                     scores.assign(rater="judge").rename(columns={"score": "rating"})])
agreement_of(ratings)
"""

from __future__ import annotations

import dataclasses
from html import escape
from itertools import combinations
from typing import TYPE_CHECKING

from personalab.agreement import Scale, cohens_kappa, krippendorff_alpha
from personalab.errors import ConfigError, unknown
from personalab.records import AS_WRITTEN

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class RaterAgreement:
    """How far raters agree.

    `alpha`: Krippendorff's, over all raters; None where nothing can be compared. `pairs`: one row a pair of raters, with
    `n` items that both rated, `same` (the share rated alike), `kappa` (quadratic weights unless the scale is nominal),
    `spearman` (rank correlation) and `bias` (mean of b − a); the last two are empty for a nominal scale. `ratings`: one
    row an item, one column a rater, means where one rated several times.
    """

    alpha: float | None
    pairs: pd.DataFrame
    ratings: pd.DataFrame
    scale: Scale

    def confusion(self, a: str, b: str) -> pd.DataFrame:
        """How often each rating of a (row) met each of b (column).

        Raises:
            ConfigError: no such rater.
        """
        import pandas as pd

        for name in (a, b):
            if name not in self.ratings.columns:
                raise unknown("rater", name, map(str, self.ratings.columns))
        both = self.ratings[[a, b]].dropna()
        return pd.crosstab(both[a], both[b])

    def __str__(self) -> str:
        return f"{self._told()}\n\n{self.pairs.to_string(index=False, float_format='%.2f')}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        table = self.pairs.to_html(index=False, float_format="{:.2f}".format)
        return f'<div class="{AS_WRITTEN}"><p>{escape(self._told())}</p>{table}</div>'

    def _told(self) -> str:
        if self.alpha is None:
            return "Nothing can be compared: no item has two ratings, or all ratings are the same."
        return (
            f"Krippendorff's alpha ({self.scale}) is {self.alpha:.2f}, where 1 is perfect and 0 what chance would give; "
            "0.8 is the usual demand, 0.67 the least that allows careful conclusions."
        )


def agreement_of(
    ratings: pd.DataFrame,
    *,
    item: str = "item",
    rater: str = "rater",
    rating: str = "rating",
    scale: Scale = "ordinal",
) -> RaterAgreement:
    """How far raters agree, from one row a rating; what is missing is left out, never 0.

    Raises:
        ConfigError: no such column, fewer than two raters, or ratings that are no numbers.
    """
    import pandas as pd

    for column in (item, rater, rating):
        if column not in ratings.columns:
            raise unknown("column", column, map(str, ratings.columns))
    numbers = pd.to_numeric(ratings[rating], errors="coerce")
    if (numbers.isna() & ratings[rating].notna()).any():
        raise ConfigError(f"column {rating!r} holds ratings that are no numbers: code them as numbers first")
    table = ratings.assign(**{rating: numbers}).pivot_table(
        index=item, columns=rater, values=rating, aggfunc="mean", sort=False, observed=True
    )
    if len(table.columns) < 2:
        raise ConfigError(f"agreement needs two raters or more: column {rater!r} has {len(table.columns)}")
    rows = [_pair(table, a, b, scale) for a, b in combinations(table.columns, 2)]
    alpha = krippendorff_alpha(table.to_numpy(dtype=float).T, scale)
    return RaterAgreement(alpha, pd.DataFrame(rows), table, scale)


def _pair(table: pd.DataFrame, a: str, b: str, scale: Scale) -> dict[str, object]:
    both = table[[a, b]].dropna()
    one, other = both[a], both[b]
    graded = scale != "nominal"
    kappa = cohens_kappa(list(one), list(other), "quadratic" if graded else "none") if len(both) else None
    several = one.nunique() > 1 and other.nunique() > 1
    return {
        "a": a,
        "b": b,
        "n": len(both),
        "same": float((one == other).mean()) if len(both) else None,
        "kappa": kappa,
        "spearman": float(one.rank().corr(other.rank())) if graded and several else None,
        "bias": float((other - one).mean()) if graded and len(both) else None,
    }
