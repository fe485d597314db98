"""Several endpoints in one pool: real servers, of which some are slow, ill, gone, or refuse."""

from __future__ import annotations

import asyncio
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from personalab.config import EndpointSettings
from personalab.errors import ConfigError, KeyRefused, ModelNotFound, ProviderUnreachable
from personalab.fleet import EndpointLeftOut
from personalab.offline.faults import parse_faults
from personalab.offline.server import OfflineServer
from personalab.pool import LLMPool
from personalab.records import Message, Reply, Request

MODEL = "personalab-offline"
NOBODY = "http://127.0.0.1:9/v1"


class Servers:
    """Starts servers for a test."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def __call__(self, *fault: str, latency: str = "0.02") -> OfflineServer:
        return self._stack.enter_context(OfflineServer(parse_faults(fault=fault, latency=[latency])))


@pytest.fixture
def serve() -> Iterator[Servers]:
    """Servers that are closed with the test."""
    with ExitStack() as stack:
        yield Servers(stack)


def at(server: OfflineServer | str, **settings: Any) -> EndpointSettings:
    url = server if isinstance(server, str) else server.base_url
    return EndpointSettings(**({"api_base": url, "model": MODEL, "max_concurrent": 4} | settings))


def pool_of(folder: Path, *endpoints: EndpointSettings, **options: Any) -> LLMPool:
    return LLMPool(endpoints=endpoints, cache_dir=folder / "cache", **options)


def ask(number: int, **fields: Any) -> Request:
    return Request(stage="x", messages=(Message(role="user", text=f"no {number}"),), **fields)


async def all_of(pool: LLMPool, calls: int, **fields: Any) -> Counter[str]:
    """How many calls each endpoint answered."""
    replies: list[Reply] = await asyncio.gather(*(pool.send(ask(one, **fields)) for one in range(calls)))
    return Counter(reply.endpoint for reply in replies)


async def test_each_is_filled_to_its_limit(tmp_path: Path, serve: Servers) -> None:
    """Both work, neither sees more at once than its own limit, and each reply says who gave it."""
    small, large = serve(), serve()
    pool = pool_of(tmp_path, at(small, max_concurrent=2), at(large, max_concurrent=6))
    assert pool.max_concurrent == 8
    answered = await all_of(pool, 160)
    assert (small.ledger.in_flight_most, large.ledger.in_flight_most) == (2, 6)
    assert answered == {small.base_url: small.ledger.answered, large.base_url: large.ledger.answered}
    assert min(answered.values()) > 10


async def test_work_goes_where_there_is_room(tmp_path: Path, serve: Servers) -> None:
    """A slow endpoint gets as much as it can do; nothing waits for it that another could take."""
    slow, fast = serve(latency="0.5"), serve(latency="0.01")
    await all_of(pool_of(tmp_path, at(slow), at(fast)), 120)
    assert 4 <= slow.ledger.answered <= 16
    assert slow.ledger.answered + fast.ledger.answered == 120


async def test_one_that_is_not_there_is_left_alone(tmp_path: Path, serve: Servers) -> None:
    """Its requests go elsewhere, and it is asked a few times only."""
    well = serve()
    pool = pool_of(tmp_path, at(NOBODY), at(well))
    assert await all_of(pool, 60) == {well.base_url: 60}
    assert pool.counts.sent <= 60 + 8


async def test_one_that_is_ill_comes_back(tmp_path: Path, serve: Servers) -> None:
    """After its rest one request tries, and then it works as before."""
    gone, well = serve(), serve(latency="0.05")
    address = at(gone)
    port = int(gone.base_url.rsplit(":", 1)[1].split("/")[0])
    gone.close()
    pool = pool_of(tmp_path, address, at(well))
    await all_of(pool, 8)
    with OfflineServer(parse_faults(latency=["0.05"]), port=port) as back:
        await all_of(pool, 400)
        assert back.ledger.answered > 50


async def test_all_are_ill(tmp_path: Path) -> None:
    """The attempts end in an error, as with one."""
    pool = pool_of(tmp_path, at(NOBODY), at("http://127.0.0.1:10/v1"), attempts_max=3)
    with pytest.raises(ProviderUnreachable, match="gave up after 3 attempts"):
        await pool.send(ask(0))


async def test_a_key_refused_at_one(tmp_path: Path, serve: Servers) -> None:
    """That endpoint is out with one warning, and the pool goes on."""
    strict, well = serve("key=sk-good"), serve()
    pool = pool_of(tmp_path, at(strict, api_key="sk-MARKER-bad-key"), at(well))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert await all_of(pool, 40) == {well.base_url: 40}
    (told,) = [str(one.message) for one in caught if one.category is EndpointLeftOut]
    assert strict.base_url in told
    assert "MARKER" not in told
    assert strict.ledger.received <= 2 * 4


async def test_a_key_refused_at_all(tmp_path: Path, serve: Servers) -> None:
    """Then it is an error, and nobody waits for ever."""
    one, other = serve("key=sk-good"), serve("key=sk-good")
    pool = pool_of(tmp_path, at(one), at(other))
    with pytest.warns(EndpointLeftOut):
        errors = await asyncio.gather(*(pool.send(ask(n)) for n in range(20)), return_exceptions=True)
    assert {type(error) for error in errors} == {KeyRefused}


async def test_a_model_goes_to_those_who_have_it(tmp_path: Path, serve: Servers) -> None:
    """By what is listed; a name nobody has is an error that names the nearest."""
    one, other = serve("models=small"), serve("models=small,large")
    pool = pool_of(tmp_path, at(one, model="small"), at(other, model="large", models=("small",)))
    assert pool.model == "small"
    assert await all_of(pool, 20, model="large") == {other.base_url: 20}
    assert len(await all_of(pool, 40)) == 2
    with pytest.raises(ConfigError, match="unknown model 'larg': did you mean 'large'"):
        await pool.send(ask(0, model="larg"))


async def test_a_model_that_is_not_there_after_all(tmp_path: Path, serve: Servers) -> None:
    """One that is listed and lacks the model is left out for it; the last one's refusal is the error."""
    without, having = serve("models=other"), serve("models=small,other")
    pool = pool_of(tmp_path, at(without, model="small", models=("other",)), at(having, model="small"))
    with pytest.warns(EndpointLeftOut, match="'small'"):
        assert await all_of(pool, 20) == {having.base_url: 20}
    assert await all_of(pool, 5, model="other") == {without.base_url: 5}
    with pytest.warns(EndpointLeftOut), pytest.raises(ModelNotFound):
        await pool_of(tmp_path, at(without, model="small"), at(without, model="small"), cache="off").send(
            ask(0)
        )


async def test_a_reply_is_its_models(tmp_path: Path, serve: Servers) -> None:
    """Whichever endpoint gave it, it is not paid again at another; unless told otherwise."""
    one, other = serve(), serve()
    await all_of(pool_of(tmp_path, at(one), at(other)), 20)
    third = serve()
    await all_of(pool_of(tmp_path, at(third), at(other)), 20)
    assert third.ledger.received == 0
    await all_of(pool_of(tmp_path, at(third), at(other), same_model=False), 20)
    assert third.ledger.received > 0


async def test_each_endpoint_has_its_own_limits(tmp_path: Path, serve: Servers) -> None:
    """One allows two at once: it is found out there, and the other goes on at full width."""
    narrow, wide = serve("max_concurrent=2", "retry_after=0.05"), serve()
    await all_of(pool_of(tmp_path, at(narrow, max_concurrent=10), at(wide, max_concurrent=10)), 300)
    assert wide.ledger.in_flight_most == 10
    assert narrow.ledger.statuses[429] <= 40
    assert narrow.ledger.answered > 20


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"api_base": "nonsense"}, "endpoint: api_base: must be an address"),
        ({"max_concurrent": 0}, "endpoint: max_concurrent"),
        ({"limit": 3}, "endpoint: limit"),
        ({"api_key": "sk-MARKER-\x07"}, "endpoint: api_key"),
    ],
)
def test_an_endpoint_that_cannot_be(settings: dict[str, Any], said: str) -> None:
    """One line that names the field; the key is in no frame of ours."""
    with pytest.raises(ConfigError, match=said) as caught:
        EndpointSettings(**({"api_base": NOBODY, "api_key": "sk-MARKER"} | settings))
    trace = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    ours = [frame for frame in trace.stack if "personalab/config" in frame.filename]
    assert "MARKER" not in str(caught.value) + str([frame.locals for frame in ours])
