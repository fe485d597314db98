"""How close one persona comes to its critical path, beside the founding order (1, 2, 3, then 4 to 7 together).

    python benchmarks/critical_path.py [scale]

The offline provider plays stage times of 20/15/25/20/15/15/25 s, times `scale` (0.1 by default), in a process of its own.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from personalab import STAGES, LLMPool, Pipeline

SECONDS = dict(zip((each.name for each in STAGES), (20, 15, 25, 20, 15, 15, 25), strict=True))
PORTRAIT = Path(__file__).parents[1] / "data" / "portraits" / "teal_turban.png"
REPEATS = 3


async def by_graph(pipeline: Pipeline, replicate: int) -> float:
    """Seconds of one persona as the pipeline runs it."""
    started = time.perf_counter()
    run = await pipeline.run(PORTRAIT, replicate=replicate)
    assert run.status == "done", run.errors
    return time.perf_counter() - started


async def founding_order(pipeline: Pipeline, replicate: int) -> float:
    """Seconds of one persona with stages 1, 2, 3 in a row and then the other four together."""
    started = time.perf_counter()
    run = await pipeline.begin(PORTRAIT, replicate=replicate)
    for stage in ("core_persona", "tweet_strategy", "example_tweets"):
        run = await pipeline.advance(run, stage)
    await asyncio.gather(*(pipeline.advance(run, each.name) for each in STAGES[3:]))
    return time.perf_counter() - started


async def main(scale: float) -> None:
    latency = [f"--latency={stage}={seconds * scale}" for stage, seconds in SECONDS.items()]
    command = [sys.executable, "-m", "personalab", "offline", "--port", "0", *latency]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server,
        tempfile.TemporaryDirectory() as cache,
    ):
        assert server.stdout is not None
        found = re.search(r"http://\S+", server.stdout.readline())
        assert found is not None
        pipeline = Pipeline(LLMPool(api_base=found.group(), model="personalab-offline", cache_dir=cache))
        await by_graph(pipeline, 0)  # warm: connections, imports
        path = scale * (20 + 15 + 25)
        for repeat in range(REPEATS):
            graph = await by_graph(pipeline, 2 * repeat + 1)
            founding = await founding_order(pipeline, 2 * repeat + 2)
            print(
                f"critical path {path:.2f} s · pipeline {graph:.3f} s ({graph / path:.3f}×) · "
                f"founding order {founding:.3f} s ({founding / path:.3f}×)",
                flush=True,
            )
        server.terminate()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 0.1))
