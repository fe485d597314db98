"""How far a batch is: a bar in the terminal or in the notebook, nothing elsewhere.

The notebook's bar is plain HTML that is updated in place, no widget: it needs no extension and stays in the executed,
exported and untrusted notebook as the batch's summary.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from html import escape
from typing import Any

from personalab.records import PoolCounts

_TICK_SECONDS = 0.25
_BAR_CELLS, _BAR_CELLS_LEAST = 24, 6


@dataclass(frozen=True, slots=True)
class Tally:
    """A moment of a batch. `what` is counted, `total` None where nobody knows; `done` includes `kept`.

    `share` is how much was worked off so far, in items and parts of items: what the time left is reckoned from. `waves` says
    how far the provider's batches are, where requests go in batches: then it is they that take the time.
    """

    what: str
    total: int | None
    done: int
    failed: int
    kept: int
    in_flight: int
    share: float
    counts: PoolCounts
    seconds: float
    waves: str = ""

    @property
    def fraction(self) -> float | None:
        """How much is behind us, 0 to 1; None where the total is not known."""
        if self.total is None:
            return None
        return min(1.0, (self.kept + self.share) / self.total) if self.total else 1.0

    @property
    def seconds_left(self) -> float | None:
        """What is left, at the pace so far; None before there is one."""
        if self.total is None or self.share <= 0 or self.waves:
            return None
        return self.seconds / self.share * max(0.0, self.total - self.kept - self.share)

    def stopped(self) -> Tally:
        """The same of a batch that goes no further: nothing is in flight, and no time is left."""
        return replace(self, in_flight=0, share=0.0, waves="")

    def __str__(self) -> str:
        """One line: how far, what it costs, how long still."""
        of = "" if self.total is None else f" of {self.total}"
        parts = [f"{self.done}{of} {self.what}"]
        parts += [f"{self.kept} kept"] if self.kept else []
        parts += [f"{self.failed} failed"] if self.failed else []
        parts += [self.waves] if self.waves else [f"{self.in_flight} in flight"] if self.in_flight else []
        left = self.seconds_left
        parts += [f"{duration(left)} left"] if left else []
        parts.append(
            f"{'unknown' if self.counts.usage.tokens is None else f'{self.counts.usage.tokens:,}'} tokens"
        )
        parts += [f"${self.counts.cost:.2f}"] if self.counts.cost else []
        parts += [f"{self.counts.rate_limited} × 429"] if self.counts.rate_limited else []
        parts.append(duration(self.seconds))
        return " · ".join(parts)


def duration(seconds: float) -> str:
    """Seconds for reading: 9 s, 2:05 min, 1:02:00 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d} h"


@asynccontextmanager
async def watch(tally: Callable[[], Tally], wanted: bool = True) -> AsyncIterator[None]:
    """Show a batch while it runs, if somebody is looking: in a notebook, or on a terminal."""
    show = (
        notebook_bar()
        if wanted and in_notebook()
        else _terminal()
        if wanted and sys.stderr.isatty()
        else None
    )
    if show is None:
        yield
        return
    draw, end = show

    async def tick() -> None:
        while True:
            draw(tally())
            await asyncio.sleep(_TICK_SECONDS)

    ticking = asyncio.create_task(tick())
    try:
        yield
    finally:
        ticking.cancel()
        with suppress(asyncio.CancelledError):
            await ticking
        end(tally())


Show = tuple[Callable[[Tally], None], Callable[[Tally], None]]
"""Draws a moment; draws the last one and leaves."""


def _terminal() -> Show:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
    live.start()

    def draw(tally: Tally) -> None:
        # One column stays free: a full line wraps when a terminal echoes a key.
        live.update(Text(bar_line(tally, live.console.width - 1), no_wrap=True), refresh=True)

    return draw, lambda tally: live.stop()


def bar_line(tally: Tally, width: int) -> str:
    """The bar in front of the words, as long as there is room for it."""
    words = str(tally)
    if len(words) > width:
        return words[: width - 1] + "…"
    cells = min(_BAR_CELLS, width - len(words) - 1)
    if tally.fraction is None or cells < _BAR_CELLS_LEAST:
        return words
    full = round(tally.fraction * cells)
    return f"{'━' * full}{'╌' * (cells - full)} {words}"


def notebook_bar() -> Show:
    """A bar in the cell that runs, updated in place."""
    from IPython import display as ipython

    display: Any = ipython  # it comes without types
    handle = display.display(display.HTML(""), display_id=True)

    def draw(tally: Tally) -> None:
        handle.update(display.HTML(_html(tally)))

    return draw, draw


def _html(tally: Tally) -> str:
    value = "" if tally.fraction is None else f' value="{tally.fraction:.4f}"'
    return (
        f'<div style="display:flex;gap:12px;align-items:center"><progress style="width:220px"{value}></progress>'
        f"<span>{escape(str(tally))}</span></div>"
    )


def in_notebook() -> bool:
    """Whether a kernel runs this; nothing is imported that is not loaded already."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and getattr(shell, "kernel", None) is not None
