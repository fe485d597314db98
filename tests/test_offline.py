"""The embedded provider as a server: the protocol, faults, quirks, limits, and its end."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import aiohttp
import openai
import pytest
from test_offline_writer import drawing

from personalab.dialect import Dialect
from personalab.errors import ConfigError
from personalab.images import open_picture
from personalab.offline.damage import damaged
from personalab.offline.door import Door
from personalab.offline.faults import QUIRKS, RATES, Faults, parse_faults
from personalab.offline.ledger import Ledger
from personalab.offline.server import BODY_BYTES_MAX, OfflineServer
from personalab.offline.wire import ApiError, Chat
from personalab.replies import find_object
from personalab.schemas import StageOutput
from personalab.stages import STAGES, Brief

HELLO: Any = [{"role": "user", "content": "hello"}]
SCHEMA = {
    "type": "object",
    "properties": {"score": {"type": "integer", "minimum": 1, "maximum": 5}, "why": {"type": "string"}},
    "required": ["score", "why"],
    "additionalProperties": False,
}
JUDGE: Any = {"type": "json_schema", "json_schema": {"name": "judge", "schema": SCHEMA, "strict": True}}


@asynccontextmanager
async def client_of(server: OfflineServer, key: str = "any") -> AsyncIterator[openai.AsyncOpenAI]:
    """The real client, without retries."""
    http = openai.DefaultAioHttpClient()
    async with openai.AsyncOpenAI(
        base_url=server.base_url, api_key=key, max_retries=0, http_client=http
    ) as client:
        yield client


async def ask(server: OfflineServer, key: str = "any", **options: Any) -> Any:
    """One completion."""
    async with client_of(server, key) as client:
        return await client.chat.completions.create(**({"model": "any", "messages": HELLO} | options))


async def refused(server: OfflineServer, key: str = "any", **options: Any) -> Any:
    """The error of one completion."""
    with pytest.raises(openai.APIStatusError) as caught:
        await ask(server, key, **options)
    return caught.value


def faulty(*fault: str, latency: tuple[str, ...] = ()) -> OfflineServer:
    return OfflineServer(parse_faults(fault=fault, latency=latency), record_bodies=True)


# The protocol


async def test_all_stages_over_the_wire() -> None:
    """Twenty pictures in three languages, the temperatures in turn: all fit, and all say what they are."""
    with OfflineServer() as server:
        async with client_of(server) as client:
            slots = asyncio.Semaphore(20)

            async def persona(number: int, language: str, temperature: float) -> None:
                brief = Brief(picture=open_picture(drawing(number, 64)), language=language)
                done: dict[str, StageOutput] = {}
                for stage in STAGES:
                    request = stage.vary(temperature=temperature).request(brief, done)
                    async with slots:
                        reply = await client.chat.completions.create(**Dialect().body(request, "any"))
                    assert reply.model == "personalab-offline"
                    done[stage.name] = stage.parse(reply.choices[0].message.content or "", done)

            await asyncio.gather(
                *(
                    persona(number, language, (0.0, 0.85, 1.2, 1.7)[(number + at) % 4])
                    for number in range(20)
                    for at, language in enumerate(("English", "Chinese", "Spanish"))
                )
            )
        ledger = server.ledger
    assert ledger.received == ledger.answered == 20 * 3 * 7
    assert dict(ledger.statuses) == {200: 20 * 3 * 7}
    assert set(ledger.stages) == {stage.name for stage in STAGES}
    assert ledger.in_flight == 0
    assert 1 < ledger.in_flight_most <= 20


async def test_an_answer_has_openais_shape() -> None:
    """Every field the client knows, and usage that grows with the request."""
    with OfflineServer() as server:
        short, again = await ask(server), await ask(server)
        long = await ask(server, messages=[{"role": "user", "content": "hello " * 100}])
    assert short.model_dump() == again.model_dump()
    assert short.id.startswith("chatcmpl-")
    assert short.object == "chat.completion"
    assert short.created == 0
    assert short.choices[0].finish_reason == "stop"
    assert short.choices[0].message.refusal is None
    assert short.usage.total_tokens == short.usage.prompt_tokens + short.usage.completion_tokens
    assert long.usage.prompt_tokens > short.usage.prompt_tokens > 0


async def test_models_are_listed() -> None:
    """One model, or those named by `models`."""
    with OfflineServer() as server, faulty("models=a,b") as other:
        async with client_of(server) as client:
            assert [model.id async for model in client.models.list()] == ["personalab-offline"]
        async with client_of(other) as client:
            assert [model.id async for model in client.models.list()] == ["a", "b"]


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_length_limits_cut(name: str) -> None:
    """finish_reason length, and no more tokens than allowed."""
    with OfflineServer() as server:
        whole = await ask(server, response_format=JUDGE)
        reply = await ask(server, response_format=JUDGE, **{name: 5})
        enough = await ask(server, response_format=JUDGE, **{name: 5000})
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage.completion_tokens == 5
    assert whole.choices[0].message.content.startswith(reply.choices[0].message.content)
    assert enough.choices[0].message.content == whole.choices[0].message.content


async def test_streams_say_the_same() -> None:
    """Chunks add up to the plain answer; the end has its reason, then usage where it was asked for."""
    with OfflineServer() as server:
        plain = await ask(server, response_format=JUDGE)
        async with client_of(server) as client:
            stream = await client.chat.completions.create(
                model="any",
                messages=HELLO,
                response_format=JUDGE,
                stream=True,
                stream_options={"include_usage": True},
            )
            chunks = [chunk async for chunk in stream]
        while server.ledger.answered < 2:  # it counts the answer a moment after its last byte has gone
            await asyncio.sleep(0.01)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == (
        plain.choices[0].message.content
    )
    assert [chunk.choices[0].finish_reason for chunk in chunks[-2:-1]] == ["stop"]
    assert chunks[-1].usage == plain.usage
    assert {chunk.model for chunk in chunks} == {"personalab-offline"}


async def test_replicates_differ_by_header() -> None:
    """The pool's header for asking the same again on purpose."""
    with OfflineServer() as server:
        answers = [
            (await ask(server, response_format=JUDGE, extra_headers={"x-personalab-replicate": str(number)}))
            .choices[0].message.content
            for number in (1, 2, 1)
        ]  # fmt: skip
    assert answers[0] == answers[2] != answers[1]


@pytest.mark.parametrize(
    ("options", "parameter"),
    [
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"n": 2}, "n"),
        ({"seed": "x"}, "seed"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": ["hello"]}, "messages[0]"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "audio"}]}]}, "messages[0].content[0]"),
        ({"model": ""}, "model"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}},
            "response_format.json_schema.name",
        ),
        ({"messages": [{"role": "user", "content": "Language: Klingon"}]}, "messages"),
    ],
)
async def test_wrong_requests_are_400_and_name_the_parameter(options: dict[str, Any], parameter: str) -> None:
    """As OpenAI does."""
    with OfflineServer() as server:
        error = await refused(server, **options)
        assert (error.status_code, error.param) == (400, parameter)
        assert error.type == "invalid_request_error"
        assert dict(server.ledger.statuses) == {400: 1}


async def raw(server: OfflineServer, method: str, path: str, data: bytes | None = None) -> tuple[int, Any]:
    """Status and JSON body without any client in between."""
    address = server.base_url.removesuffix("/v1") + path
    async with aiohttp.ClientSession() as session, session.request(method, address, data=data) as response:
        return response.status, await response.json()


@pytest.mark.parametrize(
    ("method", "path", "data", "status"),
    [
        ("GET", "/", None, 404),
        ("POST", "/v1/images", b"{}", 404),
        ("GET", "/v1/chat/completions", None, 405),
        ("DELETE", "/v1/models", None, 405),
        ("POST", "/v1/chat/completions", b"", 400),
        ("POST", "/v1/chat/completions", b"{'model'}", 400),
        ("POST", "/v1/chat/completions", b"[1]", 400),
        ("POST", "/v1/chat/completions", b"\xff\xfe", 400),
        ("POST", "/v1/chat/completions", b"[" * 100_000, 400),
        ("POST", "/v1/chat/completions", b'{"model": "m", "messages": "\\ud800"}', 400),
    ],
)
async def test_every_error_is_json(method: str, path: str, data: bytes | None, status: int) -> None:
    """No page of HTML, no bare 500."""
    with OfflineServer() as server:
        got, body = await raw(server, method, path, data)
    assert got == status
    assert set(body["error"]) == {"message", "type", "param", "code"}


async def test_too_large_bodies_are_413() -> None:
    """Above 64 MB nothing is read."""
    assert BODY_BYTES_MAX == 64 * 1024**2

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(70):
            yield b" " * 1024**2

    with OfflineServer() as server:
        async with aiohttp.ClientSession() as session:
            url = f"{server.base_url}/chat/completions"
            async with session.post(url, data=endless()) as response:
                assert response.status == 413
                assert (await response.json())["error"]["code"] == "request_too_large"
        assert dict(server.ledger.statuses) == {413: 1}


async def test_a_bug_in_writing_is_an_answer_one_can_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """500 in OpenAI's shape, naming the error."""

    def broken(chat: Chat, replicate: str) -> str:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("personalab.offline.server.compose", broken)
    with OfflineServer() as server:
        error = await refused(server)
        assert dict(server.ledger.statuses) == {500: 1}
    assert (error.status_code, error.code) == (500, "offline_bug")
    assert "ZeroDivisionError: oh" in str(error)


async def test_pictures_count_and_bad_ones_are_refused() -> None:
    """An image costs tokens; a broken one is 400 with OpenAI's code."""

    def with_image(data: bytes) -> Any:
        url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
        return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]

    with OfflineServer() as server:
        good = await ask(server, messages=with_image(drawing(1)))
        error = await refused(server, messages=with_image(b"no picture"))
    assert good.usage.prompt_tokens > 700
    assert (error.status_code, error.code) == (400, "invalid_image_format")


# The server's life


def test_starting_and_closing_twice_is_fine() -> None:
    """And it can begin again, on another port; no thread of its own is left."""
    before = set(threading.enumerate())
    server = OfflineServer()
    assert server.base_url == ""
    assert server.start() is server
    first = server.base_url
    server.start()
    assert server.base_url == first != ""
    assert first.startswith("http://127.0.0.1:")
    server.close()
    server.close()
    assert server.base_url == ""
    with server:
        assert server.base_url
    left = set(threading.enumerate()) - before
    assert not [thread for thread in left if thread.name == "personalab-offline"]


def test_a_taken_port_is_one_clear_line() -> None:
    """Not a stack trace from a thread."""
    with OfflineServer() as server:
        port = int(server.base_url.split(":")[2].removesuffix("/v1"))
        with pytest.raises(
            ConfigError, match=f"cannot serve on 127.0.0.1 port {port}: .*choose another port"
        ):
            OfflineServer(port=port).start()
    with pytest.raises(ConfigError, match="port 99999"):
        OfflineServer(port=99999).start()


async def test_closing_cuts_off_what_is_under_way() -> None:
    """Nobody waits for a slow answer."""
    server = faulty(latency=("30",))
    server.start()
    task = asyncio.create_task(ask(server))
    await until(lambda: server.ledger.in_flight == 1)
    began = time.monotonic()
    await asyncio.to_thread(server.close)
    assert time.monotonic() - began < 5
    with pytest.raises(openai.APIConnectionError):
        await task


async def test_a_client_that_leaves_is_not_in_flight() -> None:
    """Counted as abandoned, not as answered."""
    with faulty(latency=("30",)) as server:
        task = asyncio.create_task(ask(server))
        await until(lambda: server.ledger.in_flight == 1)
        task.cancel()
        await until(lambda: server.ledger.in_flight == 0)
        assert (server.ledger.received, server.ledger.answered, server.ledger.abandoned) == (1, 0, 1)


async def until(true: Any) -> None:
    """Waits until something holds."""
    for _ in range(500):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came true")


async def test_bodies_are_kept_only_on_request() -> None:
    """And then the last hundred."""
    with OfflineServer() as plain, OfflineServer(record_bodies=True) as recording:
        await ask(plain)
        await ask(recording, seed=5)
        assert plain.ledger.bodies == ()
        assert [body["seed"] for body in recording.ledger.bodies] == [5]
        assert isinstance(recording.ledger, Ledger)


_SERVE = """
import sys
from personalab.offline.server import serve
serve(ready=lambda url: print(url, flush=True))
print("ended", flush=True)
"""


def test_two_processes_say_the_same_and_end_with_ctrl_c() -> None:
    """Determinism across processes with other hash seeds; `serve` prints nothing and returns."""

    async def replies(url: str) -> list[str]:
        brief = Brief(picture=open_picture(drawing(3)), language="Spanish")
        async with openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0) as client:
            bodies = [
                Dialect().body(STAGES[0].request(brief, {}), "any"),
                {"model": "any", "messages": HELLO},
            ]
            made = [await client.chat.completions.create(**body) for body in bodies]
        return [reply.model_dump_json() for reply in made]

    answers = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", _SERVE],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        try:
            assert process.stdout is not None
            answers.append(asyncio.run(replies(process.stdout.readline().strip())))
            process.send_signal(signal.SIGINT)
            said, errors = process.communicate(timeout=10)
        finally:
            process.kill()
        assert (said, errors, process.returncode) == ("ended\n", "", 0)
    assert answers[0] == answers[1]


# Faults


async def test_rate_limits_say_when_to_come_back() -> None:
    """429 with Retry-After, in seconds and in milliseconds."""
    with faulty("rate_limit=1", "retry_after=2.5") as server:
        error = await refused(server)
    assert (error.status_code, error.code) == (429, "rate_limit_exceeded")
    assert error.response.headers["retry-after"] == "2.5"
    assert error.response.headers["retry-after-ms"] == "2500"


async def test_server_errors_vary() -> None:
    """500, 502 and 503."""
    with faulty("server_error=1") as server:
        statuses = {(await refused(server)).status_code for _ in range(15)}
    assert statuses == {500, 502, 503}


async def test_resets_drop_the_connection() -> None:
    """No status at all."""
    with faulty("reset=1") as server:
        with pytest.raises(openai.APIConnectionError):
            await ask(server)
        assert server.ledger.statuses == {}


async def test_broken_json_can_mostly_be_repaired() -> None:
    """Fences, prose, trailing commas, unquoted keys, a number in words; hardly any of it parses as it is."""
    with faulty("broken_json=1") as server:
        answers = [(await ask(server, response_format=JUDGE)).choices[0].message.content for _ in range(25)]
    assert any(text.startswith("```json") for text in answers)
    assert any(text.startswith("Sure!") for text in answers)
    assert any('"about ' in text for text in answers)
    assert any("\n  score:" in text for text in answers)
    assert any(",\n}" in text for text in answers)
    assert all(set(find_object(text) or {}) == {"score", "why"} for text in answers)


async def test_wrong_shapes_parse_and_do_not_fit() -> None:
    """One field missing or of the wrong type."""
    with faulty("wrong_shape=1") as server:
        answers = [
            json.loads((await ask(server, response_format=JUDGE)).choices[0].message.content)
            for _ in range(15)
        ]
    assert any(len(answer) == 1 for answer in answers)
    assert any(isinstance(value, dict) for answer in answers for value in answer.values())
    assert not any(
        isinstance(answer.get("score"), int) and isinstance(answer.get("why"), str) for answer in answers
    )


async def test_cut_off_refused_and_empty_answers() -> None:
    """As OpenAI sends them."""
    with faulty("cut_off=1") as server:
        choice = (await ask(server, response_format=JUDGE)).choices[0]
        assert choice.finish_reason == "length"
        with pytest.raises(json.JSONDecodeError):
            json.loads(choice.message.content)
    with faulty("refusal=1") as server:
        choice = (await ask(server)).choices[0]
        assert (choice.finish_reason, choice.message.content) == ("stop", None)
        assert "can't help" in choice.message.refusal
    with faulty("empty=1") as server:
        assert (await ask(server)).choices[0].message.content == ""


async def test_faults_befall_their_share_and_can_be_repeated() -> None:
    """About a third of 60 requests, the same ones in the next run, others with another seed."""

    async def run(*more: str) -> list[bool]:
        with faulty("refusal=0.33", *more) as server:
            async with client_of(server) as client:
                replies = [await client.chat.completions.create(model="m", messages=HELLO) for _ in range(60)]
        return [reply.choices[0].message.content is None for reply in replies]

    first, second, third = await run(), await run(), await run("seed=1")
    assert 8 <= sum(first) <= 34
    assert first == second != third


def test_plain_text_survives_damage() -> None:
    """Faults of JSON do not break where there is none."""
    for seed in range(20):
        assert damaged("broken_json", "no json", Random(seed)).text
        assert damaged("wrong_shape", "no json", Random(seed)).text == "no json"


# Quirks


@pytest.mark.parametrize(
    ("quirk", "options", "status", "param", "code"),
    [
        ("no_json_schema", {"response_format": JUDGE}, 400, "response_format", None),
        ("no_json_mode", {"response_format": {"type": "json_object"}}, 400, "response_format", None),
        ("no_temperature", {"temperature": 0.5}, 400, "temperature", "unsupported_value"),
        ("no_max_tokens", {"max_tokens": 9}, 400, "max_tokens", "unsupported_parameter"),
        ("no_quota", {}, 429, None, "insufficient_quota"),
        ("key=sk-right", {}, 401, None, "invalid_api_key"),
        ("models=a,b", {}, 404, "model", "model_not_found"),
    ],
)
async def test_quirks_refuse_as_real_endpoints_do(
    quirk: str, options: dict[str, Any], status: int, param: str | None, code: str | None
) -> None:
    """Status, parameter and code."""
    with faulty(quirk) as server:
        error = await refused(server, **options)
    assert (error.status_code, error.param, error.code) == (status, param, code)


async def test_quirks_let_the_rest_through() -> None:
    """JSON mode without schemas, the default temperature, the newer length limit, the right key and model."""
    with faulty(
        "no_json_schema", "no_temperature", "no_max_tokens", "no_images", "key=k", "models=m"
    ) as server:
        reply = await ask(
            server,
            key="k",
            model="m",
            temperature=1,
            max_completion_tokens=500,
            response_format={"type": "json_object"},
        )
    assert json.loads(reply.choices[0].message.content)


async def test_text_only_models_refuse_images() -> None:
    """400 that speaks of images."""
    content = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    with faulty("no_images") as server:
        error = await refused(server, messages=[{"role": "user", "content": content}])
    assert error.status_code == 400
    assert "image" in str(error)


async def test_a_key_is_never_said() -> None:
    """Neither the right one nor the wrong one, in the error or in the record's repr."""
    faults = parse_faults(fault=["key=sk-right-secret"])
    with OfflineServer(faults) as server:
        error = await refused(server, key="sk-wrong-secret")
    assert "secret" not in f"{error} {faults!r}"


# Limits and latency


async def test_more_than_max_concurrent_is_429() -> None:
    """Three slots, ten at once: seven are sent away with Retry-After."""
    with faulty("max_concurrent=3", "retry_after=0.5", latency=("0.3",)) as server:
        async with client_of(server) as client:
            results = await asyncio.gather(
                *(client.chat.completions.create(model="m", messages=HELLO) for _ in range(10)),
                return_exceptions=True,
            )
        errors = [result for result in results if isinstance(result, openai.RateLimitError)]
        assert len(errors) == 7
        assert {error.response.headers["retry-after"] for error in errors} == {"0.5"}
        assert dict(server.ledger.statuses) == {200: 3, 429: 7}
        assert (await ask(server)).choices


def test_requests_per_minute_slide() -> None:
    """The window frees a place 60 seconds after it was taken."""
    now = 100.0
    door = Door(Faults(requests_per_minute=2), clock=lambda: now)
    door.enter()
    now = 130.0
    door.enter()
    with pytest.raises(ApiError) as caught:
        door.enter()
    assert caught.value.headers["Retry-After"] == "30"
    now = 160.0
    door.enter()
    with pytest.raises(ApiError) as caught:
        door.enter()
    assert caught.value.headers["Retry-After"] == "30"


async def test_requests_per_minute_over_the_wire() -> None:
    """429 with the time until the window frees."""
    with faulty("requests_per_minute=1") as server:
        await ask(server)
        error = await refused(server)
    assert error.status_code == 429
    assert 50 < float(error.response.headers["retry-after"]) <= 60


async def test_latency_is_constant_in_a_range_or_by_stage() -> None:
    """Seconds by the clock for one, by the record for the rest."""
    with faulty(latency=("0.3",)) as server:
        began = time.monotonic()
        await ask(server)
        assert 0.3 <= time.monotonic() - began < 2
    faults = parse_faults(latency=["0.1..0.5", "core_persona=2", "tweet_strategy=1..2"])
    drawn = [faults.seconds("judge", count) for count in range(200)]
    assert 0.1 <= min(drawn) < 0.15 < 0.45 < max(drawn) <= 0.5
    assert {faults.seconds("core_persona", count) for count in range(9)} == {2.0}
    assert all(1 <= faults.seconds("tweet_strategy", count) <= 2 for count in range(50))
    assert parse_faults(latency=["core_persona=2"]).seconds("judge", 0) == 0


# Words for faults


def test_faults_are_parsed_from_words() -> None:
    """Rates, quirks, limits, keys, models."""
    faults = parse_faults(
        fault=[
            "rate_limit=0.2",
            "reset=0.1",
            "no_images",
            "key=k=1",
            "models=a, b",
            "max_concurrent=5",
            "seed=3",
        ]
    )
    assert (faults.rate_limit, faults.reset, faults.no_images, faults.key) == (0.2, 0.1, True, "k=1")
    assert (faults.models, faults.max_concurrent, faults.seed) == (("a", "b"), 5, 3)
    assert parse_faults() == Faults()
    assert set(RATES) | set(QUIRKS) < set(Faults.model_fields)


@pytest.mark.parametrize(
    ("fault", "latency", "said"),
    [
        (["rate_limt=0.2"], [], "did you mean 'rate_limit'"),
        (["latency=1"], [], "unknown fault 'latency'"),
        (["rate_limit=2"], [], "rate_limit: Input should be less than or equal to 1"),
        (["rate_limit"], [], "'rate_limit' needs a value"),
        (["rate_limit=often"], [], "rate_limit"),
        (["rate_limit=0.6", "reset=0.6"], [], "must not sum to more than 1"),
        (["max_concurrent=0"], [], "max_concurrent"),
        (["retry_after=inf"], [], "retry_after"),
        ([], ["soon"], "write seconds"),
        ([], ["0.5..0.1"], "ends before it begins"),
        ([], ["-1"], "write seconds"),
        ([], ["nan"], "write seconds"),
    ],
)
def test_wrong_words_are_errors_that_name_them(fault: list[str], latency: list[str], said: str) -> None:
    """ConfigError, one line."""
    with pytest.raises(ConfigError, match=said) as caught:
        parse_faults(fault=fault, latency=latency)
    assert "\n" not in str(caught.value)
