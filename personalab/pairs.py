"""Two things beside each other, of the same image and different conditions: which is better, without knowing which is which."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from personalab.decks import cell, mixed, mixed_order
from personalab.errors import ConfigError, unknown
from personalab.records import JsonObject, Record
from personalab.reviews import Action, Decision, Judgement, ReviewFile, clean, item_keys, written_rows
from personalab.sittings import Act, Sitting, feed

if TYPE_CHECKING:
    import pandas as pd


class Half(Record):
    """One side of a pair: the condition it is of, and what is to be read, as in a feed."""

    condition: str
    keys: tuple[str, ...]
    texts: tuple[str, ...]
    items: tuple[JsonObject, ...]


class Pair(Record):
    """Two halves of one image. `left` says which of the two stands on the left."""

    key: str
    image: str
    a: Half
    b: Half
    left: str

    @property
    def sides(self) -> tuple[Half, Half]:
        """The halves from left to right."""
        return (self.a, self.b) if self.left == "a" else (self.b, self.a)


def pairs_of(
    frame: pd.DataFrame, by: str = "condition", paired: str = "image", *,
    text: str = "text", whole: bool = False, seed: str = "", rater: str = "", pairs_max: int | None = None,
) -> tuple[Pair, ...]:  # fmt: skip
    """Every two conditions of each image as pairs, in an order (`decks.mixed_order`) and with sides that seed and rater decide.

    Texts are paired by their place among those of their image, and of their replicate and content type where the frame has
    these; with `whole` all texts of a condition and replicate are one half. Of more than `pairs_max` pairs so many are taken,
    in turn from each image and two conditions, the same for every rater.

    Raises:
        ConfigError: no such column, or nothing to pair.
    """
    for column in (by, paired, text):
        if column not in frame.columns:
            raise unknown("column", column, map(str, frame.columns))
    frame = written_rows(frame, text).reset_index(drop=True)
    frame = frame.assign(_item=item_keys(frame, text))
    within = [name for name in ("replicate", "content_type", "stage", "part") if name in frame.columns]
    alike = [name for name in within if name == "replicate"] if whole else within
    conditions = [str(each) for each in dict.fromkeys(frame[by].dropna())]
    queues: list[list[Pair]] = []
    for _, rows in frame.groupby([paired, *alike], sort=False, observed=True, dropna=False):
        halves = {
            name: list(_halves(rows[rows[by].astype(str) == name], name, text, whole)) for name in conditions
        }
        for a, b in itertools.combinations(conditions, 2):
            image = cell(rows[paired].iloc[0])
            made = [
                _pair(image, one, other, f"{seed}\0{rater}")
                for one, other in zip(halves[a], halves[b], strict=False)
            ]
            queues.append(sorted(made, key=lambda pair: mixed(seed, pair.key)))
    queues.sort(key=lambda queue: mixed(seed, queue[0].key) if queue else "")
    taken = [pair for turn in itertools.zip_longest(*queues) for pair in turn if pair is not None][:pairs_max]
    if not taken:
        raise ConfigError(f"nothing to pair: no {paired} has texts under two values of {by!r}")
    return tuple(taken[place] for place in mixed_order([pair.key for pair in taken], seed, rater))


class PairSitting(Sitting):
    """Pairs one at a time: the left one is better, the right one, or neither."""

    kind = "pairs"

    def __init__(self, file: ReviewFile, pairs: Sequence[Pair]) -> None:
        super().__init__(file)
        self.pairs = tuple(pairs)
        self._said: dict[str, Decision] = file.decided()
        self.at = max(0, self._next_undecided(-1))

    @property
    def finishes(self) -> Action:
        """A choice."""
        return "choice"

    def _do(self, act: Act) -> None:
        match act.do:
            case "choice" | "note":
                self._decide(act)
            case "undo":
                self._undo(act)
            case "go":
                self.at = max(0, min(self.at + int(act.value), len(self.pairs) - 1))
            case "look":
                self.file.read_new()
                self._show(act.item)
            case _:
                raise ConfigError(f"pairs cannot be shown by {act.do}")
        self._said = self.file.decided()

    def _decide(self, act: Act) -> None:
        if all(pair.key != act.item for pair in self.pairs):
            raise ConfigError("this pair is not in the review: run its cell again")
        self._show(act.item)
        pair = self.pairs[self.at]
        value = act.value
        if act.do == "choice" and value != "tie":
            value = pair.left if value == "left" else {"a": "b", "b": "a"}[pair.left]
        if getattr(self.file.judgement(pair.key), act.do) != value:
            self._said[pair.key] = self.file.decide(
                pair.key, "choice" if act.do == "choice" else "note", value,
                act_id=act.id, seconds=act.seconds, left=pair.left, about=_about(pair),
            )  # fmt: skip
        if act.do == "choice":
            following = self._next_undecided(self.at)
            self.told = "all pairs are decided" if following < 0 else ""
            self.at = self.at if following < 0 else following

    def _next_undecided(self, at: int) -> int:
        places = [*range(at + 1, len(self.pairs)), *range(at + 1)]
        return next((each for each in places if not self._done(self.pairs[each])), -1)

    def _done(self, pair: Pair) -> bool:
        return self._said.get(pair.key, Judgement()).choice is not None

    def _show(self, item: str) -> None:
        self.at = next((place for place, pair in enumerate(self.pairs) if pair.key == item), self.at)

    def _progress(self) -> tuple[int, int]:
        return sum(map(self._done, self.pairs)), len(self.pairs)

    def _seen(self) -> JsonObject:
        pair = self.pairs[self.at]
        said = self._said.get(pair.key, Judgement())
        left, right = pair.sides
        side = {None: None, "tie": "tie", pair.left: "left"}.get(said.choice, "right")
        item = {"key": pair.key, "left": left.items, "right": right.items, "choice": side, "note": said.note}
        return {
            "mode": "one",
            "first": self.at,
            "found": len(self.pairs),
            "current": 0,
            "items": [item],
            "blinding": True,
        }


def _halves(rows: pd.DataFrame, condition: str, text: str, whole: bool) -> Iterator[Half]:
    texts = [clean(cell(value)) for value in rows[text]]
    items = [
        {**feed(row, shown), "date": ""} for (_, row), shown in zip(rows.iterrows(), texts, strict=True)
    ]  # without dates, as only what was written is compared
    keys = tuple(rows["_item"])
    if whole:
        if texts:
            yield Half(condition=condition, keys=keys, texts=tuple(texts), items=tuple(items))
        return
    for key, shown, item in zip(keys, texts, items, strict=True):
        yield Half(condition=condition, keys=(key,), texts=(shown,), items=(item,))


def _pair(image: str, a: Half, b: Half, seed: str) -> Pair:
    key = hashlib.sha256("\0".join((*a.keys, "\1", *b.keys)).encode()).hexdigest()[:16]
    left = "a" if int(mixed(seed + "\0side", key), 16) % 2 else "b"
    return Pair(key=key, image=image, a=a, b=b, left=left)


def _about(pair: Pair) -> JsonObject:
    return {
        "image": pair.image, "a": pair.a.condition, "b": pair.b.condition,
        "a_text": "\n\n".join(pair.a.texts), "b_text": "\n\n".join(pair.b.texts),
    }  # fmt: skip


def preferences_df(reviews: pd.DataFrame) -> pd.DataFrame:
    """One row per rater and pair of `reviews_df`: the conditions `a` and `b`, and the `outcome`: a, b or tie.

    Raises:
        ConfigError: no pair was decided.
    """
    if "a_text" not in reviews.columns or not reviews["choice"].notna().any():
        raise ConfigError("no pair was decided: review_pairs(frame, by=…) first")
    pairs: Any = reviews[reviews["choice"].notna()]
    columns = ["review", "item", "rater", "image", "a", "b", "choice", "left", "seconds", "a_text", "b_text"]
    found: pd.DataFrame = pairs[columns].rename(columns={"choice": "outcome"}).reset_index(drop=True)
    return found
