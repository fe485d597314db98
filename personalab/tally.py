"""What a pool has done so far, counted from any thread."""

from __future__ import annotations

import threading

from personalab.prices import Price
from personalab.records import PoolCounts, Usage


class Tally:
    """Counts that only grow."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = PoolCounts()

    @property
    def counts(self) -> PoolCounts:
        """The counts now."""
        return self._counts

    def add(self, **steps: int) -> None:
        """Count steps, by the names of `PoolCounts`."""
        with self._lock:
            counts = self._counts
            update = {name: getattr(counts, name) + step for name, step in steps.items()}
            self._counts = counts.model_copy(update=update)

    def paid(self, usage: Usage, price: Price | None) -> None:
        """Add what an answer took; without a price the cost is unknown from now on."""
        cost = price.cost(usage) if price else None
        with self._lock:
            before = self._counts
            total = None if before.cost is None or cost is None else before.cost + cost
            self._counts = before.model_copy(update={"usage": before.usage + usage, "cost": total})
