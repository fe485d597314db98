"""Dry runs: code runs as it would, nothing is sent, and nothing is written but below one scratch folder.

`PERSONALAB_DRY` names that folder. In place of whoever would be asked the embedded provider answers, so that what follows from
answers is asked as well; what would be sent is noted. `dry_sweeps` makes such a folder and reads the notes.
"""

from __future__ import annotations

import os
from pathlib import Path

from personalab.errors import OutputError
from personalab.records import Record, Usage

DRY = "PERSONALAB_DRY"
"""Environment variable with the scratch folder of a dry run; not set otherwise."""
DRY_TRIAL = "PERSONALAB_DRY_TRIAL"
"""Environment variable with the folder of the trial that runs dry, where what would be sent is noted."""
CACHE_BELOW = "cache-below"
"""In the scratch folder: a link to the cache in which replies are looked up, and which is not written."""
_CALLS = "calls.jsonl"


class PlannedCall(Record):
    """A request that would be sent. Tokens are those of the embedded provider's answer; `cost` (US dollars) is at the real price, None if that is unknown."""

    stage: str
    model: str
    usage: Usage
    cost: float | None


def dry_folder() -> Path | None:
    """The scratch folder of a dry run; None where things are meant."""
    folder = os.environ.get(DRY)
    return Path(folder) if folder else None


def check_inside(path: Path) -> None:
    """Nothing outside of the scratch folder is written in a dry run.

    Raises:
        OutputError: this would be.
    """
    folder = dry_folder()
    if folder is not None and not path.resolve().is_relative_to(folder.resolve()):
        raise OutputError(
            f"a dry run does not write {path}, as it lies outside of its scratch folder: give a path relative to the notebook"
        )


def note_call(call: PlannedCall) -> None:
    """Note what a trial would send; so do the trials of sweeps within it. Outside of one nothing is noted."""
    trial = os.environ.get(DRY_TRIAL)
    if not trial:
        return
    handle = os.open(Path(trial) / _CALLS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        os.write(handle, call.model_dump_json().encode() + b"\n")
    finally:
        os.close(handle)


def read_calls(trial: Path) -> tuple[PlannedCall, ...]:
    """What a trial would send."""
    file = trial / _CALLS
    lines = file.read_bytes().splitlines() if file.is_file() else []
    return tuple(PlannedCall.model_validate_json(line) for line in lines)
