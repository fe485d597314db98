"""What the terminal shows when a batch has ended: a table, or JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personalab.progress import duration
from personalab.views import plain

if TYPE_CHECKING:
    from personalab.batch_rows import Row
    from personalab.budgets import Ceilings
    from personalab.cache_folder import Entry, Share
    from personalab.jobs import Job
    from personalab.records import PoolCounts

ROWS_SHOWN = 40


def print_personas(
    rows: Collection[Row], counts: PoolCounts, seconds: float, remaining: Ceilings | None = None
) -> None:
    """A table of a batch in the order of its images, what its cards weigh, errors on standard error, a summary.

    Of a long batch only the rows that failed or have a note are shown; a single persona is shown itself.
    """
    shown = list(rows) if len(rows) <= ROWS_SHOWN else [row for row in rows if row.error or row.note]
    if shown:
        print_table(
            "personas" if len(shown) == len(rows) else f"personas: {len(shown)} of {len(rows)}",
            ["from", "persona", "status"],
            ["calls", "tokens in", "tokens out", "seconds"],
            [
                [_named(row), row.persona or "", _state(row), row.calls, row.input_tokens,
                 row.output_tokens, f"{row.seconds:.2f}", shorter(row.file)]
                for row in shown
            ],
        )  # fmt: skip
    _print_card_tokens(shown)
    for row in rows:
        if row.note:
            print(plain(f"{_named(row)}: {row.note}"), file=sys.stderr)
        if row.error and row.state != "duplicate":
            print(plain(f"{_named(row)}: {row.error}"), file=sys.stderr)
    kept = sum(row.state == "kept" for row in rows)
    whole = sum(row.status in ("done", "partial") for row in rows)
    print_summary(
        f"{whole} of {len(rows)} personas" + (f", {kept} kept from before" if kept else ""),
        counts,
        seconds,
        remaining,
    )
    if len(rows) == 1 and (row := next(iter(rows))).status == "done":
        from personalab.runs import load_run

        print(f"\n{load_run(_files(row)['run'])}")


def print_summary(made: str, counts: PoolCounts, seconds: float, remaining: Ceilings | None = None) -> None:
    """One line: what was made, what was sent and paid, what the budget leaves, how long it took."""
    parts = [
        made,
        f"{counts.sent} requests sent, {counts.cached + counts.shared} from the cache",
        f"{_cell(counts.usage.tokens)} tokens paid",
    ]
    parts += [f"${counts.cost:.4f}"] if counts.cost else []
    parts += [f"{counts.rate_limited} times told to wait"] if counts.rate_limited else []
    parts += [f"{remaining} left"] if remaining else []
    print(" · ".join([*parts, duration(seconds)]))


def print_persona_json(rows: Iterable[Row]) -> None:
    """The rows as one JSON list, with the tokens of each card by field."""
    listed = []
    for row in rows:
        stored = _stored(row)
        listed.append(
            {
                "from": row.image,
                "persona": row.persona,
                "state": row.state,
                "status": row.status,
                "calls": row.calls,
                "input_tokens": row.input_tokens,
                "output_tokens": row.output_tokens,
                "cost": row.cost,
                "seconds": row.seconds,
                "card_tokens": stored.get("card_tokens", {}),
                "files": _files(row),
                "note": row.note,
                "errors": [row.error] if row.error else [],
            }
        )
    print(json.dumps(listed, indent=1))  # ASCII, so that no name can hold what a terminal obeys


def print_job(job: Job, what: str, remaining: Ceilings | None = None) -> None:
    """A table of calendars or tweets, a row a persona; errors on standard error; a summary. `what` is counted."""
    shown = job.rows if len(job.rows) <= ROWS_SHOWN else [row for row in job.rows if row.error or row.note]
    if shown:
        print_table(
            job.kind,
            ["persona", "month", "status"],
            [what, "missing"],
            [
                [row.persona, row.month, {"made": "done"}.get(row.state, row.state), row.made, row.missing,
                 shorter(row.file)]
                for row in shown
            ],
        )  # fmt: skip
    for row in job.rows:
        for told in filter(None, (row.note, row.error)):
            print(plain(f"{row.persona}: {told}"), file=sys.stderr)
    whole = sum(row.state != "failed" for row in job.rows)
    made = sum(row.made for row in job.rows)
    print_summary(
        f"{made} {what} for {whole} of {len(job.rows)} personas", job.counts, job.seconds, remaining
    )


def print_cache(folder: Path, rows: Sequence[Share]) -> None:
    """A table of what a cache folder holds, a row per model and stage, and a summary."""
    if rows:
        print_table(
            f"cache {shorter(folder)}",
            ["model", "stage"],
            ["entries", "size", "hits"],
            [
                [row.model, row.stage, row.entries, file_size(row.size), row.hits, f"{date.fromtimestamp(row.used)}"]
                for row in rows
            ],
            last="last used",
        )  # fmt: skip
    entries, size = sum(row.entries for row in rows), sum(row.size for row in rows)
    print(f"{entries} entries, {file_size(size)}, {sum(row.hits for row in rows)} hits in results")


def print_cache_json(rows: Sequence[Share]) -> None:
    """The rows as one JSON list; sizes in bytes, last use in seconds since 1970."""
    print(json.dumps([row.model_dump() for row in rows], indent=1))


def print_broken(found: Iterable[Entry]) -> int:
    """Name the broken entries on standard error, sum up; gives their number."""
    count, broken, unsealed = 0, 0, 0
    for entry in found:
        count, unsealed = count + 1, unsealed + (entry.problem is None and not entry.sealed)
        if entry.problem:
            broken += 1
            print(plain(f"{shorter(entry.path)}: {entry.problem}"), file=sys.stderr)
    older = f", {unsealed} stored without a hash of the reply" if unsealed else ""
    print(f"{count} entries checked, {broken} broken{older}")
    return broken


def file_size(size: int) -> str:
    """Bytes for reading: 950 kB, 12.3 MB."""
    return f"{size / 1000:,.0f} kB" if size < 1_000_000 else f"{size / 1_000_000:,.1f} MB"


def print_table(
    title: str, words: list[str], numbers: list[str], rows: Iterable[Sequence[object]], last: str = "file"
) -> None:
    """A table with a file at the end of each row: columns of words, then of numbers."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, title=title, title_justify="left")
    for name in words:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right")
    table.add_column(last, overflow="fold")
    for row in rows:
        table.add_row(*(Text(plain(_cell(cell))) for cell in row))
    _console().print(table)


def _console() -> Any:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 160, highlight=False)


def _print_card_tokens(rows: Iterable[Row]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    # By the file's name: two images in different folders may have one name.
    counted = {_stem(row): tokens for row in rows if (tokens := _stored(row).get("card_tokens"))}
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
    _console().print(table)


def _stored(row: Row) -> dict[str, Any]:
    """What the row's run file says; read again, as a batch of thousands keeps only its rows."""
    run = _files(row).get("run")
    found: dict[str, Any] = json.loads(Path(run).read_bytes()) if run else {}
    return found


def _files(row: Row) -> dict[str, str]:
    if row.file is None:
        return {}
    file, stem = Path(row.file), _stem(row)
    names = {"run": f"{stem}_run.json", "card": f"{stem}_persona.json", "portrait": f"{stem}_persona.png"}
    paths = {kind: file.with_name(name) for kind, name in names.items()}
    if file.name.endswith("_run.json"):
        return {"run": str(file)}
    return {kind: str(path) for kind, path in paths.items() if path.is_file()}


def _stem(row: Row) -> str:
    """What the names of a persona's files begin with."""
    return Path(row.file or "").name.rsplit("_", 1)[0]


def _named(row: Row) -> str:
    """The run's name, in one line; a duplicate has the name of its own file."""
    name = Path(row.image).name if row.state == "duplicate" or not row.run else row.run
    return " ".join(name.split())


def _state(row: Row) -> str:
    return row.status if row.state in ("made", "failed") else row.state


def _cell(value: object) -> str:
    return "unknown" if value is None else str(value)


def shorter(path: object) -> str:
    """A path as it is read from here; a URL as it is."""
    if path is None:
        return ""
    if isinstance(path, str) and "://" in path:
        return path
    try:
        return str(Path(str(path)).absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
