"""A server that answers five at once and refuses more, asked by a pool of twenty: seconds and wasted requests.

    python benchmarks/rate_limit.py [calls]

Each answer takes 0.1 s, a refusal says `Retry-After: 1`; 200 calls take 4.0 s at best.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import tempfile
import time

from personalab import LLMPool
from personalab.records import Message, Request

SLOTS, SECONDS, CLIENT = 5, 0.1, 20


async def main(calls: int) -> None:
    command = [sys.executable, "-m", "personalab", "offline", "--port", "0", f"--latency={SECONDS}"]
    command += [f"--fault=max_concurrent={SLOTS}", "--fault=retry_after=1"]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server,
        tempfile.TemporaryDirectory() as cache,
    ):
        assert server.stdout is not None
        found = re.search(r"http://\S+", server.stdout.readline())
        assert found is not None
        pool = LLMPool(
            api_base=found.group(), model="personalab-offline", max_concurrent=CLIENT, cache_dir=cache
        )
        started = time.perf_counter()
        texts = (f"{number}" for number in range(calls))
        requests = (Request(stage="x", messages=(Message(role="user", text=text),)) for text in texts)
        replies = await asyncio.gather(*(pool.send(request) for request in requests))
        seconds, best = time.perf_counter() - started, calls * SECONDS / SLOTS
        print(
            f"{len(replies)} of {calls} answered in {seconds:.2f} s ({seconds / best:.2f} × the best {best:.1f} s), "
            f"{pool.counts.rate_limited} requests wasted"
        )
        server.terminate()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
