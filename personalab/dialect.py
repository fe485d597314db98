"""What an endpoint takes: how a request is worded for it, and what is learnt from its refusals.

Endpoints that speak "the OpenAI protocol" differ. The first refusal teaches, the pool remembers, and no request pays
for the same lesson twice. Pure: no network, no state.
"""

from __future__ import annotations

import base64
import json
import re
from itertools import pairwise
from typing import Any, Literal

from personalab.errors import ImageError, RequestRefused
from personalab.records import JsonObject, Message, Picture, Record, Request, Schema

AnswerMode = Literal["json_schema", "json_object", "text"]
_MODES: tuple[AnswerMode, ...] = ("json_schema", "json_object", "text")  # from strong to weak
_WEAKER = dict(pairwise(_MODES))
_SAMPLING = ("temperature", "top_p", "seed")
# Said of a parameter that is not taken at all. "Must be at most 1" is about its value and nothing to leave out.
_UNSUPPORTED_WORDS = (
    "unsupported", "not support", "only the default", "unrecognized", "unknown", "not permitted", "not allowed",
    "unexpected", "deprecated", "extra",
)  # fmt: skip
_MODE_WORDS = ("response_format", "json_schema", "json_object", "structured output", "grammar", "guided")
_PICTURE_WORDS = re.compile(
    r"\b(images?|image_url|vision|multi-?modal)\b|content must be a string|input should be a valid string"
)
_OTHER_MATTERS = re.compile(r"context|too (large|big|long|many)|response_format|schema|size")


class Dialect(Record):
    """What is known of one model at one endpoint; the default is what most endpoints take."""

    answer_mode: AnswerMode = "json_schema"
    length_parameter: Literal["max_completion_tokens", "max_tokens"] = "max_tokens"
    left_out: tuple[str, ...] = ()
    mode_certain: bool = True

    def body(self, request: Request, model: str) -> JsonObject:
        """The JSON body of a request."""
        if request.kind == "embedding":
            return {"model": model, "input": request.messages[0].text}
        body: JsonObject = {"model": model, "messages": self._messages(request)}
        for name in _SAMPLING:
            value = getattr(request.sampling, name)
            if value is not None and name not in self.left_out:
                body[name] = value
        if body.get("seed") is not None:
            body["seed"] += request.replicate  # a fixed seed must not make every replicate the same
        if "max_tokens" in self._sent(request):
            body[self.length_parameter] = request.sampling.max_tokens
        if request.answer and self.answer_mode == "json_schema":
            body["response_format"] = {"type": "json_schema", "json_schema": _strict(request.answer)}
        elif request.answer and self.answer_mode == "json_object":
            body["response_format"] = {"type": "json_object"}
        return body

    def not_applied(self, request: Request) -> tuple[str, ...]:
        """Sampling params that were asked for and are not sent."""
        return tuple(name for name in self.left_out if getattr(request.sampling, name) is not None)

    def learn(self, refusal: RequestRefused, request: Request) -> Dialect | None:
        """What to try next after a refusal, or None if it was not about wording."""
        said = f"{refusal.parameter or ''} {refusal.said}".lower()
        if any(word in said for word in _UNSUPPORTED_WORDS):
            if self.length_parameter in said and "max_tokens" in self._sent(request):
                return self._without_length_parameter()
            for name in _SAMPLING:
                if name in said and name in self._sent(request):
                    return self.model_copy(update={"left_out": (*self.left_out, name)})
        # Servers word it in too many ways to list: a request with a schema is tried with a weaker mode whatever was
        # said. The lesson holds for other requests only if the refusal was about the mode and not about one schema.
        if request.answer is not None and self.answer_mode in _WEAKER:
            certain = any(word in said for word in _MODE_WORDS) and "invalid schema" not in said
            return self.model_copy(
                update={
                    "answer_mode": _WEAKER[self.answer_mode],
                    "mode_certain": self.mode_certain and certain,
                }
            )
        return None

    def certain(self) -> Dialect:
        """What other requests may take over."""
        return (
            self
            if self.mode_certain
            else self.model_copy(update={"answer_mode": _MODES[0], "mode_certain": True})
        )

    def _without_length_parameter(self) -> Dialect:
        if self.length_parameter == "max_tokens":
            return self.model_copy(update={"length_parameter": "max_completion_tokens"})
        return self.model_copy(update={"left_out": (*self.left_out, "max_tokens")})

    def _sent(self, request: Request) -> set[str]:
        """Names of the sampling params that are sent."""
        asked = request.sampling.model_dump(exclude_none=True)
        return asked.keys() - set(self.left_out)

    def with_lessons(self, other: Dialect) -> Dialect:
        """What two requests learnt at the same time, together."""
        return Dialect(
            answer_mode=max(self.answer_mode, other.answer_mode, key=_MODES.index),
            length_parameter=other.length_parameter
            if other.length_parameter != "max_tokens"
            else self.length_parameter,
            left_out=tuple(dict.fromkeys((*self.left_out, *other.left_out))),
            mode_certain=self.mode_certain and other.mode_certain,
        )

    def _messages(self, request: Request) -> list[JsonObject]:
        messages = list(request.messages)
        if request.answer and self.answer_mode != "json_schema":
            messages = _with_schema(messages, request.answer)
        return [_wire(message) for message in messages]


def is_about_pictures(refusal: RequestRefused, request: Request) -> bool:
    """Whether a refusal says that the model takes no images."""
    said = f"{refusal.parameter or ''} {refusal.said}".lower()
    sent = any(message.pictures for message in request.messages)
    return sent and bool(_PICTURE_WORDS.search(said)) and not _OTHER_MATTERS.search(said)


def asked_again(request: Request, answer: str, problem: str) -> Request:
    """The request with the answer that did not fit and what was wrong with it."""
    told = f"Your answer cannot be used: {problem}\nAnswer again"
    if request.answer:
        schema = json.dumps(request.answer.body, ensure_ascii=False)
        told += " with the whole JSON object, corrected, and nothing around it."
        told += f" It has to fit this JSON schema:\n{schema}"
    again = (Message(role="assistant", text=answer or "(empty)"), Message(role="user", text=told))
    return request.model_copy(update={"messages": (*request.messages, *again)})


def _with_schema(messages: list[Message], schema: Schema) -> list[Message]:
    rule = f"\n\nAnswer with one JSON object that fits this JSON schema:\n{json.dumps(schema.body, ensure_ascii=False)}"
    first, *rest = messages
    return [first.model_copy(update={"text": first.text + rule}), *rest]


def _wire(message: Message) -> JsonObject:
    for picture in message.pictures:
        if not picture.data:
            raise ImageError(
                picture.sha256[:8], "has no pixels here, as a run file keeps none; read the image again"
            )
    if not message.pictures:
        return {"role": message.role, "content": message.text}
    parts: list[JsonObject] = [
        {"type": "image_url", "image_url": {"url": _data_url(picture)}} for picture in message.pictures
    ]
    return {"role": message.role, "content": [*parts, {"type": "text", "text": message.text}]}


def _data_url(picture: Picture) -> str:
    return f"data:{picture.media_type};base64,{base64.b64encode(picture.data).decode()}"


def _strict(schema: Schema) -> JsonObject:
    return {"name": schema.name, "schema": schema.body, "strict": _all_required(schema.body)}


def _all_required(schema: Any) -> bool:
    """Whether every object names all its properties as required and allows no others, as strict mode demands."""
    if isinstance(schema, list):
        return all(_all_required(item) for item in schema)
    if not isinstance(schema, dict):
        return True
    if "prefixItems" in schema or ("$ref" in schema and len(schema) > 1):
        return False
    if schema.get("type") == "object":
        closed = schema.get("additionalProperties") is False
        if not closed or set(schema.get("required", ())) != set(schema.get("properties", ())):
            return False
    return all(_all_required(value) for value in schema.values())
