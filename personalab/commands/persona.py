"""`personalab persona`: images, or a description, become personas."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personalab.commands.options import (
    EXIT_FAILED,
    EXIT_OK,
    AsJson,
    Budget,
    Concurrent,
    InBatches,
    Instructions,
    note,
    pool_of,
    varied,
)
from personalab.errors import ConfigError
from personalab.tables import print_persona_json, print_personas

if TYPE_CHECKING:
    from personalab.batch_rows import Row
    from personalab.batches import Batch
    from personalab.pipeline import Pipeline

HELP = "Make a persona from each image, or one from a description."
EPILOG = (
    "Stages: core_persona, tweet_strategy, example_tweets, social_network, authenticity, visual_profile, "
    "character_book. Example: personalab persona face.png --temperature social_network=1.1 --language 中文"
)

Images = Annotated[
    list[Path] | None,
    typer.Argument(
        help="Images (PNG, JPEG, WebP, GIF, BMP, TIFF), folders of images, or globs.", show_default=False
    ),
]
Description = Annotated[str, typer.Option(help="Start from this text instead of an image.")]
Language = Annotated[str, typer.Option(help="Language the persona is written in, such as English or 中文.")]
Location = Annotated[str, typer.Option(help="Where the persona lives.")]
Models = Annotated[
    list[str] | None,
    typer.Option(
        help="Model for all stages, or stage=model for one. May be repeated.  [env: PERSONALAB_MODEL]"
    ),
]
Temperatures = Annotated[
    list[str] | None, typer.Option(help="stage=value, such as social_network=1.1. May be repeated.")
]
Prompts = Annotated[
    list[str] | None,
    typer.Option(help="stage=file: another prompt template for a stage. May be repeated."),
]
Out = Annotated[Path | None, typer.Option(help="Folder for the personas.  [default: outputs/personas]")]
Anew = Annotated[
    bool, typer.Option("--force", help="Start over: ask everything again, also what the cache has.")
]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Take only images whose persona failed or lacks a part.")
]


def persona(
    images: Images = None,
    description: Description = "",
    language: Language = "English",
    location: Location = "",
    instructions: Instructions = "",
    model: Models = None,
    temperature: Temperatures = None,
    prompt: Prompts = None,
    out: Out = None,
    max_concurrent: Concurrent = None,
    budget: Budget = None,
    batch: InBatches = False,
    force: Anew = False,
    retry_failed: RetryFailed = False,
    as_json: AsJson = False,
) -> int:
    """Personas from the command line: the exit code, 1 where one is not whole."""
    from personalab.pipeline import Pipeline

    if bool(images) == bool(description):
        raise ConfigError("give one or more images, or --description, and not both")
    for path in images or []:
        if not path.exists() and not has_magic(str(path)):
            raise ConfigError(f"no image or folder {path}, seen from {Path.cwd()}; check the path")
    everywhere = [value for value in model or [] if "=" not in value]
    pool = pool_of(
        everywhere[-1] if everywhere else None, max_concurrent, budget, force=force, batch=batch or None
    )
    pipeline = varied(
        Pipeline(pool, language=language, location=location, instructions=instructions),
        models=[value for value in model or [] if "=" in value],
        temperatures=temperature,
        prompts=prompt,
    )
    folder = out or pool.outputs / "personas"
    if description:
        rows: Collection[Row] = [asyncio.run(_from_description(pipeline, description, folder))]
        counts, seconds = pool.counts, next(iter(rows)).seconds
    else:
        many = pipeline.run_many(images or [], out=folder, force=force, retry_failed=retry_failed)
        asyncio.run(_all_of(many))
        rows, counts, seconds = many.rows, many.counts, many.seconds
    if as_json:
        print_persona_json(rows)
    else:
        print_personas(rows, counts, seconds, pool.remaining)
    whole = all(row.state != "failed" and row.status in ("done", "") for row in rows)
    return EXIT_OK if whole else EXIT_FAILED


async def _all_of(batch: Batch) -> None:
    try:
        async for _ in batch:
            pass
    except BaseException:
        note(f"so far: {batch.tally().stopped()}")
        raise


async def _from_description(pipeline: Pipeline, description: str, folder: Path) -> Row:
    from personalab.batches import made_row
    from personalab.progress import Tally, watch

    pool, began = pipeline.pool, time.monotonic()
    done = 0

    def ended(*_: object) -> None:
        nonlocal done
        done += 1

    def tally() -> Tally:
        return Tally(
            what="stages", total=len(pipeline.stages), done=done, failed=0, kept=0, in_flight=pool.in_flight, share=done,
            counts=pool.counts, seconds=time.monotonic() - began, waves=pool.waves,
        )  # fmt: skip

    async with watch(tally):
        run = await pipeline.run(description=description, on_stage=ended)
    return await asyncio.to_thread(made_row, run, folder, pipeline.pool)
