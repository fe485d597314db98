"""Whether a card document keeps its specification: rules 1 to 9 of the card checks.

Every breach is a `Problem` with its path, why it matters and how to mend it. What a specification demands, or
a real front end was seen to break on, is an error; what users ask for is a warning.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal

from personalab import card_format
from personalab.card_format import SPEC_VERSIONS, TOP_FIELDS, V2, V3, Kind, fits
from personalab.names import card_name_problem
from personalab.records import JsonObject, Record

OWN_EXTENSION = "personalab"
"""The one key under `data.extensions` that holds our own data."""
OWN_FIELDS: Mapping[str, Kind] = {
    "schema_version": "an integer",
    "notice": "a string",
    "language": "a string",
    "age": "an integer",
    "occupation": "a string",
    "location": "a string",
    "appearance": "a string",
    "tweet_strategy": "an object",
    "tweets": "an array of objects",
    "social_network": "an object",
    "authenticity": "an object",
    "visual_profile": "an object",
    "provenance": "an object",
}
"""Fields under our own key that have a fixed type. The outputs of stages that failed are left out."""
REQUIRED_OWN_FIELDS = ("schema_version", "notice", "language", "age")

_OWN_PARTS = ("tweet_strategy", "tweets", "social_network", "authenticity", "visual_profile")

_FRONT_END_FIELDS: Mapping[str, Kind] = {
    "fav": "true or false",
    "world": "a string",
    "depth_prompt": "an object",
    "risuai": "an object",
    "agnai": "an object",
    "chub": "an object",
    "regex_scripts": "an array of objects",
}
"""Keys under `data.extensions` that front ends give a meaning, and the type that they expect."""

_OFTEN_WRONG = ("alternate_greetings", "character_book", "character_version", "tags")
"""Fields of `data` that have a rule of their own, because their type is so often wrong."""
_ASSET_FIELDS = ("type", "uri", "name", "ext")
_ASSET_TYPES = ("icon", "background", "user_icon", "emotion")
_ASSET_ADDRESS = re.compile(r"https?://\S+|data:[^,\s]*,\S*|ccdefault:|embeded://[\x21-\x7e]+")
_LANGUAGE_CODE = re.compile(r"[a-z]{2}")
_SECONDS_MAX = 10**11
"""Unix seconds of the year 5138; larger numbers are milliseconds."""

_MAY_BE_EMPTY = ("a string", "an array of strings", "an array of objects", "an object")
_SHOWN_CHARACTERS = 60


class Problem(Record):
    """One thing wrong with a card.

    `check` is the number of the rule, `path` where it is (`data.character_book.entries[2].keys`), `reason`
    what is wrong there and `mend` what to do about it.
    """

    check: int
    level: Literal["error", "warning"]
    path: str
    reason: str
    mend: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}; {self.mend} (check {self.check})"


def error(check: int, path: str, reason: str, mend: str) -> Problem:
    """A problem that stops an export."""
    return Problem(check=check, level="error", path=path, reason=reason, mend=mend)


def warning(check: int, path: str, reason: str, mend: str) -> Problem:
    """A problem that is worth a look."""
    return Problem(check=check, level="warning", path=path, reason=reason, mend=mend)


def shown(value: Any) -> str:
    """A value as a message can show it: one line, shortened, safe to print."""
    if isinstance(value, dict | list | tuple):  # their repr can be endless
        return f"an {'object' if isinstance(value, dict) else 'array'} of {len(value)}"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def at(path: str, key: str) -> str:
    """The path of a key under a path."""
    key = key if key.isprintable() and len(key) <= _SHOWN_CHARACTERS else shown(key)
    return f"{path}.{key}" if path else key


def check_structure(document: JsonObject) -> Iterator[Problem]:
    """Rules 1 to 9 for a V2 or V3 document."""
    spec = document.get("spec")
    if not isinstance(spec, str) or spec not in SPEC_VERSIONS:
        yield error(1, "spec", f"is {shown(spec)}", f"write {V2} or {V3}; read_card turns V1 into V2")
        return
    if document.get("spec_version") != SPEC_VERSIONS[spec]:
        found = shown(document.get("spec_version"))
        yield error(1, "spec_version", f"is {found}", f'write the string "{SPEC_VERSIONS[spec]}"')
    yield from _unknown_fields(document, TOP_FIELDS, "")
    yield from _text_faults(document)
    data = document.get("data")
    if not isinstance(data, dict):
        yield error(1, "data", f"is {shown(data)}", "give an object with the card's fields")
        return
    yield from _check_data(data, spec)
    yield from _check_name(data)
    yield from _check_extensions(data)
    yield from _check_book(data, spec)
    if spec == V3:
        yield from _check_assets(data)
        yield from _check_notes(data)
        yield from _check_dates(data)


def _unknown_fields(value: JsonObject, known: Collection[str], path: str) -> Iterator[Problem]:
    for field in value:
        if field not in known:
            reason = "is a field that the specification does not know"
            yield error(4, at(path, field), reason, "move it into extensions or remove it")


def _check_data(data: JsonObject, spec: str) -> Iterator[Problem]:
    known = {field: kind for field, kind in card_format.DATA_FIELDS.items() if _belongs(field, spec)}
    yield from _unknown_fields(data, known, "data")
    yield from _fields(data, known, card_format.required_data_fields(spec), "data", 1)


def _belongs(field: str, spec: str) -> bool:
    return spec == V3 or field not in (*card_format.V3_DATA_FIELDS, *card_format.V3_ENTRY_FIELDS)


def _fields(
    value: JsonObject, known: Mapping[str, Kind], required: Collection[str], path: str, check: int
) -> Iterator[Problem]:
    for field, kind in known.items():
        if field in value and not fits(kind, value[field]):
            number = 3 if path == "data" and field in _OFTEN_WRONG else check
            mend = f"make it {kind}" if field in required else f"make it {kind} or leave it out"
            yield error(number, f"{path}.{field}", f"is {shown(value[field])}", mend)
        elif field not in value and field in required:
            mend = f"add it as {kind}" + ("; an empty one will do" if kind in _MAY_BE_EMPTY else "")
            yield error(check, f"{path}.{field}", "is missing", mend)


def _check_name(data: JsonObject) -> Iterator[Problem]:
    name = data.get("name")
    if isinstance(name, str) and (problem := card_name_problem(name)):
        yield error(6, "data.name", problem, "choose a name that is also a file name")


def _text_faults(document: JsonObject) -> Iterator[Problem]:
    """Rule 7 for every text and number of a document, keys included."""
    for path, value in _leaves(document):
        if isinstance(value, float) and not math.isfinite(value):
            yield error(7, path, f"is {value}, which is not JSON", "give a finite number or leave it out")
        if isinstance(value, str) and (mark := _forbidden_mark(value)):
            reason = f"holds {mark}, which readers of JSON or of chats choke on"
            yield error(7, path, reason, "remove the character")


def _forbidden_mark(text: str) -> str | None:
    if text.isprintable():
        return None
    for mark in text:
        category = unicodedata.category(mark)
        if category == "Cs":
            return f"half of a surrogate pair (U+{ord(mark):04X})"
        if category == "Cc" and mark not in "\n\t":
            return f"the control character U+{ord(mark):04X}"
    return None


def _leaves(document: JsonObject) -> Iterator[tuple[str, Any]]:
    waiting: list[tuple[str, Any]] = [("", document)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict):
            for key, item in value.items():
                yield at(path, key), key
                waiting.append((at(path, key), item))
        elif isinstance(value, list | tuple):
            waiting.extend((f"{path}[{index}]", item) for index, item in enumerate(value))
        else:
            yield path, value


def _check_dates(data: JsonObject) -> Iterator[Problem]:
    for field in ("creation_date", "modification_date"):
        value = data.get(field)
        if fits("a number", value) and not (isinstance(value, int) and 0 <= value < _SECONDS_MAX):
            mend = "give whole seconds since 1970 in UTC, or 0"
            yield error(7, f"data.{field}", f"is {shown(value)}", mend)


def _check_extensions(data: JsonObject) -> Iterator[Problem]:
    extensions = data.get("extensions")
    if not isinstance(extensions, dict):
        return
    path = "data.extensions"
    for field, kind in _FRONT_END_FIELDS.items():
        if field in extensions and not fits(kind, extensions[field]):
            reason = f"is {shown(extensions[field])}, but front ends use this name for {kind}"
            yield error(4, f"{path}.{field}", reason, "take another name for own data")
    for field in _OWN_PARTS:
        if field in extensions:
            mend = f"move it under {path}.{OWN_EXTENSION}"
            yield error(4, f"{path}.{field}", f"stands beside {OWN_EXTENSION} and not in it", mend)
    if OWN_EXTENSION in extensions:
        own = extensions[OWN_EXTENSION]
        if isinstance(own, dict):
            yield from _fields(own, OWN_FIELDS, REQUIRED_OWN_FIELDS, f"{path}.{OWN_EXTENSION}", 4)
        else:
            yield error(4, f"{path}.{OWN_EXTENSION}", f"is {shown(own)}", "make it an object")


def _check_book(data: JsonObject, spec: str) -> Iterator[Problem]:
    book = data.get("character_book")
    if not isinstance(book, dict):
        return
    path = "data.character_book"
    yield from _unknown_fields(book, card_format.BOOK_FIELDS, path)
    yield from _fields(book, card_format.BOOK_FIELDS, card_format.REQUIRED_BOOK_FIELDS, path, 2)
    listed = book.get("entries")
    if not isinstance(listed, list):
        return
    for index, entry in enumerate(listed):
        if isinstance(entry, dict):
            yield from _check_entry(entry, spec, f"{path}.entries[{index}]")
    yield from _check_ids([entry for entry in listed if isinstance(entry, dict)], path)


def _check_entry(entry: JsonObject, spec: str, path: str) -> Iterator[Problem]:
    known = {field: kind for field, kind in card_format.ENTRY_FIELDS.items() if _belongs(field, spec)}
    yield from _unknown_fields(entry, known, path)
    yield from _fields(entry, known, card_format.required_entry_fields(spec), path, 2)
    position = entry.get("position", card_format.POSITIONS[0])
    if isinstance(position, str) and position not in card_format.POSITIONS:
        yield error(2, f"{path}.position", f"is {shown(position)}", "write before_char or after_char")
    keys = entry.get("keys")
    if isinstance(keys, list) and entry.get("constant") is not True and not any(map(_is_key, keys)):
        yield error(2, f"{path}.keys", "has no key, so the entry never fires", "add a key or set constant")
    content = entry.get("content")
    if isinstance(content, str):
        bare = card_format.without_decorators(content)
        if not bare.strip():
            yield error(2, f"{path}.content", "is blank, so the entry adds nothing", "write it or drop it")
        elif spec == V2 and bare != content:
            reason = "begins with decorators, which only V3 knows"
            yield error(9, f"{path}.content", reason, "remove those lines")


def _is_key(key: Any) -> bool:
    return isinstance(key, str) and bool(key.strip())


def _check_ids(listed: list[JsonObject], path: str) -> Iterator[Problem]:
    """Front ends store entries under their id: two of one id, or some with and some without, get lost."""
    ids = [entry["id"] for entry in listed if fits("an integer", entry.get("id"))]
    if any("id" in entry for entry in listed) and sorted(ids) != list(range(len(listed))):
        found = shown(", ".join(map(str, ids)))
        mend = f"number all entries from 0 to {len(listed) - 1}"
        yield error(2, f"{path}.entries", f"has the ids {found}, so front ends lose entries", mend)


def _check_assets(data: JsonObject) -> Iterator[Problem]:
    assets = data.get("assets")
    if not isinstance(assets, list) or not fits("an array of objects", assets):
        return
    for index, asset in enumerate(assets):
        path = f"data.assets[{index}]"
        yield from _fields(asset, dict.fromkeys(_ASSET_FIELDS, "a string"), _ASSET_FIELDS, path, 8)
        if all(isinstance(asset.get(field), str) for field in _ASSET_FIELDS):
            yield from _check_asset(asset, path)
    for kind in ("icon", "background"):
        names = [asset.get("name") for asset in assets if asset.get("type") == kind]
        mains = names.count("main")
        if mains > 1 or (kind == "icon" and len(names) > 1 and mains == 0):
            reason = f"holds {len(names)} of type {kind} and {mains} named main"
            yield error(8, "data.assets", reason, "name one of them main, and only one")


def _check_asset(asset: JsonObject, path: str) -> Iterator[Problem]:
    if asset["type"] not in _ASSET_TYPES and not asset["type"].startswith("x_"):
        mend = f"known: {', '.join(_ASSET_TYPES)}; own types begin with x_"
        yield error(8, f"{path}.type", f"is {shown(asset['type'])}", mend)
    if asset["ext"] != asset["ext"].lower() or "." in asset["ext"] or not asset["ext"]:
        mend = "write it in lower case without a dot, or unknown"
        yield error(8, f"{path}.ext", f"is {shown(asset['ext'])}", mend)
    if not _ASSET_ADDRESS.fullmatch(asset["uri"]):
        mend = "give http(s)://, data:, ccdefault: or embeded:// (one d) with an ASCII path"
        yield error(8, f"{path}.uri", f"is {shown(asset['uri'])}", mend)


def _check_notes(data: JsonObject) -> Iterator[Problem]:
    notes = data.get("creator_notes_multilingual")
    for language, text in notes.items() if isinstance(notes, dict) else ():
        path = at("data.creator_notes_multilingual", language)
        if not _LANGUAGE_CODE.fullmatch(language):
            mend = "use two letters without a region: zh, es"
            yield error(9, path, "has a key that is no language code", mend)
        if not isinstance(text, str):
            yield error(9, path, f"is {shown(text)}", "make it a string")
