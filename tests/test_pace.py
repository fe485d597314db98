"""A known rate: spread evenly, shared by file, settled afterwards."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from personalab.pace import Pace


class Clock:
    """A time that is set by hand."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def taken(pace: Pace, clock: Clock, seconds: float, tokens: int = 0) -> int:
    """How many go in so many seconds, asked again as soon as it is worth it."""
    count, end = 0, clock.now + seconds
    while clock.now < end:
        wait = pace.take(tokens)
        count += wait == 0
        clock.now += wait
    return count


def test_requests_go_evenly() -> None:
    """Sixty a minute are one a second, from the first on."""
    clock = Clock()
    pace = Pace(60, None, clock=clock)
    assert pace.take(0) == 0
    assert pace.take(0) == pytest.approx(1, abs=0.12)
    clock.now += 30
    assert taken(pace, clock, 60) in (59, 60)  # and no burst for what was not used


def test_tokens_go_evenly_and_are_settled() -> None:
    """The next goes when what the last one took has passed, as it turned out."""
    clock = Clock()
    pace = Pace(None, 6000, clock=clock)
    assert pace.take(500) == 0
    assert pace.take(1) == pytest.approx(5, abs=0.16)
    pace.settle(-300)
    assert pace.take(1) == pytest.approx(2, abs=0.16)
    pace.settle(+600)
    assert pace.take(1) == pytest.approx(8, abs=0.2)
    clock.now += 8.2
    assert pace.take(60_000_000) == 0
    assert pace.take(1) <= 120  # one request, however large, does not stop all others for long


def test_processes_share_a_pace(tmp_path: Path) -> None:
    """Four at once, each asking as fast as it may, get together what one would."""
    end = time.time() + 3
    code = (
        "import sys, time; from pathlib import Path; from personalab.pace import Pace\n"
        "pace, count, end = Pace(3000, None, Path(sys.argv[1])), 0, float(sys.argv[2])\n"
        "while time.time() < end:\n"
        "    wait = pace.take(0)\n"
        "    count += wait == 0 and time.time() < end\n"
        "    time.sleep(min(wait, max(0, end - time.time())))\n"
        "print(count)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "pace"), str(end)]
    four = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    counts = [int(process.communicate(timeout=60)[0]) for process in four]
    assert sum(counts) <= 3 * 50 + 10
    assert min(counts) > 0


@pytest.mark.parametrize("content", [b"", b"half", b"\xff" * 16])
def test_a_damaged_file_owes_nothing(tmp_path: Path, content: bytes) -> None:
    """Its writer died, or somebody else wrote it."""
    (tmp_path / "pace").write_bytes(content)
    pace = Pace(60, None, tmp_path / "pace")
    assert pace.take(0) == 0
    assert pace.take(0) > 0


def test_a_clock_that_was_set_back(tmp_path: Path) -> None:
    """What is owed by a time that cannot be is not owed."""
    clock = Clock()
    Pace(60, None, tmp_path / "pace", clock).take(0)
    clock.now -= 3600
    pace = Pace(60, None, tmp_path / "pace", clock)
    assert pace.take(0) == 0
    assert 0 < pace.take(0) < 1.1
