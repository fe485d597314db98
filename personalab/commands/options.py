"""What commands share: options, exit codes, what is said on standard error, and the pool that options describe."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from personalab.config import MAX_CONCURRENT
from personalab.errors import ConfigError
from personalab.views import plain

if TYPE_CHECKING:
    from personalab.pipeline import Pipeline
    from personalab.planner import Planner
    from personalab.pool import LLMPool

    Varied = TypeVar("Varied", Pipeline, Planner)

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_REFUSED, EXIT_BUDGET, EXIT_INTERRUPTED = 0, 1, 2, 3, 4, 130

Personas = Annotated[
    list[Path],
    typer.Argument(help="Cards of personas (JSON or PNG), folders of them, or globs.", show_default=False),
]
Model = Annotated[str | None, typer.Option(help="Model.  [env: PERSONALAB_MODEL]")]
Concurrent = Annotated[
    int | None, typer.Option(help=f"Requests at once.  [env: MAX_CONCURRENT; default: {MAX_CONCURRENT}]")
]
Instructions = Annotated[str, typer.Option(help="Your own instructions, added to every prompt.")]
Force = Annotated[bool, typer.Option("--force", help="Ask again also what the cache has.")]
Budget = Annotated[
    list[str] | None,
    typer.Option(help="Stop before more is spent: 5usd, 1000requests or 200000tokens. May be repeated."),
]
InBatches = Annotated[
    bool,
    typer.Option(
        "--batch",
        help="Send requests through the provider's batch endpoint: cheaper, within a day; start again to wait again.  "
        "[env: PERSONALAB_BATCH]",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON list instead of the table.")]


def pool_of(
    model: str | None,
    max_concurrent: int | None,
    budget: list[str] | None,
    *,
    force: bool,
    batch: bool | None,
) -> LLMPool:
    """The pool that options describe; where the embedded provider answers, that is said."""
    from personalab.budgets import parse_budget
    from personalab.pool import LLMPool

    pool = LLMPool(
        model=model,
        max_concurrent=max_concurrent,
        cache="refresh" if force else "use",
        budget=parse_budget(budget or []),
        batch=batch,
    )
    if pool.offline:
        note_offline()
    if pool.batch and not sys.stderr.isatty():
        _log_batches()
    return pool


def _log_batches() -> None:
    """Where no bar is shown, as in a job that runs overnight, a line tells of each batch that is made and that is over."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log = logging.getLogger("personalab.waves")
    log.addHandler(handler)
    log.setLevel(logging.INFO)


def varied(
    maker: Varied,
    *,
    models: list[str] | None = None,
    temperatures: list[str] | None = None,
    prompts: list[str] | None = None,
) -> Varied:
    """A pipeline or planner with `stage=value` options applied.

    Raises:
        ConfigError: an option that is not of that form; PromptError: no such stage, or a template that cannot be.
    """
    for stage, value in _pairs(models, "--model"):
        maker = maker.vary(stage, model=value)
    for stage, value in _pairs(temperatures, "--temperature"):
        maker = maker.vary(stage, temperature=_number(value, "--temperature"))
    for stage, value in _pairs(prompts, "--prompt"):
        maker = maker.vary(stage, prompt=Path(value))
    return maker


def note(text: str) -> None:
    """Say something beside the results, on standard error."""
    print(plain(text), file=sys.stderr)


def note_offline() -> None:
    """Say that no language model answers."""
    note("no key and no base URL set: the embedded provider answers (not a language model)")


def told(text: str, code: int) -> int:
    """Say in one line why a command ends, and give its exit code back."""
    note(f"personalab: {' '.join(text.split())}")
    return code


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
