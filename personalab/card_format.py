"""The format of character cards as plain data: fields and their types, V2 ↔ V3, JSON.

Sources: the community's specifications of character cards V2 (2023-06) and V3 (2024-07). Knows documents
(parsed JSON) and their bytes, neither `CharacterCard` nor files.
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

from personalab.records import JsonObject

V2 = "chara_card_v2"
V3 = "chara_card_v3"
SPEC_VERSIONS = {V2: "2.0", V3: "3.0"}
TOP_FIELDS = ("spec", "spec_version", "data")

Kind = Literal[
    "a string",
    "an array of strings",
    "an object",
    "an array of objects",
    "a number",
    "an integer",
    "true or false",
]
"""The types that fields have, in the words that messages use."""

_FITS: Mapping[Kind, Callable[[Any], bool]] = {
    "a string": lambda value: isinstance(value, str),
    "an array of strings": lambda value: _is_array_of(str, value),
    "an object": lambda value: isinstance(value, dict),
    "an array of objects": lambda value: _is_array_of(dict, value),
    "a number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "an integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "true or false": lambda value: isinstance(value, bool),
}
_EMPTY: Mapping[Kind, Any] = {"a string": "", "an array of strings": [], "an object": {}}

V1_FIELDS = ("name", "description", "personality", "scenario", "first_mes", "mes_example")
DATA_FIELDS: Mapping[str, Kind] = {
    **dict.fromkeys(V1_FIELDS, "a string"),
    "creator_notes": "a string",
    "system_prompt": "a string",
    "post_history_instructions": "a string",
    "alternate_greetings": "an array of strings",
    "character_book": "an object",
    "tags": "an array of strings",
    "creator": "a string",
    "character_version": "a string",
    "extensions": "an object",
    "group_only_greetings": "an array of strings",
    "assets": "an array of objects",
    "nickname": "a string",
    "creator_notes_multilingual": "an object",
    "source": "an array of strings",
    "creation_date": "a number",
    "modification_date": "a number",
}
"""The fields of `data` in canonical order: V2's, then those of V3 only."""

BOOK_FIELDS: Mapping[str, Kind] = {
    "name": "a string",
    "description": "a string",
    "scan_depth": "a number",
    "token_budget": "a number",
    "recursive_scanning": "true or false",
    "extensions": "an object",
    "entries": "an array of objects",
}
ENTRY_FIELDS: Mapping[str, Kind] = {
    "keys": "an array of strings",
    "content": "a string",
    "extensions": "an object",
    "enabled": "true or false",
    "insertion_order": "a number",
    "case_sensitive": "true or false",
    "name": "a string",
    "priority": "a number",
    "id": "an integer",
    "comment": "a string",
    "selective": "true or false",
    "secondary_keys": "an array of strings",
    "constant": "true or false",
    "position": "a string",
    "use_regex": "true or false",
}
POSITIONS = ("before_char", "after_char")

V3_DATA_FIELDS = tuple(DATA_FIELDS)[tuple(DATA_FIELDS).index("group_only_greetings") :]
"""Fields of `data` that a V2 copy lacks; these, `V3_ENTRY_FIELDS` and decorators are all that it loses."""
V3_ENTRY_FIELDS = ("use_regex",)
"""Fields of a lorebook entry that a V2 copy lacks."""
REQUIRED_BOOK_FIELDS = ("extensions", "entries")

LOADED_AS_V2 = "This is a Character Card V3, loaded as V2: what only V3 holds is missing."
"""What the V2 copy in a V3 file says at the end of its creator_notes, as the V3 specification asks."""

# At the top of a content, one a line: `@@depth 4`, and `@@@depth 4` as a fallback of the line above.
_DECORATORS = re.compile(r"\A\s*(?:@@@?[A-Za-z_][^\n]*(?:\n\s*|\Z))+")


def _is_array_of(type_: type, value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, type_) for item in value)


def fits(kind: Kind, value: Any) -> bool:
    """Whether a JSON value is of a kind."""
    return _FITS[kind](value)


def required_data_fields(spec: str) -> tuple[str, ...]:
    """The fields that `data` must have: 14 in V2, and `group_only_greetings` in V3."""
    optional = {"character_book", *V3_DATA_FIELDS} - ({"group_only_greetings"} if spec == V3 else set())
    return tuple(field for field in DATA_FIELDS if field not in optional)


def required_entry_fields(spec: str) -> tuple[str, ...]:
    """The fields that a lorebook entry must have: five in V2, and `use_regex` in V3."""
    fields = ("keys", "content", "extensions", "enabled", "insertion_order")
    return (*fields, *V3_ENTRY_FIELDS) if spec == V3 else fields


def without_decorators(content: str) -> str:
    """The content of a lorebook entry without the V3 decorators at its top."""
    return _DECORATORS.sub("", content)


def entries(data: JsonObject) -> list[JsonObject]:
    """The lorebook entries of a card's `data`, in their order; what is no entry at all is left out."""
    book = data.get("character_book")
    listed = book.get("entries") if isinstance(book, dict) else None
    return [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []


def contents(data: JsonObject) -> list[str]:
    """What the enabled lorebook entries of a card's `data` add to a prompt."""
    listed = [entry.get("content") for entry in entries(data) if entry.get("enabled", True)]
    return [without_decorators(content) for content in listed if isinstance(content, str)]


def to_v2(document: JsonObject) -> JsonObject:
    """A V2 copy of a V2 or V3 document: missing required fields are added empty, unknown ones are kept.

    Of a V3 document `V3_DATA_FIELDS`, `V3_ENTRY_FIELDS` and decorators are left out, and nothing else.
    """
    card = _ordered(document, V2)
    if document.get("spec") == V3:
        data = card["data"]
        for field in V3_DATA_FIELDS:
            data.pop(field, None)
        for entry in entries(data):
            for field in V3_ENTRY_FIELDS:
                entry.pop(field, None)
            if isinstance(entry.get("content"), str):
                entry["content"] = without_decorators(entry["content"])
    return card


def to_v3(document: JsonObject) -> JsonObject:
    """A V3 copy of a V2 or V3 document: missing required fields are added empty, unknown ones are kept.

    An entry without `use_regex` gets false. Dates are not invented.
    """
    card = _ordered(document, V3)
    for entry in entries(card["data"]):
        entry.setdefault("use_regex", False)
    return card


def to_backfill(document: JsonObject) -> JsonObject:
    """The V2 copy that stands beside V3 in one PNG: `to_v2`, and its creator_notes say so."""
    card = to_v2(document)
    notes = card["data"]["creator_notes"]
    if isinstance(notes, str) and LOADED_AS_V2 not in notes:
        card["data"]["creator_notes"] = f"{notes}\n\n{LOADED_AS_V2}".lstrip()
    return card


def _ordered(document: JsonObject, spec: str) -> JsonObject:
    """A deep copy: known fields in canonical order and complete, then all others as they stood."""
    document = copy.deepcopy(document)
    held = document["data"]
    required = required_data_fields(spec)
    data = {
        field: held[field] if field in held else copy.deepcopy(_EMPTY[kind])
        for field, kind in DATA_FIELDS.items()
        if field in held or field in required
    }
    head = {"spec": spec, "spec_version": SPEC_VERSIONS[spec], "data": data | held}
    return head | {key: value for key, value in document.items() if key not in TOP_FIELDS}


def to_bytes(document: JsonObject, *, indent: int | None = None) -> bytes:
    """UTF-8 JSON without BOM, the same bytes for the same document.

    Raises:
        ValueError: NaN, infinity, or half of a surrogate pair in a text.
    """
    separators = (",", ": ") if indent else (",", ":")
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, indent=indent, separators=separators)
    return text.encode()


JSON_BYTES_MAX = 16 * 1024**2
"""Bytes of JSON that are parsed: in memory it can take 50 times as much."""
NESTING_MAX = 100
"""Levels of arrays and objects inside each other, far below what Python's own recursion limit allows."""


def from_bytes(content: bytes) -> Any:
    """The value of UTF-8 JSON; a BOM in front of it is forgiven.

    Raises:
        ValueError: no UTF-8, no JSON, too large, nested too deeply, or a key twice in one object.
    """
    if len(content) > JSON_BYTES_MAX:
        raise ValueError(f"more than {JSON_BYTES_MAX // 1024**2} MiB of JSON, which no card needs")
    try:
        text = content.decode("utf-8-sig")
        return json.loads(text, object_pairs_hook=_no_key_twice, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise ValueError("no UTF-8 text") from error
    except RecursionError as error:
        raise ValueError(f"JSON nested deeper than {NESTING_MAX} levels") from error


def _no_key_twice(pairs: list[tuple[str, Any]]) -> JsonObject:
    # Readers differ in which of the two they take, so either choice could lose what the author meant.
    held: JsonObject = {}
    for key, value in pairs:
        if key in held:
            raise ValueError(f"key {key[:40]!a} stands twice in one object")
        held[key] = value
    return held


def _no_constant(constant: str) -> float:
    raise ValueError(f"{constant} is no number in JSON")


def plain(value: Any, level: int = 1) -> Any:
    """A deep copy that is JSON through and through: tuples are lists, numbers finite, nesting bounded.

    Raises:
        ValueError: something in it is not JSON.
    """
    if level > NESTING_MAX:
        raise ValueError(f"nested deeper than {NESTING_MAX} levels; flatten it")
    if isinstance(value, dict):
        return {_plain_key(key): plain(item, level + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, level + 1) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is not JSON; give a finite number or leave it out")
    if value is None or isinstance(value, str | int | float):
        return value
    raise ValueError(f"{type(value).__name__} is not JSON; give text, numbers, lists and objects")


def _plain_key(key: Any) -> str:
    if not isinstance(key, str):
        raise ValueError(f"key {key!r} is not JSON; give text as key")
    return key
