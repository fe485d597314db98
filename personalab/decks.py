"""The tweets of a frame in the order in which they are read: near copies beside each other, searched, filtered, sorted.

Nothing here knows of widgets or files; a decision changes no order, so nothing vanishes under the reader's eyes.
"""

from __future__ import annotations

import hashlib
import itertools
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from personalab.config import TWEET_LIKENESS_MAX
from personalab.errors import ConfigError, unknown
from personalab.records import Record
from personalab.reviews import Judgement, clean, clean_frame, item_keys
from personalab.words import plain_text

if TYPE_CHECKING:
    import pandas as pd

Show = Literal["all", "undecided", "kept", "rejected", "rated", "noted", "near copies"]
SHOWS: tuple[Show, ...] = ("all", "undecided", "kept", "rejected", "rated", "noted", "near copies")

SLOT_COLUMNS = ("date", "time_of_day", "content_type", "topic", "mood", "stage", "part")
_HIDDEN = (
    "condition",
    "replicate",
    "model",
    "temperature",
    "prompt",
    "prompt_sha256",
    "run",
    "file",
    "source",
)
_TELLING = ("condition", "model", "temperature", "prompt", "prompt_sha256")
_NOT_HIDDEN = ("image", "persona", "persona_id", "card", "text")
_SEARCHED = ("text", "persona", "content_type", "topic", "mood")
_BLOCK = 50
_SKETCH = 12
"""Runs of characters that stand for a text when near copies are looked for; two at 80 of 100 share one of them nearly always."""
_RUN = 6
_BUCKET_MAX = 40
"""Texts with a run in common that are compared with each other; more share a phrase, not a text."""


class Query(Record):
    """What is to be seen, and in which order. `sort` is a column, or None for the order of the deck."""

    search: str = ""
    show: Show = "all"
    sort: str | None = None
    descending: bool = True


@dataclass(frozen=True, eq=False)
class Deck:
    """The rows of a frame. Places count from 0 in the frame's order.

    `keys` name the rows on disk. `copies` is the group of near copies of each row, of which most hold one row. `hidden` are
    the columns that would tell the condition, `sortable` those that can be sorted by.
    """

    frame: pd.DataFrame
    keys: tuple[str, ...]
    texts: tuple[str, ...]
    copies: tuple[int, ...]
    order: tuple[int, ...]
    hidden: tuple[str, ...]
    sortable: tuple[str, ...]
    place: Mapping[str, int] = field(repr=False)

    @classmethod
    def of(
        cls,
        frame: pd.DataFrame,
        *,
        text: str = "text",
        shuffle: str | None = None,
        rater: str = "",
        blind: bool = True,
    ) -> Deck:
        """A deck of a frame. `shuffle` is a seed for an order that tells nothing, as in `mixed_order`; without it the frame's
        order is kept. Unless `blind`, no column is hidden.

        Raises:
            ConfigError: no column of texts, or no row.
        """
        frame = clean_frame(frame.reset_index(drop=True))
        keys = tuple(item_keys(frame, text))
        if not keys:
            raise ConfigError("nothing to review: the frame has no row")
        texts = tuple("" if value is None or value != value else str(value) for value in frame[text])
        copies = near_copies(texts)
        places: Iterable[int] = range(len(keys))
        if shuffle is not None:
            places = _mixed_groups(keys, copies, shuffle, rater)
        hidden = hidden_columns(frame) if blind else ()
        sortable = [
            name for name in frame.select_dtypes(["number", "bool", "datetime"]).columns if name not in hidden
        ]
        return cls(
            frame, keys, texts, copies, _together(places, copies), hidden, tuple(map(str, sortable)),
            {key: place for place, key in enumerate(keys)},
        )  # fmt: skip

    def found(self, query: Query, said: Mapping[str, Judgement]) -> tuple[int, ...]:
        """Places of the rows that a query shows, in its order. `said` are judgements by key.

        Raises:
            ConfigError: a column that cannot be sorted by.
        """
        wanted = query.search.casefold().split()
        shown = (
            place
            for place in self._sorted(query)
            if self._shows(query.show, place, said) and self._matches(wanted, place, said)
        )
        return tuple(shown)

    def group(self, place: int) -> tuple[int, ...]:
        """The near copies of a row, itself included, in the deck's order."""
        return self._groups[self.copies[place]]

    @cached_property
    def _groups(self) -> Mapping[int, tuple[int, ...]]:
        groups: dict[int, list[int]] = defaultdict(list)
        for place in self.order:
            groups[self.copies[place]].append(place)
        return {group: tuple(places) for group, places in groups.items()}

    @cached_property
    def _searched(self) -> Sequence[str]:
        seen = [name for name in _SEARCHED[1:] if name in self.frame and name not in self.hidden]
        columns = [self.frame[name].astype(object).fillna("").astype(str) for name in seen]
        return [" ".join(row).casefold() for row in zip(self.texts, *columns, strict=True)]

    def _sorted(self, query: Query) -> Sequence[int]:
        if query.sort is None:
            return self.order
        if query.sort not in self.sortable:
            raise unknown("column to sort by", query.sort, self.sortable)
        column = self.frame[query.sort].iloc[list(self.order)]
        return list(
            column.sort_values(ascending=not query.descending, kind="stable", na_position="last").index
        )

    def _shows(self, show: Show, place: int, said: Mapping[str, Judgement]) -> bool:
        if show == "all":
            return True
        if show == "near copies":
            return len(self.group(place)) > 1
        judgement = said.get(self.keys[place], Judgement())
        return {
            "undecided": judgement.verdict is None and judgement.rating is None,
            "kept": judgement.verdict == "keep",
            "rejected": judgement.verdict == "reject",
            "rated": judgement.rating is not None,
            "noted": bool(judgement.note or judgement.tags),
        }[show]

    def _matches(self, wanted: Sequence[str], place: int, said: Mapping[str, Judgement]) -> bool:
        if not wanted:
            return True
        judgement = said.get(self.keys[place])
        spoken = f" {judgement.note} {' '.join(judgement.tags)}".casefold() if judgement else ""
        text = self._searched[place] + spoken
        return all(word in text for word in wanted)


def hidden_columns(frame: pd.DataFrame) -> tuple[str, ...]:
    """The columns that would tell a reader the condition: those known to, and each that has one value in every condition."""
    hidden = [name for name in frame.columns if name in _HIDDEN]
    if "condition" in frame.columns:
        groups = (
            frame.drop(columns=[*hidden, *(name for name in _NOT_HIDDEN if name in frame.columns)])
            .astype(str)
            .groupby(frame["condition"].astype(str))
        )
        alike = groups.nunique().max()
        hidden += [name for name in alike.index if alike[name] == 1 and frame[name].astype(str).nunique() > 1]
    return tuple(map(str, hidden))


def conditions_differ(frame: pd.DataFrame) -> bool:
    """Whether the rows are of several conditions, so that their order would tell which."""
    return any(name in frame.columns and frame[name].astype(str).nunique() > 1 for name in _TELLING)


def near_copies(texts: Sequence[str], likeness: float = TWEET_LIKENESS_MAX) -> tuple[int, ...]:
    """The group of each text: its number is the place of the group's first. Texts of a group are near copies of one another,
    or of one that is (`rapidfuzz.fuzz.ratio` of the words ≥ `likeness`).

    Not every text is compared with every other, which takes 20 s for 10,000: only those that share one of the 12 runs of
    six characters with the lowest checksum. Measured in docs/log.md.
    """
    from rapidfuzz import fuzz

    plain = [plain_text(text) for text in texts]
    groups = list(range(len(plain)))

    def first(place: int) -> int:
        while groups[place] != place:
            groups[place] = groups[groups[place]]
            place = groups[place]
        return place

    buckets: dict[object, list[int]] = defaultdict(list)
    for place, text in enumerate(plain):
        for run in _sketch(text):
            buckets[run].append(place)
    compared: set[tuple[int, int]] = set()
    for bucket in buckets.values():
        for pair in itertools.combinations(bucket[:_BUCKET_MAX], 2):
            if pair in compared:
                continue
            compared.add(pair)
            one, other = first(pair[0]), first(pair[1])
            if one != other and fuzz.ratio(plain[pair[0]], plain[pair[1]], score_cutoff=likeness):
                groups[max(one, other)] = min(one, other)
    return tuple(first(place) for place in range(len(plain)))


def _sketch(text: str) -> set[object]:
    if not text:
        return set()
    raw = text.encode("utf-8", "replace")
    runs = {raw[at : at + _RUN] for at in range(max(1, len(raw) - _RUN + 1))}
    return {text, *sorted(map(zlib.crc32, runs))[:_SKETCH]}


def _together(places: Iterable[int], copies: Sequence[int]) -> tuple[int, ...]:
    """The places with each group of near copies together, where its first comes."""
    groups: dict[int, list[int]] = {}
    for place in places:
        groups.setdefault(copies[place], []).append(place)
    return tuple(itertools.chain.from_iterable(groups.values()))


def _mixed_groups(keys: Sequence[str], copies: Sequence[int], seed: str, rater: str) -> list[int]:
    """As `mixed_order`, near copies as one; which of them comes first tells nothing either."""
    names: dict[int, str] = {}
    for key, group in sorted(zip(keys, copies, strict=True)):
        names.setdefault(group, key)
    groups = list(names)
    rank = {groups[at]: turn for turn, at in enumerate(mixed_order(list(names.values()), seed, rater))}
    own = f"{seed}\0{rater}"
    return sorted(range(len(keys)), key=lambda place: (rank[copies[place]], mixed(own, keys[place])))


def mixed_order(keys: Sequence[str], seed: str, rater: str) -> list[int]:
    """Places of keys in an order that tells nothing: blocks of 50 that are the same for all raters, so that those who stop
    early have read the same, and each block in an order of the rater's own."""
    order = sorted(range(len(keys)), key=lambda place: mixed(seed, keys[place]))
    blocks = (order[first : first + _BLOCK] for first in range(0, len(order), _BLOCK))
    own = f"{seed}\0{rater}"
    return [place for block in blocks for place in sorted(block, key=lambda place: mixed(own, keys[place]))]


def mixed(seed: str, key: str) -> str:
    """A number, as text, that a seed gives a key: by it things are mixed in a way that can be repeated."""
    return hashlib.sha256(f"{seed}\0{key}".encode()).hexdigest()


def cell(value: Any) -> str:
    """A value of the frame as it is shown; nothing for what is missing."""
    if value is None or value != value:
        return ""
    if hasattr(value, "strftime"):
        return str(value.strftime("%a %d %b %Y"))
    return clean(f"{value:.3g}" if isinstance(value, float) else str(value))
