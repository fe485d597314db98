"""Budgets: never more than the ceiling, nothing paid for is lost, and unknown is not free."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web
from conftest import DROPPED, PORTRAITS, ScriptedProvider, failure, reply
from hypothesis import given, settings
from hypothesis import strategies as st

from personalab.budgets import Budget, Ceilings, Expense, parse_budget
from personalab.errors import BudgetError, BudgetExhausted, ConfigError, PersonalabError, PriceUnknown
from personalab.offline.faults import parse_faults
from personalab.offline.server import OfflineServer
from personalab.pipeline import Pipeline
from personalab.planner import Planner
from personalab.pool import LLMPool
from personalab.prices import Price
from personalab.records import Message, Request, SamplingParams, Usage

MakePool = Callable[..., LLMPool]
PRICE = Price(input=1_000, output=2_000)  # a scripted reply of 10 + 5 tokens costs $0.02


def ask(text: object = "hello", *, stage: str = "mood", max_tokens: int | None = 5) -> Request:
    return Request(
        stage=stage,
        messages=(Message(role="user", text=str(text)),),
        sampling=SamplingParams(max_tokens=max_tokens),
    )


async def all_of(pool: LLMPool, count: int) -> list[object]:
    """As many different requests at once; replies and errors."""
    return await asyncio.gather(*(pool.send(ask(n)) for n in range(count)), return_exceptions=True)


def slowly(provider: ScriptedProvider) -> None:
    """Answers take a moment, so that many are in flight."""

    async def wait(body: object) -> None:
        await asyncio.sleep(0.02)

    provider.wait = wait


@pytest.mark.parametrize(
    ("budget", "answers"),
    [
        (Budget(requests=50), 50),
        (Budget(tokens=50 * 15), 50),
        (Budget(cost=50 * 0.02), 50),
        (Budget(requests=70, tokens=45 * 15 + 14, cost=1.2), 45),
        (Budget(requests=0), 0),
    ],
)
async def test_never_more_than_the_ceiling(
    provider: ScriptedProvider, make_pool: MakePool, budget: Budget, answers: int
) -> None:
    """With twenty in flight the server is asked as often as the ceiling allows; a higher one goes on, nothing is paid twice."""
    slowly(provider)
    pool = make_pool(budget=budget, prices={"scripted": PRICE}, max_concurrent=20)
    outcomes = await all_of(pool, 100)
    assert provider.most_in_flight == min(20, answers)
    assert len(provider.bodies) == answers
    refused = [outcome for outcome in outcomes if isinstance(outcome, BudgetExhausted)]
    assert len(refused) == 100 - answers
    assert (budget.spent.requests, budget.spent.tokens) == (answers, 15 * answers)
    assert budget.spent.cost == pytest.approx(0.02 * answers)
    more = make_pool(budget=Budget(requests=100 - answers), max_concurrent=20)
    assert all(not isinstance(outcome, PersonalabError) for outcome in await all_of(more, 100))
    assert len(provider.bodies) == 100
    assert more.remaining == Ceilings(requests=0)


async def test_what_is_left_is_shown(make_pool: MakePool) -> None:
    """By the pool, by the budget, and in the error's one line."""
    pool = make_pool(budget=Budget(requests=2, tokens=1_000, cost=0.05), prices={"scripted": PRICE})
    await pool.send(ask("one"))
    assert pool.remaining is not None
    assert (pool.remaining.requests, pool.remaining.tokens) == (1, 985)
    assert pool.remaining.cost == pytest.approx(0.03)
    assert "1 requests, 985 tokens, $0.0300" in repr(pool.budget)
    await pool.send(ask("two"))
    with pytest.raises(
        BudgetExhausted,
        match=r"^budget: 0 of 2 requests, 970 of 1,000 tokens, \$0.0100 of \$0.0500 left, and the next request may "
        r"take \d+ tokens and \$0.0\d+; everything done is kept: start again with a higher ceiling$",
    ):
        await pool.send(ask("three"))


async def test_the_cache_is_free(provider: ScriptedProvider, make_pool: MakePool) -> None:
    """Also under a budget that is used up."""
    pool = make_pool(budget=Budget(requests=1))
    await pool.send(ask())
    assert (await pool.send(ask())).cached
    with pytest.raises(BudgetExhausted):
        await pool.send(ask("another"))
    assert (await pool.send(ask())).cached
    assert len(provider.bodies) == 1


@pytest.mark.parametrize(
    ("answer", "spent"),
    [
        (lambda: failure(400), Expense(requests=1)),
        (lambda: failure(429, headers={"retry-after": "0"}), Expense(requests=6)),
        (lambda: reply("", finish_reason="length"), Expense(requests=6, tokens=90, cost=None)),
    ],
)
async def test_what_a_failure_costs(
    provider: ScriptedProvider, make_pool: MakePool, answer: Callable[[], web.Response], spent: Expense
) -> None:
    """An error of the endpoint is a request and no tokens; an answer that cannot be used was paid."""
    provider.script = lambda body: answer()
    pool = make_pool(budget=Budget(requests=6))
    with pytest.raises(PersonalabError):
        await pool.send(ask())
    assert pool.budget is not None
    assert pool.budget.spent == spent


async def test_what_nobody_knows_counts_as_expected(provider: ScriptedProvider, make_pool: MakePool) -> None:
    """A connection that broke may have been paid for, and so may an answer that does not say what it took."""
    silent = reply("{}")
    silent_body = json.loads(silent.body) if isinstance(silent.body, bytes) else {}
    del silent_body["usage"]
    for script in (lambda body: DROPPED, lambda body: web.json_response(silent_body)):
        provider.script = script
        budget = Budget(tokens=10_000)
        pool = make_pool(budget=budget, attempts_max=1, cache="off")
        await asyncio.gather(pool.send(ask(max_tokens=500)), return_exceptions=True)
        assert 500 < budget.spent.tokens < 520


async def test_a_stage_is_expected_to_take_what_it_took(
    provider: ScriptedProvider, make_pool: MakePool
) -> None:
    """Before its first answer a stage without max_tokens may take thousands of tokens; afterwards as many as before."""
    pool = make_pool(budget=Budget(tokens=4_200))
    first, second = await asyncio.gather(
        pool.send(ask("one", max_tokens=None)), pool.send(ask("two", max_tokens=None))
    )
    assert (first.usage, second.usage) == (Usage(input_tokens=10, output_tokens=5),) * 2
    assert provider.most_in_flight == 1


async def test_after_a_refusal_nothing_is_sent(provider: ScriptedProvider, make_pool: MakePool) -> None:
    """Not even what would fit: the batch that stops would cancel it in flight."""
    pool = make_pool(budget=Budget(tokens=100))
    await pool.send(ask("one"))
    with pytest.raises(BudgetExhausted, match="85 of 100 tokens left, and the next request may take 1,0"):
        await pool.send(ask("two", max_tokens=1_000))
    with pytest.raises(BudgetExhausted, match="may take 1,0"):
        await pool.send(ask("three"))
    assert len(provider.bodies) == 1


async def test_pools_share_a_budget(provider: ScriptedProvider, make_pool: MakePool) -> None:
    """In two event loops at once."""
    slowly(provider)
    budget = Budget(requests=30)
    pools = [make_pool(budget=budget, model=f"model {n}") for n in range(2)]
    await asyncio.gather(*(asyncio.to_thread(asyncio.run, all_of(pool, 40)) for pool in pools))
    assert len(provider.bodies) == 30
    assert budget.remaining.requests == 0


def test_an_unknown_price_under_a_ceiling_on_cost(make_pool: MakePool) -> None:
    """Is an error at once: for the pool's model, and for a stage's."""
    with pytest.raises(PriceUnknown, match="what 'scripted' costs is unknown"):
        make_pool(budget=Budget(cost=5))
    pool = make_pool(budget=Budget(cost=5), prices={"scripted": PRICE})
    with pytest.raises(PriceUnknown, match="what 'better' costs is unknown"):
        Pipeline(pool).vary("social_network", model="better")
    with pytest.raises(PriceUnknown, match="what 'better' costs is unknown"):
        Planner(pool).vary("tweet", model="better")


async def test_a_batch_stops_and_keeps_what_was_in_flight(tmp_path: Path) -> None:
    """Every request that left has its reply in the cache; the next batch pays the rest only."""
    with OfflineServer(parse_faults(fault=[], latency=["0.01..0.05"])) as server:

        async def batch(requests: int) -> None:
            pool = LLMPool(
                api_base=server.base_url, model="personalab-offline", cache_dir=tmp_path / "cache",
                budget=Budget(requests=requests), max_concurrent=10,
            )  # fmt: skip
            await Pipeline(pool).run_many(PORTRAITS, out=tmp_path / "out", progress=False).finish()

        with pytest.raises(BudgetExhausted, match="0 of 40 requests left"):
            await batch(40)
        assert server.ledger.received == 40
        assert server.ledger.abandoned == 0
        assert len(list((tmp_path / "cache").glob("??/*.json"))) == 40
        await batch(30)
        assert server.ledger.received == 70


@settings(max_examples=60, deadline=None)
@given(
    takes=st.lists(st.tuples(st.integers(1, 60), st.floats(0, 1)), max_size=40),
    ceiling=st.integers(0, 1_500),
)
def test_sums_stay_below_the_ceiling(takes: list[tuple[int, float]], ceiling: int) -> None:
    """Whatever the requests may take and do take, at every moment."""
    budget = Budget(tokens=ceiling)

    async def one(most: int, share: float) -> int:
        async with budget.hold(ask(stage=str(most), max_tokens=most), "m", None) as hold:
            assert budget.spent.tokens <= ceiling
            await asyncio.sleep(0)
            took = int(share * most)
            hold.paid(Usage(input_tokens=0, output_tokens=took))
        assert budget.spent.tokens <= ceiling
        return took

    async def everything() -> list[object]:
        return await asyncio.gather(*(one(*take) for take in takes), return_exceptions=True)

    outcomes = asyncio.run(everything())
    assert budget.spent.tokens == sum(took for took in outcomes if isinstance(took, int))
    assert all(isinstance(outcome, int | BudgetExhausted) for outcome in outcomes)


@given(
    number=st.integers(0, 10**9),
    unit=st.sampled_from(["usd", "requests", "tokens", "request", "token", "USD"]),
    thousands=st.sampled_from(["", "k", "M"]),
    space=st.sampled_from(["", " "]),
)
def test_ceilings_as_they_are_written(number: int, unit: str, thousands: str, space: str) -> None:
    """A number, k or M for thousands and millions, and what is counted."""
    budget = parse_budget([f"{number}{thousands}{space}{unit}"])
    assert budget is not None
    kind = {"u": "cost", "r": "requests", "t": "tokens"}[unit[0].lower()]
    assert budget.ceilings == Ceilings(**{kind: number * {"": 1, "k": 1_000, "M": 1_000_000}[thousands]})


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["5"], "a budget is such as 5usd"),
        (["-5usd"], "a budget is such as 5usd"),
        (["5usd", "6usd"], "two budgets for cost"),
        (["1.5requests"], "a whole number"),
    ],
)
def test_ceilings_that_cannot_be(texts: list[str], said: str) -> None:
    """Say what was expected."""
    with pytest.raises(ConfigError, match=said):
        parse_budget(texts)


def test_no_budget() -> None:
    """No ceilings, no budget; and a budget of a number that is none is refused."""
    assert parse_budget([]) is None
    with pytest.raises(ConfigError, match="budget: cost"):
        Budget(cost=float("inf"))


def test_a_budget_file_that_is_none(tmp_path: Path) -> None:
    """Is named, and never taken for an unused budget."""
    (tmp_path / "budget.json").write_text("oh")
    with pytest.raises(BudgetError, match=r"budget .*budget.json cannot be read"):
        Budget(requests=1, path=tmp_path / "budget.json").remaining  # noqa: B018


# Arguments: base URL, budget file, ceiling, first number, how many.
CLIENT = """
import asyncio, sys
from personalab import LLMPool
from personalab.budgets import Budget
from personalab.records import Message, Request

url, path, ceiling, first, many = sys.argv[1:]
budget = Budget(requests=int(ceiling), path=path)
pool = LLMPool(api_base=url, model="m", cache="off", budget=budget)

async def main():
    requests = (
        Request(stage="x", messages=(Message(role="user", text=f"no {int(first) + n}"),)) for n in range(int(many))
    )
    outcomes = await asyncio.gather(*(pool.send(request) for request in requests), return_exceptions=True)
    print(sum(type(outcome).__name__ == "Reply" for outcome in outcomes))

asyncio.run(main())
"""


def client(server: OfflineServer, path: Path, ceiling: int, number: int) -> subprocess.Popen[str]:
    """A process that asks a hundred times under a budget kept in a file."""
    words = [server.base_url, str(path), str(ceiling), str(1_000 * number), "100"]
    return subprocess.Popen([sys.executable, "-c", CLIENT, *words], stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_processes_share_a_budget(tmp_path: Path) -> None:
    """Four at once, and one that comes later, never pass the ceiling together; a higher one goes on from there."""
    path = tmp_path / "sweep" / "budget.json"
    with OfflineServer(parse_faults(fault=[], latency=["0.01"])) as server:
        four = [client(server, path, 150, number) for number in range(4)]
        assert sum(int(process.communicate(timeout=90)[0]) for process in four) == 150
        assert client(server, path, 150, 5).communicate(timeout=90)[0] == "0\n"
        assert client(server, path, 160, 6).communicate(timeout=90)[0] == "10\n"
        assert server.ledger.received == 160


@pytest.mark.slow
def test_what_a_killed_process_had_in_flight_is_spent(tmp_path: Path) -> None:
    """Nobody knows whether it was paid for."""
    path = tmp_path / "budget.json"
    with OfflineServer(parse_faults(fault=[], latency=["30"])) as server:
        process = client(server, path, 100, 0)
        while server.ledger.received < 20:
            assert process.poll() is None
        process.kill()
        process.communicate()
        assert Budget(requests=100, path=path).remaining == Ceilings(requests=80)


@pytest.mark.slow
def test_the_command_line(tmp_path: Path) -> None:
    """It stops with a code of its own and what is left; with a higher ceiling it goes on and says what is left."""
    command = [sys.executable, "-m", "personalab", "persona", str(PORTRAITS / "teal_turban.png")]
    first = subprocess.run(
        [*command, "--budget", "3requests"], capture_output=True, text=True, check=False, env=os.environ
    )
    assert first.returncode == 4
    assert first.stderr.splitlines()[-1].startswith(
        "personalab: budget: 0 of 3 requests left; everything done is kept"
    )
    second = subprocess.run(
        [*command, "--budget", "10requests"], capture_output=True, text=True, check=False, env=os.environ
    )
    assert second.returncode == 0, second.stderr
    assert "4 requests sent, 3 from the cache" in second.stdout
    assert "6 requests left" in second.stdout
