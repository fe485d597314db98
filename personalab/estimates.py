"""How many tokens a request will take, as far as that can be known before."""

from __future__ import annotations

from personalab.records import Request, Usage
from personalab.tokens import count_tokens

_OUTPUT_TOKENS = 500
"""Of an answer, as long as none has come."""
_PIXELS_PER_TOKEN = 750
_WEIGHT = 0.1
"""Of the latest answer in the mean."""


class Estimate:
    """Input tokens by the text, output tokens by `max_tokens` or by the answers so far."""

    def __init__(self) -> None:
        self._output: float | None = None

    def tokens(self, request: Request) -> int:
        """Input and output tokens of a request, estimated."""
        tokens = sum(count_tokens(message.text) for message in request.messages)
        tokens += sum(
            picture.width * picture.height // _PIXELS_PER_TOKEN
            for message in request.messages
            for picture in message.pictures
        )
        usual = _OUTPUT_TOKENS if self._output is None else round(self._output)
        return tokens + min(usual, request.sampling.max_tokens or usual)

    def learn(self, usage: Usage) -> None:
        """What an answer took."""
        if usage.output_tokens is not None:
            before = usage.output_tokens if self._output is None else self._output
            self._output = before + _WEIGHT * (usage.output_tokens - before)
