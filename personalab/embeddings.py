"""Texts as vectors, by a provider's embedding model: cached, limited and paid once like everything that a pool sends.

embed = Embedder(pool, "text-embedding-3-small")
score(tweets, ["embedding_mean_cosine", "vendi_score"], embed=embed)
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from personalab.errors import ConfigError, ReplyInvalid
from personalab.loops import as_finished, numbered, run
from personalab.pool import LLMPool
from personalab.records import Message, Request

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Embedder:
    """Gives the vectors of texts. Called it waits for them; `await embedder.vectors(texts)` in a coroutine.

    `model` names the embedding model; without it the pool's own is asked, which the embedded provider answers.
    """

    pool: LLMPool
    model: str = ""

    def __post_init__(self) -> None:
        if not self.model:
            object.__setattr__(self, "model", self.pool.model)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """One row a text.

        Raises:
            As `vectors`.
        """
        return run(self.vectors(texts))

    async def vectors(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """One row a text, in their order. A request a text; the same text is asked once.

        Raises:
            ConfigError: an empty text, or vectors of different lengths.
            PersonalabError: whatever sending may raise; what is there by then is in the cache.
        """
        import numpy as np

        different = list(dict.fromkeys(texts))
        if any(not text.strip() for text in different):
            raise ConfigError("a text is empty, and has no vector: leave it out")
        found: dict[str, Any] = {}

        async def one(item: tuple[int, str]) -> None:
            message = Message(role="user", text=item[1])
            request = Request(stage="embedding", kind="embedding", model=self.model, messages=(message,))
            reply = await self.pool.send(request, _numbers)
            found[item[1]] = _numbers(reply.text)

        async for _ in as_finished(numbered(different), one, self.pool.window):
            pass
        if len({len(vector) for vector in found.values()}) > 1:
            raise ConfigError("the model gave vectors of different lengths: use one model for all texts")
        return np.array([found[text] for text in texts], dtype=np.float64).reshape(len(texts), -1)


def _numbers(text: str) -> list[float]:
    try:
        numbers = [float(number) for number in json.loads(text)]
    except (ValueError, TypeError) as error:
        raise ReplyInvalid("embedding", f"no list of numbers: {error}", text=text) from error
    if not any(numbers) or not all(map(math.isfinite, numbers)):
        raise ReplyInvalid("embedding", "a vector that is empty, zero or not finite", text=text)
    return numbers
