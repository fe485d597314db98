"""One opening of a review: what the reader does, one act at a time, and what is seen after it. Knows no widget.

The truth is here and on disk, never in the browser: an act comes in, is written, and only then does the view show what
comes next.
"""

from __future__ import annotations

import base64
import statistics
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from personalab.decks import SHOWS, SLOT_COLUMNS, Deck, Query, cell
from personalab.errors import ConfigError, ImageError, PersonalabError
from personalab.images import open_picture
from personalab.names import slug
from personalab.records import JsonObject, Record
from personalab.reviews import Action, Decision, Judgement, ReviewFile
from personalab.tweet_text import TWEET_LENGTH_MAX, weighted_length
from personalab.words import HASHTAG, MENTION

if TYPE_CHECKING:
    import pandas as pd

Ask = Literal["verdict", "rating"]
"""What finishes an item, so that the next one comes: keep or reject, or a rating."""

PAGE = 50
_PORTRAIT_SIDE = 96
_PACE_ACTS = 30
"""The newest decisions whose median time says how long the rest will take."""
_PACE_LINES = 1000
_ABOUT = ("persona", "persona_id", "image", "condition", "replicate", "model", "stage", "part")
_HANDLE_CHARACTERS = 15


class Act(Record):
    """What the reader did. `id` is new for each act; `seconds` is how long the item had been in view."""

    id: str
    do: Literal[
        "verdict", "rating", "tags", "note", "choice", "undo", "go", "page", "query", "mode", "reveal", "look"
    ]
    item: str = ""
    value: Any = None
    seconds: float | None = None


class Sitting(ABC):
    """What all kinds of review share: position, undo, pace. `at` counts from 0 among what is found."""

    kind = ""

    def __init__(self, file: ReviewFile) -> None:
        self.file = file
        self.at = 0
        self.told = ""
        self.problem = ""
        self._answered = ""
        self._revealed: set[str] = set()

    def act(self, act: Act) -> None:
        """Do it. What cannot be done is said in the view and changes nothing."""
        self.told = self.problem = ""
        self._answered = act.id
        try:
            self._do(act)
        except PersonalabError as error:
            self.problem = str(error)

    def view(self) -> JsonObject:
        """All that is to be seen now, as JSON."""
        done, count = self._progress()
        return {
            "kind": self.kind,
            "answers": self._answered,
            "told": self.told,
            "problem": self.problem,
            "rater": self.file.rater,
            "sitting": self.file.sitting,
            "done": done,
            "count": count,
            "seconds_left": self._seconds_left(count - done),
            **self._seen(),
        }

    @property
    @abstractmethod
    def finishes(self) -> Action:
        """The action after which the next item comes."""

    @abstractmethod
    def _do(self, act: Act) -> None: ...

    @abstractmethod
    def _seen(self) -> JsonObject: ...

    @abstractmethod
    def _progress(self) -> tuple[int, int]: ...

    @abstractmethod
    def _show(self, item: str) -> None:
        """Go to an item if it is among what is found."""

    def _undo(self, act: Act) -> None:
        undone = self.file.undo(act_id=act.id)
        if undone is None:
            self.told = "nothing to undo"
            return
        self.told = f"undone: {undone.action}"
        self._show(undone.item)

    def _reveal(self, act: Act) -> None:
        self._revealed ^= {act.item}

    def _blind(self, item: str) -> bool:
        """Whether the rater has decided on it without ever having asked for its condition."""
        before = self.file.newest(item)
        return item not in self._revealed and (before is None or before.blind)

    def _seconds_left(self, remaining: int) -> float | None:
        own = [
            each
            for each in self.file.history[-_PACE_LINES:]
            if (each.rater, each.action, each.undoes) == (self.file.rater, self.finishes, None)
        ]
        paces = [each.seconds for each in own if each.seconds is not None][-_PACE_ACTS:]
        return statistics.median(paces) * remaining if len(paces) >= 5 else None


class TweetSitting(Sitting):
    """Tweets one at a time or a page at a time: keep or reject, rate, tag, note."""

    kind = "tweets"

    def __init__(
        self, file: ReviewFile, deck: Deck, *, ask: Ask = "verdict", mode: Literal["one", "page"] = "one"
    ) -> None:
        super().__init__(file)
        self.deck = deck
        self.ask = ask
        self.mode = mode
        self.query = Query()
        self._said: dict[str, Decision] = file.decided()
        self.found = deck.found(self.query, self._said)
        self.at = max(0, self._next_undecided(-1))

    @property
    def finishes(self) -> Action:
        """Keep or reject, or a rating."""
        return self.ask

    def _do(self, act: Act) -> None:
        match act.do:
            case "verdict" | "rating" | "tags" | "note":
                self._decide(act)
            case "undo":
                self._undo(act)
            case "go":
                self.at = max(0, min(self.at + int(act.value), len(self.found) - 1))
            case "page":
                last = (len(self.found) - 1) // PAGE
                self.at = PAGE * max(0, min(self.at // PAGE + int(act.value), last))
            case "query":
                self._look_for(Query.model_validate(act.value))
            case "mode":
                self.mode = "page" if self.mode == "one" else "one"
            case "reveal":
                self._reveal(act)
            case "look":
                self.file.read_new()
                self._show(act.item)
        self._said = self.file.decided()

    def _decide(self, act: Act) -> None:
        if act.item not in self.deck.place:
            raise ConfigError("nothing is in view to decide on: change the search or what is shown")
        place = self.deck.place[act.item]
        self._show(act.item)
        value = tuple(act.value) if act.do == "tags" else act.value
        if getattr(self.file.judgement(act.item), act.do) != value:
            decision = self.file.decide(
                act.item, act.do, value,  # type: ignore[arg-type]
                act_id=act.id, seconds=act.seconds, blind=self._blind(act.item), about=self._about(place),
            )  # fmt: skip
            self._said[act.item] = decision
        if act.do == self.ask and value is not None:
            self._move_on()

    def _move_on(self) -> None:
        following = self._next_undecided(self.at)
        if following < 0:
            self.told = "all of these are decided"
        else:
            self.at = following

    def _next_undecided(self, at: int) -> int:
        """The next undecided among what is found, from the start again after the end; −1 if there is none."""
        places = [*range(at + 1, len(self.found)), *range(at + 1)]
        return next((each for each in places if not self._done(self.deck.keys[self.found[each]])), -1)

    def _look_for(self, query: Query) -> None:
        current = self.deck.keys[self.found[self.at]] if self.found else ""
        found = self.deck.found(query, self._said)  # before anything changes: it may be refused
        self.query, self.found, self.at = query, found, 0
        self._show(current)

    def _show(self, item: str) -> None:
        place = self.deck.place.get(item, -1)
        if place in self.found:
            self.at = self.found.index(place)

    def _done(self, key: str) -> bool:
        return getattr(self._said.get(key), self.ask, None) is not None

    def _progress(self) -> tuple[int, int]:
        return sum(map(self._done, self.deck.keys)), len(self.deck.keys)

    def _about(self, place: int) -> JsonObject:
        row = self.deck.frame.iloc[place]
        known = {name: _plain_value(row[name]) for name in _ABOUT if name in row.index}
        return {
            "text": self.deck.texts[place],
            **{name: value for name, value in known.items() if value is not None},
        }

    def _seen(self) -> JsonObject:
        first = PAGE * (self.at // PAGE) if self.mode == "page" else self.at
        places = self.found[first : first + (PAGE if self.mode == "page" else 1)]
        return {
            "ask": self.ask,
            "mode": self.mode,
            "query": self.query.model_dump(),
            "shows": list(SHOWS),
            "sorts": list(self.deck.sortable),
            "blinding": bool(self.deck.hidden),
            "found": len(self.found),
            "first": first,
            "current": self.at - first,
            "items": [self._item(place) for place in places],
        }

    def _item(self, place: int) -> JsonObject:
        row, key = self.deck.frame.iloc[place], self.deck.keys[place]
        said = self._said.get(key, Judgement())
        group = self.deck.group(place)
        revealed = key in self._revealed
        return {
            "key": key,
            **feed(row, self.deck.texts[place]),
            "from": _named(row, [name for name in SLOT_COLUMNS if name not in self.deck.hidden]),
            "sorted": _named(row, [self.query.sort]) if self.query.sort else [],
            "condition": _named(row, self.deck.hidden) if revealed else None,
            "copy": [group.index(place) + 1, len(group)] if len(group) > 1 else None,
            **said.model_dump(include={"verdict", "rating", "tags", "note"}, mode="json"),
        }


def feed(row: pd.Series[Any], text: str) -> JsonObject:
    """A tweet as it would look in a feed: who, and the text in parts with its hashtags and mentions marked.

    A text of another stage, as of a description, has a heading instead, and no limit.
    """
    is_tweet = cell(row.get("stage")) in ("", "example_tweets")
    persona = cell(row.get("persona")) or "somebody"
    handle = slug(persona).replace("-", "_").casefold()[:_HANDLE_CHARACTERS]
    return {
        "persona": persona,
        "handle": f"@{handle}",
        "portrait": portrait_name(row),
        "date": cell(row.get("date")),
        "parts": marked(text),
        "length": weighted_length(text) if is_tweet else None,
        "limit": TWEET_LENGTH_MAX if is_tweet else None,
        "heading": "" if is_tweet else cell(row.get("part")).replace("_", " "),
    }


def marked(text: str) -> list[tuple[str, str]]:
    """A text in parts, each with its kind: `""`, `hashtag` or `mention`. Together they are the text."""
    spans = sorted(
        (match.start(), match.end(), kind)
        for kind, pattern in (("hashtag", HASHTAG), ("mention", MENTION))
        for match in pattern.finditer(text)
    )
    parts, at = [], 0
    for begin, end, kind in spans:
        if begin >= at:
            parts += [("", text[at:begin])] if begin > at else []
            parts.append((kind, text[begin:end]))
            at = end
    return [*parts, ("", text[at:])] if at < len(text) or not parts else parts


def portrait_name(row: pd.Series[Any]) -> str:
    """The file that a tweet's portrait would be, beside its card; empty if the frame says neither card, run nor image."""
    card = cell(row.get("card"))
    made = cell(row.get("run")) or cell(row.get("image"))
    name = Path(card).stem if card else f"{made}_persona" if made else ""
    return f"{Path(name).name}.png" if name else ""


def portrait(path: Path) -> str:
    """A small portrait as an address that holds it; empty where there is none to show."""
    try:
        picture = open_picture(path, side_max=_PORTRAIT_SIDE)
    except ImageError:  # a portrait is an ornament here: without one the initials stand
        return ""
    return f"data:{picture.media_type};base64,{base64.b64encode(picture.data).decode()}"


def _named(row: pd.Series[Any], names: Any) -> list[tuple[str, str]]:
    return [
        (name.replace("_", " "), shown) for name in names if name in row.index and (shown := cell(row[name]))
    ]


def _plain_value(value: Any) -> Any:
    """A cell as JSON can hold it; None for what is missing."""
    if value is None or value != value:
        return None
    return (
        value.item()
        if hasattr(value, "item")
        else value
        if isinstance(value, int | float | bool)
        else str(value)
    )
