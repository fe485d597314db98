"""Batches at length: `python benchmarks/batches.py makespan|memory|kills|edits [N]`.

makespan: how long N images take against max(total latency ÷ concurrency, longest chain), counted at the server.
memory:   peak memory of a batch of 100 and of N images, each in a process of its own, the provider in another.
kills:    a batch killed with -9 at N random moments, started again each time; what was sent against what had to be.
edits:    eight processes, N edits of one calendar; how many are lost.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from personalab import LLMPool, Pipeline
from personalab.offline.faults import parse_faults
from personalab.offline.server import OfflineServer

STAGES = 7


def pictures(folder: Path, count: int) -> Path:
    """Small images of different colours."""
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", (8, 12), (number % 256, number // 256, 90)).save(folder / f"face{number:05d}.png")
    return folder


def batch(server: str, folder: Path, out: Path, limit: int = 20) -> None:
    """Make a folder's personas."""
    pool = LLMPool(api_base=server, model="personalab-offline", max_concurrent=limit, cache_dir=out / "cache")

    async def run() -> None:
        async for _ in Pipeline(pool).run_many(folder, out=out, progress=False):
            pass

    asyncio.run(run())


def makespan(count: int) -> None:
    """Latencies are drawn by the server; their sum and the span of its answers are read from the replies."""
    for limit in (20, 50):
        with Workplace() as place, OfflineProcess("0.5..1.5") as server:
            folder, out = pictures(place / "in", count), place / "out"
            batch(server, folder, out, limit)
            spans, chains = [], []
            for path in out.glob("*_run.json"):
                stages = json.loads(path.read_bytes())["stages"]
                took = {
                    name: sum(e - b for b, e in stage["reply"]["spans"]) for name, stage in stages.items()
                }
                spans += [tuple(span) for stage in stages.values() for span in stage["reply"]["spans"]]
                core = took.pop("core_persona")
                chains.append(
                    core + max(took.pop("tweet_strategy") + took.pop("example_tweets"), *took.values())
                )
            total = sum(end - begin for begin, end in spans)
            best = max(total / limit, max(chains))
            real = max(end for _, end in spans) - min(begin for begin, _ in spans)
            print(f"{count} images, {limit} at once: {real:.1f} s, best {best:.1f} s: {real / best:.3f}")


def memory(count: int) -> None:
    """Peaks of whole processes, in MB."""
    with Workplace() as place, OfflineProcess("0") as server:
        peaks = []
        for number in (100, count):
            folder = pictures(place / f"in{number}", number)
            code = "import sys, resource; sys.path.insert(0, sys.argv[1]); import batches, pathlib; batches.batch(sys.argv[2], pathlib.Path(sys.argv[3]), pathlib.Path(sys.argv[4])); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
            here = str(Path(__file__).parent)
            began = time.monotonic()
            done = subprocess.run([sys.executable, "-c", code, here, server, str(folder), str(place / f"out{number}")], capture_output=True, text=True, check=True)  # fmt: skip
            peaks.append(int(done.stdout.split()[-1]) / 1024)
            made = len(list((place / f"out{number}").glob("*_persona.json")))
            print(
                f"{number} images: {made} personas, peak {peaks[-1]:.1f} MB, {time.monotonic() - began:.0f} s",
                flush=True,
            )
        print(f"growth {peaks[1] - peaks[0]:.1f} MB")


def kills(count: int) -> None:
    """Random moments, the same command each time."""
    chance, limit, images = random.Random(3), 20, 100
    with Workplace() as place, OfflineServer(parse_faults(fault=[], latency=["0.1..0.4"])) as server:
        folder = pictures(place / "in", images)
        command = [sys.executable, "-m", "personalab", "persona", str(folder), "--out", str(place / "out")]
        environment = os.environ | {
            "OPENAI_BASE_URL": server.base_url, "PERSONALAB_MODEL": "personalab-offline",
            "MAX_CONCURRENT": str(limit), "PERSONALAB_OUTPUTS": str(place / "outputs"),
        }  # fmt: skip
        for _ in range(count):
            process = subprocess.Popen(
                command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            target = server.ledger.received + chance.randrange(0, 40)
            while server.ledger.received < target and process.poll() is None:
                time.sleep(0.001)
            time.sleep(chance.uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
            process.wait()
        subprocess.run(command, env=environment, check=True, capture_output=True)
        sent, in_flight = server.ledger.received, server.ledger.abandoned
        files = [path for part in ("out", "outputs") for path in (place / part).rglob("*.json")]
        for path in files:
            json.loads(path.read_bytes())
        made = len(list((place / "out").glob("*_persona.png")))
        print(f"{count} kills: {made} of {images} personas, {len(files)} whole files; {sent} requests sent, "
              f"{images * STAGES} distinct, {in_flight} in flight at the kills: {sent - images * STAGES - in_flight} too many")  # fmt: skip


EDITOR = """
import datetime as dt, sys
from personalab.calendar_files import edit_calendar
path, number, times = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for turn in range(times):
    day = dt.date(2026, 12, 1 + (number + 8 * turn) % 31)
    def edit(calendar):
        slot = next(slot for slot in calendar.slots if slot.date == day)
        return calendar.with_slots([slot.model_copy(update={"topic": slot.topic + f" {number}.{turn}"})])
    edit_calendar(path, edit)
"""


def edits(count: int) -> None:
    """Each edit adds a word of its own to the topic of a day."""
    from personalab.calendar_files import load_calendar, merge_calendar
    from personalab.calendars import Calendar, Slot, days_of

    slots = tuple(
        Slot(date=day, content_type="x", topic="t", mood="m", time_of_day="09:00")
        for day in days_of("2026-12")
    )
    with Workplace() as place:
        plan = Calendar(
            notice="n", persona_id="1", persona="Ada", language="English", month="2026-12", slots=slots
        )
        path = merge_calendar(place, plan)
        began = time.monotonic()
        editors = [
            subprocess.Popen([sys.executable, "-c", EDITOR, str(path), str(n), str(count // 8)])
            for n in range(8)
        ]
        assert [editor.wait() for editor in editors] == [0] * 8
        words = {word for slot in load_calendar(path).slots for word in slot.topic.split() if "." in word}
        print(
            f"{count // 8 * 8} edits by 8 processes in {time.monotonic() - began:.1f} s: {count // 8 * 8 - len(words)} lost"
        )


class Workplace:
    """A temporary folder."""

    def __enter__(self) -> Path:
        self._path = Path(tempfile.mkdtemp())
        return self._path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._path)


class OfflineProcess:
    """The embedded provider in a process of its own."""

    def __init__(self, latency: str) -> None:
        self._latency = latency

    def __enter__(self) -> str:
        command = [sys.executable, "-m", "personalab", "offline", "--port", "0", "--latency", self._latency]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        return self._process.stdout.readline().split("OPENAI_BASE_URL=")[1].split()[0]

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


if __name__ == "__main__":
    what, number = sys.argv[1], sys.argv[2:]
    measures = {
        "makespan": (makespan, 100),
        "memory": (memory, 10_000),
        "kills": (kills, 30),
        "edits": (edits, 1_000),
    }
    measure, default = measures[what]
    measure(int(number[0]) if number else default)
