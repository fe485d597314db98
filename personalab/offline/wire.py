"""The chat-completions protocol: what comes in is checked, what goes out is shaped. Knows nothing of writing or faults."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from personalab.records import JsonObject

MODEL = "personalab-offline"
BYTES_PER_TOKEN = 4
IMAGE_TOKENS = 765
CHUNK_CHARACTERS = 40

_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_FORMATS = ("text", "json_object", "json_schema")


class ApiError(Exception):
    """An answer that is an error, in OpenAI's shape."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    def body(self) -> JsonObject:
        """The JSON body."""
        error = {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error}


@dataclass(frozen=True)
class Turn:
    """One message: who speaks, the text, and the addresses of its images."""

    role: str
    text: str
    images: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chat:
    """A checked request. `answer_format` is text, json_object or json_schema."""

    model: str
    turns: tuple[Turn, ...]
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    max_tokens: int | None = None
    stream: bool = False
    usage_in_stream: bool = False
    answer_format: str = "text"
    schema_name: str = ""
    schema: JsonObject | None = None
    given: frozenset[str] = field(default_factory=frozenset)

    @property
    def images(self) -> tuple[str, ...]:
        """Addresses of all images, in order."""
        return tuple(image for turn in self.turns for image in turn.images)

    @property
    def label(self) -> str:
        """What the schema is called; `none` where there is none."""
        return self.schema_name or named_schema(self.system_text)[0] or "none"

    @property
    def system_text(self) -> str:
        """The text of the system messages."""
        return "\n\n".join(turn.text for turn in self.turns if turn.role in ("system", "developer"))

    @property
    def user_text(self) -> str:
        """The text of the user messages."""
        return "\n\n".join(turn.text for turn in self.turns if turn.role == "user")


@dataclass(frozen=True)
class Answer:
    """What the server says: text or a refusal, and why it ends."""

    text: str | None
    finish_reason: str = "stop"
    refusal: str | None = None


def read_json(data: bytes) -> Any:
    """The JSON value in a body.

    Raises:
        ApiError: 400, it is none.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"We could not parse the JSON body of your request: {error}") from error


def read_chat(body: Any) -> Chat:
    """The request in a body.

    Raises:
        ApiError: 400, something is missing or of the wrong kind; says which parameter.
    """
    if not isinstance(body, dict):
        raise ApiError(400, "The body of your request must be a JSON object.")
    name, schema, answer_format = _answer_format(body.get("response_format"))
    options = body.get("stream_options")
    if body.get("n") not in (None, 1):
        raise _wrong("n", "only n = 1 is served here")
    return Chat(
        model=_model(body.get("model")),
        turns=_turns(body.get("messages")),
        temperature=_number(body, "temperature", 0, 2),
        top_p=_number(body, "top_p", 0, 1),
        seed=_integer(body, "seed"),
        max_tokens=_length_limit(body),
        stream=_flag(body, "stream"),
        usage_in_stream=isinstance(options, dict) and options.get("include_usage") is True,
        answer_format=answer_format,
        schema_name=name,
        schema=schema,
        given=frozenset(key for key, value in body.items() if value is not None),
    )


def named_schema(text: str) -> tuple[str, JsonObject | None]:
    """Name and body of the JSON schema that stands in a text after the words "JSON schema"; the last one counts."""
    found: tuple[str, JsonObject | None] = ("", None)
    for match in re.finditer(r"JSON schema[^{]{0,200}", text, re.IGNORECASE):
        try:
            schema, _ = json.JSONDecoder().raw_decode(text, match.end())
        except (ValueError, RecursionError):
            continue
        if isinstance(schema, dict):
            found = (str(schema.get("title") or ""), schema)
    return found


def cut(answer: Answer, max_tokens: int | None) -> Answer:
    """The answer within a length limit, in tokens."""
    if max_tokens is None or answer.text is None or tokens(answer.text) <= max_tokens:
        return answer
    kept = answer.text.encode()[: max_tokens * BYTES_PER_TOKEN].decode(errors="ignore")
    return Answer(kept, "length")


def tokens(text: str) -> int:
    """About how many tokens a text takes: four bytes each."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def asked_tokens(chat: Chat) -> int:
    """Tokens of a request."""
    return sum(tokens(turn.text) + 4 for turn in chat.turns) + IMAGE_TOKENS * len(chat.images)


def written_tokens(answer: Answer) -> int:
    """Tokens of an answer."""
    return tokens(answer.text or answer.refusal or "")


def usage(chat: Chat, answer: Answer) -> JsonObject:
    """What it would cost."""
    asked, written = asked_tokens(chat), written_tokens(answer)
    return {"prompt_tokens": asked, "completion_tokens": written, "total_tokens": asked + written}


def completion(chat: Chat, answer: Answer, identity: str) -> JsonObject:
    """The whole answer as one object."""
    message = {"role": "assistant", "content": answer.text, "refusal": answer.refusal}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish_reason}
    return _head(identity, "chat.completion") | {"choices": [choice], "usage": usage(chat, answer)}


def chunks(chat: Chat, answer: Answer, identity: str) -> Iterator[bytes]:
    """The answer as server-sent events."""
    head = _head(identity, "chat.completion.chunk")
    text, part = (answer.refusal, "refusal") if answer.text is None else (answer.text, "content")
    deltas: list[JsonObject] = [{"role": "assistant", "content": "", "refusal": None}]
    deltas += [{part: piece} for piece in _pieces(text or "")]
    for delta in deltas:
        yield _event(head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    yield _event(head | {"choices": [{"index": 0, "delta": {}, "finish_reason": answer.finish_reason}]})
    if chat.usage_in_stream:
        yield _event(head | {"choices": [], "usage": usage(chat, answer)})
    yield b"data: [DONE]\n\n"


def models(names: tuple[str, ...]) -> JsonObject:
    """The list of models."""
    data = [{"id": name, "object": "model", "created": 0, "owned_by": "personalab"} for name in names]
    return {"object": "list", "data": data}


def _head(identity: str, kind: str) -> JsonObject:
    return {
        "id": f"chatcmpl-{identity}",
        "object": kind,
        "created": 0,
        "model": MODEL,
        "system_fingerprint": MODEL,
    }


def _pieces(text: str) -> Iterator[str]:
    return (text[at : at + CHUNK_CHARACTERS] for at in range(0, len(text), CHUNK_CHARACTERS))


def _event(data: JsonObject) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"


def _wrong(param: str, problem: str, code: str | None = None) -> ApiError:
    return ApiError(400, f"Invalid value for '{param}': {problem}.", param=param, code=code)


def _model(model: Any) -> str:
    if not isinstance(model, str) or not model:
        raise ApiError(400, "you must provide a model parameter", param="model")
    return model


def _turns(messages: Any) -> tuple[Turn, ...]:
    if messages is None:
        raise ApiError(
            400,
            "Missing required parameter: 'messages'.",
            param="messages",
            code="missing_required_parameter",
        )
    if not isinstance(messages, list) or not messages:
        raise _wrong("messages", "it must be a list with at least one message")
    return tuple(_turn(message, f"messages[{at}]") for at, message in enumerate(messages))


def _turn(message: Any, where: str) -> Turn:
    if not isinstance(message, dict):
        raise _wrong(where, "it must be an object with role and content")
    role, content = message.get("role"), message.get("content")
    if role not in _ROLES:
        raise _wrong(f"{where}.role", f"{role!r} is none of {', '.join(_ROLES)}", "invalid_value")
    if content is None and role == "assistant":
        return Turn(role, "")
    if isinstance(content, str):
        return Turn(role, content)
    if not isinstance(content, list):
        raise _wrong(f"{where}.content", "it must be a string or a list of parts")
    parts = [_part(part, f"{where}.content[{at}]") for at, part in enumerate(content)]
    texts = [text for kind, text in parts if kind == "text"]
    return Turn(role, "\n".join(texts), tuple(url for kind, url in parts if kind == "image_url"))


def _part(part: Any, where: str) -> tuple[str, str]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return kind, part["text"]
    if kind == "image_url":
        image = part.get("image_url")
        if isinstance(image, dict) and isinstance(image.get("url"), str):
            return kind, image["url"]
    raise _wrong(
        where, "it must be {'type': 'text', 'text': …} or {'type': 'image_url', 'image_url': {'url': …}}"
    )


def _answer_format(value: Any) -> tuple[str, JsonObject | None, str]:
    if value is None:
        return "", None, "text"
    kind = value.get("type") if isinstance(value, dict) else None
    if kind not in _FORMATS:
        raise _wrong("response_format", f"its type is none of {', '.join(_FORMATS)}")
    if kind != "json_schema":
        return "", None, kind
    inner = value.get("json_schema")
    if not isinstance(inner, dict) or not isinstance(inner.get("schema"), dict):
        raise ApiError(
            400, "Missing required parameter: 'response_format.json_schema.schema'.", param="response_format"
        )
    name = inner.get("name")
    if not isinstance(name, str) or not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name):
        raise _wrong("response_format.json_schema.name", "1 to 64 letters, digits, _ and - are allowed")
    return name, inner["schema"], kind


def _number(body: JsonObject, name: str, low: float, high: float) -> float:
    value = body.get(name)
    if value is None:
        return 1.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise _wrong(name, f"{value!r} is not a number from {low} to {high}")
    return float(value)


def _integer(body: JsonObject, name: str) -> int | None:
    value = body.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise _wrong(name, f"{value!r} is not an integer")
    return value


def _length_limit(body: JsonObject) -> int | None:
    name = "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
    value = _integer(body, name)
    if value is not None and value < 1:
        raise _wrong(name, f"{value} is below 1")
    return value


def _flag(body: JsonObject, name: str) -> bool:
    value = body.get(name)
    if not isinstance(value, bool | None):
        raise _wrong(name, f"{value!r} is neither true nor false")
    return bool(value)
