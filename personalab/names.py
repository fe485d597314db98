"""Names that come from a model or a file: when they are fit for a card, and how they become safe file names."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from pathlib import Path

CARD_NAME_CHARACTERS = 64
CARD_NAME_BYTES = 200
SLUG_BYTES = 80

_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
_REFUSED = re.compile(r'[/?<>\\:*|"\x00-\x1f\x7f-\x9f]')
_INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def card_name_problem(name: str) -> str | None:
    """Why `name` cannot be a card's name, or None.

    The rule is what front ends do to it: they make a file of it (SillyTavern with the `sanitize-filename` rules) and
    put it into prompts for `{{char}}`.
    """
    if not name.strip() or not name.strip(". "):
        return "the name must not be empty"
    if name != unicodedata.normalize("NFC", name) or name != name.strip() or name.endswith("."):
        return "the name must be NFC, without spaces at its ends or a full stop at its end"
    if _REFUSED.search(name) or len(name.splitlines()) > 1:
        return 'the name must be one line without / ? < > \\ : * | " or control characters'
    if any(unicodedata.category(mark) in ("Cc", "Cs") for mark in name):
        return "the name must not contain control characters"
    if "{{" in name or "}}" in name:
        return "the name must not contain a macro"
    if _RESERVED.fullmatch(name):
        return f"{name} is a reserved file name"
    if len(name) > CARD_NAME_CHARACTERS or len(name.encode("utf-8", "replace")) > CARD_NAME_BYTES:
        return f"the name must have at most {CARD_NAME_CHARACTERS} characters and {CARD_NAME_BYTES} bytes"
    return None


def path_text(path: Path | str) -> str:
    """A path as text that every file can hold: bytes that are no UTF-8 are written out, such as `\\xff`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def slug(name: str) -> str:
    """A file name that means the same and can do no harm: letters and digits of any script, `-` and `_` between.

    Never empty, never a path, never reserved, NFC, at most 80 bytes. Where something had to be cut away, a short hash
    of the full name keeps two names apart.
    """
    plain = unicodedata.normalize("NFC", name)
    kept = "".join(
        c if c.isalnum() or unicodedata.category(c) in ("Mn", "Mc") or c in "-_" else "-" for c in plain
    )
    kept = re.sub(r"-{2,}", "-", kept).strip("-_")
    kept = unicodedata.normalize("NFC", kept)
    too_long = len(kept.encode("utf-8", "replace")) > SLUG_BYTES
    if kept and not too_long and not _RESERVED.fullmatch(kept):
        return kept
    mark = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    head = kept.encode("utf-8", "replace")[: SLUG_BYTES - 9].decode("utf-8", "ignore").strip("-_")
    return f"{head}-{mark}" if head else mark
