"""The `personalab` command: a thin mirror of the package."""

from __future__ import annotations

import asyncio
import json
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from personalab import __version__
from personalab.config import MAX_CONCURRENT, load_settings
from personalab.errors import AccessRefused, ConfigError, PersonalabError, PromptError

if TYPE_CHECKING:
    from personalab.pipeline import Pipeline
    from personalab.pool import PoolCounts
    from personalab.runs import Run, SavedRun

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_REFUSED, EXIT_INTERRUPTED = 0, 1, 2, 3, 130

app = typer.Typer(
    name="personalab",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="An image becomes a persona, saved as a character card. With no key and no base URL set, the embedded "
    "provider answers: plausible text, but no language model.",
    epilog="Settings: OPENAI_API_KEY, OPENAI_BASE_URL, PERSONALAB_MODEL, MAX_CONCURRENT, PERSONALAB_OUTPUTS, also from "
    "a .env file; arguments win. Exit codes: 0 all done, 1 something failed, 2 wrong use or settings, 3 refused by the "
    "provider (key, model, quota), 130 interrupted.",
)


def main() -> int:
    """Run the command line; every error is one line on standard error."""
    warnings.showwarning = _show_warning
    command = typer.main.get_command(app)
    try:
        return command.main(standalone_mode=False) or EXIT_OK
    except typer.Exit as stop:
        return stop.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _told(
            "interrupted: what is done is kept, and the same command goes on from there", EXIT_INTERRUPTED
        )
    except (ConfigError, PromptError) as error:
        return _told(str(error), EXIT_USAGE)
    except AccessRefused as error:
        return _told(str(error), EXIT_REFUSED)
    except PersonalabError as error:
        return _told(str(error), EXIT_FAILED)
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        sys.stderr.close()
        return EXIT_FAILED
    except Exception as error:
        if not hasattr(
            error, "format_message"
        ):  # click's own errors have it; anything else is a bug and shows itself
            raise
        return _told(error.format_message(), EXIT_USAGE)


@app.command(help="Make a persona from each image, or one from a description.", no_args_is_help=True)
def persona(
    images: Annotated[
        list[Path] | None, typer.Argument(help="Images: PNG, JPEG, WebP, GIF, BMP, TIFF.", show_default=False)
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
    max_concurrent: Annotated[
        int | None, typer.Option(help=f"Requests at once.  [env: MAX_CONCURRENT; default: {MAX_CONCURRENT}]")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Ask everything again, also what the cache has.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON list instead of the table.")
    ] = False,
) -> int:
    from personalab.pipeline import Pipeline
    from personalab.pool import LLMPool

    if bool(images) == bool(description):
        raise ConfigError("give one or more images, or --description, and not both")
    models = [value for value in model or [] if "=" not in value]
    pool = LLMPool(
        model=models[-1] if models else None,
        max_concurrent=max_concurrent,
        cache="refresh" if force else "use",
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
        _note("no key and no base URL set: the embedded provider answers (not a language model)")
    made = asyncio.run(_make(pipeline, images or [], description, folder))
    (_print_json if as_json else _print_table)(made, pool.counts)
    return EXIT_OK if all(one.ok for one in made) else EXIT_FAILED


@app.command(
    help="Check and show character cards of any origin: JSON or PNG, V1, V2 or V3.", no_args_is_help=True
)
def card(
    files: Annotated[list[Path], typer.Argument(help="Card files.")],
) -> int:
    from personalab.card_checks import check_card
    from personalab.cards import read_card
    from personalab.views import plain

    worst = EXIT_OK
    for file in files:
        found = read_card(file)
        problems = check_card(found.document)
        errors = [problem for problem in problems if problem.level == "error"]
        counts = found.token_counts()
        print(
            plain(
                f"{file}: {found.name} · {found.spec} · {counts['total']} tokens · {len(errors)} errors, {len(problems) - len(errors)} warnings"
            )
        )
        for problem in problems:
            print(plain(f"  {problem.level} {problem}"))
        worst = max(worst, EXIT_FAILED if errors else EXIT_OK)
    return worst


@app.command(help="Serve the embedded provider for any OpenAI client, until Ctrl-C. It is no language model.")
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
        lambda url: print(f"export OPENAI_BASE_URL={url} PERSONALAB_MODEL=personalab-offline", flush=True),
    )
    return EXIT_OK


@app.callback(invoke_without_command=True)
def _top(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"personalab {__version__}")
        raise typer.Exit


class _Made:
    """A run and where it was saved, or why it could not be."""

    def __init__(self, run: Run, saved: SavedRun | None, problem: str | None) -> None:
        self.run, self.saved, self.problem = run, saved, problem

    @property
    def ok(self) -> bool:
        return self.run.status == "done" and self.problem is None

    @property
    def errors(self) -> list[str]:
        return [*self.run.errors, *([self.problem] if self.problem else [])]

    @property
    def file(self) -> Path | None:
        return (self.saved.portrait or self.saved.card) if self.saved else None


async def _make(pipeline: Pipeline, images: list[Path], description: str, folder: Path) -> list[_Made]:
    made: list[_Made] = []
    total = max(1, len(images)) * len(pipeline.stages)
    with _Progress(total) as progress:
        if description:
            run = await pipeline.run(description=description, on_stage=progress.stage_ended)
            return [await asyncio.to_thread(_saved, run, folder)]
        async for run in pipeline.run_many(images, on_stage=progress.stage_ended):
            made.append(await asyncio.to_thread(_saved, run, folder))
            progress.run_ended(len(made))
    place = {str(image.absolute()): number for number, image in enumerate(images)}
    return sorted(made, key=lambda one: place.get(one.run.source or "", 0))


def _saved(run: Run, folder: Path) -> _Made:
    from personalab.errors import CardError

    try:
        return _Made(run, run.save(folder), None)
    except CardError as error:
        return _Made(run, None, str(error))


class _Progress:
    """A bar on standard error, on a terminal only."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        console = Console(stderr=True)
        self._total = total
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("stages"), TimeElapsedColumn(),
            console=console, disable=not console.is_terminal, transient=True,
        )  # fmt: skip
        self._task = self._bar.add_task("personas", total=total)

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def stage_ended(self, run: Run, record: Any) -> None:
        self._bar.advance(self._task)

    def run_ended(self, number: int) -> None:
        self._bar.update(self._task, description=f"personas: {number} saved")


def _print_table(made: list[_Made], counts: PoolCounts) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from personalab.views import plain

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


def _print_card_tokens(console: Any, made: list[_Made]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    counted = {one.run.name: one.run.card_tokens for one in made if one.run.card_tokens}
    if not counted:
        return
    fields = list(next(iter(counted.values())))
    table = Table(box=box.SIMPLE, title="tokens in the card (estimate)", title_justify="left")
    table.add_column("card", overflow="fold")
    for field in fields:
        table.add_column(field, justify="right", overflow="fold")
    for name, tokens in counted.items():
        table.add_row(Text(name), *(str(tokens.get(field, 0)) for field in fields))
    console.print(table)


def _print_json(made: list[_Made], counts: PoolCounts) -> None:
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
    print(json.dumps(rows, ensure_ascii=False, indent=1))


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


def _cell(value: object) -> str:
    return "unknown" if value is None else str(value)


def _shown(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    _note(f"warning: {message}")


def _note(text: str) -> None:
    print(text, file=sys.stderr)


def _told(text: str, code: int) -> int:
    _note(f"personalab: {' '.join(text.split())}")
    return code
