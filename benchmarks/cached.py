"""Milliseconds of a persona whose seven replies are in the cache: `python benchmarks/cached.py [times]`.

The image is read once; measured are the stages, from prompts to a run with a card.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from personalab import LLMPool, Pipeline

PORTRAIT = Path(__file__).parents[1] / "data" / "portraits" / "teal_turban.png"


async def main(times: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pipeline = Pipeline(LLMPool(cache_dir=folder))
        await pipeline.run(PORTRAIT)
        begun = await pipeline.begin(PORTRAIT)
        stages, whole = [], []
        for _ in range(times):
            began = time.perf_counter()
            run = await pipeline.complete(begun)
            stages.append(1_000 * (time.perf_counter() - began))
            began = time.perf_counter()
            await pipeline.run(PORTRAIT)
            whole.append(1_000 * (time.perf_counter() - began))
            assert run.status == "done"
            assert all(record.reply and record.reply.cached for record in run.stages.values())
        for name, found in (("stages", stages), ("with the image read", whole)):
            print(f"{name}: {statistics.median(found):.1f} ms ({min(found):.1f} to {max(found):.1f})")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
