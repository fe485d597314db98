"""A known rate: spread evenly, settled afterwards, shared by the board."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from personalab.pace import Owed, Pace


class Asked:
    """A pace, what is owed by it, and a time that is set by hand."""

    def __init__(self, requests: int | None, tokens: int | None) -> None:
        self.pace, self.owed, self.now = Pace(requests, tokens), Owed(), 1_000.0
        self.owed.begin()

    def take(self, tokens: int) -> float:
        """0 and it went, or the seconds to wait."""
        wait = self.pace.wait(self.owed, self.now)
        if wait == 0:
            self.pace.take(self.owed, tokens, self.now)
        return wait

    def taken(self, seconds: float, tokens: int = 0) -> int:
        """How many go in so many seconds, asked again as soon as it is worth it."""
        count, end = 0, self.now + seconds
        while self.now < end:
            wait = self.take(tokens)
            count += wait == 0
            self.now += wait
        return count


def test_requests_go_evenly() -> None:
    """Sixty a minute are one a second, from the first on."""
    asked = Asked(60, None)
    assert asked.take(0) == 0
    assert asked.take(0) == pytest.approx(1, abs=0.12)
    asked.now += 30
    assert asked.taken(60) in (59, 60)  # and no burst for what was not used


def test_tokens_go_evenly_and_are_settled() -> None:
    """The next goes when what the last one took has passed, as it turned out."""
    asked = Asked(None, 6000)
    assert asked.take(500) == 0
    assert asked.take(1) == pytest.approx(5, abs=0.16)
    asked.pace.settle(asked.owed, -300, asked.now)
    assert asked.take(1) == pytest.approx(2, abs=0.16)
    asked.pace.settle(asked.owed, +600, asked.now)
    assert asked.take(1) == pytest.approx(8, abs=0.2)
    asked.now += 8.2
    assert asked.take(60_000_000) == 0
    assert asked.take(1) <= 120  # one request, however large, does not stop all others for long


def test_nothing_given_is_no_limit() -> None:
    """Neither requests nor tokens."""
    asked = Asked(None, None)
    assert [asked.take(1_000_000) for _ in range(100)] == [0.0] * 100


@pytest.mark.skipif(sys.platform == "win32", reason="file locks of this kind are POSIX's")
def test_processes_share_a_pace(tmp_path: Path) -> None:
    """Four at once, each asking as fast as it may, get together what one would."""
    code = (
        "import sys, time; from pathlib import Path; from personalab.board import Board\n"
        "from personalab.limits import Known, Limits, Ticket; from personalab.pace import Pace\n"
        "limits, count = Limits(9, Board(Known, Path(sys.argv[1])), Pace(3000)), 0\n"
        "print(flush=True); end = float(input())\n"
        "while time.monotonic() < end:\n"
        "    found = limits.enter(0)\n"
        "    if isinstance(found, Ticket):\n"
        "        limits.go(found); limits.succeeded(found, 0); count += time.monotonic() < end\n"
        "    else:\n"
        "        time.sleep(min(found, max(0, end - time.monotonic())))\n"
        "print(count)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    pipe = subprocess.PIPE
    four = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(4)]
    for process in four:
        assert process.stdout is not None
        assert process.stdout.readline() == "\n"  # it is there
    end = time.monotonic() + 3
    for process in four:
        assert process.stdin is not None
        process.stdin.write(f"{end}\n")
        process.stdin.flush()
    counts = [int(process.communicate(timeout=60)[0]) for process in four]
    assert sum(counts) <= 3 * 50 + 10
    assert min(counts) > 0
