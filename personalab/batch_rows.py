"""What a batch remembers of each image: a row, and where its content stood first. Small, as batches are long.

Ten thousand rows as objects took 9 MB and scattered over the heap; packed each takes about 150 bytes.
"""

from __future__ import annotations

import json
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

State = Literal["made", "kept", "duplicate", "left", "failed"]


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one image. `same_as` is the place of the image it is a duplicate of.

    `state`: `made` now, `kept` from before, `duplicate` of another image of the batch, `left` as it was (not taken by
    `retry_failed`), `failed`. `calls`, tokens and `cost` (US dollars, None where the price is unknown) are what this
    batch sent and paid; `note` says if settings have changed.
    """

    place: int
    image: str
    state: State
    run: str = ""
    persona: str | None = None
    status: str = ""
    calls: int = 0
    input_tokens: int | None = 0
    output_tokens: int | None = 0
    cost: float | None = 0.0
    seconds: float = 0.0
    file: str | None = None
    note: str | None = None
    error: str | None = None
    same_as: int | None = None


FIELDS = tuple(Row.__dataclass_fields__)
_PATHS = ("image", "file")
COLUMNS = tuple(name for name in FIELDS if name not in ("place", "same_as"))


class Rows:
    """Rows by the places of their images. Iterating gives those that are there, in the order of the images."""

    def __init__(self) -> None:
        self._packed: list[bytes | None] = []
        self._folders: list[str] = []  # of images and files, of which there are few
        self._numbers: dict[str, int] = {}
        self.states: Counter[State] = Counter()

    def add(self, row: Row) -> None:
        """Keep a row."""
        self._packed.extend([None] * (row.place + 1 - len(self._packed)))
        # Not orjson: it leaves its bytes in blocks of 1 KB on the heap, and ten thousand of them pinned 50 MB.
        values = [self._short(row, name) for name in FIELDS]
        self._packed[row.place] = json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode(
            "utf-8", "surrogatepass"
        )
        self.states[row.state] += 1

    def __contains__(self, row: object) -> bool:
        return any(row == other for other in self)

    def __len__(self) -> int:
        return self.states.total()

    def __iter__(self) -> Iterator[Row]:
        for packed in self._packed:
            if packed is not None:
                yield self._filled(self._unpacked(packed))

    def _short(self, row: Row, name: str) -> Any:
        """A value as it is kept: a path as the number of its folder and the rest."""
        value = getattr(row, name)
        if name not in _PATHS or not value:
            return value
        folder, slash, rest = value.rpartition("/")
        number = self._numbers.setdefault(folder + slash, len(self._folders))
        if number == len(self._folders):
            self._folders.append(folder + slash)
        return [number, rest]

    def _unpacked(self, packed: bytes) -> Row:
        return Row(
            *(
                self._folders[value[0]] + value[1] if isinstance(value, list) else value
                for value in json.loads(packed)
            )
        )

    def _filled(self, row: Row) -> Row:
        """A duplicate has what its image has."""
        if row.same_as is None or (packed := self._packed[row.same_as]) is None:
            return row
        first = self._unpacked(packed)
        return replace(
            first, place=row.place, image=row.image, state="duplicate", note=f"the same picture as {first.image}",
            calls=0, input_tokens=0, output_tokens=0, cost=0.0, same_as=row.same_as,
        )  # fmt: skip


class Contents:
    """Where each content stands first in a batch, by 64 bits of its hash: 16 bytes a content."""

    def __init__(self) -> None:
        self._hashes = array("Q")
        self._places = array("Q")

    def first(self, sha256: str, place: int) -> int:
        """The place of the first image with this content, which is `place` if there was none."""
        short = int(sha256[:16], 16)
        at = bisect_left(self._hashes, short)
        if at < len(self._hashes) and self._hashes[at] == short:
            return self._places[at]
        self._hashes.insert(at, short)
        self._places.insert(at, place)
        return place
