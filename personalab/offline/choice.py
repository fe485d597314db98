"""Choosing from lists as a model chooses words: a fixed order of preference, and a temperature that widens the choice."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from functools import cache, lru_cache
from itertools import accumulate
from math import exp, gcd
from random import Random

_SPREAD_BASE = 2.0
_SPREAD_SHARE = 1 / 3
_WAVERING = 0.18


class Chooser:
    """Draws without replacement from named lists.

    `identity` fixes the order in which each list is preferred, `seed` fixes the draws, so one identity at temperature 0
    always gets the first of each list, whatever the seed, and at 1.5 almost any.
    """

    def __init__(self, identity: str, seed: str, temperature: float, top_p: float = 1.0) -> None:
        self.identity = identity
        self.temperature = temperature
        self.random = Random(seed if temperature > 0 else identity)
        self._top_p = top_p
        self._used: dict[str, set[int]] = {}

    def index(self, name: str, size: int) -> int:
        """A position in the list `name` that was not drawn before, until all were."""
        used = self._used.setdefault(name, set())
        if len(used) >= size:
            used.clear()
        step, start = _order(self.identity, name, size)
        rank = self._rank(size)
        while (position := (start + step * rank) % size) in used:
            rank = (rank + 1) % size
        used.add(position)
        return position

    def share(self, name: str) -> float:
        """A number in 0–1 that the identity fixes at temperature 0 and that wavers as it grows."""
        fixed = number(f"{self.identity}\0{name}") % 10_000 / 10_000
        return min(1.0, max(0.0, fixed + self.random.gauss(0, _WAVERING) * self.temperature))

    def chance(self, probability: float) -> bool:
        """True with a probability; never at temperature 0."""
        return self.random.random() < probability and self.temperature > 0

    def _rank(self, size: int) -> int:
        drawn = self.random.random()
        if self.temperature <= 0 or size == 1:
            return 0
        return bisect_left(_cumulative(size, self.temperature, self._top_p), drawn)


def number(text: str) -> int:
    """A large number that a text fixes."""
    return int.from_bytes(hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest())


@lru_cache(maxsize=512)
def _cumulative(size: int, temperature: float, top_p: float) -> tuple[float, ...]:
    """Softmax over rank, summed up and cut at `top_p`; its scale grows with the cube of the temperature."""
    scale = temperature**3 * (_SPREAD_BASE + _SPREAD_SHARE * size)
    weights = [exp(-rank / max(scale, 0.02)) for rank in range(size)]
    total = sum(weights)
    sums = list(accumulate(weight / total for weight in weights))
    kept = sums[: bisect_left(sums, min(top_p, sums[-1])) + 1]
    return tuple(value / kept[-1] for value in kept)


@lru_cache(maxsize=4096)
def _order(identity: str, name: str, size: int) -> tuple[int, int]:
    """Step and start of a walk that visits each position of a list once."""
    drawn = number(f"{identity}\0{name}")
    steps = _steps(size)
    return steps[drawn // size % len(steps)], drawn % size


@cache
def _steps(size: int) -> tuple[int, ...]:
    return tuple(step for step in range(1, max(2, size)) if gcd(step, size) == 1)
