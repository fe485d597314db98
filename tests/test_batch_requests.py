"""Requests through the provider's batch endpoint: the same results, paid once whatever dies when, and every way it fails."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import openai
import pytest
from aiohttp import web
from conftest import PORTRAITS, ScriptedProvider, no_wait
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from sample_notebooks import write_notebook

from personalab.batch_routes import BatchRoutes, BatchState
from personalab.budgets import Budget
from personalab.config import BatchSettings, EndpointSettings
from personalab.errors import (
    BatchRefused,
    ConfigError,
    KeyRefused,
    OutputError,
    PersonalabError,
    PriceUnknown,
    RateLimited,
)
from personalab.experiments import Experiment
from personalab.grids import grid
from personalab.jobs import plan_calendars, write_tweets
from personalab.offline.faults import parse_faults
from personalab.offline.ledger import Ledger, LedgerBook
from personalab.offline.server import OfflineServer, application
from personalab.pipeline import Pipeline
from personalab.planner import Planner
from personalab.pool import LLMPool
from personalab.prices import Price, price_of
from personalab.records import Message, Request
from personalab.runs import Run
from personalab.stages import STAGES
from personalab.sweeps import sweep
from personalab.wave_files import Wave, WaveFiles
from personalab.waves import BatchGoesOn, _Wave, line_of

QUICK = BatchSettings(quiet_seconds=0.4, poll_first_seconds=0.02, poll_max_seconds=0.1, settle_seconds=0.3)
PATIENT = QUICK.model_copy(update={"quiet_seconds": 1.5})
"""Where batches are counted: on a machine full of other work a picture may take longer than a moment to be read."""
DEPTH = 3
"""Core persona, tweet strategy, example tweets: the longest chain of stages."""
EACH_STAGE = [stage.name for stage in STAGES]
PERSONA = "a retired diver who keeps bees"


def pool_at(url: str, folder: Path, **options: Any) -> LLMPool:
    given = {"model": "m", "batch": QUICK, "sleep": no_wait} | options
    return LLMPool(api_base=url, cache_dir=folder, **given)


def ask(text: str = "hello", **fields: Any) -> Request:
    return Request(stage="x", messages=(Message(role="user", text=text),), **fields)


def server_with(*fault: str) -> OfflineServer:
    return OfflineServer(parse_faults(fault=fault))


def stored(folder: Path) -> dict[str, Any]:
    """What is in a cache, but for what time it took."""
    entries = {path.stem: json.loads(path.read_bytes()) for path in folder.glob("??/*.json")}
    times = ("seconds", "spans", "attempts")
    return {
        key: (entry["identity"], {name: value for name, value in entry["reply"].items() if name not in times})
        for key, entry in entries.items()
    }


def left(folder: Path) -> list[str]:
    """What is left of batches in a cache folder."""
    return sorted(path.name for path in (folder / "batches").rglob("*.json"))


# The same results


@pytest.mark.slow
async def test_ten_personas_are_those_of_single_requests(tmp_path: Path) -> None:
    """The same entries in the cache, the same cards, as many batches as the longest chain has stages, each line once."""
    with OfflineServer() as server:
        single, batched = tmp_path / "single", tmp_path / "batched"
        ordinary = LLMPool(api_base=server.base_url, model="m", cache_dir=single / "cache")
        await Pipeline(ordinary).run_many(PORTRAITS, out=single / "personas").finish()
        before = server.ledger
        frame = (
            await Pipeline(pool_at(server.base_url, batched / "cache", batch=PATIENT))
            .run_many(PORTRAITS, out=batched / "personas")
            .finish()
        )
        after = server.ledger
    assert (frame["state"] == "made").all()
    assert after.batches == DEPTH
    assert Counter(after.stages) - Counter(before.stages) == Counter(dict.fromkeys(EACH_STAGE, 10))
    assert stored(batched / "cache") == stored(single / "cache")
    cards = sorted((single / "personas").glob("*_persona.json"))
    assert len(cards) == 10
    for card in cards:
        assert (batched / "personas" / card.name).read_bytes() == card.read_bytes()
    assert left(batched / "cache") == []


async def test_the_embedded_provider_plays_it_too(tmp_path: Path) -> None:
    """With no key and no address: in this process, free, and nothing of it is left."""
    pool = LLMPool(cache_dir=tmp_path / "cache", batch=QUICK)
    run = await Pipeline(pool).run(description=PERSONA)
    assert run.status == "done"
    assert (pool.counts.sent, pool.counts.cost) == (7, 0.0)
    assert left(tmp_path / "cache") == []


@pytest.mark.slow
async def test_experiments_and_months(tmp_path: Path) -> None:
    """They know nothing of batches: two for what is shared and what is varied, two for a month, one or more for its tweets."""
    with OfflineServer() as server:
        pipeline = Pipeline(pool_at(server.base_url, tmp_path / "cache", batch=PATIENT))
        conditions = grid("social_network", temperature=[0.3, 1.1], replicates=2)
        experiment = await Experiment(
            pipeline, conditions, sorted(PORTRAITS.glob("*.png"))[:2], progress=False
        ).run()
        assert [cell.run.status for cell in experiment.cells] == ["done"] * 8
        assert dict(server.ledger.stages) == {"core_persona": 2, "social_network": 8}
        assert server.ledger.batches == 2
        run = await pipeline.run(sorted(PORTRAITS.glob("*.png"))[0])
        card = run.save(tmp_path / "personas").card
        before = server.ledger.batches
        planner = Planner(pipeline.pool)
        plan = await plan_calendars(planner, [card], "2026-12", tmp_path / "calendars", progress=False)
        assert server.ledger.batches - before >= 2
        files = [row.file for row in plan.rows]
        done = await write_tweets(planner, [card], files, tmp_path / "tweets", count=5, progress=False)
        assert [(row.state, row.made) for row in done.rows] == [("made", 5)]
    assert left(tmp_path / "cache") == []


async def test_replicates_and_vectors(tmp_path: Path) -> None:
    """The same question as two replicates is two lines with two answers; vectors go in a batch of their own."""
    with OfflineServer() as server:
        one, again, vector = await asyncio.gather(
            *(pool_at(server.base_url, tmp_path).send(request) for request in (ask(), ask(replicate=1))),
            pool_at(server.base_url, tmp_path).send(ask(kind="embedding")),
        )
        single = await LLMPool(api_base=server.base_url, model="m", cache_dir=tmp_path / "b").send(
            ask(replicate=1)
        )
        assert server.ledger.batches == 3
    assert one.text != again.text == single.text
    assert len(json.loads(vector.text)) > 1


def test_loops_one_after_the_other(tmp_path: Path) -> None:
    """Each loop has batches of its own, and one pool serves them all."""
    with OfflineServer() as server:
        pool = pool_at(server.base_url, tmp_path)
        texts = [asyncio.run(pool.send(ask(f"no {number}"))).text for number in range(2)]
        assert server.ledger.batches == 2
    assert len(set(texts)) == 2


async def test_a_full_file_is_sent_at_once(tmp_path: Path) -> None:
    """Seven requests, at most three in a batch; another model is another batch."""
    with OfflineServer() as server:
        pool = pool_at(server.base_url, tmp_path, batch=QUICK.model_copy(update={"requests_max": 3}))
        requests = [ask(f"no {number}") for number in range(7)]
        await asyncio.gather(*map(pool.send, requests), pool.send(ask(model="other")))
        assert server.ledger.batches == 4
        small = QUICK.model_copy(update={"bytes_max": 1000})
        pool = pool_at(server.base_url, tmp_path / "b", batch=small)
        await asyncio.gather(*(pool.send(ask(f"{number}" * 600)) for number in range(3)))
        assert server.ledger.batches == 7


@given(
    bodies=st.lists(
        st.dictionaries(st.sampled_from(["model", "messages"]), st.text()), unique_by=repr, max_size=4
    ),
    keys=st.lists(st.text(), unique=True, max_size=3),
    replicate=st.integers(0, 10**6),
    times=st.integers(1, 3),
)
def test_names_of_lines(bodies: list[Any], keys: list[str], replicate: int, times: int) -> None:
    """Each question has one of its own, which any provider takes, and the same one again after a restart."""
    names = []
    for body in bodies:
        for key in keys:
            before: list[str] = []
            for _ in range(times):
                line = line_of(body, key, replicate, before)
                assert line == line_of(body, key, replicate, before)
                assert json.loads(line.content(body))["body"] == body
                before.append(line.id)
            names += before
    assert len(set(names)) == len(names) == len(bodies) * len(keys) * times
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in names)


async def test_the_protocol_is_openais() -> None:
    """Its own client sends a file, has a batch made, looks at it, lists it, cancels one, and reads lines in any order."""
    lines = [
        line_of({"model": "m", "messages": [{"role": "user", "content": f"no {n}"}]}, "", 0, [])
        for n in range(9)
    ]
    content = b"".join(
        line.content({"model": "m", "messages": [{"role": "user", "content": f"no {n}"}]})
        for n, line in enumerate(lines)
    )
    with server_with("batch_expires=0.3", "batch_polls=1") as server:
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="any", max_retries=0) as client:
            file = await client.files.create(file=("lines.jsonl", content), purpose="batch")
            assert (file.bytes, file.purpose) == (len(content), "batch")
            order: Any = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
            batch = await client.batches.create(input_file_id=file.id, metadata={"whose": "mine"}, **order)
            seen = [(await client.batches.retrieve(batch.id)).status]
            while (batch := await client.batches.retrieve(batch.id)).status not in ("completed", "expired"):
                seen.append(batch.status)
            assert seen[0] in ("validating", "in_progress")
            assert batch.status == "expired"
            assert batch.metadata == {"whose": "mine"}
            assert batch.request_counts
            assert batch.output_file_id
            assert batch.error_file_id
            replies = [
                json.loads(line)
                for line in (await client.files.content(batch.output_file_id)).text.splitlines()
            ]
            errors = [
                json.loads(line)
                for line in (await client.files.content(batch.error_file_id)).text.splitlines()
            ]
            names = [line["custom_id"] for line in replies + errors]
            assert sorted(names) == sorted(line.id for line in lines)
            assert [line["custom_id"] for line in replies] != [name for line in lines if (name := line.id) in names[: len(replies)]]  # fmt: skip
            assert len(replies) == batch.request_counts.completed
            assert {line["error"]["code"] for line in errors} == {"batch_expired"}
            second = await client.batches.create(input_file_id=file.id, **order)
            assert (await client.batches.cancel(second.id)).status == "cancelled"
            assert [each.id async for each in client.batches.list(limit=1)] == [second.id, batch.id]
            twice = await client.files.create(file=("twice.jsonl", content * 2), purpose="batch")
            failed = await client.batches.create(input_file_id=twice.id, **order)
            while (failed := await client.batches.retrieve(failed.id)).status != "failed":
                pass
            assert failed.errors
            assert failed.errors.data
            assert {error.code for error in failed.errors.data} == {"duplicate_custom_id"}
            with pytest.raises(openai.BadRequestError):
                await client.files.create(file=("a.jsonl", content), purpose="vision")
            with pytest.raises(openai.NotFoundError):
                await client.batches.retrieve("batch_of_nobody")


async def test_an_order_is_found_among_many(tmp_path: Path) -> None:
    """By its file or by our name for it, on whichever page of the list it is."""
    file = tmp_path / "lines.jsonl"
    file.write_bytes(b"{}\n")
    with OfflineServer() as server:
        routes = BatchRoutes(server.base_url, None)
        mine, others = [await routes.upload(file, "m") for _ in range(2)]
        order = await routes.make(mine, "/v1/chat/completions", "the wave", "m")
        for number in range(120):
            await routes.make(others, "/v1/chat/completions", f"another {number}", "m")
        for known_file, known_wave in ((mine, "?"), ("?", "the wave")):
            found = await routes.find(known_file, known_wave, time.time(), "m")
            assert found
            assert found.id == order.id
        assert await routes.find("?", "?", time.time(), "m") is None


async def test_a_large_file(tmp_path: Path) -> None:
    """Larger than a single request may be; one that is too large for the provider says what to do."""
    large = tmp_path / "large.jsonl"
    large.write_bytes(b"x" * 70_000_000)
    with OfflineServer() as server:
        assert await BatchRoutes(server.base_url, None).upload(large, "m")
        large.write_bytes(b"x" * 200_000_001)
        with pytest.raises(BatchRefused, match=r"413.*make smaller ones \(BatchSettings.bytes_max\)"):
            await BatchRoutes(server.base_url, None).upload(large, "m")


# Stopped, killed, started again

# Arguments: base URL, cache folder, how many personas.
CLIENT = """
import asyncio, sys
from personalab import LLMPool, Pipeline
from personalab.config import BatchSettings

url, folder, many = sys.argv[1:]
quick = BatchSettings(quiet_seconds=0.8, poll_first_seconds=0.02, poll_max_seconds=0.1, settle_seconds=0.3)
pool = LLMPool(api_base=url, model="m", cache_dir=folder, batch=quick)

async def main():
    runs = (Pipeline(pool).run(description=f"a diver, number {number}") for number in range(int(many)))
    return await asyncio.gather(*runs)

print(sum(run.status == "done" for run in asyncio.run(main())), flush=True)
"""


def client(url: str, folder: Path, many: int = 3) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", CLIENT, url, str(folder), str(many)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def done(process: subprocess.Popen[str]) -> int:
    """How many personas it made, once it has ended."""
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0, err[-2000:]
    return int(out)


class HeldProvider:
    """The embedded provider, which never lets one request through: before it is worked on, or before its answer leaves.

    `held` is set when that one is there; those that come later are not held. `answered` has the names of the lines that it
    answered, by file.
    """

    def __init__(self, method: str, path: str, moment: str, number: int, *fault: str) -> None:
        self.held = threading.Event()
        self.url = ""
        self.answered: dict[str, list[str]] = {}
        self._book = LedgerBook(0)
        self._faults = parse_faults(fault=fault)
        self._method, self._path, self._moment, self._left = method, re.compile(path), moment, number
        self._ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    @property
    def ledger(self) -> Ledger:
        return self._book.snapshot()

    def __enter__(self) -> HeldProvider:
        self._thread.start()
        self._loop, self._stopped = self._ready.result(10)
        return self

    def __exit__(self, *_about: object) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        app = application(self._faults, self._book)
        app.middlewares.append(self._hold)
        runner = web.AppRunner(app, shutdown_timeout=0, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        stopped = asyncio.Event()
        self._ready.set_result((asyncio.get_running_loop(), stopped))
        await stopped.wait()
        await runner.cleanup()

    @web.middleware
    async def _hold(self, request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
        meant = request.method == self._method and self._path.fullmatch(request.path) is not None
        self._left -= meant
        if meant and self._left == 0 and self._moment == "before":
            await self._for_ever()
        response: web.Response = await handler(request)
        if request.path.endswith("/content") and isinstance(response.body, bytes):
            lines = response.body.splitlines()
            self.answered[request.path] = [json.loads(line)["custom_id"] for line in lines]
        if meant and self._left == 0 and self._moment == "after":
            await self._for_ever()
        return response

    async def _for_ever(self) -> None:
        self.held.set()
        await asyncio.Event().wait()


MOMENTS = {
    "the file is up": ("POST", "/v1/files", "after", 1),
    "a batch is ordered": ("POST", "/v1/batches", "before", 1),
    "a batch is made and not told": ("POST", "/v1/batches", "after", 1),
    "the second is made and not told": ("POST", "/v1/batches", "after", 2),
    "it is waited for": ("GET", "/v1/batches/.*", "before", 1),
    "its replies come down": ("GET", "/v1/files/.*", "after", 1),
    "the last replies come down": ("GET", "/v1/files/.*", "after", 3),
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_started_again(tmp_path: Path, moment: str) -> None:
    """Whatever it was at: every request is asked once, no batch is made twice, and nothing is left behind."""
    with HeldProvider(*MOMENTS[moment]) as provider:
        first = client(provider.url, tmp_path)
        assert provider.held.wait(60)
        first.kill()
        first.communicate()
        assert done(client(provider.url, tmp_path)) == 3
        assert dict(provider.ledger.stages) == dict.fromkeys(EACH_STAGE, 3)
        assert provider.ledger.batches == DEPTH
    assert left(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("look", [3, 5])
def test_killed_while_it_asks_again(tmp_path: Path, look: int) -> None:
    """Answers that did not fit are read again and not paid again: the second asking, which was under way, is gone on with."""
    with HeldProvider(
        "GET", "/v1/batches/.*", "before", look, "wrong_shape=0.4", "batch_polls=1", "seed=5"
    ) as provider:
        first = client(provider.url, tmp_path, many=6)
        assert provider.held.wait(60)
        first.kill()
        first.communicate()
        assert done(client(provider.url, tmp_path, many=6)) == 6
        names = [name for file in provider.answered.values() for name in file]
    assert len(names) > 6 * len(EACH_STAGE)
    assert len(set(names)) == len(names) == provider.ledger.received
    assert left(tmp_path) == []


@pytest.mark.slow
def test_killed_while_it_stores(tmp_path: Path) -> None:
    """Some replies are in the cache, the rest is here and not lost: nothing is asked again."""
    with OfflineServer() as server:
        first = client(server.base_url, tmp_path, many=40)
        while not any(tmp_path.glob("??/*.json")):
            assert first.poll() is None
            time.sleep(0.001)
        first.kill()
        first.communicate()
        assert len(list(tmp_path.glob("??/*.json"))) < 40 * len(EACH_STAGE)
        assert done(client(server.base_url, tmp_path, many=40)) == 40
        assert dict(server.ledger.stages) == dict.fromkeys(EACH_STAGE, 40)
    assert (
        len(left(tmp_path)) <= 32
    )  # stored and not yet let go: as many as there are threads that store, at most


@pytest.mark.slow
def test_what_nobody_asks_for_is_kept(tmp_path: Path) -> None:
    """Killed with six personas under way, started with two, then with six: the other four's replies were not lost."""
    with HeldProvider("GET", "/v1/files/.*", "before", 1) as provider:
        first = client(provider.url, tmp_path, many=6)
        assert provider.held.wait(60)
        first.kill()
        first.communicate()
        assert done(client(provider.url, tmp_path, many=2)) == 2
        assert len(left(tmp_path)) == 4
        assert done(client(provider.url, tmp_path, many=6)) == 6
        assert dict(provider.ledger.stages) == dict.fromkeys(EACH_STAGE, 6)
    assert left(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_waves_are_found_in_a_forks_child(tmp_path: Path) -> None:
    """Also if a thread of its parent was looking for one in that moment."""
    files, over = WaveFiles(tmp_path), threading.Event()
    line = f"{'0' * 40}-0-0"
    files.save(Wave(id="ab" * 16, endpoint="here", url="/v1/embeddings", model="m", file="f", ordered=0, lines=(line,)))  # fmt: skip

    def look() -> None:
        while not over.is_set():
            files.having(line, "here")

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(5):
            child = os.fork()
            if not child:
                signal.alarm(5)
                os._exit(0 if files.having(line, "here") == "ab" * 16 else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        over.set()
        looking.join()


@pytest.mark.slow
def test_two_processes_at_once(tmp_path: Path) -> None:
    """Both get everything; each request is in one batch of one of them. One is killed, and the other goes on with its own."""
    with OfflineServer() as server:
        both = [client(server.base_url, tmp_path, many=5) for _ in range(2)]
        assert [done(process) for process in both] == [5, 5]
        assert dict(server.ledger.stages) == dict.fromkeys(EACH_STAGE, 5)
    with HeldProvider("GET", "/v1/batches/.*", "before", 1) as provider:
        first = client(provider.url, tmp_path / "b")
        assert provider.held.wait(60)
        second = client(provider.url, tmp_path / "b")
        first.kill()
        first.communicate()
        assert done(second) == 3
        assert dict(provider.ledger.stages) == dict.fromkeys(EACH_STAGE, 3)


async def test_stopped_before_it_is_sent(tmp_path: Path) -> None:
    """Nothing leaves when nobody waits any more."""
    with OfflineServer() as server:
        pool = pool_at(server.base_url, tmp_path)
        waiting = asyncio.create_task(pool.send(ask()))
        while "next batch" not in pool.waves:
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await pool.send(ask("another"))
        assert (server.ledger.batches, server.ledger.received) == (1, 1)
        assert pool.waves == ""


async def test_stopped_while_it_waits(tmp_path: Path) -> None:
    """It says that the batch goes on and how far it was; the same cell waits for it again, in the same process or another."""
    with server_with("batch_polls=5") as server:
        pool = pool_at(server.base_url, tmp_path)
        waiting = asyncio.create_task(pool.send(ask()))
        while "waiting since" not in pool.waves:
            await asyncio.sleep(0.01)
        assert re.fullmatch(r"batch batch_\d+ \w+: [01] of [01], waiting since \d\d:\d\d", pool.waves)
        waiting.cancel()
        with pytest.warns(BatchGoesOn, match="goes on; the same command or cell waits for it again"):
            await asyncio.wait([waiting])
        replies = await asyncio.gather(pool.send(ask()), pool_at(server.base_url, tmp_path).send(ask()))
        assert [reply.cached for reply in replies] in ([False, True], [True, False])
        assert (server.ledger.batches, server.ledger.received) == (1, 1)


@pytest.mark.slow
def test_control_c_in_the_terminal(tmp_path: Path) -> None:
    """130, one line that says what goes on, and the same command finishes it."""
    with server_with("batch_polls=2") as server:
        environment = os.environ | {"OPENAI_BASE_URL": server.base_url, "PERSONALAB_MODEL": "m"}
        words = [sys.executable, "-m", "personalab", "persona", "--batch", "--description", PERSONA]
        first = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)
        while (
            not list((tmp_path / "outputs" / "cache" / "batches").glob("*.json")) or not server.ledger.batches
        ):
            assert first.poll() is None
            time.sleep(0.01)
        time.sleep(0.3)  # the answer to the order is on its way
        first.send_signal(signal.SIGINT)
        _, said = first.communicate(timeout=30)
        assert first.returncode == 130
        assert "goes on" in said
        again = subprocess.run(
            words, env=environment, capture_output=True, text=True, timeout=90, check=False
        )
        assert again.returncode == 0, again.stderr
        assert re.search(r"\d\d:\d\d:\d\d batch batch_\d+ at http.*: 5 requests", again.stderr)
        assert re.search(r"batch_\d+ completed: 5 of 5, waiting since", again.stderr)
        assert dict(server.ledger.stages) == dict.fromkeys(EACH_STAGE, 1)
        assert server.ledger.batches == DEPTH


def test_what_is_written_down(tmp_path: Path) -> None:
    """A wave is found by its lines at its own endpoint, until it is over; a damaged one is an error."""
    files = WaveFiles(tmp_path)
    wave = Wave(
        id="a", endpoint="here", url="/v1/embeddings", model="m", file="f", ordered=0, lines=("x", "y")
    )
    files.save(wave)
    assert files.load("a") == wave
    assert (files.having("y", "here"), files.having("y", "there"), files.having("z", "here")) == (
        "a",
        None,
        None,
    )
    files.save(wave.model_copy(update={"id": "b", "lines": ("z",)}))
    assert WaveFiles(tmp_path).having("z", "here") == files.having("z", "here") == "b"
    files.path("c").write_text("{")
    with pytest.raises(OutputError, match=r"c\.json cannot be read: it says which batch was ordered"):
        files.having("q", "here")
    files.path("c").unlink()
    files.end("a")
    assert files.having("y", "here") is None
    files.keep("x", '{"custom_id": "x"}')
    assert files.reply("x") == {"custom_id": "x"}
    files.clear()
    assert files.reply("x")
    files.take("x")
    files.take("x")
    assert files.reply("x") is None
    files.keep("old", "{}")
    os.utime(tmp_path / "replies" / "old.json", (0, 0))
    os.utime(files.path("b"), (0, 0))
    files.clear()
    assert files.load("b") is None
    assert files.reply("old") is None


# What goes wrong


async def made(server: OfflineServer, folder: Path, many: int = 6, **options: Any) -> list[Run]:
    pipeline = Pipeline(pool_at(server.base_url, folder, **options))
    return await asyncio.gather(*(pipeline.run(description=f"diver {number}") for number in range(many)))


@pytest.mark.parametrize(
    ("faults", "error", "said"),
    [
        (["batch_fails"], BatchRefused, "batch_000001 failed: The batch was told to fail."),
        (["no_batches"], BatchRefused, r"batches are not served here.*leave batch out for this endpoint"),
        (["key=secret-of-the-server"], KeyRefused, "check OPENAI_API_KEY"),
    ],
)
async def test_a_batch_that_is_refused(
    tmp_path: Path, faults: list[str], error: type[PersonalabError], said: str
) -> None:
    """One clear error for all that were in it, nothing answered, nothing left that would be waited for."""
    with server_with(*faults) as server:
        with pytest.raises(error, match=said):
            await made(server, tmp_path)
        assert server.ledger.received == 0
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    "faults",
    [
        ["server_error=0.3"],
        ["rate_limit=0.3"],
        ["batch_expires=0.2"],
        ["wrong_shape=0.2", "empty=0.1"],
        ["no_json_schema", "no_temperature", "no_max_tokens"],
    ],
    ids=" ".join,
)
async def test_lines_that_fail_go_again(tmp_path: Path, faults: list[str]) -> None:
    """In a next batch, as often as single requests would, and with what their refusals taught."""
    with server_with(*faults, "seed=3") as server:
        runs = await made(server, tmp_path)
        ledger = server.ledger
    assert [run.status for run in runs] == ["done"] * 6, [run.errors for run in runs]
    assert ledger.batches > DEPTH
    assert ledger.in_flight == 0
    assert left(tmp_path) == []


async def test_failing_ends(tmp_path: Path) -> None:
    """Lines that always fail are given up after so many batches, and the error says what the provider said."""
    with server_with("server_error=1") as server:
        (run,) = await made(server, tmp_path, many=1)
        assert server.ledger.batches == 6
    assert run.status == "failed"
    assert "server error" in run.errors[0]
    assert "gave up after 6 attempts" in run.errors[0]


async def test_a_restart_asks_again_what_failed(tmp_path: Path) -> None:
    """A refusal is not kept: started again, the request is sent again."""
    with server_with("models=good") as server:
        pool = pool_at(server.base_url, tmp_path, model="bad")
        for count in (1, 2):
            with pytest.raises(PersonalabError, match="does not exist"):
                await pool.send(ask())
            assert server.ledger.batches == count


async def test_a_cancelled_batch(tmp_path: Path) -> None:
    """What was answered is taken, the rest is an error that says so and is not sent again by itself."""
    import urllib.request

    with server_with("batch_polls=1000") as server:
        pool = pool_at(server.base_url, tmp_path)
        waiting = asyncio.create_task(pool.send(ask()))
        while "waiting since" not in pool.waves:
            await asyncio.sleep(0.01)
        batch = pool.waves.split()[1]
        request = urllib.request.Request(f"{server.base_url}/batches/{batch}/cancel", method="POST")
        await asyncio.to_thread(urllib.request.urlopen, request)
        with pytest.raises(BatchRefused, match=r"cancelled.*start again to send the rest"):
            await asyncio.wait_for(waiting, 30)


async def test_a_batch_of_another_account(tmp_path: Path) -> None:
    """Not known under this key: an error that names the file to delete, and nothing is sent anew by itself."""
    with OfflineServer() as server:
        pool = pool_at(server.base_url, tmp_path)
        line = line_of(
            {"model": "m", "messages": [{"role": "user", "content": "hello"}]}, pool.key(ask()), 0, []
        )
        files = WaveFiles(tmp_path / "batches")
        wave = Wave(id="ab" * 16, endpoint=server.base_url, url=line.url, model="m", file="f", ordered=0, batch="b", lines=(line.id,))  # fmt: skip
        files.save(wave)
        with pytest.raises(BatchRefused, match=r"batch b is not known.*delete .*abab\.json"):
            await pool.send(ask())
        assert server.ledger.batches == 0
        files.path(wave.id).unlink()
        await pool.send(ask())
        assert server.ledger.batches == 1


async def test_too_many_tokens_wait(tmp_path: Path) -> None:
    """A provider that takes no more tokens for now is asked again later, as after any rate limit."""
    state = BatchState(id="b", status="failed", model="m", problem="Enqueued token limit reached", code="token_limit_exceeded")  # fmt: skip
    error = BatchRoutes("http://here/v1", None).failure(state)
    assert isinstance(error, RateLimited)
    assert error.passing
    assert "requests_max" in str(error)


async def test_an_unkept_promise_of_the_pool(tmp_path: Path) -> None:
    """A transport of one's own has no batches."""

    class Own:
        endpoint = "here"

    with pytest.raises(ConfigError, match="batches need an address"):
        LLMPool(model="m", transport=Own(), batch=True)  # type: ignore[arg-type]


async def test_keys_are_nowhere(tmp_path: Path, provider: ScriptedProvider) -> None:
    """Also where a provider echoes the key in a reply that waits on disk."""
    secret = "a-secret-key-of-mine"
    routes = BatchRoutes(provider.url, SecretStr(secret))
    wave = _Wave(routes, WaveFiles(tmp_path), QUICK, "ab" * 16)
    body = {"model": "m", "choices": [{"message": {"content": f"it is {secret}"}}]}
    line = {"custom_id": "x", "response": {"status_code": 200, "body": body}, "error": None}
    (tmp_path / "lines").write_text(json.dumps(line) + "\nno JSON\n{}\n")
    assert set(wave._kept(tmp_path / "lines", {"x"}, {"x"})) == {"x"}
    await asyncio.wait([wave.task])
    (reply,) = (tmp_path / "replies").iterdir()
    assert secret not in reply.read_text()
    assert "it is [key]" in reply.read_text()


# Limits, endpoints, prices, settings


async def test_limits_do_not_hold(tmp_path: Path) -> None:
    """More requests wait together than may be in flight, and the limits of single requests are not asked."""
    with server_with("max_concurrent=1", "requests_per_minute=1") as server:
        pool = pool_at(server.base_url, tmp_path, max_concurrent=2, requests_per_minute=1)
        await asyncio.gather(*(pool.send(ask(f"no {number}")) for number in range(30)))
        assert server.ledger.batches == 1
        assert pool.counts.rate_limited == 0


async def test_the_first_that_has_the_model(tmp_path: Path) -> None:
    """Of several endpoints a batch goes to one."""
    with server_with("models=a") as one, server_with("models=b") as two, server_with("models=b") as three:
        endpoints = [
            EndpointSettings(api_base=server.base_url, model=model)
            for server, model in ((one, "a"), (two, "b"), (three, "b"))
        ]
        pool = LLMPool(endpoints=endpoints, cache_dir=tmp_path, batch=QUICK)
        await asyncio.gather(*(pool.send(ask(f"no {number}", model="b")) for number in range(5)))
        assert [server.ledger.received for server in (one, two, three)] == [0, 5, 0]


async def test_what_a_batch_costs(tmp_path: Path) -> None:
    """By the list where it says so, by the share that is given, and unknown where nobody knows: never half by itself."""
    openai = "https://api.openai.com/v1"
    whole, in_batch = price_of("gpt-4o-mini", openai), price_of("gpt-4o-mini", openai, batch=True)
    assert whole is not None
    assert in_batch is not None
    assert in_batch.output < whole.output
    assert price_of("gpt-4o-mini", "http://localhost:8000/v1", batch=True) is None
    assert Price(input=2, output=8).batched() is None
    with OfflineServer() as server:
        pool = pool_at(server.base_url, tmp_path / "a", prices={"m": Price(input=2, output=8, batch=0.5)})
        reply = await pool.send(ask())
        assert pool.counts.cost == Price(input=1, output=4).cost(reply.usage)
        pool = pool_at(server.base_url, tmp_path / "b", prices={"m": Price(input=2, output=8)})
        await pool.send(ask())
        assert pool.counts.cost is None
        with pytest.raises(PriceUnknown, match="costs is unknown"):
            pool_at(server.base_url, tmp_path, prices={"m": Price(input=2, output=8)}, budget=Budget(cost=1))


async def test_a_budget_holds(tmp_path: Path) -> None:
    """What would pass it is in no batch, and what was asked is in the cache."""
    with OfflineServer() as server:
        pool = pool_at(server.base_url, tmp_path, budget=Budget(requests=4))
        replies = await asyncio.gather(*(pool.send(ask(f"no {n}")) for n in range(6)), return_exceptions=True)
        assert sum(isinstance(reply, PersonalabError) for reply in replies) == 2
        assert server.ledger.received == 4
        assert len(stored(tmp_path)) == 4


@pytest.mark.parametrize(("given", "wanted"), [("1", True), ("true", True), ("0", False), (None, False)])
def test_by_the_environment(monkeypatch: pytest.MonkeyPatch, given: str | None, wanted: bool) -> None:
    """PERSONALAB_BATCH says it; an argument wins; a long list goes with a wider window."""
    if given:
        monkeypatch.setenv("PERSONALAB_BATCH", given)
    assert (LLMPool().window == BatchSettings().window) is wanted
    assert LLMPool(batch=False).window == LLMPool().max_concurrent + 4
    monkeypatch.setenv("PERSONALAB_BATCH", "perhaps")
    with pytest.raises(ConfigError, match="PERSONALAB_BATCH"):
        LLMPool()


NOTEBOOK = """
from personalab import LLMPool, Pipeline
from personalab.config import BatchSettings
from personalab.recording import record
run = await Pipeline().vary("social_network", temperature=temperature).run(description="a diver who keeps bees")
record("persona", run["core_persona"].name)
"""


@pytest.fixture
def provider_in_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[OfflineServer]:
    with OfflineServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("PERSONALAB_MODEL", "m")
        yield server


@pytest.mark.slow
def test_a_sweep_in_batches(tmp_path: Path, provider_in_environment: OfflineServer) -> None:
    """The notebook says nothing of batches; what two trials share is in a batch of one of them."""
    notebook = write_notebook(tmp_path / "a.ipynb", "temperature = 0.5", NOTEBOOK)
    ended = sweep(notebook, {"temperature": [0.3, 1.1]}, batch=True)
    ledger = provider_in_environment.ledger
    assert [trial.status for trial in ended.trials] == ["done", "done"], ended.failed
    assert ended.counts is not None
    assert ended.counts.sent == 8
    assert dict(ledger.stages) == dict.fromkeys(EACH_STAGE, 1) | {"social_network": 2}
    assert ledger.batches >= DEPTH
