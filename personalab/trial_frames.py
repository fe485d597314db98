"""The trials of a sweep as one frame: parameters as columns, then how each went, then what it recorded."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personalab.errors import unknown
from personalab.recording import frame_names, read_frame, read_values
from personalab.trial_grids import value_text
from personalab.trials import Trial, find_trials, points_of, sweep_copy

if TYPE_CHECKING:
    import pandas as pd


class MixedTrials(UserWarning):
    """A sweep has trials of different versions of its notebook or of the package, which should not be compared."""


_ABOUT = ("status", "error", "seconds", "calls", "input_tokens", "output_tokens", "cost")
_TRIAL = {name: f"trial_{name}" for name in _ABOUT}
"""What they are called beside recorded rows, which may have a status or tokens of their own."""


def collect(sweep: Path | str, recorded: str | None = None) -> pd.DataFrame:
    """What a sweep has: one row a trial, or one row a row of the frame that its trials recorded under the name `recorded`.

    `sweep` is a name, a folder or a URL. Columns: trial, a column for each parameter that a trial was given (the notebook's
    default where it was not), status, error, seconds, calls, input_tokens, output_tokens and cost of the trial, then what was
    recorded. In rows of a recorded frame they are called `trial_status` and so on, as what a trial sent is no measure of one of
    its rows. Lists and dicts are given as JSON, so that rows can be grouped
    by them. A trial that did not end well has one row that says so, without recorded values of a frame. A recorded column
    with the name of one of those in front of it is called `<name>_recorded`, unless it is a parameter and says the same.

    Raises:
        ConfigError: no such sweep, or no trial has recorded a frame of that name.
        OutputError: a trial's files cannot be read.
    """
    with sweep_copy(sweep) as folder:
        return _collected(find_trials(folder), sweep, recorded)


def _collected(trials: dict[Path, Trial], sweep: Path | str, recorded: str | None) -> pd.DataFrame:
    import pandas as pd

    if len({(trial.notebook_sha256, trial.package_version) for trial in trials.values()}) > 1:
        mend = "run it again with all its points, or delete the folders of old trials"
        warnings.warn(
            f"sweep {sweep}: its trials are of different versions of notebook or package; {mend}",
            MixedTrials,
            stacklevel=3,
        )
    given = points_of(trials.values())
    names = list(dict.fromkeys(name for point in given for name in point))
    about = {
        folder: _about(trial, {name: _cell(point.get(name)) for name in names})
        for (folder, trial), point in zip(trials.items(), given, strict=True)
    }
    if recorded is None:
        return pd.DataFrame([each | _renamed(each, read_values(folder)) for folder, each in about.items()])
    frames = {name for folder in trials for name in frame_names(folder)}
    if recorded not in frames:
        raise unknown("recorded frame", recorded, frames)
    about = {
        folder: {_TRIAL.get(name, name): value for name, value in each.items()}
        for folder, each in about.items()
    }
    parts = []
    for folder, trial in trials.items():
        frame = read_frame(folder, recorded) if trial.status == "done" else None
        if frame is not None:
            parts.append(_with_trial(frame, about[folder]))
        elif trial.status != "done":
            parts.append(pd.DataFrame([about[folder]]))
    return pd.concat(parts, ignore_index=True)


def _about(trial: Trial, given: dict[str, Any]) -> dict[str, Any]:
    counts = trial.counts
    values = [
        trial.status,
        trial.error,
        trial.seconds,
        counts.sent if counts else None,
        counts.usage.input_tokens if counts else None,
        counts.usage.output_tokens if counts else None,
        counts.cost if counts else None,
    ]
    return {"trial": trial.name, **given, **dict(zip(_ABOUT, values, strict=True))}


def _cell(value: Any) -> Any:
    return value_text(value) if isinstance(value, list | dict) else value


def _renamed(about: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    return {
        f"{name}_recorded" if name in about else name: value
        for name, value in values.items()
        if name not in about or about[name] != value
    }


def _with_trial(frame: pd.DataFrame, about: dict[str, Any]) -> pd.DataFrame:
    import pandas as pd

    same = [name for name in frame.columns if name in about and frame[name].eq(about[name]).all()]
    rest = frame.drop(columns=same).rename(columns={name: f"{name}_recorded" for name in about})
    # From a list of rows each, so that a column of the trial has one kind in all trials.
    told = pd.DataFrame([about] * len(frame), index=frame.index, columns=list(about))
    return pd.concat([told, rest], axis=1)
