"""The values that flow: messages, requests, replies, usage.

Frozen and equal by content. They know nothing of files, networks or time zones; whoever stores them adds that.
"""

from __future__ import annotations

from html import escape
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

JsonObject = dict[str, Any]


class Record(BaseModel):
    """A frozen value that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SamplingParams(Record):
    """What steers sampling. None means: not sent, so the endpoint's own default holds."""

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = None
    max_tokens: int | None = Field(default=None, gt=0)


class Usage(Record):
    """Tokens paid for. None is unknown, never 0, and unknown plus anything stays unknown."""

    input_tokens: int | None = 0
    output_tokens: int | None = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input_tokens=_sum(self.input_tokens, other.input_tokens),
            output_tokens=_sum(self.output_tokens, other.output_tokens),
        )

    def __sub__(self, other: Usage) -> Usage:
        return Usage(
            input_tokens=_sum(self.input_tokens, _minus(other.input_tokens)),
            output_tokens=_sum(self.output_tokens, _minus(other.output_tokens)),
        )

    @property
    def tokens(self) -> int | None:
        """Input and output tokens together."""
        return _sum(self.input_tokens, self.output_tokens)


def _minus(tokens: int | None) -> int | None:
    return None if tokens is None else -tokens


def _sum(left: int | None, right: int | None) -> int | None:
    return None if left is None or right is None else left + right


class PoolCounts(Record):
    """What a pool has done so far. `usage` is what was paid, answers that did not fit included.

    `cost` is what that was in US dollars: None as soon as something was paid whose price is unknown.
    """

    sent: int = 0
    cached: int = 0
    shared: int = 0
    rate_limited: int = 0
    failed: int = 0
    usage: Usage = Usage()
    cost: float | None = 0.0

    def since(self, before: PoolCounts) -> PoolCounts:
        """What was done after an earlier count."""
        names = ("sent", "cached", "shared", "rate_limited", "failed")
        steps = {name: getattr(self, name) - getattr(before, name) for name in names}
        known = self.cost is not None and before.cost is not None
        cost = self.cost - before.cost if known else None  # type: ignore[operator]
        return PoolCounts(**steps, usage=self.usage - before.usage, cost=cost)


class Picture(Record):
    """An image as it is sent: upright, without metadata, at most the configured size.

    `sha256` is of the pixels, so neither metadata nor an encoder's version changes it. `data` is the encoded file and
    is left out of reprs and of everything stored.
    """

    sha256: str
    width: int
    height: int
    media_type: str = "image/png"
    data: bytes = Field(default=b"", exclude=True, repr=False)


class Message(Record):
    """One chat message: text, and pictures in front of it."""

    role: Literal["system", "user", "assistant"]
    text: str
    pictures: tuple[Picture, ...] = ()


class Schema(Record):
    """The JSON schema a reply has to fit."""

    name: str
    body: JsonObject


class Request(Record):
    """What is asked of a model. `replicate` asks the same again on purpose.

    `stage` is a label. `kind` says whether text is asked for, or the vector of one text (the reply's text is then a JSON
    list of numbers). `rank` is how many requests follow one another from here, this one included: where several
    wait for a place in flight the longest chain goes first, so that a batch ends soonest.
    """

    stage: str
    kind: Literal["chat", "embedding"] = "chat"
    model: str | None = None
    messages: tuple[Message, ...]
    sampling: SamplingParams = SamplingParams()
    answer: Schema | None = None
    replicate: int = Field(default=0, ge=0)
    rank: int = 0

    def __str__(self) -> str:
        """The prompt as it is read: each message under its role."""
        parts = []
        for message in self.messages:
            pictures = "".join(
                f"[picture {picture.width}×{picture.height} {picture.sha256[:8]}]\n"
                for picture in message.pictures
            )
            parts.append(f"── {message.role} ──\n{pictures}{message.text}")
        return "\n\n".join(parts)

    def _repr_html_(self) -> str:
        return text_html(str(self))


class Reply(Record):
    """What came back.

    `usage` counts every attempt that was paid, also those whose answer did not fit. `seconds` is the time at the
    endpoint over all attempts, without waiting for a slot. A cached reply keeps the usage and seconds of the
    original. `not_applied` names sampling params the model does not take. `spans` says when each attempt was in
    flight: begin and end, in seconds since 1970.
    """

    text: str
    model: str
    finish_reason: str = "stop"
    usage: Usage = Usage()
    attempts: int = 1
    seconds: float = 0.0
    cached: bool = False
    endpoint: str = ""
    not_applied: tuple[str, ...] = ()
    spans: tuple[tuple[float, float], ...] = ()


AS_WRITTEN = "mathjax_ignore tex2jax_ignore"
"""Class of HTML in which dollar signs are money: JupyterLab sets what stands between two of them as a formula."""


def text_html(text: str) -> str:
    """Text for a notebook as it is, but wrapped between words, where printed text is cut within them."""
    style = "white-space:pre-wrap;word-break:normal;overflow-wrap:anywhere;max-width:110ch"
    return f'<pre style="{style}">{escape(text)}</pre>'


def explain(error: ValidationError) -> str:
    """A pydantic error in one line: where, and what is wrong there."""
    problems = []
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"]).lstrip(
            "."
        )
        message = detail["msg"].removeprefix("Value error, ")
        problems.append(f"{path}: {message}" if path else message)
    return "; ".join(problems)
