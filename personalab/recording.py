"""What a notebook hands to its sweep: single values and whole frames, by name.

In a trial they are files in its folder, one a name, so they are there also when the kernel dies later. In a notebook that
somebody runs by hand nothing is written.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personalab.errors import ConfigError, OutputError
from personalab.files import write_whole
from personalab.meters import trial_folder
from personalab.names import slug
from personalab.records import JsonObject

if TYPE_CHECKING:
    import pandas as pd

Scalar = str | int | float | bool | None
RECORDED = "recorded"
"""Folder of the recorded values in a trial's folder."""


def record(name: str, value: Any) -> None:
    """Hand a value to the sweep this notebook runs in: a number, a text, True or False, None, a date, or a frame.

    `personalab.sweeps.collect` gives single values as columns, one row a trial, and a frame's rows by its name. A name
    that is recorded again replaces what was there.

    Raises:
        ConfigError: a name that is empty, or a value that can be no cell of a table.
        OutputError: the trial's folder cannot be written.
    """
    if not name or not name.strip():
        raise ConfigError("record takes a name and a value: the name is empty")
    found: JsonObject = {"name": name}
    found |= {"frame": _frame(value)} if hasattr(value, "to_frame") or hasattr(value, "columns") else {
        "value": _scalar(name, value)
    }  # fmt: skip
    folder = trial_folder()
    if folder is not None:
        content = json.dumps(found, ensure_ascii=False, default=_cell).encode()
        write_whole(folder / RECORDED / f"{slug(name)}.json", content, durable=False)


def read_values(folder: Path) -> dict[str, Scalar]:
    """The single values recorded in a trial's folder, by name, in the order they were recorded first."""
    return {found["name"]: found["value"] for found in _recorded(folder) if "value" in found}


def read_frame(folder: Path, name: str) -> pd.DataFrame | None:
    """A frame recorded in a trial's folder; None if there is none of that name."""
    return next(
        (_as_frame(found["frame"]) for found in _recorded(folder) if found["name"] == name and "frame" in found),
        None,
    )  # fmt: skip


def frame_names(folder: Path) -> list[str]:
    """Names of the frames recorded in a trial's folder."""
    return [found["name"] for found in _recorded(folder) if "frame" in found]


def recorded_files(folder: Path) -> list[Path]:
    """The files of recorded values in a trial's folder, in the order they were written."""
    return sorted((folder / RECORDED).glob("*.json"), key=lambda file: (file.stat().st_mtime_ns, file.name))


def _recorded(folder: Path) -> list[JsonObject]:
    try:
        return [json.loads(file.read_bytes()) for file in recorded_files(folder)]
    except (OSError, ValueError) as error:
        raise OutputError(
            f"recorded values in {folder} cannot be read: {error}; run the trial again"
        ) from None


def _scalar(name: str, value: Any) -> Scalar:
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:  # numpy's own numbers
        value = value.item()
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise ConfigError(
        f"record {name!r}: a {type(value).__name__} can be no cell of a table; record numbers, texts and dates one by "
        "one, or a frame"
    )


def _frame(value: Any) -> JsonObject:
    """A frame as JSON: columns, what kind each is, and its cells as they are."""
    frame = value if hasattr(value, "columns") else value.to_frame()
    names = [str(column) for column in frame.columns]
    cells = [frame.iloc[:, place].tolist() for place in range(len(names))]
    kinds = [str(kind) for kind in frame.dtypes]
    return {"columns": names, "kinds": kinds, "cells": cells, "rows": len(frame)}


def _as_frame(stored: Mapping[str, Any]) -> pd.DataFrame:
    import pandas as pd

    columns = [
        pd.Series(cells, dtype="object").astype(kind)
        for cells, kind in zip(stored["cells"], stored["kinds"], strict=True)
    ]
    frame = pd.concat(columns, axis=1) if columns else pd.DataFrame(index=range(stored["rows"]))
    frame.columns = stored["columns"]
    return frame


def _cell(value: Any) -> Any:
    """What JSON does not know: dates as text, missing values as null, numpy's numbers, the rest as it prints."""
    if isinstance(value, dt.datetime) and value != value:  # pandas' NaT
        return None
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if hasattr(value, "item"):
        number = value.item()
        return None if isinstance(number, float) and math.isnan(number) else number
    return None if str(value) in ("<NA>", "NaT") else str(value)
