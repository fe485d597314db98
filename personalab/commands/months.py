"""`personalab calendar` and `personalab tweets`: a month of a persona, and what it writes on its days."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personalab.commands.options import (
    EXIT_FAILED,
    EXIT_OK,
    Budget,
    Concurrent,
    Force,
    InBatches,
    Instructions,
    Model,
    Personas,
    pool_of,
    varied,
)
from personalab.errors import ConfigError
from personalab.tables import print_job

if TYPE_CHECKING:
    from personalab.jobs import Job
    from personalab.planner import Planner

CALENDAR_HELP = "Plan a month for each persona: a slot for every day. Slots that are there already stay."
CALENDAR_EPILOG = (
    "Prompts: calendar_outline (one for the month), calendar_days (one for about a week each). "
    "Example: personalab calendar outputs/personas --month 2026-12 --holidays DE"
)
TWEETS_HELP = "Write a tweet for each slot of the personas' calendars."
TWEETS_EPILOG = (
    "Without --calendar each persona's own calendar in outputs/calendars is taken, by its identity. "
    "Example: personalab tweets outputs/personas/silver_bun_persona.json --month 2026-12 --count 7"
)


def calendar(
    personas: Personas,
    month: Annotated[str, typer.Option(help="The month, such as 2026-12.", show_default=False)],
    holidays: Annotated[
        str, typer.Option(help="Country whose public holidays count, by two letters such as DE.")
    ] = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="Plan every day anew, also those edited by hand.")
    ] = False,
    instructions: Instructions = "",
    model: Model = None,
    temperature: Annotated[
        list[str] | None, typer.Option(help="prompt=value, such as calendar_days=1.1. May be repeated.")
    ] = None,
    prompt: Annotated[
        list[str] | None, typer.Option(help="prompt=file: another prompt template. May be repeated.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the calendars.  [default: outputs/calendars]")
    ] = None,
    max_concurrent: Concurrent = None,
    budget: Budget = None,
    batch: InBatches = False,
    force: Force = False,
) -> int:
    """Calendars from the command line: the exit code, 1 where one failed."""
    from personalab.jobs import find_cards, plan_calendars
    from personalab.planner import Planner

    pool = pool_of(model, max_concurrent, budget, force=force, batch=batch or None)
    planner = Planner(pool, instructions=instructions, country=holidays)
    planner = varied(planner, temperatures=temperature, prompts=prompt)
    folder = out or pool.outputs / "calendars"
    job = asyncio.run(plan_calendars(planner, find_cards(personas), month, folder, replace=replace))
    return _printed(job, "slots", planner)


def tweets(
    personas: Personas,
    calendar: Annotated[
        list[Path] | None,
        typer.Option(help="Calendar file; it goes to the persona it was planned for. May be repeated."),
    ] = None,
    month: Annotated[str, typer.Option(help="Take the calendars of this month, such as 2026-12.")] = "",
    count: Annotated[
        int | None, typer.Option(help="Only the first so many slots of each calendar.", show_default=False)
    ] = None,
    instructions: Instructions = "",
    model: Model = None,
    temperature: Annotated[float | None, typer.Option(help="Temperature.  [default: 0.9]")] = None,
    prompt: Annotated[Path | None, typer.Option(help="Another prompt template.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the files of tweets.  [default: outputs/tweets]")
    ] = None,
    max_concurrent: Concurrent = None,
    budget: Budget = None,
    batch: InBatches = False,
    force: Force = False,
) -> int:
    """Tweets from the command line: the exit code, 1 where a file of them failed."""
    from personalab.jobs import calendars_of, find_cards, write_tweets
    from personalab.planner import Planner

    pool = pool_of(model, max_concurrent, budget, force=force, batch=batch or None)
    planner = varied(
        Planner(pool, instructions=instructions),
        temperatures=None if temperature is None else [f"tweet={temperature}"],
        prompts=None if prompt is None else [f"tweet={prompt}"],
    )
    cards = find_cards(personas)
    if calendar and month:
        raise ConfigError("give --calendar or --month, and not both: a calendar is of one month")
    files = calendar or calendars_of(cards, pool.outputs / "calendars", month)
    job = asyncio.run(write_tweets(planner, cards, files, out or pool.outputs / "tweets", count=count))
    return _printed(job, "tweets", planner)


def _printed(job: Job, what: str, planner: Planner) -> int:
    print_job(job, what, planner.pool.remaining)
    return EXIT_OK if all(row.state != "failed" for row in job.rows) else EXIT_FAILED
