"""Decorators: the lines `@@name value` on top of a lorebook entry's content, which say when and where it speaks.

Source: the V3 specification, "Decorators". A line `@@@name value` stands in for the line above it where that one is not
known. Of several with one name the first counts, but for `additional_keys`.
"""

from __future__ import annotations

import re
from typing import Literal, get_args

from personalab.records import Record

Position = Literal["before_desc", "after_desc", "personality", "scenario"]
Role = Literal["system", "user", "assistant"]

_LINE = re.compile(r"(?P<mark>@@@?)(?P<name>[A-Za-z_]+)[ \t]*(?P<value>[^\n]*)")
_NUMBER = re.compile(r"-?\d{1,9}")

IGNORED = (
    "instruct_depth", "reverse_depth", "reverse_instruct_depth", "instruct_scan_depth", "is_user_icon",
    "disable_ui_prompt",
)  # fmt: skip
"""Decorators that the specification knows and a lone chat cannot honour, or is told to ignore: their fallback counts."""


class Decorators(Record):
    """What decorators say. None, and an empty tuple, is not said. Numbers count messages."""

    activate_only_after: int | None = None
    activate_only_every: int | None = None
    keep_activate_after_match: bool = False
    dont_activate_after_match: bool = False
    depth: int | None = None
    role: Role | None = None
    scan_depth: int | None = None
    is_greeting: int | None = None
    position: Position | None = None
    additional_keys: tuple[tuple[str, ...], ...] = ()
    exclude_keys: tuple[str, ...] = ()
    ignore_on_max_context: bool = False
    activate: bool = False
    dont_activate: bool = False


def split_content(content: str) -> tuple[Decorators, str]:
    """What the decorators of a content say, and the content without them and the empty lines around them."""
    said: dict[str, object] = {}
    taken = True  # whether the line above was understood, so that its fallbacks are not needed
    rest = content
    while found := _LINE.match(rest.lstrip()):
        rest = rest.lstrip()[found.end() :].lstrip()
        if found["mark"] == "@@@" and taken:
            continue
        taken = _understood(found["name"].lower(), found["value"].strip(), said)
    return Decorators.model_validate(said), rest


def _understood(name: str, value: str, said: dict[str, object]) -> bool:
    """Whether a decorator is one of ours with a value that fits; the first of its name is kept."""
    read = _read(name, value)
    if read is None:
        return False
    if name == "additional_keys":
        said[name] = (*_earlier(said), read)
    else:
        said.setdefault(name, read)
    return True


def _earlier(said: dict[str, object]) -> tuple[object, ...]:
    there = said.get("additional_keys", ())
    return there if isinstance(there, tuple) else ()


def _read(name: str, value: str) -> object | None:
    """The value of a decorator; None if the name is not known or the value does not fit."""
    match name:
        case (
            "activate"
            | "dont_activate"
            | "keep_activate_after_match"
            | "dont_activate_after_match"
            | "ignore_on_max_context"
        ):
            return True
        case "activate_only_after" | "depth" | "scan_depth" | "is_greeting":
            return int(value) if _NUMBER.fullmatch(value) else None
        case "activate_only_every":
            return int(value) if _NUMBER.fullmatch(value) and int(value) > 0 else None
        case "role":
            return value if value in get_args(Role) else None
        case "position":
            return value if value in get_args(Position) else None
        case "additional_keys" | "exclude_keys":
            return tuple(key.strip() for key in value.split(",") if key.strip()) or None
        case _:
            return None
