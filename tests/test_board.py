"""The page that processes share: one changes it at a time, the dead hold nothing, and what is old or half done is forgotten."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest

from personalab import board as boards
from personalab.board import Board, laid_out

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="file locks of this kind are POSIX's")


@laid_out
class Tally(ctypes.Structure):
    """How often each seat counted."""

    learnt: int
    counts: Annotated[list[float], boards.SEATS]

    def begin(self) -> None:
        self.learnt = 7

    def clear(self, seat: int) -> None:
        self.counts[seat] = 0


class Clock:
    """A time that is set by hand."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_what_one_writes_all_read(tmp_path: Path) -> None:
    """Each has a seat of its own; one that is given back is the next one's, and empty."""
    first, second = Board(Tally, tmp_path), Board(Tally, tmp_path)
    assert (first.seat, second.seat, first.page.learnt) == (0, 1, 7)
    with first:
        first.page.counts[0] = 3
    assert second.page.counts[0] == 3
    first.close()
    assert second.page.counts[0] == 0
    assert Board(Tally, tmp_path).seat == 0


def test_memory_of_ones_own(tmp_path: Path) -> None:
    """Without a folder nothing is shared, and no file written."""
    first, second = Board(Tally), Board(Tally)
    with first:
        first.page.learnt = 1
    assert (first.shared, second.page.learnt) == (False, 7)


# Arguments: folder, and what to do before dying inside of a change or outside.
PROCESS = """
import os, signal, sys
sys.path.insert(0, sys.argv[3])
from pathlib import Path
from test_board import Board, Tally

board = Board(Tally, Path(sys.argv[1]))
for _ in range(10_000 if sys.argv[2] == "count" else 1):
    with board:
        board.page.learnt += 1
        board.page.counts[board.seat] += 1
        if sys.argv[2] == "inside":
            os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "outside":
    os.kill(os.getpid(), signal.SIGKILL)
"""


def start(folder: Path, what: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", PROCESS, str(folder), what, str(Path(__file__).parent)]
    return subprocess.Popen(command)


def test_one_at_a_time_changes_it(tmp_path: Path) -> None:
    """Four processes count to ten thousand each at once, and not one is lost."""
    mine = Board(Tally, tmp_path)
    four = [start(tmp_path, "count") for _ in range(4)]
    assert [process.wait(60) for process in four] == [0] * 4
    assert mine.page.learnt == 7 + 40_000


def test_the_dead_hold_nothing(tmp_path: Path) -> None:
    """What stood at a killed process's seat is cleared by whoever looks, and what it learnt stays."""
    mine = Board(Tally, tmp_path)
    assert start(tmp_path, "outside").wait(60) == -signal.SIGKILL
    assert (mine.page.counts[1], mine.page.learnt) == (1, 8)
    with mine as now:
        mine.look(now, every=0.1)
    assert (mine.page.counts[1], mine.page.learnt) == (0, 8)


def test_a_change_that_was_left_half_done(tmp_path: Path) -> None:
    """Killed while it changed the page: nobody waits for it, and nothing of what was learnt is believed."""
    mine = Board(Tally, tmp_path)
    with mine:
        mine.page.learnt = 100
    assert start(tmp_path, "inside").wait(60) == -signal.SIGKILL
    with mine:
        assert mine.page.learnt == 7


def test_the_living_are_left_alone(tmp_path: Path) -> None:
    """Looking for the dead clears no seat of anybody who is there."""
    first, second = Board(Tally, tmp_path), Board(Tally, tmp_path)
    with second as now:
        second.page.counts[1] = 5
    with first as now:
        first.look(now, every=0.0)
    assert second.page.counts[1] == 5


def test_who_cleared_the_folder_takes_nobodys_seat(tmp_path: Path) -> None:
    """Those who are there go on with the page that they have; whose seat has no file any more is not taken for dead."""
    first, second = Board(Tally, tmp_path), Board(Tally, tmp_path)
    with second:
        second.page.counts[1] = 5
    for remove in (
        lambda: [path.unlink() for path in tmp_path.glob("*/0*")],
        lambda: shutil.rmtree(tmp_path),
    ):
        remove()
        with first as now:
            first.look(now, every=0.0)
        assert second.page.counts[1] == 5


@pytest.mark.parametrize(("later", "learnt"), [(60, 100), (121, 7), (-60, 7)])
def test_what_nobody_uses_is_forgotten(tmp_path: Path, later: float, learnt: int) -> None:
    """After two minutes, or when the clock began anew with the machine; never while somebody is there."""
    clock = Clock()
    first = Board(Tally, tmp_path, clock)
    with first:
        first.page.learnt = 100
    clock.now += later
    beside = Board(Tally, tmp_path, clock)
    assert beside.page.learnt == 100
    clock.now -= later
    with first:
        pass
    first.close()
    beside.close()
    clock.now += later
    assert Board(Tally, tmp_path, clock).page.learnt == learnt


def test_nothing_of_an_old_page_counts(tmp_path: Path) -> None:
    """Also not what stands where nobody should have sat: the disk need not have kept the page as it was at any one time."""
    clock = Clock()
    first = Board(Tally, tmp_path, clock)
    with first:
        first.page.counts[200] = 3
    first.close()
    clock.now = 5
    assert Board(Tally, tmp_path, clock).page.counts[200] == 0


def test_another_form_is_another_page(tmp_path: Path) -> None:
    """A version whose page has other fields does not read this one's, and finds its own seats beside it."""

    @laid_out
    class Wider(ctypes.Structure):
        learnt: float
        counts: Annotated[list[float], boards.SEATS]
        begin, clear = Tally.begin, Tally.clear

    held = [Board(Tally, tmp_path), Board(Tally, tmp_path)]
    assert [board.seat for board in held] == [0, 1]
    assert Board(Wider, tmp_path).seat == 0
    assert len(list(tmp_path.glob("*/page"))) == 2


def test_all_seats_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever finds none is told so, and the others go on."""
    monkeypatch.setattr(boards, "SEATS", 2)
    held = [Board(Tally, tmp_path), Board(Tally, tmp_path)]
    with pytest.raises(OSError, match="all 2 seats"):
        Board(Tally, tmp_path)
    held.pop().close()
    assert Board(Tally, tmp_path).seat == 1


def test_a_forks_child_has_a_seat_of_its_own(tmp_path: Path) -> None:
    """Its parent's stays locked when the child ends."""
    mine = Board(Tally, tmp_path)
    child = os.fork()
    if not child:
        mine.begin_again()
        os._exit(mine.seat)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert Board(Tally, tmp_path).seat == 1


def test_a_forks_child_takes_nothing_from_memory_of_its_parents() -> None:
    """A page that nobody shares is two pages from the fork on."""
    mine = Board(Tally)
    with mine:
        mine.page.counts[0] = 3
    child = os.fork()
    if not child:
        mine.begin_again()
        os._exit(int(mine.page.counts[0]))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert mine.page.counts[0] == 3


def test_a_forks_child_without_a_seat_goes_on_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so, and takes neither its parent's seat nor what its parent has in flight."""
    mine = Board(Tally, tmp_path)
    with mine:
        mine.page.counts[0] = 3
    monkeypatch.setattr(boards, "SEATS", 1)
    child = os.fork()
    if not child:
        alone = False
        try:
            with pytest.warns(boards.NotShared, match="all 1 seats"):
                mine.begin_again()
            alone = not mine.shared and mine.page.counts[0] == 0
            mine.close()
        finally:
            os._exit(0 if alone else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert mine.page.counts[0] == 3
