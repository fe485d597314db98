"""Reviews in JupyterLab: read tweets, decide by keyboard; two things beside each other, which is better.

    review(tweets_df())            # keep, reject, rate; goes on where it stopped
    review_pairs(frame, by="condition")
    reviews_df()                   # what was decided

Importing this module loads ipywidgets. What it thinks is in `sittings`, what it keeps in `reviews`.
"""

from __future__ import annotations

import getpass
import hashlib
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import traitlets
from anywidget import AnyWidget
from pydantic import ValidationError

from personalab.config import load_settings
from personalab.decks import Deck, cell, conditions_differ
from personalab.errors import ConfigError
from personalab.files import cannot_write
from personalab.pairs import PairSitting, pairs_of
from personalab.reviews import Judgement, ReviewFile, review_path, written_rows
from personalab.sittings import Act, Ask, Sitting, TweetSitting, portrait

if TYPE_CHECKING:
    import pandas as pd

_HERE = Path(__file__).parent
STATIC_ROWS = 200
"""Rows of the table that stands where no kernel runs."""
_TABLE_COLUMNS = ("persona", "date", "content_type", "text", "weighted_length")
# At each cell, as a notebook that is not trusted loses its style sheets.
_CELL = "text-align:left;vertical-align:top"
_TEXT_CELL = f"{_CELL};white-space:pre-line;overflow-wrap:anywhere;width:50%"


class Review(AnyWidget):
    """A review as it is seen. `sitting` is what it stands for; `view` and `portraits` go to the browser."""

    _esm = (_HERE / "review.js").read_text(encoding="utf-8")
    _css = (_HERE / "review.css").read_text(encoding="utf-8")
    view = traitlets.Dict().tag(sync=True)
    portraits = traitlets.Dict().tag(sync=True)

    def __init__(self, sitting: Sitting, folder: Path, table: str) -> None:
        self.sitting = sitting
        self._folder = folder
        self._table = table
        self._names: dict[str, str] = {}  # of pictures, by file
        self._pictures: dict[str, str] = {}
        super().__init__(**self._state())
        self.on_msg(self._received)

    def act(self, content: Mapping[str, Any]) -> None:
        """Do what the browser says, on disk first, then show what comes next."""
        try:
            act = Act.model_validate(content)
        except ValidationError:  # not of this widget's making, or of another version's: nothing to answer
            return
        self.sitting.act(act)
        state = self._state()
        if state["portraits"] != self.portraits:
            self.portraits = state["portraits"]
        self.view = state["view"]

    def _received(self, widget: Any, content: Mapping[str, Any], buffers: Any) -> None:
        self.act(content)

    def _state(self) -> dict[str, Any]:
        view = self.sitting.view()
        items = [self._pictured(item) for item in view["items"]]
        texts = [each for item in items for each in (item, *item.get("left", ()), *item.get("right", ()))]
        names = sorted({each["portrait"] for each in texts if each.get("portrait")})
        return {"view": view | {"items": items}, "portraits": {name: self._pictures[name] for name in names}}

    def _pictured(self, item: dict[str, Any]) -> dict[str, Any]:
        """The item with the names of its pictures instead of those of files, which might tell a condition."""
        sides = {
            side: [self._pictured(each) for each in item[side]] for side in ("left", "right") if side in item
        }
        own = {"portrait": self._picture(item["portrait"])} if "portrait" in item else {}
        return item | sides | own

    def _picture(self, file: str) -> str:
        if file not in self._names:
            picture = self._portrait(file) if file else ""
            self._names[file] = hashlib.sha256(picture.encode()).hexdigest()[:12] if picture else ""
            self._pictures[self._names[file]] = picture
        return self._names[file]

    def _portrait(self, name: str) -> str:
        """The picture beside the card, or the image that the persona was made from."""
        return portrait(self._folder / name) or portrait(self._folder / name.replace("_persona.", "."))

    def _ipython_display_(self, **options: Any) -> None:
        """The widget, and before it a table for viewers that run none; where the widget runs it hides the table."""
        from IPython import display as ipython

        display: Any = ipython  # it comes without types
        table = f'<div class="personalab-review-table" data-sitting="{self.sitting.file.sitting}">{self._table}</div>'
        said = {"text/html": table, "text/plain": "a review: run this cell to go on with it"}
        display.publish_display_data(said)
        data, metadata = self._repr_mimebundle_() or ({}, {})
        display.publish_display_data({**data, "text/plain": ""}, metadata)


def review(
    frame: pd.DataFrame,
    name: str = "tweets",
    *,
    rater: str | None = None,
    ask: Ask = "verdict",
    blind: bool = True,
    mode: Literal["one", "page"] = "one",
    text: str = "text",
    folder: Path | str | None = None,
    portraits: Path | str | None = None,
) -> Review:
    """Review the tweets of a frame: each decision is in `outputs/reviews/{name}.jsonl` before the next tweet shows.

    `rater` is whose decisions they are, the login name unless given. `ask="rating"` goes on after a rating instead of after
    keep or reject. `blind` shows the condition only on request, which is recorded, and mixes the order where there are
    conditions. `text` is the column to read. `portraits` is the folder of portraits, `outputs/personas` unless given.

    Raises:
        ConfigError: no such column, no row, or no rater.
        OutputError: the decisions cannot be written.
    """
    frame = written_rows(frame, text)
    file = _opened(name, rater, folder)
    shuffle = name if blind and conditions_differ(frame) else None
    deck = Deck.of(frame, text=text, shuffle=shuffle, rater=file.rater, blind=blind)
    sitting = TweetSitting(file, deck, ask=ask, mode=mode)
    return Review(sitting, _portraits(portraits), table_html(deck, file, text))


def review_pairs(
    frame: pd.DataFrame,
    by: str = "condition",
    *,
    paired: str = "image",
    name: str = "pairs",
    rater: str | None = None,
    whole: bool = False,
    pairs_max: int | None = None,
    text: str = "text",
    folder: Path | str | None = None,
    portraits: Path | str | None = None,
) -> Review:
    """Which of two is better, blind: tweets of the same image under different conditions, or with `whole` all that a condition
    has of the image. Pairs come in a random order, sides are random; both are of name and rater, and recorded.

    `pairs_max` is how many are asked, drawn evenly over images and conditions.

    Raises:
        ConfigError: no such column, or nothing to pair.
        OutputError: the decisions cannot be written.
    """
    file = _opened(name, rater, folder)
    pairs = pairs_of(
        frame, by, paired, text=text, whole=whole, seed=name, rater=file.rater, pairs_max=pairs_max
    )
    sitting = PairSitting(file, pairs)
    return Review(
        sitting, _portraits(portraits), f"<p>{len(pairs)} pairs to compare: run this cell to go on.</p>"
    )


def table_html(deck: Deck, file: ReviewFile, text: str = "text") -> str:
    """The first rows with what the rater says of them, as a table that needs neither kernel nor script; as blind as the deck."""
    named = dict.fromkeys((*_TABLE_COLUMNS, text))
    columns = [name for name in named if name in deck.frame.columns and name not in deck.hidden]
    said = file.decided()
    rows = []
    for place in deck.order[:STATIC_ROWS]:
        row = deck.frame.iloc[place]
        cells = "".join(
            f'<td style="{_TEXT_CELL if name == text else _CELL}">{escape(cell(row[name]))}</td>'
            for name in columns
        )
        rows.append(f'<tr>{cells}<td style="{_CELL}">{escape(_spoken(said.get(deck.keys[place])))}</td></tr>')
    heads = "".join(
        f'<th style="{_CELL}">{escape(name.replace("_", " "))}</th>' for name in (*columns, "decision")
    )
    decided = sum(key in said for key in deck.keys)
    more = f", the first {STATIC_ROWS} below" if len(deck.keys) > STATIC_ROWS else ""
    return (
        f"<p>{decided} of {len(deck.keys)} decided by {escape(file.rater)} when this was saved{more}. Run this cell to go on.</p>"
        f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _spoken(said: Judgement | None) -> str:
    if said is None:
        return ""
    parts = [
        said.verdict or "",
        f"{said.rating} of 5" if said.rating else "",
        ", ".join(said.tags),
        said.note,
    ]
    return " · ".join(part for part in parts if part)


def _opened(name: str, rater: str | None, folder: Path | str | None) -> ReviewFile:
    """The file of a review, which is there from now on, so that what was decided can be asked for at once: nothing yet."""
    path = review_path(name, folder)
    file = ReviewFile(path, rater or _login())
    try:
        path.touch()
    except OSError as error:
        raise cannot_write(path, error) from error
    return file


def _portraits(folder: Path | str | None) -> Path:
    return Path(folder) if folder is not None else load_settings().outputs / "personas"


def _login() -> str:
    try:
        return getpass.getuser()
    except OSError:  # a container's user may have no name
        raise ConfigError("a review needs a rater: review(frame, rater='anna')") from None
