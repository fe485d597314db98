"""`personalab cache`: what the cache holds, whether it is whole, and less of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from personalab.commands.options import EXIT_FAILED, EXIT_OK, AsJson
from personalab.config import load_settings
from personalab.tables import file_size, print_broken, print_cache, print_cache_json

HELP = "What the cache holds, by model and stage. With --verify or --prune-older-than it does that instead."
EPILOG = (
    "A hit is a stored reply that a run, calendar, file of tweets or chat in outputs took without paying. An entry's "
    "age is since its last use, by its file's time and precise to a day. --verify deletes nothing and ends with 1 if an "
    "entry is broken. Example: personalab cache --prune-older-than 30d"
)


def cache(
    folder: Annotated[Path | None, typer.Argument(help="The cache folder.  [default: outputs/cache]")] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Hash every entry again; name those that are broken.")
    ] = False,
    prune_older_than: Annotated[
        str, typer.Option(help="Delete what was last used so long ago, such as 12h, 30d or 8w.")
    ] = "",
    as_json: AsJson = False,
) -> int:
    """The cache from the command line: the exit code, 1 where an entry is broken."""
    from personalab import cache_folder

    outputs = load_settings().outputs
    place = folder or outputs / "cache"
    if prune_older_than:
        count, size = cache_folder.prune(place, cache_folder.parse_age(prune_older_than))
        print(f"{count} entries deleted, {file_size(size)}")
    if verify:
        return EXIT_FAILED if print_broken(cache_folder.entries(place)) else EXIT_OK
    if not prune_older_than:
        rows = cache_folder.shares(cache_folder.entries(place), cache_folder.hits_in(outputs))
        print_cache_json(rows) if as_json else print_cache(place, rows)
    return EXIT_OK
