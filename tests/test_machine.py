"""Several processes of one machine: one limit, one payment for the same request, nothing held by the dead."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from personalab import LLMPool
from personalab.offline.faults import parse_faults
from personalab.offline.server import OfflineServer
from personalab.records import Message, Request

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="file locks of this kind are POSIX's"),
]

# Arguments: base URL, cache folder, cache mode, limit, first number, how many, seed of the order.
CLIENT = """
import asyncio, random, sys
from personalab import LLMPool
from personalab.records import Message, Request

url, folder, mode, limit, first, many, seed = sys.argv[1:]
numbers = list(range(int(first), int(first) + int(many)))
random.Random(int(seed)).shuffle(numbers)
pool = LLMPool(api_base=url, model="m", cache=mode, cache_dir=folder, max_concurrent=int(limit))

async def main():
    print("begun", flush=True)
    requests = (Request(stage="x", messages=(Message(role="user", text=f"no {n}"),)) for n in numbers)
    print(len(await asyncio.gather(*(pool.send(request) for request in requests))), flush=True)

asyncio.run(main())
"""


# As on Windows, where there is no module fcntl; and as on a file system that knows no such locks.
NO_MODULE = "import sys; sys.modules['fcntl'] = None\n"
NO_LOCKS = """
import errno, fcntl
def lockf(*arguments): raise OSError(errno.ENOLCK, "No locks available")
fcntl.lockf = lockf
"""


@contextmanager
def clients(
    count: int, server: OfflineServer, folder: Path, **options: object
) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that ask at the same time; each ends by saying how many replies it has."""
    given = {"mode": "use", "limit": 20, "many": 200, "apart": 0} | options
    started = []
    for number in range(count):
        words = [given["mode"], given["limit"], number * given["apart"], given["many"], number]  # type: ignore[operator]
        command = [sys.executable, "-c", CLIENT, server.base_url, str(folder), *map(str, words)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def replies(process: subprocess.Popen[str]) -> int:
    """How many a process got, once it has ended."""
    assert process.stdout is not None
    said = process.stdout.read()  # `communicate` would lose what came together with the first line
    process.wait(90)
    return int(said or 0)


def ask(number: int) -> Request:
    return Request(stage="x", messages=(Message(role="user", text=f"no {number}"),))


def server_with(*fault: str, latency: str = "0.05") -> OfflineServer:
    """A server in this process."""
    return OfflineServer(parse_faults(fault=fault, latency=[latency]))


def wait_until_received(server: OfflineServer, count: int) -> None:
    """Until the server has seen so many requests."""
    while server.ledger.received < count:
        time.sleep(0.005)


def test_four_processes_keep_one_limit(tmp_path: Path) -> None:
    """The server never sees more than 20 at once, the limit is used, and every process gets all its replies."""
    with server_with() as server, clients(4, server, tmp_path, mode="off", apart=1000) as four:
        assert [replies(process) for process in four] == [200] * 4
        assert server.ledger.in_flight_most == 20
        assert server.ledger.received == 800


def test_the_slots_of_the_dead_are_free(tmp_path: Path) -> None:
    """A process is killed with every slot in its hands; another one then does all its work under the same limit."""
    with server_with(latency="0.2") as server, clients(1, server, tmp_path, mode="off") as (first,):
        wait_until_received(server, 20)
        with clients(1, server, tmp_path, mode="off", many=60) as (second,):
            first.kill()
            assert replies(second) == 60
    assert server.ledger.in_flight_most <= 40  # the killed one's calls end at the server only when it notices


def test_processes_with_limits_of_their_own(tmp_path: Path) -> None:
    """Together they never pass the higher limit."""
    with server_with() as server:
        with (
            clients(1, server, tmp_path, mode="off", limit=3, many=40) as (low,),
            clients(1, server, tmp_path, mode="off", limit=10) as (high,),
        ):
            assert (replies(low), replies(high)) == (40, 200)
        assert server.ledger.in_flight_most <= 10


def test_eight_processes_pay_once_though_two_are_killed(tmp_path: Path) -> None:
    """The same 200 requests each, in different orders: 200 calls, and at most what the killed had in flight."""
    with server_with() as server, clients(8, server, tmp_path / "cache") as eight:
        wait_until_received(server, 60)
        for process in eight[:2]:
            process.kill()
        assert [replies(process) for process in eight[2:]] == [200] * 6
        assert 200 <= server.ledger.received <= 220


async def test_paid_once_by_whatever_path(tmp_path: Path) -> None:
    """Two pools of one process whose cache is the same folder, once by a link."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "cache")
    with server_with(latency="0.2") as server:
        pools = [
            LLMPool(api_base=server.base_url, model="m", cache_dir=tmp_path / name)
            for name in ("cache", "link")
        ]
        request = Request(stage="x", messages=(Message(role="user", text="who?"),))
        await asyncio.gather(*(pool.send(request) for pool in pools))
        assert server.ledger.received == 1


def test_killed_and_started_again(tmp_path: Path) -> None:
    """Killed at half of 360 calls: at most 20 are paid again."""
    with server_with() as server:
        with clients(1, server, tmp_path / "cache", many=360) as (first,):
            wait_until_received(server, 180)
            first.kill()
        with clients(1, server, tmp_path / "cache", many=360) as (second,):
            assert replies(second) == 360
        assert server.ledger.received <= 380


@pytest.mark.parametrize(("first", "reason"), [(NO_MODULE, "this system"), (NO_LOCKS, "No locks available")])
def test_without_locks_it_is_said_once(tmp_path: Path, first: str, reason: str) -> None:
    """Where nothing can be locked a process pays by itself: one warning that says why, and every reply all the same."""
    with server_with(latency="0") as server:
        words = [server.base_url, str(tmp_path / "cache"), "use", "20", "0", "50", "0"]
        command = [sys.executable, "-W", "always", "-c", first + CLIENT, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
    assert done.stdout.split()[-1] == "50"
    (said,) = (line for line in done.stderr.splitlines() if "NotPaidOnce: " in line)
    assert "may be paid by each" in said
    assert reason in said


# Arguments: base URL. A parent asks, then its child beside it, with the same pool.
FORKED = """
import asyncio, os, sys
from personalab import LLMPool
from personalab.records import Message, Request

pool = LLMPool(api_base=sys.argv[1], model="m", cache="off", max_concurrent=2)

async def ask(first):
    requests = (Request(stage="x", messages=(Message(role="user", text=f"no {n}"),)) for n in range(first, first + 10))
    return len(await asyncio.gather(*(pool.send(request) for request in requests)))

assert asyncio.run(ask(0)) == 10
child = os.fork()
if not child:
    os._exit(0 if asyncio.run(ask(100)) == 10 else 1)
assert asyncio.run(ask(200)) == 10
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_pool_goes_on_in_a_forks_child() -> None:
    """With the same pool, beside its parent, under one limit."""
    with server_with() as server:
        subprocess.run([sys.executable, "-c", FORKED, server.base_url], check=True, timeout=90)
        assert server.ledger.answered == 30
        assert server.ledger.in_flight_most == 2


# Arguments: base URL. A child asks what a thread of its parent is asking.
FORKED_MEANWHILE = """
import asyncio, os, signal, sys, threading
from personalab import LLMPool
from personalab.records import Message, Request

pool = LLMPool(api_base=sys.argv[1], model="m", cache="off")
ask = lambda: asyncio.run(pool.send(Request(stage="x", messages=(Message(role="user", text="who?"),))))
thread = threading.Thread(target=ask)
thread.start()
while not pool.in_flight:
    pass
child = os.fork()
if not child:
    signal.alarm(20)
    os._exit(0 if ask().text else 1)
thread.join()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forks_child_does_not_wait_for_its_parents_threads() -> None:
    """What these have under way is theirs, and is told to nobody in the child."""
    with server_with(latency="0.5") as server:
        subprocess.run([sys.executable, "-c", FORKED_MEANWHILE, server.base_url], check=True, timeout=90)
        assert server.ledger.answered == 2


async def test_places_are_waited_for_with_a_thousand_files_open(tmp_path: Path) -> None:
    """Files of a process are numbered; what waits for a place takes high numbers as well."""
    import resource

    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(1_030)]
    try:
        with server_with(latency="0.01") as server:
            pools = [
                LLMPool(api_base=server.base_url, model="m", cache="off", max_concurrent=1) for _ in range(2)
            ]
            asked = (pool.send(ask(number)) for number in range(5) for pool in pools)
            assert len(await asyncio.gather(*asked)) == 10
            assert server.ledger.in_flight_most == 1
    finally:
        for file in files:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


@pytest.mark.parametrize(
    ("processes", "rule"),
    [
        (8, ("max_concurrent=5", "retry_after=1")),
        (4, ("max_concurrent=5", "no_retry_after")),
        (8, ("requests_per_minute=1200", "window_seconds=1")),
        (4, ("requests_per_minute=1200", "window_seconds=2", "no_retry_after")),
    ],
    ids=["at once", "at once, silent", "a second", "two seconds, silent"],
)
def test_processes_find_a_limit_together(tmp_path: Path, processes: int, rule: tuple[str, ...]) -> None:
    """What one was refused the others know: hardly more is wasted than by one, and nothing is lost."""
    each = 120 // processes
    with (
        server_with(*rule, latency="0.1") as server,
        clients(processes, server, tmp_path, mode="off", many=each, apart=1000) as all_of,
    ):
        assert [replies(process) for process in all_of] == [each] * processes
        assert server.ledger.answered == 120
        assert server.ledger.received - 120 <= 50


def test_a_killed_process_takes_no_lesson_and_no_place_along(tmp_path: Path) -> None:
    """One of four is killed while they find out that five at once are let in; the others get everything."""
    rule = ("max_concurrent=5", "retry_after=1")
    with (
        server_with(*rule, latency="0.1") as server,
        clients(4, server, tmp_path, mode="off", many=40, apart=1000) as four,
    ):
        wait_until_received(server, 40)
        four[0].kill()
        assert [replies(process) for process in four[1:]] == [40] * 3
        assert server.ledger.statuses.get(429, 0) <= 60


async def test_pools_that_are_let_go_keep_no_files_open(tmp_path: Path) -> None:
    """A process that asks many endpoints one after the other does not run out of files."""
    here = Path("/proc/self/fd")
    if not here.is_dir():
        pytest.skip("only Linux tells its open files")
    with OfflineServer() as server:
        before = 0
        for number in range(12):
            pool = LLMPool(
                api_base=server.base_url, api_key=f"key-number-{number}", model="m", cache_dir=tmp_path
            )
            await pool.send(Request(stage="x", messages=(Message(role="user", text=str(number)),)))
            del pool
            gc.collect()
            if number == 1:  # the cache's file and the client's connection are there from now on
                before = len(list(here.iterdir()))
        # A connection has two ends here, as the server is in this process.
        assert len(list(here.iterdir())) <= before + 2 * 12
