"""Prices: given, looked up, unknown; and what a pool says it cost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ScriptedProvider

from personalab.pool import LLMPool
from personalab.prices import Price, price_of
from personalab.records import Message, Request, Usage

HELLO = Request(stage="x", messages=(Message(role="user", text="hello"),))


def test_a_known_model_has_a_price_at_its_own_endpoint_only() -> None:
    """The same name on a server of one's own, or a name nobody knows, is None."""
    found = price_of("gpt-4o-mini", "https://api.openai.com/v1")
    assert found is not None
    assert found.output > found.input > 0
    assert price_of("gpt-4o-mini", "http://localhost:8000/v1") is None
    assert price_of("no-such-model", "https://api.openai.com/v1") is None


def test_cost_is_by_the_million_and_unknown_stays_unknown() -> None:
    """Tokens that were not counted have no cost."""
    price = Price(input=2, output=10)
    assert price.cost(Usage(input_tokens=1_000_000, output_tokens=100_000)) == 3.0
    assert price.cost(Usage(input_tokens=5, output_tokens=None)) is None


async def test_a_pool_counts_what_it_paid(
    provider: ScriptedProvider, make_pool: Callable[..., LLMPool]
) -> None:
    """By the given price; from the cache it is nothing; at an unknown price the total is unknown from then on."""
    pool = make_pool(prices={"scripted": Price(input=1, output=2)})
    assert pool.counts.cost == 0.0
    await pool.send(HELLO)
    await pool.send(HELLO)
    assert pool.counts.cost == pytest.approx(20 / 1_000_000)
    await pool.send(HELLO.model_copy(update={"model": "another"}))
    assert pool.counts.cost is None


async def test_the_embedded_provider_is_free(tmp_path: Path) -> None:
    """It costs 0.0, which is known."""
    pool = LLMPool(cache_dir=tmp_path / "cache")
    await pool.send(HELLO)
    assert (pool.counts.sent, pool.counts.cost) == (1, 0.0)
