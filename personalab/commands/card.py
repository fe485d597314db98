"""`personalab card`: are these character cards? And one of them in another form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personalab.commands.options import EXIT_FAILED, EXIT_OK, told
from personalab.errors import ConfigError
from personalab.views import plain

if TYPE_CHECKING:
    from personalab.records import JsonObject

HELP = "Check character cards of any origin (JSON, PNG, CHARX), or write one of them, or its lorebook, in another form."
EPILOG = (
    "SillyTavern and RisuAI read world info; the form of the V3 specification is read by others. "
    "Example: personalab card outputs/personas/teal_turban_persona.png --charx moira.charx --world-info moira.json"
)


def card(
    files: Annotated[list[Path], typer.Argument(help="Card files.")],
    charx: Annotated[Path | None, typer.Option(help="Write the card, with its portrait, as CHARX.")] = None,
    lorebook: Annotated[
        Path | None, typer.Option(help="Write the lorebook alone, as the V3 specification has it (JSON).")
    ] = None,
    world_info: Annotated[
        Path | None, typer.Option(help="Write the lorebook alone, as SillyTavern's world info (JSON).")
    ] = None,
) -> int:
    """Cards checked, or one written in other forms, from the command line: the exit code, 1 where one has errors."""
    if charx or lorebook or world_info:
        if len(files) != 1:
            raise ConfigError(f"one card is written in another form at a time, not {len(files)}")
        return _export(files[0], charx, lorebook, world_info)
    good = [_check(file) for file in files]
    return EXIT_OK if all(good) else EXIT_FAILED


def _export(file: Path, charx: Path | None, lorebook: Path | None, world_info: Path | None) -> int:
    from personalab.card_checks import require_valid
    from personalab.cards import read_assets, read_card
    from personalab.files import write_whole

    card = read_card(file)
    card.to_json()  # half of a surrogate pair can be written nowhere
    if charx:
        require_valid(card.v3(), str(file))
        assets = read_assets(file)
        written = card.to_charx(None if assets else _portrait(file), assets)
        print(plain(f"{write_whole(charx, written)}: {card.name}"))
    if lorebook:
        print(plain(f"{write_whole(lorebook, _json(card.lorebook()))}: the lorebook of {card.name}"))
    if world_info:
        print(plain(f"{write_whole(world_info, _json(card.world_info()))}: the lorebook of {card.name}"))
    return EXIT_OK


def _portrait(file: Path) -> bytes | None:
    """The picture in a card's file, or in the PNG that lies beside a JSON file under its name."""
    from personalab.cards import read_picture

    beside = file.with_suffix(".png")
    return read_picture(beside if file.suffix.lower() == ".json" and beside.is_file() else file)


def _json(document: JsonObject) -> bytes:
    return json.dumps(document, ensure_ascii=False, indent=1).encode()


def _check(file: Path) -> bool:
    from personalab.card_checks import check_card, check_carrier
    from personalab.cards import read_card
    from personalab.errors import CardError

    try:
        card = read_card(file)
    except CardError as error:
        told(str(error), EXIT_FAILED)
        return False
    problems = (*check_card(card.document), *check_carrier(file.read_bytes()))
    errors = sum(problem.level == "error" for problem in problems)
    about = f"{card.name} · {card.spec} · {card.token_counts()['total']} tokens"
    print(plain(f"{file}: {about} · {errors} errors, {len(problems) - errors} warnings"))
    for problem in problems:
        print(plain(f"  {problem.level} {problem}"))
    return not errors
