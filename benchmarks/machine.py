"""What one limit for the whole machine costs: CPU of a lone process, and the time of four beside one.

    python benchmarks/machine.py

The offline provider runs in a process of its own. Interleaved, medians.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time

ROUNDS = 3
CLIENT = """
import asyncio, resource, sys, time
from personalab import LLMPool
from personalab.records import Message, Request

url, gate, first, many = sys.argv[1:]
pool = LLMPool(api_base=url, model="m", cache="off", gate=gate, max_concurrent=20)

def request(number):
    return Request(stage="x", messages=(Message(role="user", text=f"no {number}"),))

async def main():
    await pool.send(request(-1))
    print("ready", flush=True)
    sys.stdin.readline()
    cpu = resource.getrusage(resource.RUSAGE_SELF)
    numbers = range(int(first), int(first) + int(many))
    await asyncio.gather(*(pool.send(request(number)) for number in numbers))
    end = resource.getrusage(resource.RUSAGE_SELF)
    print(end.ru_utime + end.ru_stime - cpu.ru_utime - cpu.ru_stime)

asyncio.run(main())
"""


def measured(url: str, gate: str, processes: int, many: int) -> tuple[float, float]:
    """Seconds from the start of all to the end of the last, and CPU seconds of all together."""
    clients = []
    for number in range(processes):
        command = [sys.executable, "-c", CLIENT, url, gate, str(number * many), str(many)]
        clients.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    for client in clients:
        assert client.stdout is not None
        client.stdout.readline()
    started = time.perf_counter()
    for client in clients:
        assert client.stdin is not None
        client.stdin.write("go\n")
        client.stdin.flush()
    cpu = sum(float(client.communicate()[0]) for client in clients)
    return time.perf_counter() - started, cpu


def serving(latency: float) -> tuple[subprocess.Popen[str], str]:
    """An offline provider of its own process, and its base URL."""
    command = [sys.executable, "-m", "personalab", "offline", "--port", "0", f"--latency={latency}"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    found = re.search(r"http://\S+", server.stdout.readline())
    assert found is not None
    return server, found.group()


def main() -> None:
    for latency, many in ((0.0, 1000), (0.2, 800)):
        server, url = serving(latency)
        runs: dict[str, list[tuple[float, float]]] = {}
        for _ in range(ROUNDS if latency == 0 else 2):
            cases = [("process", 1), ("machine", 1)] + ([("machine", 4)] if latency else [])
            for gate, processes in cases:
                got = measured(url, gate, processes, many // processes)
                runs.setdefault(f"{gate} × {processes}", []).append(got)
        server.terminate()
        for name, values in runs.items():
            wall, cpu = (statistics.median(part) for part in zip(*values, strict=True))
            spread = ", ".join(f"{value:.2f}" for value, _ in values)
            print(
                f"{many} calls of {latency} s, {name}: {wall:.2f} s ({spread}), CPU {1000 * cpu / many:.3f} ms a call",
                flush=True,
            )


if __name__ == "__main__":
    main()
