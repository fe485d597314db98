"""How soon a batch can end: a simulation of who goes first at the gate. `python benchmarks/schedule.py`

Latencies are drawn from 0.5 to 1.5 s, nothing else takes time. Printed: the makespan against total latency ÷ limit, and
when the first persona was whole, means of eight draws.
"""

from __future__ import annotations

import heapq
import itertools
import random
from statistics import mean

CHAIN = {"core": 3, "strategy": 2, "tweets": 1, "leaf": 1}


def simulate(images: int, limit: int, window: int, seed: int, longest_first: bool) -> tuple[float, float]:
    """Makespan ÷ (total latency ÷ limit), and the time of the first whole persona."""
    draw, arrivals = random.Random(seed), itertools.count()
    waiting: list[tuple[int, int, int, str]] = []
    flying: list[tuple[float, int, int, str]] = []
    left: dict[int, int] = {}
    now = total = first = 0.0

    def ask(image: int, stage: str) -> None:
        heapq.heappush(waiting, (-CHAIN[stage] if longest_first else 0, next(arrivals), image, stage))

    def feed() -> None:
        while len(left) < images and sum(map(bool, left.values())) < window:
            left[len(left)] = 7
            ask(len(left) - 1, "core")

    feed()
    while waiting or flying:
        while waiting and len(flying) < limit:
            _, _, image, stage = heapq.heappop(waiting)
            latency = draw.uniform(0.5, 1.5)
            total += latency
            heapq.heappush(flying, (now + latency, next(arrivals), image, stage))
        now, _, image, stage = heapq.heappop(flying)
        left[image] -= 1
        for following in {"core": ["strategy", *["leaf"] * 4], "strategy": ["tweets"]}.get(stage, []):
            ask(image, following)
        if not left[image]:
            first = first or now
            feed()
    return now / (total / limit), first


if __name__ == "__main__":
    for images, limit in [(20, 20), (50, 20), (100, 20), (100, 50), (500, 20)]:
        for window in (limit + 4, 2 * limit):
            for longest_first in (True, False):
                results = [simulate(images, limit, window, seed, longest_first) for seed in range(8)]
                ratio, first = (mean(each) for each in zip(*results, strict=True))
                who = "longest chain first" if longest_first else "first come, first served"
                print(
                    f"{images} images, {limit} at once, window {window}, {who}: {ratio:.3f}, first after {first:.1f} s"
                )
