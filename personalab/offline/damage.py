"""Doing to a good answer what models do to theirs: broken JSON, wrong shapes, half of it, none of it, no thank you."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from random import Random
from typing import Any

from personalab.offline.wire import Answer

REFUSAL = "I'm sorry, but I can't help with that."


def damaged(fault: str, text: str, random: Random) -> Answer:
    """The answer with a fault in it."""
    if fault == "cut_off":
        return Answer(text[: len(text) // 2], "length")
    if fault == "refusal":
        return Answer(None, "stop", REFUSAL)
    if fault == "empty":
        return Answer("")
    if fault == "wrong_shape":
        return Answer(_misshapen(text, random))
    return Answer(random.choice(_BREAKS)(text, random))


def _fenced(text: str, _random: Random) -> str:
    return f"```json\n{text}\n```"


def _amid_prose(text: str, _random: Random) -> str:
    return f"Sure! Here is the JSON you asked for:\n\n{text}\n\nLet me know if you would like any changes."


def _trailing_commas(text: str, _random: Random) -> str:
    return re.sub(r"(?<=[\"\d\]}el])(\s*\n\s*[}\]])", r",\1", text)


def _unquoted(text: str, _random: Random) -> str:
    return re.sub(r'^(\s*)"(\w+)":', r"\1\2:", text, flags=re.MULTILINE)


def _one_field_wrong(text: str, random: Random) -> str:
    data = _object(text)
    numbers = [key for key, value in (data or {}).items() if isinstance(value, int | float)]
    if not data or not numbers:
        return _fenced(text, random)
    key = random.choice(numbers)
    return json.dumps({**data, key: f"about {data[key]}"}, ensure_ascii=False)


def _misshapen(text: str, random: Random) -> str:
    """Valid JSON in which one field is missing or of the wrong type."""
    data = _object(text)
    if not data:
        return text
    key = random.choice(sorted(data))
    if random.random() < 0.5:
        data.pop(key)
    else:
        data[key] = {"unexpected": "value"} if not isinstance(data[key], dict) else "unexpected value"
    return json.dumps(data, ensure_ascii=False)


def _object(text: str) -> dict[str, Any] | None:
    try:
        data = json.loads(text)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None


_BREAKS: tuple[Callable[[str, Random], str], ...] = (
    _fenced,
    _amid_prose,
    _trailing_commas,
    _unquoted,
    _one_field_wrong,
)
