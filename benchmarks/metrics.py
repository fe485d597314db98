"""How long metrics and comparisons take. `python benchmarks/metrics.py`

Printed: seconds of each of three rounds, taken in turn, and CPU seconds, which other jobs disturb less.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from personalab.comparison import compare, compare_many
from personalab.metrics import score

WORDS = [
    f"{head}{tail}"
    for head in "bcdfglmnprst"
    for tail in ("ato", "elin", "irro", "ona", "ulke", "ayst", "em")
]


def tweets(images: int, conditions: int, each: int) -> pd.DataFrame:
    """Random tweets of some twenty words."""
    draw = random.Random(0)
    rows = [
        {
            "condition": condition,
            "image": image,
            "text": " ".join(draw.choices(WORDS, k=draw.randint(14, 26))),
        }
        for condition in range(conditions)
        for image in range(images)
        for _ in range(each)
    ]
    return pd.DataFrame(rows)


def numbers(images: int, conditions: int, metrics: int, replicates: int) -> pd.DataFrame:
    """A frame with a column of numbers for each metric."""
    draw = np.random.default_rng(0)
    keys = np.array(
        np.unravel_index(range(images * conditions * replicates), (images, conditions, replicates))
    ).T
    frame = pd.DataFrame(keys, columns=["image", "condition", "replicate"])
    return frame.assign(**{f"metric{each}": draw.normal(size=len(frame)) for each in range(metrics)})


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Time of one call, and its CPU time."""
    begun, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - begun, time.process_time() - cpu


if __name__ == "__main__":
    one_set, grid, table = tweets(1, 1, 2000), tweets(100, 6, 8), numbers(100, 6, 5, 3)
    names = [name for name in table.columns if name.startswith("metric")]
    works: dict[str, Callable[[], object]] = {
        "near_duplicate_rate, one set of 2,000 tweets": lambda: score(one_set, "near_duplicate_rate"),
        "all metrics of text, one set of 2,000 tweets": lambda: score(one_set),
        "all metrics of text, 600 sets of 8 tweets": lambda: score(grid),
        "compare, 100 images × 6 conditions × 5 columns × 3 replicates": lambda: compare_many(
            table, metrics=names
        ),
        "compare, 100 images × 6 conditions, jaccard_mean of 4,800 tweets": lambda: compare(
            grid, metric="jaccard_mean"
        ),
    }
    rounds = [{name: seconds(work) for name, work in works.items()} for _ in range(3)]
    for name in works:
        walls, cpus = (", ".join(f"{each[name][kind]:.2f}" for each in rounds) for kind in (0, 1))
        print(f"{name}: {walls} s; CPU {cpus} s")
