"""Whether a card is one that others can use: every rule that can be decided from its document, or its file.

An error breaks a specification or a real front end and stops an export; a warning is a rule of thumb. Rules 1
to 9 are in `card_structure`, 10 to 12 in `card_png`, 15 to 24 in `card_lint`.
"""

from __future__ import annotations

from personalab import charx
from personalab.card_lint import check_text
from personalab.card_png import SIGNATURE, check_png
from personalab.card_structure import Problem, check_structure, error, shown
from personalab.errors import CardInvalid
from personalab.records import JsonObject

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

__all__ = ["Problem", "check_card", "check_carrier", "check_png", "require_valid"]


def check_card(document: JsonObject) -> tuple[Problem, ...]:
    """Everything that is wrong with a V2 or V3 document, errors first; an empty tuple for a good card."""
    if not isinstance(document, dict):
        return (error(1, "document", f"is {shown(document)}", "give a JSON object"),)
    data = document.get("data")
    return (*check_structure(document), *(check_text(data) if isinstance(data, dict) else ()))


def check_carrier(content: bytes) -> tuple[Problem, ...]:
    """What is wrong with the file around a card: PNG, CHARX or JSON."""
    if content.startswith(SIGNATURE):
        return check_png(content)
    if content.startswith(charx.SIGNATURE):
        return charx.check_charx(content)
    if content.startswith(_BYTE_ORDER_MARK):
        reason = "begins with a byte order mark (BOM), which front ends refuse"
        return (error(7, "json", reason, "save it as UTF-8 without BOM"),)
    return ()


def require_valid(document: JsonObject, source: str = "card") -> None:
    """Let a card without errors pass, whatever it could be warned about: rules of thumb are not even looked at.

    Raises:
        CardInvalid: with every error. `source` is how messages call the card.
    """
    errors = tuple(problem for problem in check_structure(document) if problem.level == "error")
    if errors:
        raise CardInvalid(source, errors)
