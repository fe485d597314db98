"""What a pool has done so far, counted from any thread."""

from __future__ import annotations

import threading

from personalab.meters import Meter, trial_folder
from personalab.prices import Price
from personalab.records import PoolCounts, Usage


class Tally:
    """Counts that only grow. In a trial of a sweep each change is written where the sweep reads it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = PoolCounts()
        folder = trial_folder()
        self._meter = Meter(folder) if folder else None

    @property
    def counts(self) -> PoolCounts:
        """The counts now."""
        return self._counts

    def add(self, **steps: int) -> None:
        """Count steps, by the names of `PoolCounts`."""
        with self._lock:
            counts = self._counts
            update = {name: getattr(counts, name) + step for name, step in steps.items()}
            self._now(counts.model_copy(update=update))

    def paid(self, usage: Usage, price: Price | None) -> None:
        """Add what an answer took; without a price the cost is unknown from now on."""
        cost = price.cost(usage) if price else None
        with self._lock:
            before = self._counts
            total = None if before.cost is None or cost is None else before.cost + cost
            self._now(before.model_copy(update={"usage": before.usage + usage, "cost": total}))

    def _now(self, counts: PoolCounts) -> None:
        self._counts = counts
        if self._meter is not None:
            self._meter.show(counts)
