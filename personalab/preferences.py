"""Who is preferred over whom: comparisons of texts in pairs, each made in both orders, and what follows from them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from personalab import rankings, stats
from personalab.records import AS_WRITTEN, JsonObject

if TYPE_CHECKING:
    import pandas as pd

Side = Literal["a", "b", "tie"]
"""Who won a comparison: the first of the two conditions, the second, or neither."""


def outcome(ab: Side | None, ba: Side | None) -> Side | None:
    """What two answers say together, one with a shown first and one with b: a winner only if they agree, else a tie.

    None if either is missing. This is the rule of FastChat's judge.
    """
    if ab is None or ba is None:
        return None
    return ab if ab == ba else "tie"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Preferences:
    """What a judge preferred.

    `comparisons`: one row a unit, pair of conditions and judgement, with both answers and their `outcome`.
    `strengths`: one row a condition: `strength` by Bradley and Terry (geometric mean 1) with an interval over images,
    `win_rate` with ties as half. `contrasts`: one row a pair of conditions: `images`, `a_share` (ties as half, each image
    counting once), `p` by flipping the images' signs, and `p_adj` by Holm. `flip_rate`: the share of comparisons whose
    answer changed with the order (0 is best). `first_share`: how often the text shown first won among answers that were
    no tie (0.5 is fair), with an interval.
    `missing`: comparisons without an outcome. Shares are None where there was nothing to count.
    """

    comparisons: pd.DataFrame
    strengths: pd.DataFrame
    contrasts: pd.DataFrame
    flip_rate: float | None
    first_share: float | None
    first_share_interval: stats.Interval | None
    missing: int

    @classmethod
    def of(cls, rows: Sequence[JsonObject], names: Sequence[Any], image: str) -> Preferences:
        """From rows of comparisons. `names` are the conditions in their order, `image` the column that images differ in."""
        import pandas as pd

        table = pd.DataFrame(rows)
        whole = table[table["outcome"].notna()]
        first = int((whole["ab"] == "a").sum() + (whole["ba"] == "b").sum())
        decided = int((whole["ab"] != "tie").sum() + (whole["ba"] != "tie").sum())
        return cls(
            comparisons=table,
            strengths=strengths_df(whole, names, image),
            contrasts=_contrasts(whole, names, image),
            flip_rate=float((whole["ab"] != whole["ba"]).mean()) if len(whole) else None,
            first_share=first / decided if decided else None,
            first_share_interval=stats.wilson_interval(first, decided) if decided else None,
            missing=len(table) - len(whole),
        )

    @property
    def chances(self) -> pd.DataFrame:
        """The chance that the row's condition is preferred to the column's, by their strengths."""
        import pandas as pd

        names = list(self.strengths["condition"])
        return pd.DataFrame(rankings.win_chances(self.strengths["strength"]), index=names, columns=names)

    def __str__(self) -> str:
        return "\n".join([*self._sentences(), "", self.strengths.to_string(index=False, float_format="%.2f")])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        told = "".join(f"<p>{escape(sentence)}</p>" for sentence in self._sentences())
        table = self.strengths.to_html(index=False, float_format="{:.2f}".format, escape=True, na_rep="–")
        return f'<div class="{AS_WRITTEN}">{told}{table}</div>'

    def _sentences(self) -> list[str]:
        units = int(self.comparisons["outcome"].notna().sum())
        if not units:
            return [f"No comparison has an outcome: {self.missing} missing; the column missing says why."]
        told = [
            self._best(),
            f"{units} comparisons, each asked in both orders; {self.missing} missing.",
        ]
        if self.flip_rate is not None:
            poor = "; so many make this judge a poor one." if self.flip_rate > FLIP_RATE_HIGH else "."
            told.append(
                f"In {self.flip_rate:.0%} the answer changed with the order, which counts as a tie{poor}"
            )
        if self.first_share is not None and (interval := self.first_share_interval):
            fair = interval.low <= 0.5 <= interval.high
            told.append(
                f"The text shown first won {self.first_share:.0%} of the decided answers (interval {interval.low:.0%} "
                f"to {interval.high:.0%}): {'no sign of a bias.' if fair else 'this judge leans to one side.'}"
            )
        return told

    def _best(self) -> str:
        best = self.strengths.iloc[0]
        if math.isnan(best["strength"]):
            return "Strengths are unknown: comparisons with an outcome do not tie all conditions together."
        alone = self.contrasts[(self.contrasts[["a", "b"]] == best["condition"]).any(axis=1)]
        shown = bool((alone["p_adj"] < ALPHA).all())
        images = int(alone["images"].min())
        floor = stats.sign_flip_floor(images)
        sure = (
            f"That is more than chance explains, against each other one (p below {ALPHA:g}, corrected)."
            if shown
            else f"With {images} image{'s' * (images != 1)} nothing can be shown, whatever the judge says: take it as a description."
            if floor is None or floor * len(self.contrasts) >= ALPHA
            else "Chance explains it as well: so many images do not show which is better."
        )
        return f"{best['condition']} is preferred most often: {best['win_rate']:.0%} of its comparisons, ties as half. {sure}"


ALPHA = 0.05
"""A condition is called better where the corrected p is below."""
FLIP_RATE_HIGH = 0.4
"""Above this share of changed answers a judge is called a poor one; good ones have 0.35 in published comparisons."""
IMAGES_MIN = 6
"""Images below which there is no interval: draws of so few are too much alike, and two of one mind would look sure."""


def _contrasts(whole: pd.DataFrame, names: Sequence[Any], image: str) -> pd.DataFrame:
    """One row a pair of conditions. An image's comparisons are one number, as they are no evidence of their own."""
    import pandas as pd

    pairs = list(combinations(names, 2))
    signs = whole["outcome"].map({"a": 1.0, "tie": 0.0, "b": -1.0})
    samples = []
    for a, b in pairs:
        one, other = ((whole["a"] == x) & (whole["b"] == y) for x, y in ((a, b), (b, a)))
        here = signs.where(one, -signs)[one | other]
        samples.append(here.groupby(whole[image], observed=True).mean().to_numpy())
    p_values = stats.sign_flip_ps(samples)
    rows = [
        {"a": a, "b": b, "images": len(each), "a_share": (each.mean() + 1) / 2 if len(each) else None, "p": p, "p_adj": adjusted}
        for (a, b), each, p, adjusted in zip(pairs, samples, p_values, stats.holm(p_values), strict=True)
    ]  # fmt: skip
    return pd.DataFrame(rows).astype({"a_share": float, "p": float, "p_adj": float})


def strengths_df(whole: pd.DataFrame, names: Sequence[Any], image: str) -> pd.DataFrame:
    """One row a condition, the strongest first."""
    import pandas as pd

    place = {name: number for number, name in enumerate(names)}
    tables = [_wins(rows, place) for _, rows in whole.groupby(image, sort=False, observed=True)]
    total = np.sum(tables, axis=0) if tables else np.zeros((len(names), len(names)))
    met, won = (total + total.T).sum(axis=1), total.sum(axis=1)
    strength: Any = np.full(len(names), np.nan)
    low, high = strength.copy(), strength.copy()
    if rankings.comparable(total):
        strength = rankings.bradley_terry(total)
        if len(tables) >= IMAGES_MIN:
            intervals = rankings.strength_intervals(tables)
            low, high = (np.array([getattr(each, end) for each in intervals]) for end in ("low", "high"))
            # Images of one mind give the same in every draw: how sure that is, draws cannot say, and `contrasts` do.
            same = low == high
            low[same] = high[same] = np.nan
    frame = pd.DataFrame(
        {
            "condition": list(names), "strength": strength, "low": low, "high": high,
            "win_rate": np.divide(won, met, out=np.full(len(names), np.nan), where=met > 0),
            "comparisons": met.astype(int),
        }
    )  # fmt: skip
    return frame.sort_values("strength", ascending=False, kind="stable").reset_index(drop=True)


def _wins(rows: pd.DataFrame, place: Mapping[Any, int]) -> Any:
    """Wins of each condition (row) over each other (column); a tie is half a win for both."""
    table = np.zeros((len(place), len(place)))
    for row in rows.itertuples():
        a, b = place[row.a], place[row.b]
        share = {"a": 1.0, "b": 0.0, "tie": 0.5}[str(row.outcome)]
        table[a, b] += share
        table[b, a] += 1 - share
    return table
