"""Running a trial wherever its results belong: into a folder, or into a store by URL by way of a folder of this machine.

In a store `trial.json` is written first, as `running`, and last, as what became of it, when everything else is there. So
a trial that was half uploaded is one that did not come to an end.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from personalab.recording import RECORDED, recorded_files
from personalab.stores import Place, Store, write_below
from personalab.trial_runs import Task, begun, load_engine, run_trial
from personalab.trials import EXECUTED, LOG, TRIAL_FILE, Trial, load_trial, parse_trial, save_trial


def run_task(task: Task) -> Trial:
    """Run a trial and write its results to its place.

    Raises:
        OutputError: they cannot be written there.
    """
    if isinstance(task.folder, Path):
        return run_trial(task)
    store = Store(task.folder)
    trial = begun(task.trial, load_engine(task.engine))
    with tempfile.TemporaryDirectory(prefix="personalab-") as scratch:
        folder = Path(scratch, trial.name)
        there = stored_trial(task.folder)
        if there is not None:
            save_trial(folder, _without_meters(there))
        earlier = [name for name in store.find("*", f"{RECORDED}/*") if name != TRIAL_FILE]
        _save(store, trial)
        store.remove(earlier)
        ended = run_trial(task.model_copy(update={"folder": folder, "trial": trial}))
        now = stored_trial(task.folder)
        if (
            now is not None and now.started != trial.started
        ):  # another machine runs it: this one was taken for dead
            return ended
        store.write(_results(folder))
        _save(store, ended)
    return ended


def stored_trial(place: Place) -> Trial | None:
    """A trial as its place has it; None if it was never begun.

    Raises:
        OutputError: the place cannot be read.
    """
    if isinstance(place, Path):
        return load_trial(place) if (place / TRIAL_FILE).exists() else None
    found = Store(place).read([TRIAL_FILE])
    return parse_trial(found[TRIAL_FILE], place) if found else None


def give_up(task: Task, why: str) -> Trial:
    """A trial that nobody could run to its end, written as failed.

    Raises:
        OutputError: it cannot be written.
    """
    there = stored_trial(task.folder) or task.trial
    trial = there.model_copy(update={"status": "failed", "error": why, "counts": None})
    write_below(task.folder, TRIAL_FILE, trial.model_dump_json(indent=1).encode())
    return trial


def _results(folder: Path) -> dict[str, bytes]:
    """What a trial leaves beside its `trial.json`. A store keeps no order of writing, so names of recorded values do."""
    found = {name: (folder / name).read_bytes() for name in (EXECUTED, LOG)}
    recorded = enumerate(recorded_files(folder))
    return found | {f"{RECORDED}/{place:04}-{file.name}": file.read_bytes() for place, file in recorded}


def _without_meters(trial: Trial) -> Trial:
    """What an attempt that did not come to an end had sent is not known: its meters were on another machine."""
    return (
        trial.model_copy(update={"status": "interrupted", "counts": None})
        if trial.status == "running"
        else trial
    )


def _save(store: Store, trial: Trial) -> None:
    store.write({TRIAL_FILE: trial.model_dump_json(indent=1).encode()})
