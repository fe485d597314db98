"""Embeddings: asked of the provider's own route, once a text, limited and cached as everything else."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import numpy as np
import pandas as pd
import pytest

from personalab import LLMPool
from personalab.comparison import compare
from personalab.embeddings import Embedder, _numbers
from personalab.errors import ConfigError, KeyRefused, ReplyInvalid
from personalab.metrics import score
from personalab.offline.faults import parse_faults
from personalab.offline.server import OfflineServer

TEXTS = [
    "the cat sat on the mat",
    "the cat sat on the hat",
    "a dog ran in the park",
    "the cat sat on the mat",
]


async def test_one_vector_a_text(tmp_path: Path) -> None:
    """In their order, the same text once, and nothing twice; texts that share words are nearer."""
    with OfflineServer() as server:
        pool = LLMPool(api_base=server.base_url, model="m", cache_dir=tmp_path)
        vectors = await Embedder(pool, "small").vectors(TEXTS)
        assert vectors.shape == (4, 256)
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
        assert (vectors[0] == vectors[3]).all()
        assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
        assert (server.ledger.received, pool.counts.sent) == (3, 3)
        again = await Embedder(
            LLMPool(api_base=server.base_url, model="m", cache_dir=tmp_path), "small"
        ).vectors(TEXTS)
        assert server.ledger.received == 3
        assert (again == vectors).all()
        await Embedder(pool, "large").vectors(TEXTS[:1])
        assert server.ledger.received == 4, "another model is another vector"


async def test_metrics_take_an_embedder() -> None:
    """Called, it waits; inside a running loop as well, as in a notebook's cell."""
    embed = Embedder(LLMPool(cache="off"))
    frame = pd.DataFrame(
        [(c, i, f"{text} {c if c == 'b' else ''}") for c in "ab" for i in "xyz" for text in TEXTS],
        columns=["condition", "image", "text"],
    )
    scored = score(frame, ["embedding_mean_cosine"], embed=embed)
    assert scored["embedding_mean_cosine"].between(0, 1).all()
    found = compare(frame, metric="embedding_mean_cosine", embed=embed)
    assert found.levels["level"].tolist() == ["a", "b"]


async def test_never_more_than_the_limit(tmp_path: Path) -> None:
    """The pool's limit holds for them too."""
    with OfflineServer(parse_faults(fault=[], latency=["0.01..0.03"])) as server:
        pool = LLMPool(api_base=server.base_url, model="m", max_concurrent=3, cache_dir=tmp_path)
        await Embedder(pool).vectors([f"text {number}" for number in range(40)])
        assert server.ledger.in_flight_most == 3


async def test_what_goes_wrong(tmp_path: Path) -> None:
    """An empty text before anything is sent; a refused key as everywhere; a wrong body by name."""
    with OfflineServer(parse_faults(fault=["key=secret"], latency=[])) as server:
        pool = LLMPool(api_base=server.base_url, model="m", cache_dir=tmp_path, api_key="wrong-key")
        with pytest.raises(ConfigError, match="a text is empty"):
            await Embedder(pool).vectors(["x", " "])
        assert server.ledger.received == 0
        with pytest.raises(KeyRefused):
            await Embedder(pool).vectors(["x"])
    with OfflineServer() as server:
        async with aiohttp.ClientSession() as session:
            for body, param in (
                ({"model": "m"}, "input"),
                ({"input": "x"}, "model"),
                ({"model": "m", "input": [1]}, "input"),
            ):
                async with session.post(f"{server.base_url}/embeddings", json=body) as response:
                    assert response.status == 400
                    assert (await response.json())["error"]["param"] == param


@pytest.mark.parametrize("text", ["[]", "[0, 0]", "[1, NaN]", "[1e999]", "[null]", '{"a": 1}', "12", "no"])
def test_what_is_no_vector_is_no_answer(text: str) -> None:
    """Nothing, zero, infinite, no numbers: the metrics would make numbers of it that look sound."""
    with pytest.raises(ReplyInvalid):
        _numbers(text)


@pytest.mark.parametrize("metric", ["embedding_mean_cosine", "embedding_nearest_cosine", "vendi_score"])
def test_vectors_without_a_direction(metric: str) -> None:
    """They are an error, whoever embeds; a text that is blank has no vector and is left out."""
    frame = pd.DataFrame({"condition": "a", "image": "x", "text": [*TEXTS, " "]})
    blank: list[str] = []

    def embed(texts: list[str]) -> list[list[float]]:
        blank.extend(text for text in texts if not text.strip())
        return [[1.0, len(text)] for text in texts]

    assert score(frame, [metric], embed=embed)[metric].notna().all()
    assert blank == []
    for value in (0.0, float("nan")):
        with pytest.raises(ConfigError, match="zero or not finite"):
            score(frame, [metric], embed=lambda texts, value=value: np.full((len(texts), 2), value))


def test_kinds_of_requests_have_keys_of_their_own() -> None:
    """A vector is never taken for a text."""
    from personalab.records import Message, Request

    pool = LLMPool()
    message = (Message(role="user", text="x"),)
    assert pool.key(Request(stage="a", messages=message)) != pool.key(
        Request(stage="a", kind="embedding", messages=message)
    )
