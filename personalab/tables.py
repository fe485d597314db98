"""What the terminal shows of a batch: a bar while it runs, a table or JSON when it has ended."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from personalab.views import plain

if TYPE_CHECKING:
    from personalab.pool import PoolCounts
    from personalab.runs import Run, SavedRun


@dataclass(frozen=True)
class Made:
    """A run and where it was saved, or why it could not be."""

    run: Run
    saved: SavedRun | None
    problem: str | None

    @property
    def ok(self) -> bool:
        return self.run.status == "done" and self.problem is None

    @property
    def errors(self) -> list[str]:
        return [*self.run.errors, *([self.problem] if self.problem else [])]

    @property
    def file(self) -> Path | None:
        return (self.saved.portrait or self.saved.card) if self.saved else None


class Progress:
    """A bar on standard error, on a terminal only."""

    def __init__(self, total: int) -> None:
        from rich import progress
        from rich.console import Console

        console = Console(stderr=True)
        self._total = total
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn(), progress.TextColumn("stages"), progress.TimeElapsedColumn(),
            console=console, disable=not console.is_terminal, transient=True,
        )  # fmt: skip
        self._task = self._bar.add_task("personas", total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def stage_ended(self, run: Run, record: Any) -> None:
        self._bar.advance(self._task)

    def run_ended(self, number: int) -> None:
        self._bar.update(self._task, description=f"personas: {number} saved")


def print_table(made: list[Made], counts: PoolCounts) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    table = Table(box=box.SIMPLE, title="personas", title_justify="left")
    for name in ("from", "persona", "status"):
        table.add_column(name, overflow="fold")
    for name in ("calls", "cached", "tokens in", "tokens out", "seconds"):
        table.add_column(name, justify="right")
    table.add_column("file", overflow="fold")
    for one in made:
        run = one.run
        name = run["core_persona"].name if run.status != "failed" else ""
        cached = sum(bool(record.reply and record.reply.cached) for record in run.stages.values())
        cells = [run.name, name, "invalid" if one.problem else run.status, run.calls, cached, run.paid.input_tokens,
                 run.paid.output_tokens, f"{run.seconds:.2f}", _shown(one.file)]  # fmt: skip
        table.add_row(*(Text(plain(_cell(cell))) for cell in cells))
    console.print(table)
    _print_card_tokens(console, made)
    for one in made:
        for error in one.errors:
            print(plain(f"{one.run.name}: {error}"), file=sys.stderr)
    kept = sum(one.file is not None for one in made)
    tokens = _cell(counts.usage.tokens)
    print(
        f"{kept} of {len(made)} personas · {counts.sent} requests sent, {counts.cached + counts.shared} from the cache · {tokens} tokens paid"
    )
    if len(made) == 1 and made[0].ok:
        print(f"\n{made[0].run}")


def _print_card_tokens(console: Any, made: list[Made]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    counted = {one.run.name: one.run.card_tokens for one in made if one.run.card_tokens}
    if not counted:
        return
    fields = [
        field
        for field in next(iter(counted.values()))
        if any(tokens.get(field) for tokens in counted.values())
    ]
    table = Table(box=box.SIMPLE, title="tokens in the card (estimate)", title_justify="left")
    table.add_column("card", no_wrap=True)
    for field in fields:
        table.add_column(field, justify="right")
    for name, tokens in counted.items():
        table.add_row(Text(plain(name)), *(str(tokens.get(field, 0)) for field in fields))
    console.print(table)


def print_json(made: list[Made], counts: PoolCounts) -> None:
    rows = [
        {
            "from": one.run.source or one.run.brief.description,
            "persona": one.run["core_persona"].name if one.run.status != "failed" else None,
            "status": "invalid" if one.problem else one.run.status,
            "calls": one.run.calls,
            "input_tokens": one.run.paid.input_tokens,
            "output_tokens": one.run.paid.output_tokens,
            "seconds": one.run.seconds,
            "card_tokens": one.run.card_tokens,
            "files": {name: str(path) for name, path in one.saved if path} if one.saved else {},
            "errors": one.errors,
        }
        for one in made
    ]
    print(json.dumps(rows, indent=1))  # ASCII, so that no name can hold what a terminal obeys


def _cell(value: object) -> str:
    return "unknown" if value is None else str(value)


def _shown(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
