"""What a cluster costs beside one machine: trials that do nothing, and requests that take no time, here and on a worker.

    python benchmarks/clusters.py [TRIALS] [ROUNDS]

One scheduler and one worker on this machine, with as many threads as the sweep beside it has jobs; the ways take turns.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat

from personalab.offline.faults import parse_faults
from personalab.offline.server import OfflineServer
from personalab.sweeps import sweep

JOBS = 2
REQUESTS = 400
NOTHING = "n = 0"
SENDS = f"""
import asyncio, time
from personalab import LLMPool, run
from personalab.recording import record
from personalab.records import Message, Request
pool = LLMPool(cache="refresh")
async def send_all():
    asks = [Request(stage="x", messages=(Message(role="user", text=f"{{n}} {{i}}"),)) for i in range({REQUESTS})]
    await asyncio.gather(*(pool.send(ask) for ask in asks))
began = time.perf_counter()
run(send_all())
record("milliseconds", 1000 * (time.perf_counter() - began) / {REQUESTS})
"""


def written(path: Path, *cells: str) -> Path:
    """A notebook, the first cell its parameters."""
    node = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    node.cells[0].metadata.tags = ["parameters"]
    nbformat.write(node, path)
    return path


def started(kind: str, file: Path, *options: str) -> subprocess.Popen[bytes]:
    """A scheduler or a worker."""
    command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--scheduler-file", str(file)]
    return subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main() -> None:
    trials, rounds = (int(word) for word in (sys.argv[1:3] + ["40", "3"][len(sys.argv[1:3]) :]))
    with tempfile.TemporaryDirectory() as name, OfflineServer(parse_faults(fault=[], latency=[])) as server:
        folder = Path(name)
        os.environ |= {
            "OPENAI_BASE_URL": server.base_url,
            "PERSONALAB_MODEL": "m",
            "PERSONALAB_OUTPUTS": str(folder / "outputs"),
        }
        file = folder / "scheduler.json"
        running = [started("scheduler", file, "--port", "0", "--host", "127.0.0.1", "--no-dashboard")]
        while not file.exists():
            time.sleep(0.1)
        running.append(started("worker", file, "--no-nanny", "--nthreads", str(JOBS), "--no-dashboard"))
        address = json.loads(file.read_text())["address"]
        ways = {"here": {"jobs": JOBS}, "cluster": {"scheduler": address}}
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        requests: dict[str, list[float]] = {way: [] for way in ways}
        nothing = written(folder / "nothing.ipynb", NOTHING, "1")
        sends = written(folder / "sends.ipynb", NOTHING, SENDS)
        try:
            for turn in range(-1, rounds):  # the first warms up: parents of kernels, the worker's start
                for way, options in ways.items():
                    done = sweep(
                        nothing, {"n": [*range(trials)]}, name=f"{way}{turn}", progress=False, **options
                    )
                    assert not done.failed
                    sent = sweep(sends, {"n": [turn]}, name=f"{way}-sends{turn}", progress=False, **options)
                    if turn >= 0:
                        seconds[way].append(done.seconds / trials)
                        requests[way].append(float(sent.frame()["milliseconds"].iloc[0]))
        finally:
            for process in running:
                process.kill()
                process.wait()
    for way in ways:
        print(
            f"{way}: {statistics.median(seconds[way]):.3f} s a trial ({', '.join(f'{one:.3f}' for one in seconds[way])}), "
            f"{statistics.median(requests[way]):.2f} ms a request ({', '.join(f'{one:.2f}' for one in requests[way])})"
        )


if __name__ == "__main__":
    main()
