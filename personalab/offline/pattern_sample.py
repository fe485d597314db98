"""A text that fits a regular expression, as far as that can be had by walking its parse tree."""

from __future__ import annotations

import re
import warnings
from random import Random
from typing import Any

_REPEATS_MORE = 2
_ANY = "abcdefghijklmnopqrstuvwxyz"
_CATEGORIES = {"CATEGORY_DIGIT": "0123456789", "CATEGORY_WORD": _ANY, "CATEGORY_SPACE": " "}
_PRINTABLE = [chr(code) for code in range(32, 127)]


def sample(pattern: str, random: Random) -> str | None:
    """A text in which `pattern` is found, or None if none was hit upon."""
    from re import _parser as parser  # type: ignore[attr-defined]

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            text = _sequence(parser.parse(pattern), random, {})
            return text if re.search(pattern, text) else None
    except (re.error, RecursionError, OverflowError, KeyError, ValueError):
        return None


def _sequence(parts: Any, random: Random, groups: dict[int, str]) -> str:
    return "".join(_part(str(kind), value, random, groups) for kind, value in parts)


def _part(kind: str, value: Any, random: Random, groups: dict[int, str]) -> str:
    if kind == "LITERAL":
        return chr(value)
    if kind == "ANY":
        return random.choice(_ANY)
    if kind == "NOT_LITERAL":
        return next(mark for mark in _ANY if ord(mark) != value)
    if kind == "IN":
        return _one_of(value, random)
    if kind == "BRANCH":
        return _sequence(random.choice(value[1]), random, groups)
    if kind == "SUBPATTERN":
        groups[value[0]] = _sequence(value[3], random, groups)
        return groups[value[0]]
    if kind == "GROUPREF":
        return groups[value]
    if kind in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        low, high, inner = value
        count = random.randint(low, max(low, min(int(high), low + _REPEATS_MORE)))
        return "".join(_sequence(inner, random, groups) for _ in range(count))
    return ""  # anchors and looks take no room; the caller checks the whole


def _one_of(choices: Any, random: Random) -> str:
    negated = str(choices[0][0]) == "NEGATE"
    marks = "".join(_marks(str(kind), value) for kind, value in choices)
    if negated:
        marks = "".join(mark for mark in (*_ANY, *_PRINTABLE) if mark not in marks)
    return random.choice(marks)


def _marks(kind: str, value: Any) -> str:
    if kind == "LITERAL":
        return chr(value)
    if kind == "RANGE":
        return "".join(map(chr, range(value[0], min(value[1], value[0] + 200) + 1)))
    if kind == "CATEGORY":
        return _CATEGORIES.get(str(value), _ANY)
    return ""
