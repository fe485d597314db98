"""Vectors of texts: texts that share words lie near each other. Nothing is understood.

Each word and each three letters of it count in one of 256 directions, as their hash says; the sum has length 1.
"""

from __future__ import annotations

import math
import re
from typing import Any

from personalab.offline.choice import number
from personalab.offline.wire import ApiError, tokens
from personalab.records import JsonObject

_DIRECTIONS = 256
_WORD_WEIGHT = 2.0


def embedded(body: Any) -> JsonObject:
    """The answer to the body of a request for embeddings.

    Raises:
        ApiError: 400, something is missing or of the wrong kind; says which parameter.
    """
    if not isinstance(body, dict) or not isinstance(body.get("model"), str):
        raise ApiError(400, "model: a name is required", param="model")
    given = body.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
        raise ApiError(400, "input: a text or a list of texts is required, none of them empty", param="input")
    data = [
        {"object": "embedding", "index": index, "embedding": vector(text)} for index, text in enumerate(texts)
    ]
    asked = sum(map(tokens, texts))
    usage = {"prompt_tokens": asked, "total_tokens": asked}
    return {"object": "list", "data": data, "model": body["model"], "usage": usage}


def vector(text: str) -> list[float]:
    """256 numbers whose squares sum to 1."""
    sums = [0.0] * _DIRECTIONS
    words = re.findall(r"\w+", text.casefold()) or [text]
    for word in words:
        parts = [word[start : start + 3] for start in range(max(1, len(word) - 2))]
        for part, weight in ((f"{word} ", _WORD_WEIGHT), *((part, 1.0) for part in parts)):
            drawn = number(part)
            sums[drawn % _DIRECTIONS] += weight if drawn // _DIRECTIONS % 2 else -weight
    length = math.sqrt(sum(each * each for each in sums)) or 1.0
    return [round(each / length, 6) for each in sums]
