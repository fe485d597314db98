"""`personalab card`: are these character cards?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from personalab.commands.options import EXIT_FAILED, EXIT_OK, told
from personalab.views import plain

HELP = "Check character cards of any origin (JSON, PNG)."


def card(files: Annotated[list[Path], typer.Argument(help="Card files.")]) -> int:
    """Cards checked from the command line: the exit code, 1 where one has errors."""
    good = [_check(file) for file in files]
    return EXIT_OK if all(good) else EXIT_FAILED


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
