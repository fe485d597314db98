"""What the pools of a trial have done, in files that outlive its kernel.

A sweep gives each kernel a folder by `PERSONALAB_TRIAL`. Each pool of the kernel, and of the processes it starts, keeps its
counts there in a file of its own, written over in place: one small write a count, so nothing is missing after a crash.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from personalab.records import PoolCounts, Usage

TRIAL = "PERSONALAB_TRIAL"
"""Environment variable with the folder of the trial that runs; not set outside of sweeps."""
_BYTES = 512
_OFFLINE = "offline"


def trial_folder() -> Path | None:
    """The folder of the trial that this process belongs to; None outside of sweeps."""
    folder = os.environ.get(TRIAL)
    return Path(folder) if folder else None


class Meter:
    """The counts of one pool in a file."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"calls-{os.getpid()}-{uuid.uuid4().hex[:8]}.json"

    def show(self, counts: PoolCounts) -> None:
        """Write the counts over those before."""
        text = counts.model_dump_json().encode().ljust(_BYTES)
        # The folder is gone where the sweep has given this trial up. A reply that was paid is not lost for that.
        with suppress(OSError):
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o666)
            try:
                os.write(handle, text)
            finally:
                os.close(handle)


def mark_offline() -> None:
    """Where a trial runs: leave a mark that its embedded provider answers."""
    folder = trial_folder()
    if folder is not None:
        with suppress(OSError):  # the sweep has given this trial up
            (folder / _OFFLINE).touch()


def was_offline(folder: Path) -> bool:
    """Whether a pool of a trial had the embedded provider."""
    return (folder / _OFFLINE).exists()


def read_meters(folder: Path) -> PoolCounts | None:
    """What all pools of a trial have done together; None where a file cannot be read."""
    try:
        return total(
            PoolCounts.model_validate_json(path.read_bytes()) for path in folder.glob("calls-*.json")
        )
    except (OSError, ValidationError):
        return None


def total(counts: Iterable[PoolCounts]) -> PoolCounts:
    """The sum. A cost that is unknown stays so."""
    every = list(counts)
    plain = [name for name, field in PoolCounts.model_fields.items() if field.annotation is int]
    costs = [each.cost for each in every]
    known = [cost for cost in costs if cost is not None]
    return PoolCounts(
        **{name: sum(getattr(each, name) for each in every) for name in plain},
        usage=sum((each.usage for each in every), Usage()),
        cost=sum(known) if len(known) == len(costs) else None,
    )


def known_total(counts: Iterable[PoolCounts | None]) -> PoolCounts | None:
    """The sum; None as soon as one is not known."""
    every = list(counts)
    known = [each for each in every if each is not None]
    return total(known) if len(known) == len(every) else None
