"""A trial: one notebook run with one point of a sweep's grid, and the folder that says how it went.

outputs/sweeps/{sweep}/{trial}/   trial.json · executed.ipynb · log.txt · recorded/
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from personalab.config import load_settings
from personalab.errors import ConfigError, OutputError
from personalab.files import write_whole
from personalab.names import slug
from personalab.recording import RECORDED
from personalab.records import JsonObject, PoolCounts, Record, explain
from personalab.stores import Place, local_copy, place_of
from personalab.trial_grids import canonical, value_text

EXECUTED, LOG, TRIAL_FILE = "executed.ipynb", "log.txt", "trial.json"
HASH_LENGTH = 10

Status = Literal["running", "done", "failed", "interrupted"]


class Trial(Record):
    """A trial as its `trial.json` has it.

    `parameters` are those given; the notebook's `defaults` hold for the rest, as far as they are plain values. `seconds` is from its first cell to its end.
    `counts` is what its pools did, `earlier` what those of attempts before this one did; None where it is not known. A trial
    found `running` when nobody runs its sweep was interrupted. `offline` is whether a pool of it had the embedded provider.
    `started` is UTC.
    """

    name: str
    parameters: JsonObject
    defaults: JsonObject = Field(default_factory=dict)
    status: Status = "running"
    error: str | None = None
    seconds: float | None = None
    counts: PoolCounts | None = None
    earlier: PoolCounts | None = PoolCounts()
    notebook: str
    notebook_sha256: str
    package_version: str
    engine: str = ""
    offline: bool = False
    started: str = ""


def points_of(trials: Iterable[Trial]) -> list[JsonObject]:
    """For each trial its values of all parameters that one of them was given; what it was not given is the notebook's default."""
    every = list(trials)
    names = dict.fromkeys(name for trial in every for name in trial.parameters)
    known = [{**trial.defaults, **trial.parameters} for trial in every]
    return [{name: values[name] for name in names if name in values} for values in known]


def offline_note(trials: Iterable[Trial]) -> str:
    """What to know where no language model answered; empty where one did."""
    offline = [trial.offline and _asked(trial.counts) for trial in trials]
    where = "" if all(offline) else f" in {sum(offline)} of {len(offline)} trials"
    return f"the embedded provider answered{where} (not a language model)" if any(offline) else ""


def _asked(counts: PoolCounts | None) -> bool:
    return counts is None or counts.sent + counts.cached + counts.shared > 0


def sweeps_folder() -> Path:
    """Where sweeps are kept."""
    return load_settings().outputs / "sweeps"


def trial_name(point: Mapping[str, Any], varied: list[str]) -> str:
    """A folder's name: what is varied, to be read, and a hash of all parameters, which tells any two points apart."""
    shown = "_".join(f"{name}-{value_text(point[name])}" for name in varied if name in point)
    mark = hashlib.sha256(canonical(point).encode()).hexdigest()[:HASH_LENGTH]
    return f"{slug(shown)}-{mark}" if shown else mark


def save_trial(folder: Path, trial: Trial) -> None:
    """Write a trial's file.

    Raises:
        OutputError: the folder cannot be written.
    """
    write_whole(folder / TRIAL_FILE, trial.model_dump_json(indent=1).encode(), durable=False)


def load_trial(folder: Path) -> Trial:
    """Read a trial's file.

    Raises:
        OutputError: it cannot be read, or is no trial's file.
    """
    path = folder / TRIAL_FILE
    try:
        return parse_trial(path.read_bytes(), path)
    except OSError as error:
        raise OutputError(f"trial {path}: cannot be read: {error.strerror}") from None


def parse_trial(content: bytes, place: Place) -> Trial:
    """A trial from what its file holds.

    Raises:
        OutputError: it is no trial's file.
    """
    try:
        return Trial.model_validate_json(content)
    except ValidationError as error:
        raise OutputError(
            f"trial {place}: {explain(error)}; delete its folder and run the sweep again"
        ) from None


def find_trials(sweep: Path | str) -> dict[Path, Trial]:
    """The trials of a sweep of this machine by their folders, oldest first. `sweep` is its name or its folder.

    Raises:
        ConfigError: there is no such sweep.
        OutputError: a trial's file cannot be read.
    """
    folder = Path(sweep_place(sweep))
    found = {path.parent: load_trial(path.parent) for path in folder.glob(f"*/{TRIAL_FILE}")}
    if not found:
        there = sorted(each.name for each in sweeps_folder().glob("*") if each.is_dir())
        raise ConfigError(f"no trials in {folder}: known sweeps: {', '.join(there) or 'none'}")
    return dict(sorted(found.items(), key=lambda item: (item[1].started, item[1].name)))


def sweep_place(sweep: Path | str) -> Place:
    """Where a sweep is: a folder or a URL as it is, a name below the outputs."""
    place = place_of(sweep)
    if isinstance(place, str) or place.is_dir() or len(place.parts) > 1:
        return place
    return sweeps_folder() / str(sweep)


@contextmanager
def sweep_copy(sweep: Path | str) -> Iterator[Path]:
    """A sweep's folder; of one by URL a copy of its trials and what they recorded, for as long as it is needed.

    Raises:
        ConfigError: there is no such sweep at a URL.
        OutputError: its store does not answer.
    """
    place = sweep_place(sweep)
    with local_copy(place, f"*/{TRIAL_FILE}", f"*/{RECORDED}/*.json") as folder:
        if isinstance(place, str) and not any(folder.iterdir()):
            raise ConfigError(f"no trials at {place}: check the address, its last part is the sweep's name")
        yield folder
