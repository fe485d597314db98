"""Coroutines from synchronous code: in scripts, in running loops, in kernels; stopping cleanly."""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import personalab


async def double(number: int) -> int:
    await asyncio.sleep(0.001)
    return 2 * number


def test_from_a_script() -> None:
    """The result comes back, an error is raised here."""
    assert personalab.run(double(4)) == 8

    async def fail() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        personalab.run(fail())


async def test_inside_a_running_loop() -> None:
    """Synchronous code inside a coroutine gets its result, without touching the running loop."""
    assert personalab.run(double(5)) == 10


def test_from_many_threads() -> None:
    """Callers in different threads do not mix up their results."""
    results: dict[int, int] = {}
    threads = [
        threading.Thread(target=lambda n=n: results.__setitem__(n, personalab.run(double(n))))
        for n in range(20)
    ]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert results == {n: 2 * n for n in range(20)}


def test_inside_what_it_runs_itself() -> None:
    """A call that could only wait for itself is an error, not a deadlock."""

    async def outer() -> int:
        return personalab.run(double(1))

    with pytest.raises(RuntimeError, match="use 'await' there"):
        personalab.run(outer())


def test_the_callers_context_goes_along() -> None:
    """Context variables set by the caller are seen, so that output lands in the right cell."""
    from contextvars import ContextVar

    variable: ContextVar[str] = ContextVar("variable")
    variable.set("cell 3")

    async def look() -> str:
        return variable.get()

    assert personalab.run(look()) == "cell 3"


def test_an_interrupt_cancels_and_waits_for_the_end() -> None:
    """After Ctrl-C the coroutine has been cancelled and has cleaned up before the interrupt is seen."""
    events: list[str] = []

    async def long() -> None:
        events.append("started")
        signal.raise_signal(
            signal.SIGINT
        ) if threading.current_thread() is threading.main_thread() else os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.sleep(30)
        finally:
            events.append("ended")

    with pytest.raises(KeyboardInterrupt):
        personalab.run(long())
    assert events == ["started", "ended"]


def test_after_a_fork() -> None:
    """A forked child gets a loop of its own."""
    code = textwrap.dedent("""
        import os, asyncio, personalab
        async def one(): return 1
        assert personalab.run(one()) == 1
        if (child := os.fork()) == 0:
            os._exit(0 if personalab.run(one()) == 1 else 3)
        raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """)
    if not hasattr(os, "fork"):
        pytest.skip("no fork on this system")
    assert (
        subprocess.run([sys.executable, "-W", "ignore", "-c", code], timeout=60, check=False).returncode == 0
    )


def test_the_process_ends_while_a_coroutine_runs() -> None:
    """A thread waiting in `run` does not keep the process alive."""
    code = "import threading, asyncio, personalab, time; threading.Thread(target=lambda: personalab.run(asyncio.sleep(60)), daemon=True).start(); time.sleep(0.2)"
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", code], timeout=30, check=True, capture_output=True)
    assert time.monotonic() - started < 30


@pytest.fixture
def kernel() -> Iterator[Any]:
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3")
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def executed(client: Any, cells: list[str]) -> list[dict[str, Any]]:
    """Send all cells at once, as *Run All* does, and collect their replies."""
    sent = [client.execute(cell, stop_on_error=False) for cell in cells]
    replies: dict[str, dict[str, Any]] = {}
    deadline = time.monotonic() + 30
    while len(replies) < len(sent) and time.monotonic() < deadline:
        try:
            message = client.get_shell_msg(timeout=1)
        except queue.Empty:
            continue
        if message["parent_header"].get("msg_id") in sent:
            replies[message["parent_header"]["msg_id"]] = message["content"]
    return [replies.get(identity, {"status": "lost"}) for identity in sent]


PROBE = "import asyncio, personalab\nasync def probe(n):\n    await asyncio.sleep(0.05)\n    return n\n"


@pytest.mark.slow
def test_run_all_loses_no_cell(kernel: Any) -> None:
    """Cells queued at once all run: with `run`, with `await`, in turn, and after an error."""
    cells = [
        PROBE,
        "a = personalab.run(probe(1))",
        "b = await probe(2)",
        "c = personalab.run(probe(3))",
        "1/0",
        "d = personalab.run(probe(4))",
        "assert (a, b, c, d) == (1, 2, 3, 4)",
    ]
    assert [reply["status"] for reply in executed(kernel, cells)] == [
        "ok",
        "ok",
        "ok",
        "ok",
        "error",
        "ok",
        "ok",
    ]


@pytest.mark.slow
def test_run_all_loses_no_cell_where_nesting_is_allowed(kernel: Any) -> None:
    """After `allow_nested`, other people's `asyncio.run` works in queued cells."""
    cells = [
        PROBE + "personalab.allow_nested()",
        "a = asyncio.run(probe(1))",
        "b = asyncio.run(probe(2))",
        "c = personalab.run(probe(3))",
        "assert (a, b, c) == (1, 2, 3)",
    ]
    assert [reply["status"] for reply in executed(kernel, cells)] == ["ok"] * 5
