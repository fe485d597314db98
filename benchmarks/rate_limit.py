"""Servers that limit, asked by a pool that does not know it: seconds, against the best, and wasted requests.

    python benchmarks/rate_limit.py                 all of them, one after the other
    python benchmarks/rate_limit.py slots minute    some
    python benchmarks/rate_limit.py slots --calls 1000 --rounds 3
    python benchmarks/rate_limit.py slots --processes 8     the calls dealt out to processes side by side

The offline provider is the server, in a process of its own. `best` is what a client that knows the limit needs.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.synchronize import Barrier
from typing import Any

from personalab import LLMPool
from personalab.errors import PersonalabError
from personalab.records import Message, Request

SLOTS = ("max_concurrent=5", "retry_after=1")
SECOND = ("requests_per_minute=1200", "window_seconds=1")  # twenty in each second
MINUTE = ("requests_per_minute=600", "window_seconds=10")  # a hundred in ten seconds: a minute, made short
TOKENS = ("tokens_per_minute=14400", "window_seconds=10")  # a hundred requests of 24 tokens in ten seconds


@dataclass(frozen=True)
class Variant:
    """A server, and how it is asked: `rate` a second after a burst of `burst`, or `slots` at once."""

    faults: tuple[str, ...]
    calls: int
    latency: float = 0.1
    client: int = 20
    slots: int = 0
    window: tuple[int, float] = (0, 0.0)
    pool: dict[str, Any] = field(default_factory=dict)

    def best(self, calls: int) -> float:
        """Seconds that the limit leaves at best."""
        if self.slots:
            return -(-calls // self.slots) * self.latency
        count, seconds = self.window
        last = calls % count or count
        return (calls - last) / count * seconds + -(-last // self.client) * self.latency


VARIANTS = {
    "slots": Variant(SLOTS, 200, slots=5),
    "slots-silent": Variant((*SLOTS, "no_retry_after"), 200, slots=5),
    "second": Variant(SECOND, 600, 0.2, window=(20, 1.0)),
    "second-100": Variant(SECOND, 600, 0.2, client=100, window=(20, 1.0)),
    "second-silent": Variant((*SECOND, "no_retry_after"), 600, 0.2, window=(20, 1.0)),
    "second-told": Variant((*SECOND, "quota_headers"), 600, 0.2, window=(20, 1.0)),
    "second-known": Variant(
        SECOND, 600, 0.2, client=100, window=(20, 1.0), pool={"requests_per_minute": 1200}
    ),
    "minute": Variant(MINUTE, 450, window=(100, 10.0)),
    "minute-silent": Variant((*MINUTE, "no_retry_after"), 450, window=(100, 10.0)),
    "minute-told": Variant((*MINUTE, "quota_headers"), 450, window=(100, 10.0)),
    "tokens": Variant(TOKENS, 450, window=(100, 10.0)),
    "tokens-silent": Variant((*TOKENS, "no_retry_after"), 450, window=(100, 10.0)),
    "tokens-told": Variant((*TOKENS, "quota_headers"), 450, window=(100, 10.0)),
}


@contextmanager
def served(faults: tuple[str, ...], latency: float) -> Iterator[str]:
    """The base URL of a server that limits as the faults say."""
    command = [sys.executable, "-m", "personalab", "offline", "--port", "0", f"--latency={latency}"]
    command += [f"--fault={fault}" for fault in faults]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        found = re.search(r"http://\S+", server.stdout.readline())
        assert found is not None
        try:
            yield found.group()
        finally:
            server.terminate()


def request(number: int) -> Request:
    """One that is like no other."""
    return Request(stage="x", messages=(Message(role="user", text=f"{number}"),))


async def asked(
    variant: Variant, url: str, numbers: range, ready: Barrier | None = None, unlimited: str = ""
) -> tuple[float, int, int, int]:
    """Seconds until every number is asked by a pool, from when all processes are ready; wasted, lost, tokens."""
    if unlimited:  # what a process loads with its first request is not measured
        await LLMPool(api_base=unlimited, model="personalab-offline", cache="off").send(request(-1))
    with tempfile.TemporaryDirectory() as cache:
        pool = LLMPool(
            api_base=url, model="personalab-offline", max_concurrent=variant.client, cache_dir=cache,
            **variant.pool,
        )  # fmt: skip
        requests = [request(number) for number in numbers]
        if ready is not None:
            ready.wait()
        started = time.perf_counter()
        replies = await asyncio.gather(*(pool.send(request) for request in requests), return_exceptions=True)
        seconds = time.perf_counter() - started
    lost = sum(isinstance(reply, PersonalabError) for reply in replies)
    return seconds, pool.counts.rate_limited, lost, pool.counts.usage.tokens or 0


def client(name: str, url: str, numbers: range, ready: Barrier, unlimited: str, results: Any) -> None:
    """One of several processes."""
    results.put(asyncio.run(asked(VARIANTS[name], url, numbers, ready, unlimited)))


def measure(name: str, calls: int, processes: int) -> None:
    """One line of the table."""
    variant = VARIANTS[name]
    with served(variant.faults, variant.latency) as url, served((), 0) as unlimited:
        if processes == 1:
            measured = [asyncio.run(asked(variant, url, range(calls), unlimited=unlimited))]
        else:
            spawn = multiprocessing.get_context("spawn")
            ready, results = spawn.Barrier(processes), spawn.Queue()
            clients = [
                spawn.Process(target=client, args=(name, url, numbers, ready, unlimited, results))
                for numbers in (range(number, calls, processes) for number in range(processes))
            ]
            for one in clients:
                one.start()
            measured = [results.get() for _ in clients]
            for one in clients:
                one.join()
    seconds, best = max(part[0] for part in measured), variant.best(calls)
    wasted, lost, tokens = (sum(part[place] for part in measured) for place in (1, 2, 3))
    print(
        f"{name:14} {processes} x {calls // processes:4} calls {seconds:6.2f} s  best {best:6.2f} s  "
        f"x {seconds / best:.2f}  {wasted:4} wasted  {lost:3} lost  {tokens} tokens",
        flush=True,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("variants", nargs="*", default=list(VARIANTS), metavar="variant")
    parser.add_argument("--calls", type=int)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["XDG_CACHE_HOME"] = home  # what is learnt of this server is nobody else's
        for _ in range(given.rounds):
            for one in given.variants:
                measure(one, given.calls or VARIANTS[one].calls, given.processes)
