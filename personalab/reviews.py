"""What people decided, on disk: `outputs/reviews/{name}.jsonl`, a line an act, appended and never changed.

A line holds all that its rater says of the item from then on, so the newest line of a rater and an item counts, and the
history stays. It is written under a lock and flushed to disk before `decide` returns; writers in other processes are
read before each line, so neither two raters nor two tabs lose anything.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from filelock import FileLock, Timeout
from pydantic import Field, ValidationError

from personalab.config import load_settings
from personalab.dry import check_inside
from personalab.errors import ConfigError, OutputError
from personalab.names import slug
from personalab.records import JsonObject, Record, explain

if TYPE_CHECKING:
    import pandas as pd

Verdict = Literal["keep", "reject"]
Side = Literal["a", "b", "tie"]
Action = Literal["verdict", "rating", "tags", "note", "choice"]

_LOCK_SECONDS = 30.0
_IDENTITY = (
    "persona_id",
    "image",
    "condition",
    "replicate",
    "source",
    "stage",
    "part",
    "date",
    "content_type",
)


class Judgement(Record):
    """What a rater says of an item. None, or nothing, is not said.

    `rating` is 1 to 5. `choice` is of a pair: which of its two is better.
    """

    verdict: Verdict | None = None
    rating: int | None = Field(default=None, ge=1, le=5)
    tags: tuple[str, ...] = ()
    note: str = ""
    choice: Side | None = None


class Decision(Judgement):
    """One act of a rater, and what holds of the item from then on.

    `id` is made where the key was pressed, so the same act sent twice is one. `time` is UTC. `sitting` is one opening of
    the review. `seconds` is how long the item was in view before the act; None is unknown. `blind` is False once the rater
    asked for the item's condition. `left` is which of a pair stood on the left. `undoes` is the id of the act taken back.
    `about` is what the item was, so that decisions can be read without the tweets.
    """

    id: str
    time: str
    rater: str
    sitting: str
    item: str
    action: Action
    seconds: float | None = None
    blind: bool = True
    left: Literal["a", "b"] | None = None
    undoes: str | None = None
    about: JsonObject = Field(default_factory=dict)

    @property
    def judgement(self) -> Judgement:
        """What holds of the item."""
        return Judgement.model_validate({name: getattr(self, name) for name in Judgement.model_fields})


class ReviewFile:
    """The decisions of one review, open for one rater.

    Raises:
        ConfigError: the rater has no name.
        OutputError: the file cannot be read.
    """

    def __init__(self, path: Path | str, rater: str) -> None:
        self.path = Path(path)
        self.rater = clean(rater).strip()
        if not self.rater:
            raise ConfigError("a review needs a rater: review(frame, rater='anna')")
        self.sitting = uuid4().hex[:12]
        self._acts: list[Decision] = []  # what this rater can take back
        self._forget()
        with _locked(self.path):
            self._read_on()
        for decision in self.history:
            self._undoable(decision)

    def judgement(self, item: str) -> Judgement:
        """What this rater says of an item."""
        newest = self.newest(item)
        return newest.judgement if newest else Judgement()

    def newest(self, item: str) -> Decision | None:
        """This rater's newest decision on an item."""
        return self._newest.get((self.rater, item))

    def decided(self) -> dict[str, Decision]:
        """The newest decision of this rater by item."""
        return {item: decision for (rater, item), decision in self._newest.items() if rater == self.rater}

    def read_new(self) -> None:
        """Read what others have written since."""
        with _locked(self.path):
            self._read_on()

    def decide(
        self,
        item: str,
        action: Action,
        value: Any,
        *,
        act_id: str | None = None,
        **facts: Any,
    ) -> Decision:
        """Write one act: `value` is the new verdict, rating, tags, note or choice. It is on disk when this returns.

        `act_id` is made by the caller; one that is known is not written again. `facts` are further fields of `Decision`.

        Raises:
            ConfigError: a value that cannot be, such as a rating of 6.
            OutputError: the file cannot be written; nothing has been decided then.
        """
        with _locked(self.path):
            self._read_on()
            if act_id in self._ids:
                return self._ids[act_id]
            said = self.judgement(item)
            fields = {name: getattr(said, name) for name in Judgement.model_fields} | {action: value}
            try:
                decision = Decision.model_validate(
                    _cleaned(
                        {
                            "id": act_id or uuid4().hex,
                            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                            "rater": self.rater,
                            "sitting": self.sitting,
                            "item": item,
                            "action": action,
                            **fields,
                            **facts,
                        }
                    )
                )
            except ValidationError as error:
                raise ConfigError(f"decision on {item}: {explain(error)}") from None
            self._append(decision)
        self._undoable(decision)
        return decision

    def undo(self, *, act_id: str | None = None) -> Decision | None:
        """Take back this rater's newest act, by a line more: what it changed is as it was before. None: nothing is left.

        Acts that another tab has made since this one was opened are that tab's to take back.
        """
        if act_id in self._ids:
            return self._ids[act_id]
        self.read_new()
        self._acts = [act for act in self._acts if act.id in self._ids]  # the file may have been edited
        if not self._acts:
            return None
        act = self._acts[-1]
        before = Judgement()
        for decision in self.history:
            if decision.id == act.id:
                break
            if (decision.rater, decision.item) == (act.rater, act.item):
                before = decision
        return self.decide(
            act.item, act.action, getattr(before, act.action),
            act_id=act_id, undoes=act.id, about=act.about, blind=act.blind, left=act.left,
        )  # fmt: skip

    def _undoable(self, decision: Decision) -> None:
        if decision.rater != self.rater:
            return
        if decision.undoes is None:
            self._acts.append(decision)
        else:
            self._acts = [act for act in self._acts if act.id != decision.undoes]

    def _forget(self) -> None:
        self.history: list[Decision] = []
        self._ids: dict[str, Decision] = {}
        self._newest: dict[tuple[str, str], Decision] = {}
        self._read = 0  # bytes that are known
        self._lines = 0
        self._tail = b""  # the newest of them

    def _read_on(self) -> None:
        for decision in self._whole_lines():
            if decision.id not in self._ids:
                self._keep(decision)

    def _keep(self, decision: Decision) -> None:
        self.history.append(decision)
        self._ids[decision.id] = decision
        self._newest[decision.rater, decision.item] = decision

    def _whole_lines(self) -> Iterator[Decision]:
        """The decisions behind what is known; all of them if what is known is no longer there, as after an edit by hand.

        Called under the lock, so a line that breaks off is a dead writer's.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self._read - len(self._tail))
                fresh = file.read()
                if fresh.startswith(self._tail):
                    fresh = fresh[len(self._tail) :]
                else:
                    self._forget()
                    file.seek(0)
                    fresh = file.read()
        except FileNotFoundError:
            self._forget()
            return
        except OSError as error:
            raise OutputError(f"{self.path} cannot be read: {error.strerror or error}") from error
        *whole, rest = fresh.split(b"\n")
        for line in whole:
            self._lines += 1
            self._known(line + b"\n")
            if line and (decision := _decision(line, f"{self.path}, line {self._lines}")):
                yield decision
        if rest and (decision := _decision(rest)):  # only its end is missing, as some editors leave it
            self._known(rest)
            yield decision
        elif rest:
            warnings.warn(
                f"{self.path}: the last line is half written, as by a process that was killed; it was never confirmed and "
                "is left out",
                stacklevel=2,
            )

    def _known(self, tail: bytes) -> None:
        self._read += len(tail)
        self._tail = tail

    def _append(self, decision: Decision) -> None:
        line = json.dumps(decision.model_dump(mode="json")).encode() + b"\n"
        if self._tail and not self._tail.endswith(b"\n"):
            line = b"\n" + line
        try:
            with self.path.open("r+b" if self.path.exists() else "xb") as file:
                file.seek(self._read)
                file.truncate()  # only a line that breaks off can stand behind what was read
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(
                f"cannot write {self.path}: {error.strerror or error}; nothing was decided: free space or choose another folder"
            ) from error
        self._known(line)
        self._lines += line.count(b"\n")
        self._keep(decision)


def review_path(name: str, folder: Path | str | None = None) -> Path:
    """Where a review lies: `outputs/reviews/{name}.jsonl`, or in another folder."""
    where = Path(folder) if folder is not None else load_settings().outputs / "reviews"
    return where / f"{slug(name)}.jsonl"


def reviews_df(
    reviews: Path | str | None = None, *, history: bool = False, folder: Path | str | None = None
) -> pd.DataFrame:
    """One row per rater and item: what the rater says of it now. With `history`: one row per act.

    `reviews` is the name of a review or its file; without it all of `outputs/reviews`. `kept` is True, False or empty. What
    was taken back altogether is left out. What the item was (`text`, `persona`, `image`, `condition`, …) are further columns.

    Raises:
        OutputError: there is no such review.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for path in _paths(reviews, folder):
        file = ReviewFile(path, "reader")
        shown = file.history if history else [
            each for each in file._newest.values() if each.judgement != Judgement()
        ]  # fmt: skip
        rows += [{"review": path.stem, **_row(each)} for each in shown]
    columns = ["review", *(name for name in _COLUMNS if history or name not in ("id", "action", "undoes"))]
    further = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in _COLUMNS]
    frame = pd.DataFrame(rows, columns=[*columns, *(name for name in further if name != "review")])
    return frame.astype({"kept": "boolean", "rating": "Int64"}).assign(
        time=pd.to_datetime(frame["time"], format="ISO8601", utc=True)
    )


_COLUMNS = (
    "item", "rater", "verdict", "kept", "rating", "tags", "note", "choice", "left", "seconds", "blind", "time", "sitting",
    "id", "action", "undoes",
)  # fmt: skip


def _row(decision: Decision) -> dict[str, Any]:
    kept = None if decision.verdict is None else decision.verdict == "keep"
    fields = decision.model_dump(exclude={"about"}) | {"kept": kept}
    return {name: fields[name] for name in _COLUMNS} | {
        name: value for name, value in decision.about.items() if name not in _COLUMNS
    }


def _paths(reviews: Path | str | None, folder: Path | str | None) -> list[Path]:
    where = review_path("all", folder).parent
    if reviews is None:
        return sorted(where.glob("*.jsonl"))
    path = Path(reviews) if str(reviews).endswith(".jsonl") else review_path(str(reviews), folder)
    if not path.is_file():
        known = ", ".join(sorted(each.stem for each in where.glob("*.jsonl"))) or "none"
        raise OutputError(f"there is no review {path}; reviews in {where}: {known}")
    return [path]


def item_keys(frame: pd.DataFrame, text: str = "text") -> pd.Series[str]:
    """A name for each row that stays when the tweets are made again: of the text and whose it is, not of file or time.

    Rows that are the same in all of these are told apart by their order.

    Raises:
        ConfigError: no column of texts.
    """
    import pandas as pd

    _require_text(frame, text)
    named = [name for name in (*_IDENTITY, text) if name in frame.columns]
    seen: dict[str, int] = {}
    keys = []
    for row in zip(*(frame[name].astype(object) for name in named), strict=True):
        values = [
            f"{name}\0{clean(str(value))}"
            for name, value in zip(named, row, strict=True)
            if not pd.isna(value)
        ]
        key = hashlib.sha256("\1".join(values).encode()).hexdigest()[:16]
        seen[key] = seen.get(key, 0) + 1
        keys.append(key if seen[key] == 1 else f"{key}-{seen[key]}")
    return pd.Series(keys, index=frame.index, name="item", dtype="object")


def clean(text: str) -> str:
    """Text that can be sent and stored: halves of surrogate pairs joined, those left alone replaced by U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def clean_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with all its texts as `clean` makes them; pandas with Arrow's strings can hold no others."""
    columns = [name for name in frame.columns if frame[name].dtype == object]
    cleaned = frame.copy(deep=False)
    for name in columns:
        cleaned[name] = [clean(cell) if isinstance(cell, str) else cell for cell in frame[name]]
    return cleaned


def written_rows(frame: pd.DataFrame, text: str = "text") -> pd.DataFrame:
    """The rows that have a text, as `clean_frame` makes them; where a stage failed there is none to review.

    Raises:
        ConfigError: no column of texts.
    """
    _require_text(frame, text)
    return clean_frame(frame[frame[text].notna()])


def _require_text(frame: pd.DataFrame, text: str) -> None:
    if text not in frame.columns:
        known = ", ".join(map(str, frame.columns))
        raise ConfigError(f"a frame to review needs a column {text!r}: it has {known}")


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {clean(str(key)): _cleaned(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(each) for each in value]
    return value


def _decision(line: bytes, where: str | None = None) -> Decision | None:
    """The decision that a line holds; None, with a warning if `where` says of which line, for what is none."""
    try:
        return Decision.model_validate(json.loads(line))
    except ValidationError as error:
        problem = explain(error)
    except ValueError as error:
        problem = str(error)
    if where:
        warnings.warn(f"{where} is no decision and is left out: {problem}", stacklevel=2)
    return None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    check_inside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=_LOCK_SECONDS):
            yield
    except Timeout as error:
        raise OutputError(
            f"{path} is held by another process: {error.lock_file}; close it and decide again"
        ) from error
    except OSError as error:
        raise OutputError(
            f"cannot write into {path.parent}: {error.strerror or error}; choose another folder"
        ) from error
