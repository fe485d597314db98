"""What the server saw: counts that a test can read while it runs."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Ledger:
    """Counts of chat-completions requests at one moment, lines of batches included.

    `answered` counts those that got a completion, `abandoned` those whose client went away first. `stages` counts by the
    name of the schema, `none` where there was none. `batches` are those made. `bodies` holds the last ones if they are
    recorded.
    """

    received: int = 0
    answered: int = 0
    abandoned: int = 0
    in_flight: int = 0
    in_flight_most: int = 0
    batches: int = 0
    statuses: Mapping[int, int] = field(default_factory=dict)
    stages: Mapping[str, int] = field(default_factory=dict)
    bodies: tuple[Any, ...] = ()


class LedgerBook:
    """Writes the ledger; safe to use from any thread."""

    def __init__(self, bodies_kept: int) -> None:
        self._lock = threading.Lock()
        self._bodies: deque[Any] = deque(maxlen=bodies_kept)
        self._statuses: Counter[int] = Counter()
        self._stages: Counter[str] = Counter()
        self._received = self._answered = self._abandoned = self._in_flight = self._in_flight_most = 0
        self._batches = 0

    def arrive(self) -> int:
        """A request has come; its number, from 0."""
        with self._lock:
            self._received += 1
            self._in_flight += 1
            self._in_flight_most = max(self._in_flight_most, self._in_flight)
            return self._received - 1

    def read(self, stage: str, body: Any) -> None:
        """A request was understood."""
        with self._lock:
            self._stages[stage] += 1
            self._bodies.append(body)

    def batch(self) -> None:
        """A batch was made."""
        with self._lock:
            self._batches += 1

    def leave(self, status: int | None) -> None:
        """A request is over with a status; None if its connection broke."""
        with self._lock:
            self._in_flight -= 1
            if status is None:
                self._abandoned += 1
            else:
                self._statuses[status] += 1
                self._answered += status == 200

    def snapshot(self) -> Ledger:
        """The counts now."""
        with self._lock:
            return Ledger(
                received=self._received,
                answered=self._answered,
                abandoned=self._abandoned,
                in_flight=self._in_flight,
                in_flight_most=self._in_flight_most,
                batches=self._batches,
                statuses=MappingProxyType(dict(self._statuses)),
                stages=MappingProxyType(dict(self._stages)),
                bodies=tuple(self._bodies),
            )
