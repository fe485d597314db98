"""The pool before real servers with limits by the minute, made short: what is wasted is counted at the server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web
from conftest import ScriptedProvider, failure, reply

from personalab.errors import ConfigError, RateLimited
from personalab.offline.faults import parse_faults
from personalab.offline.server import OfflineServer
from personalab.pool import LLMPool
from personalab.records import Message, Request

MakePool = Callable[..., LLMPool]


def ask(number: int) -> Request:
    return Request(stage="x", messages=(Message(role="user", text=f"no {number}"),))


async def all_of(pool: LLMPool, calls: int) -> None:
    await asyncio.gather(*(pool.send(ask(number)) for number in range(calls)))


def limited_server(*fault: str) -> OfflineServer:
    return OfflineServer(parse_faults(fault=fault, latency=["0.02"]))


def pool_for(server: OfflineServer, folder: Path, **options: object) -> LLMPool:
    return LLMPool(api_base=server.base_url, model="personalab-offline", cache_dir=folder, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rule", "calls", "wasted"),
    [
        (("requests_per_minute=1200", "window_seconds=1"), 80, 40),
        (("requests_per_minute=1200", "window_seconds=1", "no_retry_after"), 80, 50),
        (("requests_per_minute=1200", "window_seconds=2"), 100, 30),
        (("tokens_per_minute=30000", "window_seconds=1"), 80, 40),
        (("requests_per_minute=1200", "window_seconds=1", "quota_headers"), 80, 0),
        (("tokens_per_minute=30000", "window_seconds=1", "quota_headers"), 80, 25),
    ],
    ids=["requests", "silent", "two seconds", "tokens", "requests told", "tokens told"],
)
async def test_a_rate_nobody_knew_of(tmp_path: Path, rule: tuple[str, ...], calls: int, wasted: int) -> None:
    """Every call is answered, and few are refused before the rate is found; fewer where the server tells what is left."""
    with limited_server(*rule) as server:
        await all_of(pool_for(server, tmp_path / "cache"), calls)
        ledger = server.ledger
    assert ledger.answered == calls
    assert ledger.received - calls <= wasted


async def test_a_rate_that_is_given_wastes_nothing(tmp_path: Path) -> None:
    """Neither by requests nor by tokens, counted by the server over a second where the rate is a minute's."""
    with limited_server("requests_per_minute=1200", "window_seconds=1") as server:
        await all_of(pool_for(server, tmp_path / "one", requests_per_minute=1200), 50)
        assert server.ledger.received <= 53  # the two clocks' seconds do not begin together
    with limited_server("tokens_per_minute=30000", "window_seconds=2") as server:
        await all_of(pool_for(server, tmp_path / "two", tokens_per_minute=30000), 60)
        assert server.ledger.received <= 63


async def test_a_loop_that_was_busy_sends_no_burst(tmp_path: Path) -> None:
    """What is let in while a notebook's cell holds up the loop goes one after the other, not together afterwards."""
    with limited_server("requests_per_minute=1200", "window_seconds=1") as server:
        pool = pool_for(server, tmp_path / "cache", requests_per_minute=1200)
        calls = asyncio.create_task(all_of(pool, 30))
        while server.ledger.received < 2:
            await asyncio.sleep(0.01)
        time.sleep(0.5)  # the loop is held up on purpose
        await calls
        assert server.ledger.received <= 30 + 3  # a busy machine delivers a few late, and so together


async def test_a_long_window_without_a_word(provider: ScriptedProvider, make_pool: MakePool) -> None:
    """A server that lets nothing in for a while, and says not how long, is asked seldom, and nothing is lost."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    provider.script = lambda body: (
        failure(429) if len(provider.bodies) > 10 and loop.time() - begun < 3 else reply("{}")
    )
    await all_of(make_pool(max_concurrent=5, sleep=asyncio.sleep), 30)
    assert len(provider.bodies) <= 30 + 25


async def test_a_server_that_never_lets_in_ends_in_an_error(
    provider: ScriptedProvider, make_pool: MakePool
) -> None:
    """Time before a closed gate counts as patience."""
    provider.script = lambda body: failure(429)
    errors = await asyncio.gather(
        *(make_pool(patience_seconds=1).send(ask(number)) for number in range(8)), return_exceptions=True
    )
    assert [type(error) for error in errors] == [RateLimited] * 8


async def test_headers_come_through(provider: ScriptedProvider, make_pool: MakePool) -> None:
    """With one request left and the next in a second, the third waits, and nobody is refused."""

    def script(body: object) -> web.StreamResponse:
        answer = reply("{}")
        answer.headers["x-ratelimit-limit-requests"] = "2"
        answer.headers["x-ratelimit-remaining-requests"] = "1" if len(provider.bodies) == 1 else "0"
        answer.headers["x-ratelimit-reset-requests"] = "600ms"
        return answer

    provider.script = script
    pool = make_pool(max_concurrent=1)
    replies = await asyncio.gather(*(pool.send(ask(number)) for number in range(3)))
    begins = sorted(got.spans[0][0] for got in replies)
    assert begins[1] - begins[0] < 0.5 < begins[2] - begins[1]


@pytest.mark.parametrize("setting", ["requests_per_minute", "tokens_per_minute"])
def test_rates_are_settings(setting: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From the environment like the others; one that cannot be is named by its variable."""
    monkeypatch.setenv(setting.upper(), "0")
    with pytest.raises(ConfigError, match=setting.upper()):
        LLMPool(cache_dir=tmp_path)
    monkeypatch.setenv(setting.upper(), "60")
    LLMPool(cache_dir=tmp_path)
    with pytest.raises(ConfigError, match=setting.upper()):
        LLMPool(cache_dir=tmp_path, **{setting: -1})
