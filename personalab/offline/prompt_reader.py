"""What a prompt asks for: language, place, wishes, what the persona starts from, and the outputs of earlier stages."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

import orjson

from personalab.offline.image_reader import Seen, look
from personalab.offline.lexicon import language_code
from personalab.offline.wire import Chat, named_schema
from personalab.records import JsonObject

_NOT_GIVEN = ("", "none", "not given", "-")
_PLACE_LENGTH = 120
_WISH_LENGTH = 400
_DESCRIPTION = re.compile(
    r"begins with this description[^\n]*\n(.*?)(?:\n\s*Write the core persona:|\Z)", re.DOTALL
)
_BRACKETS = str.maketrans("", "", "[]{}<>|")


@dataclass(frozen=True)
class Asked:
    """A prompt as it was understood. `seed` fixes every draw; `source` is what stage 1 starts from.

    `answers` are those given earlier in the conversation.
    """

    schema_name: str
    schema: JsonObject | None
    wants_json: bool
    language: str
    location: str
    wishes: str
    source: str
    source_id: str
    seen: tuple[Seen, ...]
    persona: JsonObject | None
    strategy: JsonObject | None
    text: str
    answers: tuple[str, ...]
    seed: str
    temperature: float
    top_p: float


def read_prompt(chat: Chat, replicate: str = "") -> Asked:
    """What is asked for.

    Raises:
        ApiError: 400, a language that is not written here, or an image that cannot be read.
    """
    text = chat.user_text
    name, schema = chat.schema_name, chat.schema
    if schema is None:
        name, schema = named_schema(chat.system_text)
    seen = tuple(look(address) for address in chat.images)
    description = _description(text)
    return Asked(
        schema_name=name,
        schema=schema,
        wants_json=chat.answer_format != "text",
        language=language_code(_line(text, "Language") or "English"),
        location=_given(_line(text, "Location"))[:_PLACE_LENGTH],
        wishes=_given(_line(text, "The researcher's own instructions"))[:_WISH_LENGTH],
        source="" if seen else description,
        source_id="".join(picture.sha256 for picture in seen) or _hash(description or text),
        seen=seen,
        persona=_earlier(text, "core_persona"),
        strategy=_earlier(text, "tweet_strategy"),
        text=text,
        answers=tuple(turn.text for turn in chat.turns if turn.role == "assistant"),
        seed=seed_of(chat, seen, replicate),
        temperature=chat.temperature,
        top_p=chat.top_p,
    )


def plain(text: str) -> str:
    """A text from outside as it may stand in a sentence: one line, without brackets of any kind."""
    return " ".join(text.translate(_BRACKETS).split())


def tagged(text: str, tag: str) -> Any:
    """The JSON between <tag> and </tag>; None if there is none."""
    found = re.search(rf"<{tag}>\s*(.*?)\s*</{tag}>", text, re.DOTALL)
    try:
        return orjson.loads(found[1]) if found else None
    except orjson.JSONDecodeError:
        return None


def _description(text: str) -> str:
    found = _DESCRIPTION.search(text)
    return plain(found[1]) if found else ""


def _line(text: str, label: str) -> str:
    found = re.search(rf"^[ \t]*{re.escape(label)}:[ \t]*(.+)$", text, re.MULTILINE)
    return plain(found[1]) if found else ""


def _given(value: str) -> str:
    low = value.casefold().strip(" .")
    return "" if low in _NOT_GIVEN or low.startswith("not given") else value


def _earlier(text: str, stage: str) -> JsonObject | None:
    data = tagged(text, stage)
    return data if isinstance(data, dict) else None


def seed_of(chat: Chat, seen: tuple[Seen, ...], replicate: str) -> str:
    """A hash of all that may change the answer: not the model's name, nor limits, nor how it is delivered."""
    messages = [[turn.role, turn.text, len(turn.images)] for turn in chat.turns]
    pictures = [picture.sha256 for picture in seen]
    schema = [chat.answer_format, chat.schema_name, chat.schema]
    return _hash(json.dumps([messages, pictures, schema, chat.temperature, chat.top_p, chat.seed, replicate]))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()
