"""`personalab check`: what the endpoint of the settings can do, before anything is made with it."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import typer

from personalab.commands.options import EXIT_FAILED, EXIT_OK, EXIT_REFUSED, Model, note_offline
from personalab.config import CHECK_TIMEOUT_SECONDS
from personalab.views import plain

HELP = "Ask the endpoint what it can do: key, model, images, JSON, temperature, limits, price; about 4 small requests."
EPILOG = (
    "Exit codes: 0 a persona can be made, 1 it cannot, 3 key, model or quota are refused. docs/models.md says what to set for "
    "which server. Example: OPENAI_BASE_URL=http://localhost:11434/v1 personalab check --model qwen3-vl:8b"
)


def check(
    model: Model = None,
    description: Annotated[
        bool, typer.Option("--description", help="Personas will start from a text: images are not asked for.")
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for an answer.")] = CHECK_TIMEOUT_SECONDS,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> int:
    """The endpoint checked from the command line: the exit code says if a persona can be made."""
    from personalab.config import OFFLINE_MODEL
    from personalab.endpoint_checks import check_endpoint

    done = asyncio.run(check_endpoint(model=model, from_description=description, timeout_seconds=timeout))
    if done.endpoint == OFFLINE_MODEL:
        note_offline()
    if as_json:
        print(json.dumps({**done.model_dump(), "makes_personas": done.makes_personas}, indent=1))
    else:
        print(plain(str(done)))
    if done.makes_personas:
        return EXIT_OK
    return EXIT_REFUSED if done.refused else EXIT_FAILED
