"""From a reply's text to a typed output: find the JSON, repair it if it is damaged, validate it.

Knows JSON and pydantic, not stages, pools or files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from personalab.errors import ReplyInvalid
from personalab.records import explain

Output = TypeVar("Output", bound=BaseModel)

_THINKING = re.compile(r"\A\s*<(think|thinking|reasoning)>.*?</\1>", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*?)```", re.DOTALL | re.IGNORECASE)
_UNFINISHED = re.compile(r"[\"':,\[]")  # behind the last brace: the text goes on inside the object
_EXCERPT_CHARACTERS = 120


def parse_reply(text: str, output: type[Output], stage: str, done: Mapping[str, Any] | None = None) -> Output:
    """The typed output in a model's answer.

    `done` holds the outputs of earlier stages, for checks that compare with them.

    Raises:
        ReplyInvalid: there is no JSON object, or it does not fit; `problem` says where and why, fit for the model.
    """
    data = find_object(text)
    if data is None:
        raise ReplyInvalid(
            stage, f"no whole JSON object in the reply, which begins {_excerpt(text)!r}", text=text
        )
    try:
        return output.model_validate(data, context={"done": done or {}})
    except ValidationError as error:
        raise ReplyInvalid(stage, explain(error), text=text) from error


def find_object(text: str) -> dict[str, Any] | None:
    """The JSON object in a text: alone, fenced, amid prose, or damaged and repaired; None where there is none or it is cut off."""
    text = _THINKING.sub("", text).strip()
    for candidate in (text, *reversed(_FENCE.findall(text))):  # of several, the last is meant
        if isinstance(data := _strict(candidate), dict):
            return data
    begin, end = text.find("{"), text.rfind("}")
    if begin < 0:
        return None
    if isinstance(data := _strict(text[begin : end + 1]), dict):
        return data
    if end < begin or _UNFINISHED.search(text, end + 1):
        return None  # repair would close what was cut off, and half an answer would pass for a whole one
    return _repaired(text[begin : end + 1])


def _strict(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _repaired(text: str) -> dict[str, Any] | None:
    from json_repair import repair_json

    try:
        data = repair_json(text, return_objects=True)
    except (ValueError, RecursionError):
        return None
    if isinstance(data, list):  # several objects in a row: the first one that is an object is the answer
        data = next((item for item in data if isinstance(item, dict)), None)
    return data if isinstance(data, dict) and data else None


def _excerpt(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _EXCERPT_CHARACTERS else text[:_EXCERPT_CHARACTERS] + " …"
