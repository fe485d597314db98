"""The `personalab` command: a thin mirror of the package."""

from __future__ import annotations

import asyncio
import io
import sys
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.exceptions import TyperException

from personalab import __version__, sweep_command
from personalab.config import MAX_CONCURRENT, load_settings
from personalab.errors import (
    AccessRefused,
    BudgetExhausted,
    ConfigError,
    PersonalabError,
    PriceUnknown,
    PromptError,
)
from personalab.tables import (
    file_size,
    print_broken,
    print_cache,
    print_cache_json,
    print_job,
    print_persona_json,
    print_personas,
)
from personalab.views import plain

if TYPE_CHECKING:
    from personalab.batch_rows import Row
    from personalab.batches import Batch
    from personalab.jobs import Job
    from personalab.pipeline import Pipeline
    from personalab.planner import Planner

_OFFLINE = "no key and no base URL set: the embedded provider answers (not a language model)"
EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_REFUSED, EXIT_BUDGET, EXIT_INTERRUPTED = 0, 1, 2, 3, 4, 130

app = typer.Typer(
    name="personalab",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="An image becomes a persona, saved as a character card. With no key and no base URL set, the embedded "
    "provider answers: plausible text, but no language model.",
    epilog="Settings: OPENAI_API_KEY, OPENAI_BASE_URL, PERSONALAB_MODEL, MAX_CONCURRENT, PERSONALAB_OUTPUTS, also from "
    "a .env file; arguments win. Exit codes: 0 all done, 1 something failed, 2 wrong use or settings, 3 refused by the "
    "provider (key, model, quota), 4 the budget is used up, 130 interrupted.",
)


def main() -> int:
    """Run the command line; every error is one line on standard error."""
    warnings.showwarning = _show_warning
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a letter is no reason to fail
    try:
        code: int = typer.main.get_command(app).main(standalone_mode=False) or EXIT_OK
    except (ConfigError, PromptError, PriceUnknown) as error:
        return _told(str(error), EXIT_USAGE)
    except AccessRefused as error:
        return _told(str(error), EXIT_REFUSED)
    except BudgetExhausted as error:
        return _told(str(error), EXIT_BUDGET)
    except PersonalabError as error:
        return _told(str(error), EXIT_FAILED)
    except TyperException as error:
        return _told(error.format_message(), EXIT_USAGE)
    except ModuleNotFoundError as error:
        return _told(f"this needs {error.name}: pip install 'personalab[notebook]'", EXIT_USAGE)
    if code == EXIT_INTERRUPTED:
        return _told("interrupted: what is done is kept, and the same command goes on from there", code)
    return code


PERSONAS = Annotated[
    list[Path],
    typer.Argument(help="Cards of personas (JSON or PNG), folders of them, or globs.", show_default=False),
]
MODEL = Annotated[str | None, typer.Option(help="Model.  [env: PERSONALAB_MODEL]")]
CONCURRENT = Annotated[
    int | None, typer.Option(help=f"Requests at once.  [env: MAX_CONCURRENT; default: {MAX_CONCURRENT}]")
]
WISHES = Annotated[str, typer.Option(help="Your own instructions, added to every prompt.")]
FORCE = Annotated[bool, typer.Option("--force", help="Ask again also what the cache has.")]
BUDGET = Annotated[
    list[str] | None,
    typer.Option(help="Stop before more is spent: 5usd, 1000requests or 200000tokens. May be repeated."),
]


@app.command(
    help="Make a persona from each image, or one from a description.",
    epilog="Stages: core_persona, tweet_strategy, example_tweets, social_network, authenticity, visual_profile, "
    "character_book. Example: personalab persona face.png --temperature social_network=1.1 --language 中文",
)
def persona(
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Images (PNG, JPEG, WebP, GIF, BMP, TIFF), folders of images, or globs.", show_default=False
        ),
    ] = None,
    description: Annotated[str, typer.Option(help="Start from this text instead of an image.")] = "",
    language: Annotated[
        str, typer.Option(help="Language the persona is written in, such as English or 中文.")
    ] = "English",
    location: Annotated[str, typer.Option(help="Where the persona lives.")] = "",
    instructions: Annotated[
        str, typer.Option(help="Your own instructions, added to every stage's prompt.")
    ] = "",
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Model for all stages, or stage=model for one. May be repeated. [env: PERSONALAB_MODEL]"
        ),
    ] = None,
    temperature: Annotated[
        list[str] | None, typer.Option(help="stage=value, such as social_network=1.1. May be repeated.")
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(help="stage=file: another prompt template for a stage. May be repeated."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the personas.  [default: outputs/personas]")
    ] = None,
    max_concurrent: CONCURRENT = None,
    budget: BUDGET = None,
    force: Annotated[
        bool, typer.Option("--force", help="Start over: ask everything again, also what the cache has.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Take only images whose persona failed or lacks a part.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON list instead of the table.")
    ] = False,
) -> int:
    from personalab.budgets import parse_budget
    from personalab.pipeline import Pipeline
    from personalab.pool import LLMPool

    if bool(images) == bool(description):
        raise ConfigError("give one or more images, or --description, and not both")
    models = [value for value in model or [] if "=" not in value]
    pool = LLMPool(
        model=models[-1] if models else None,
        max_concurrent=max_concurrent,
        cache="refresh" if force else "use",
        budget=parse_budget(budget or []),
    )
    pipeline = Pipeline(pool, language=language, location=location, instructions=instructions)
    for stage, value in _pairs([value for value in model or [] if "=" in value], "--model"):
        pipeline = pipeline.vary(stage, model=value)
    for stage, value in _pairs(temperature, "--temperature"):
        pipeline = pipeline.vary(stage, temperature=_number(value, "--temperature"))
    for stage, value in _pairs(prompt, "--prompt"):
        pipeline = pipeline.vary(stage, prompt=Path(value))
    folder = out or load_settings().outputs / "personas"
    if pool.offline:
        _note(_OFFLINE)
    if description:
        rows: Collection[Row] = [asyncio.run(_from_description(pipeline, description, folder))]
        counts, seconds = pool.counts, next(iter(rows)).seconds
    else:
        batch = pipeline.run_many(images or [], out=folder, force=force, retry_failed=retry_failed)
        asyncio.run(_all_of(batch))
        rows, counts, seconds = batch.rows, batch.counts, batch.seconds
    if as_json:
        print_persona_json(rows)
    else:
        print_personas(rows, counts, seconds, pool.remaining)
    return (
        EXIT_OK if all(row.state != "failed" and row.status in ("done", "") for row in rows) else EXIT_FAILED
    )


@app.command(
    help="Plan a month for each persona: a slot for every day. Slots that are there already stay.",
    epilog="Prompts: calendar_outline (one for the month), calendar_days (one for about a week each). "
    "Example: personalab calendar outputs/personas --month 2026-12 --holidays DE",
)
def calendar(
    personas: PERSONAS,
    month: Annotated[str, typer.Option(help="The month, such as 2026-12.", show_default=False)],
    holidays: Annotated[
        str, typer.Option(help="Country whose public holidays count, by two letters such as DE.")
    ] = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="Plan every day anew, also those edited by hand.")
    ] = False,
    instructions: WISHES = "",
    model: MODEL = None,
    temperature: Annotated[
        list[str] | None, typer.Option(help="prompt=value, such as calendar_days=1.1. May be repeated.")
    ] = None,
    prompt: Annotated[
        list[str] | None, typer.Option(help="prompt=file: another prompt template. May be repeated.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the calendars.  [default: outputs/calendars]")
    ] = None,
    max_concurrent: CONCURRENT = None,
    budget: BUDGET = None,
    force: FORCE = False,
) -> int:
    from personalab.jobs import find_cards, plan_calendars

    planner = _planner(model, max_concurrent, budget, force, instructions, holidays, temperature, prompt)
    folder = out or planner.pool.outputs / "calendars"
    job = asyncio.run(plan_calendars(planner, find_cards(personas), month, folder, replace=replace))
    return _printed(job, "slots", planner)


@app.command(
    help="Write a tweet for each slot of the personas' calendars.",
    epilog="Without --calendar each persona's own calendar in outputs/calendars is taken, by its identity. "
    "Example: personalab tweets outputs/personas/silver_bun_persona.json --month 2026-12 --count 7",
)
def tweets(
    personas: PERSONAS,
    calendar: Annotated[
        list[Path] | None,
        typer.Option(help="Calendar file; it goes to the persona it was planned for. May be repeated."),
    ] = None,
    month: Annotated[str, typer.Option(help="Take the calendars of this month, such as 2026-12.")] = "",
    count: Annotated[
        int | None, typer.Option(help="Only the first so many slots of each calendar.", show_default=False)
    ] = None,
    instructions: WISHES = "",
    model: MODEL = None,
    temperature: Annotated[float | None, typer.Option(help="Temperature.  [default: 0.9]")] = None,
    prompt: Annotated[Path | None, typer.Option(help="Another prompt template.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the files of tweets.  [default: outputs/tweets]")
    ] = None,
    max_concurrent: CONCURRENT = None,
    budget: BUDGET = None,
    force: FORCE = False,
) -> int:
    from personalab.jobs import calendars_of, find_cards, write_tweets

    temperatures = [] if temperature is None else [f"tweet={temperature}"]
    prompts = [] if prompt is None else [f"tweet={prompt}"]
    planner = _planner(model, max_concurrent, budget, force, instructions, "", temperatures, prompts)
    outputs = planner.pool.outputs
    cards = find_cards(personas)
    if calendar and month:
        raise ConfigError("give --calendar or --month, and not both: a calendar is of one month")
    files = calendar or calendars_of(cards, outputs / "calendars", month)
    job = asyncio.run(write_tweets(planner, cards, files, out or outputs / "tweets", count=count))
    return _printed(job, "tweets", planner)


def _planner(
    model: str | None,
    max_concurrent: int | None,
    budget: list[str] | None,
    force: bool,
    instructions: str,
    country: str,
    temperatures: list[str] | None,
    prompts: list[str] | None,
) -> Planner:
    from personalab.budgets import parse_budget
    from personalab.planner import Planner
    from personalab.pool import LLMPool

    pool = LLMPool(
        model=model,
        max_concurrent=max_concurrent,
        cache="refresh" if force else "use",
        budget=parse_budget(budget or []),
    )
    planner = Planner(pool, instructions=instructions, country=country)
    for name, value in _pairs(temperatures, "--temperature"):
        planner = planner.vary(name, temperature=_number(value, "--temperature"))
    for name, value in _pairs(prompts, "--prompt"):
        planner = planner.vary(name, prompt=Path(value))
    if pool.offline:
        _note(_OFFLINE)
    return planner


def _printed(job: Job, what: str, planner: Planner) -> int:
    print_job(job, what, planner.pool.remaining)
    return EXIT_OK if all(row.state != "failed" for row in job.rows) else EXIT_FAILED


app.command(help=sweep_command.HELP, epilog=sweep_command.EPILOG)(sweep_command.sweep)


@app.command(help="Check character cards of any origin (JSON, PNG).")
def card(
    files: Annotated[list[Path], typer.Argument(help="Card files.")],
) -> int:
    good = [_check_file(file) for file in files]
    return EXIT_OK if all(good) else EXIT_FAILED


@app.command(
    help="What the cache holds, by model and stage. With --verify or --prune-older-than it does that instead.",
    epilog="A hit is a stored reply that a run, calendar or file of tweets in outputs took without paying. An entry's "
    "age is since its last use, by its file's time and precise to a day. --verify deletes nothing and ends with 1 if an "
    "entry is broken. Example: personalab cache --prune-older-than 30d",
)
def cache(
    folder: Annotated[Path | None, typer.Argument(help="The cache folder.  [default: outputs/cache]")] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Hash every entry again; name those that are broken.")
    ] = False,
    prune_older_than: Annotated[
        str, typer.Option(help="Delete what was last used so long ago, such as 12h, 30d or 8w.")
    ] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON list instead of the table.")
    ] = False,
) -> int:
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


@app.command(
    help="Serve the embedded provider to any OpenAI client.",
    epilog="It runs until Ctrl-C, on this machine only, and is no language model. Faults by rate (0 to 1): rate_limit, "
    "server_error, reset, broken_json, wrong_shape, cut_off, refusal, empty. Quirks: no_json_schema, no_json_mode, "
    "no_temperature, no_max_tokens, no_images, no_quota, no_retry_after, quota_headers. Limits: max_concurrent=N, "
    "requests_per_minute=N, tokens_per_minute=N, window_seconds=SECONDS, "
    "retry_after=SECONDS. Others: key=K, models=A,B, seed=N. Example: personalab offline --fault rate_limit=0.2 "
    "--latency 0.1..0.5",
)
def offline(
    port: Annotated[int, typer.Option(help="Port on this machine; 0 takes a free one.")] = 8000,
    fault: Annotated[
        list[str] | None, typer.Option(help="kind=rate or quirk, such as rate_limit=0.2. May be repeated.")
    ] = None,
    latency: Annotated[
        list[str] | None, typer.Option(help="Seconds: 0.2, 0.1..0.5 or stage=2. May be repeated.")
    ] = None,
) -> int:
    from personalab.offline.faults import parse_faults
    from personalab.offline.server import serve

    faults = parse_faults(fault=fault or [], latency=latency or [])
    serve(
        "127.0.0.1",
        port,
        faults,
        ready=lambda url: print(
            f"export OPENAI_BASE_URL={url} PERSONALAB_MODEL=personalab-offline", flush=True
        ),
    )
    return EXIT_OK


@app.callback(invoke_without_command=True)
def _top(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"personalab {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


async def _all_of(batch: Batch) -> None:
    try:
        async for _ in batch:
            pass
    except BaseException:
        _note(f"so far: {batch.tally().stopped()}")
        raise


def _check_file(file: Path) -> bool:
    from personalab.card_checks import check_card, check_carrier
    from personalab.cards import read_card
    from personalab.errors import CardError

    try:
        card = read_card(file)
    except CardError as error:
        _told(str(error), EXIT_FAILED)
        return False
    problems = (*check_card(card.document), *check_carrier(file.read_bytes()))
    errors = sum(problem.level == "error" for problem in problems)
    about = f"{card.name} · {card.spec} · {card.token_counts()['total']} tokens"
    print(plain(f"{file}: {about} · {errors} errors, {len(problems) - errors} warnings"))
    for problem in problems:
        print(plain(f"  {problem.level} {problem}"))
    return not errors


async def _from_description(pipeline: Pipeline, description: str, folder: Path) -> Row:
    from personalab.batches import made_row

    run = await pipeline.run(description=description)
    return await asyncio.to_thread(made_row, run, folder, pipeline.pool)


def _pairs(values: list[str] | None, option: str) -> list[tuple[str, str]]:
    pairs = []
    for value in values or []:
        stage, equals, rest = value.partition("=")
        if not equals or not rest:
            raise ConfigError(f"{option} takes stage=value, not {value!r}")
        pairs.append((stage.strip(), rest.strip()))
    return pairs


def _number(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{option} takes a number after the '=', not {text!r}") from None


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    _note(f"warning: {message}")


def _note(text: str) -> None:
    print(plain(text), file=sys.stderr)


def _told(text: str, code: int) -> int:
    _note(f"personalab: {' '.join(text.split())}")
    return code
