"""The bar: what it says, where it fits, and that it is quiet where nobody looks."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PORTRAITS
from hypothesis import given
from hypothesis import strategies as st

from personalab.progress import Tally, bar_line, duration
from personalab.records import PoolCounts, Usage


def tally(**fields: object) -> Tally:
    values: dict[str, object] = {
        "what": "personas", "total": 60, "done": 5, "failed": 0, "kept": 0, "in_flight": 4, "share": 5.0,
        "counts": PoolCounts(usage=Usage(input_tokens=1000, output_tokens=234)), "seconds": 10.0,
    }  # fmt: skip
    return Tally(**(values | fields))  # type: ignore[arg-type]


def test_what_it_says() -> None:
    """Done, kept, failed, in flight, time left, tokens, cost, 429s, time so far."""
    counts = PoolCounts(rate_limited=17, usage=Usage(input_tokens=1000, output_tokens=234), cost=0.5)
    said = str(tally(kept=2, failed=1, counts=counts))
    assert (
        said
        == "5 of 60 personas · 2 kept · 1 failed · 4 in flight · 1:46 min left · 1,234 tokens · $0.50 · 17 × 429 · 10 s"
    )


def test_of_a_batch_that_was_stopped() -> None:
    """It goes no further, so nothing is said of what is in flight and how long still."""
    assert str(tally().stopped()) == "5 of 60 personas · 1,234 tokens · 10 s"


def test_what_nobody_knows_is_not_said() -> None:
    """No total, no time left; unknown tokens are unknown, an unknown price is left out."""
    counts = PoolCounts(usage=Usage(input_tokens=None, output_tokens=1), cost=None)
    assert str(tally(total=None, counts=counts)) == "5 personas · 4 in flight · unknown tokens · 10 s"


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (59.4, "59 s"), (125, "2:05 min"), (3720, "1:02:00 h")]
)
def test_durations(seconds: float, said: str) -> None:
    """For reading."""
    assert duration(seconds) == said


@given(st.integers(1, 200), st.integers(0, 10**6), st.floats(1, 60))
def test_it_fits(width: int, tokens: int, share: float) -> None:
    """Whatever the width, the line is no longer, and the words come before the bar."""
    line = bar_line(tally(share=share, counts=PoolCounts(usage=Usage(input_tokens=tokens))), width)
    assert len(line) <= width
    if width >= 100:
        assert line[0] in "━╌"


@pytest.mark.slow
def test_on_a_terminal_and_elsewhere(tmp_path: Path) -> None:
    """A bar where somebody looks, gone when it is done; where nobody does, not a sign of it."""
    command = [
        sys.executable,
        "-m",
        "personalab",
        "persona",
        str(PORTRAITS),
        "--out",
        str(tmp_path / "out"),
        "--force",
    ]
    quiet = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    assert quiet.stderr.count("\n") == 1
    mine, theirs = pty.openpty()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=theirs, env=os.environ | {"TERM": "xterm"}
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(mine, 4096):
            shown += part
    except OSError:  # the terminal is closed when the process ends
        pass
    assert process.wait(100) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert "of 10 personas" in text
    assert "tokens" in text
