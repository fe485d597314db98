"""A sweep while it runs: a table in the terminal, a bar in a notebook, nothing where nobody looks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from personalab.progress import Tally, bar_line, in_notebook, notebook_bar
from personalab.records import PoolCounts
from personalab.views import plain

_ROWS_MOST = 12


@dataclass(frozen=True, slots=True)
class Line:
    """A trial that runs or has failed. `counts` is None where it is not known."""

    trial: str
    status: str
    seconds: float
    counts: PoolCounts | None
    error: str = ""


Draw = Callable[[Sequence[Line], Tally], None]


@contextmanager
def board(wanted: bool = True) -> Iterator[Draw]:
    """Draws a moment of a sweep: what runs, what failed, and how far all of it is."""
    if wanted and in_notebook():
        draw, _ = notebook_bar()
        yield lambda lines, tally: draw(tally)
    elif wanted and sys.stderr.isatty():
        from rich.console import Console
        from rich.live import Live

        with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:
            yield lambda lines, tally: live.update(_table(lines, tally, live.console.width), refresh=True)
    else:
        yield lambda lines, tally: None


def cells(counts: PoolCounts | None) -> list[str]:
    """Calls, tokens and cost as they are read; what is not known says so."""
    if counts is None:
        return ["unknown"] * 3
    tokens = counts.usage.tokens
    cost = "unknown" if counts.cost is None else f"${counts.cost:.4f}" if counts.cost else "0"
    return [f"{counts.sent:,}", "unknown" if tokens is None else f"{tokens:,}", cost]


def _table(lines: Sequence[Line], tally: Tally, width: int) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    # Failures first: they stay, and what runs is always there below them.
    shown = sorted(lines, key=lambda line: line.status == "running")[-_ROWS_MOST:]
    table = Table(
        box=box.SIMPLE, caption=bar_line(tally, width - 1), caption_justify="left", caption_style=""
    )
    table.add_column("trial", overflow="ellipsis", no_wrap=True, ratio=1)
    table.add_column("status", overflow="ellipsis", no_wrap=True, max_width=max(10, width // 3))
    for name in ("seconds", "calls", "tokens", "cost"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in shown:
        status = f"{line.status}: {line.error}" if line.error else line.status
        words = [line.trial, status, f"{line.seconds:.1f}", *cells(line.counts)]
        table.add_row(*(Text(plain(word).replace("\n", " ")) for word in words))
    return table
