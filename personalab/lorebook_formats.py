"""A lorebook on its own: as the V3 specification has it, and as SillyTavern's world info.

Sources: the V3 specification, "Lorebook Fields"; SillyTavern's own conversion of a card's book, which the world info
here agrees with field by field, but that `case_sensitive` is kept. SillyTavern and RisuAI read world info, and neither of
them the specification's form.
"""

from __future__ import annotations

import copy
from typing import Any

from personalab.card_format import entries
from personalab.records import JsonObject

LOREBOOK_V3 = "lorebook_v3"

_BEFORE, _AFTER = 0, 1
_WORLD_INFO_DEFAULTS: JsonObject = {
    "excludeRecursion": False,
    "preventRecursion": False,
    "delayUntilRecursion": False,
    "probability": 100,
    "useProbability": True,
    "depth": 4,
    "selectiveLogic": 0,
    "outletName": "",
    "group": "",
    "groupOverride": False,
    "groupWeight": 100,
    "scanDepth": None,
    "caseSensitive": None,
    "matchWholeWords": None,
    "useGroupScoring": None,
    "automationId": "",
    "role": 0,
    "vectorized": False,
    "sticky": None,
    "cooldown": None,
    "delay": None,
    "matchPersonaDescription": False,
    "matchCharacterDescription": False,
    "matchCharacterPersonality": False,
    "matchCharacterDepthPrompt": False,
    "matchScenario": False,
    "matchCreatorNotes": False,
    "triggers": [],
    "ignoreBudget": False,
}
"""World info's own fields of an entry, which SillyTavern keeps in a card under the entry's extensions."""
_CAMEL_THERE_TOO = ("useProbability", "selectiveLogic")
"""Those that are spelled the same there; the others stand there in snake case."""


def lorebook_v3(book: JsonObject) -> JsonObject:
    """A card's `character_book` as a document of its own; an entry without `use_regex` gets false, as V3 requires it."""
    data = copy.deepcopy(book)
    for entry in entries({"character_book": data}):
        entry.setdefault("use_regex", False)
    return {"spec": LOREBOOK_V3, "data": data}


def world_info(book: JsonObject) -> JsonObject:
    """A card's `character_book` as world info: entries by their number, the book itself kept under `originalData`."""
    listed = entries({"character_book": book})
    numbers = _numbers(listed)
    return {
        "entries": {
            str(number): _world_entry(entry, number, place)
            for place, (number, entry) in enumerate(zip(numbers, listed, strict=True))
        },
        "originalData": copy.deepcopy(book),
    }


def _numbers(listed: list[JsonObject]) -> list[Any]:
    """The ids of the entries where all have one of their own, else their places: entries of one id would be lost."""
    ids = [entry.get("id") for entry in listed]
    own = [number for number in ids if isinstance(number, int | str) and not isinstance(number, bool)]
    return ids if len({str(number) for number in own}) == len(listed) else list(range(len(listed)))


def _world_entry(entry: JsonObject, number: Any, place: int) -> JsonObject:
    given = entry.get("extensions")
    extensions: JsonObject = given if isinstance(given, dict) else {}
    comment = entry.get("comment") or ""
    before = _BEFORE if entry.get("position") == "before_char" else _AFTER
    case_sensitive = entry.get("case_sensitive")
    own = {
        field: copy.deepcopy(_said(extensions, _there(field), default))
        for field, default in _WORLD_INFO_DEFAULTS.items()
    }
    return {
        "uid": number,
        "key": entry.get("keys") or [],
        "keysecondary": entry.get("secondary_keys") or [],
        "comment": comment,
        "content": entry.get("content") or "",
        "constant": entry.get("constant") or False,
        "selective": entry.get("selective") or False,
        "order": entry.get("insertion_order"),
        "position": _said(extensions, "position", before),
        "disable": not entry.get("enabled", True),
        "addMemo": bool(comment),
        "displayIndex": _said(extensions, "display_index", place),
        "extensions": copy.deepcopy(extensions),
        **own,
        "caseSensitive": own["caseSensitive"] if own["caseSensitive"] is not None else case_sensitive,
    }


def _said(extensions: JsonObject, field: str, default: Any) -> Any:
    value = extensions.get(field)
    return default if value is None else value


def _there(field: str) -> str:
    """What a field is called in an entry's extensions."""
    if field in _CAMEL_THERE_TOO:
        return field
    return "".join(f"_{mark.lower()}" if mark.isupper() else mark for mark in field)
