"""Frames as tables to sort, search and filter in a notebook, by way of itables: all of it is in the page, nothing is fetched."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personalab.decks import cell
from personalab.errors import unknown
from personalab.reviews import clean_frame
from personalab.sittings import portrait

if TYPE_CHECKING:
    import pandas as pd
    from itables.widget import ITable

BROWSED_BYTES_MAX = 4 << 20
"""Bytes of a table that go into the page; of a larger one the first and last rows, and it says so."""
_STATIC_ROWS = 50
_LONG = 60
"""Characters from which a text gets room: a box that is wide enough to read, and scrolls where it is very long."""
_BOX = (
    "min-width:24em;max-width:60ch;max-height:12em;overflow:auto;white-space:pre-line;overflow-wrap:anywhere"
)


def browse(
    frame: pd.DataFrame, columns: Iterable[str] | None = None, *, pictures: str | None = None, rows: int = 10
) -> ITable:
    """A frame to sort by a click on a column's head, to search as a whole and by column; long texts are wrapped.

    `pictures` is a column of paths of images, shown as small pictures. `rows` are shown at once. Texts are shown as they are:
    nothing in them is markup. `.df` of the result is the frame it shows; of the rows selected in it `.selected_rows` are the
    numbers.

    Raises:
        ConfigError: no such column.
    """
    wanted = list(columns) if columns is not None else list(frame.columns)
    for column in (*wanted, *([pictures] if pictures else [])):
        if column not in frame.columns:
            raise unknown("column", column, map(str, frame.columns))
    return _table(_shown(clean_frame(frame[wanted]), pictures), rows)


def _shown(frame: pd.DataFrame, pictures: str | None) -> pd.DataFrame:
    """The frame as HTML, cell by cell: numbers as they are, so that they sort."""
    import pandas as pd

    shown = pd.DataFrame(index=frame.index)
    for name in frame.columns:
        column = frame[name]
        if name == pictures:
            shown[name] = [picture_html(value) for value in column]
        elif pd.api.types.is_numeric_dtype(column) or pd.api.types.is_datetime64_any_dtype(column):
            shown[name] = column
        else:
            shown[name] = [_text(_lines(value)) for value in column]
    return shown.rename(columns=lambda name: escape(str(name).replace("_", " ")))


def _text(text: str) -> str:
    return escape(text) if len(text) < _LONG else f'<div style="{_BOX}">{escape(text)}</div>'


def _lines(value: Any) -> str:
    return "\n".join(map(str, value)) if isinstance(value, list | tuple) else cell(value)


def picture_html(path: Any) -> str:
    """A small picture that holds its pixels; nothing where there is none to show."""
    source = portrait(Path(path)) if isinstance(path, str | Path) else ""
    return f'<img alt="" style="height:64px;border-radius:8px" src="{source}">' if source else ""


def _table(shown: pd.DataFrame, rows: int) -> ITable:
    from itables.widget import ITable

    class Browsed(ITable):
        """A table with another, for viewers that run no widgets."""

        def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
            data, metadata = super()._repr_mimebundle_(**options) or ({}, {})
            static = shown.head(_STATIC_ROWS).to_html(escape=False, index=False, border=0, justify="left")
            return {**data, "text/html": static}, metadata

    return Browsed(
        shown, allow_html=True, showIndex=False, maxBytes=BROWSED_BYTES_MAX, pageLength=rows, classes="display compact",
        columnControl=["order", "searchDropdown"], ordering={"indicators": False, "handler": False},
        columnDefs=[{"targets": "_all", "className": "dt-left dt-top"}], style="width:100%;margin:0",
    )  # fmt: skip
