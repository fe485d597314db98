"""All benchmarks, written into docs/benchmarks.md: `python benchmarks/run.py [--quick] [PART …]`, or `make bench [QUICK=1]`.

Parts: throughput, makespan, limits, memory, cached, import. Each is written as soon as it is done. A run that was
interrupted goes on: finished parts, and within throughput finished measurements, are in `.bench` until all are done.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from clients import ALL_AT_ONCE, ONE_BY_ONE
from peers import PEERS, WORKPLACE, python_of, version_of

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs" / "benchmarks.md"
FLOOR, USUAL = "aiohttp", "openai"
CALL_SECONDS = 300
"""Longest time of one measurement; a client that takes longer has a row that says so."""

Case = tuple[int, float, int]
"""Requests at once, latency in seconds, calls."""
FULL: list[Case] = [
    (20, 0.0, 2_000), (200, 0.0, 2_000), (1_000, 0.0, 4_000),
    (20, 0.2, 600), (200, 0.2, 2_000), (1_000, 0.2, 5_000),
]  # fmt: skip
QUICK: list[Case] = [(20, 0.0, 300), (200, 0.0, 600), (200, 0.2, 600)]
ROUNDS_FULL, ROUNDS_QUICK = 5, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="fewer calls, rounds and images")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    _allow_many_files()
    kind = "quick" if given.quick else "full"
    done = [part for part in PARTS if _result(kind, part).exists()] if not given.parts else []
    for part in given.parts or PARTS:
        if part in done:
            print(f"{part}: done before", flush=True)
            continue
        print(f"== {part}", flush=True)
        text = PARTS[part](given.quick)
        _result(kind, part).parent.mkdir(parents=True, exist_ok=True)
        _result(kind, part).write_text(text, encoding="utf-8")
        write_part(part, f"{_about(given.quick)}\n\n{text}")
    for part in PARTS if not given.parts else given.parts:
        _result(kind, part).unlink()


def write_part(part: str, text: str) -> None:
    """Replace what stands between a part's markers in the document; what hands wrote around them stays."""
    begin, end = f"<!-- {part}: written by make bench -->", f"<!-- {part}: end -->"
    document = DOCS.read_text(encoding="utf-8")
    if begin not in document:
        document = f"{document.rstrip()}\n\n{begin}\n{end}\n"
    before, rest = document.split(begin, 1)
    after = rest.split(end, 1)[1]
    DOCS.write_text(f"{before}{begin}\n{text.strip()}\n{end}{after}", encoding="utf-8")


def throughput(quick: bool) -> str:
    """CPU and calls a second of the pool beside other clients, interleaved, each measurement in a process of its own."""
    programs, left_out = _programs()
    store = WORKPLACE / f"throughput-{'quick' if quick else 'full'}.json"
    store.parent.mkdir(exist_ok=True)
    found: dict[str, dict[str, float | str]] = json.loads(store.read_text()) if store.exists() else {}
    tables = []
    for limit, latency, calls in QUICK if quick else FULL:
        with offline_server(latency) as url:
            for turn in range(ROUNDS_QUICK if quick else ROUNDS_FULL):
                for name, python in programs.items():
                    key = f"{limit}/{latency}/{calls}/{turn}/{name}"
                    if key not in found:
                        found[key] = _measured(python, name, url, limit, calls)
                        store.write_text(json.dumps(found))
                        print(key, found[key], flush=True)
        runs = {
            name: [value for key, value in found.items() if key.startswith(f"{limit}/{latency}/{calls}/") and key.endswith(f"/{name}")]
            for name in programs
        }  # fmt: skip
        tables.append(_table((limit, latency, calls), runs))
    store.unlink()
    versions = ", ".join(f"{name} {version_of(programs[name], name)}" for name in PEERS if name in programs)
    notes = [f"Versions: {versions}."] if versions else []
    notes += [f"Left out: {'; '.join(left_out)}."] if left_out else []
    head = (
        "### Beside other clients\n\nPrompts of 2 KB, the embedded provider in a process of its own; one coroutine a call "
        "behind a semaphore, retries off. CPU is the client's; medians, ranges in brackets. Where calls take no time, calls a "
        "second are limited by the provider as well. personalab is the pool without its cache, `cached` the pool that "
        "stores every reply."
    )
    return "\n\n".join([head, *tables, *notes])


def makespan(quick: bool) -> str:
    """A batch against the shortest time that its latencies allow."""
    return _said(
        "A batch against its lower bound", [("batches.py", "makespan", "30" if quick else "100")]
    ) + _said("One persona against its critical path", [("critical_path.py",)])


def limits(quick: bool) -> str:
    """Servers that refuse: too many at once, too many a minute."""
    longer = [("rate_limit.py",), ("rate_limit.py", "slots", "--calls", "1000")]
    return _said("Servers with limits", [("rate_limit.py", "slots", "slots-silent")] if quick else longer)


def memory(quick: bool) -> str:
    """Peaks of batches of 100 images and of many."""
    return _said("Memory of a batch", [("batches.py", "memory", "400" if quick else "10000")])


def cached(quick: bool) -> str:
    """A persona all of whose replies are in the cache."""
    return _said("A persona from the cache", [("cached.py", "20" if quick else "200")])


def importing(quick: bool) -> str:
    """Seconds of `import personalab`, in a new process each time."""
    lines = []
    for statement in ("pass", "import personalab", "from personalab import Pipeline, LLMPool"):
        seconds = []
        for _ in range(5 if quick else 20):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", statement], check=True)
            seconds.append(time.perf_counter() - began)
        lines.append(f"| `{statement}` | {_spread(seconds, 1_000, 0)} |")
    return "\n".join(["### Import\n\n| a new process that says | ms |\n|---|---|", *lines])


PARTS: dict[str, Callable[[bool], str]] = {
    "throughput": throughput,
    "makespan": makespan,
    "limits": limits,
    "memory": memory,
    "cached": cached,
    "import": importing,
}


@contextmanager
def offline_server(latency: float) -> Iterator[str]:
    """The embedded provider in a process of its own; its base URL."""
    command = [sys.executable, "-m", "personalab", "offline", "--port", "0", f"--latency={latency}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().split("OPENAI_BASE_URL=")[1].split()[0]
        finally:
            server.kill()


def _programs() -> tuple[dict[str, Path], list[str]]:
    """The interpreter for each client that can be run, and why the others cannot."""
    programs = {name: Path(sys.executable) for name in ONE_BY_ONE if name not in PEERS}
    left_out = []
    for name in PEERS:
        python, why = python_of(name)
        if why:
            left_out.append(f"{name} ({why})")
        else:
            programs[name] = python
    assert set(programs) <= set(ONE_BY_ONE) | set(ALL_AT_ONCE)
    return programs, left_out


def _measured(python: Path, name: str, url: str, limit: int, calls: int) -> dict[str, float | str]:
    command = [str(python), str(HERE / "clients.py"), name, url, str(limit), str(calls)]
    with tempfile.TemporaryDirectory() as home:  # clients keep caches there
        environment = os.environ | {
            "HOME": home, "XDG_CACHE_HOME": home, "CURATOR_CACHE_DIR": home, "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "OPENAI_API_KEY": "x",
        }  # fmt: skip
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=CALL_SECONDS, check=False, env=environment, cwd=home
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return {"failed": f"took longer than {CALL_SECONDS} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no reason given"])[-1][:200]}
    found: dict[str, float | str] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _table(case: Case, runs: dict[str, list[dict[str, float | str]]]) -> str:
    limit, latency, calls = case
    whole = {name: each for name, each in runs.items() if not any("failed" in run for run in each)}
    cpu = {name: statistics.median(float(run["cpu"]) for run in each) for name, each in whole.items()}
    wall = {name: statistics.median(float(run["seconds"]) for run in each) for name, each in whole.items()}
    best = f", at best {calls * latency / limit:.2f} s" if latency else ""
    lines = [
        f"**{limit:,} at once, {1_000 * latency:.0f} ms, {calls:,} calls{best}**\n",
        f"| client | CPU × {FLOOR} | CPU × {USUAL} | time × {FLOOR} | CPU ms a call | calls a second | peak MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in sorted(cpu, key=cpu.__getitem__):
        ratios = [cpu[name] / cpu[FLOOR], cpu[name] / cpu[USUAL], wall[name] / wall[FLOOR]]
        per_call = _spread([float(run["cpu"]) for run in whole[name]], 1_000 / calls, 2)
        rate = _spread([calls / float(run["seconds"]) for run in whole[name]], 1, 0)
        peak = statistics.median(float(run["peak"]) for run in whole[name])
        shown = " | ".join(f"{ratio:.2f}" for ratio in ratios)
        bold = "**" if name == "personalab" else ""
        lines.append(f"| {bold}{name}{bold} | {shown} | {per_call} | {rate} | {peak:.0f} |")
    for name in runs.keys() - whole.keys():
        why = next(run["failed"] for run in runs[name] if "failed" in run)
        lines.append(f"| {name} | failed: {str(why).replace('|', '/')} | | | | | |")
    return "\n".join(lines)


def _spread(values: list[float], scale: float, digits: int) -> str:
    """The median, and from least to most."""
    low, middle, high = (scale * each for each in (min(values), statistics.median(values), max(values)))
    return f"{middle:,.{digits}f} ({low:,.{digits}f}–{high:,.{digits}f})"


def _said(title: str, commands: list[tuple[str, ...]]) -> str:
    """What other benchmarks print."""
    parts = [f"### {title}\n"]
    for command in commands:
        done = subprocess.run(
            [sys.executable, str(HERE / command[0]), *command[1:]], stdout=subprocess.PIPE, text=True, check=True
        )  # fmt: skip
        parts.append(f"`python benchmarks/{' '.join(command)}`\n\n```\n{done.stdout.strip()}\n```\n")
    return "\n".join(parts) + "\n"


def _about(quick: bool) -> str:
    kind = "**Quick run: few calls, to be taken for no more than that.** " if quick else ""
    today = datetime.datetime.now(datetime.UTC).date()
    return f"{kind}{today}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}."


def _result(kind: str, part: str) -> Path:
    return WORKPLACE / "results" / f"{kind}-{part}.md"


def _allow_many_files() -> None:
    """A thousand connections need as many open files, here and in the server."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    main()
