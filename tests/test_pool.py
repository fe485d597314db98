"""The pool against a real HTTP server: cache, single flight, gate, attempts, asking again, wording, loops."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import threading
import traceback
import urllib.parse
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web
from conftest import DROPPED, ScriptedProvider, failure, reply

import personalab
from personalab.endpoints import NotApplied
from personalab.errors import (
    ConfigError,
    ImagesUnsupported,
    KeyRefused,
    ModelNotFound,
    NotRecorded,
    PersonalabError,
    ProviderUnreachable,
    QuotaExhausted,
    RateLimited,
    ReplyInvalid,
    ReplyRefused,
    ReplyTruncated,
    RequestRefused,
)
from personalab.pool import LLMPool, NotKept
from personalab.records import Message, Picture, Request, SamplingParams, Schema, Usage

MakePool = Callable[..., LLMPool]
SCHEMA = Schema(
    name="mood",
    body={
        "title": "mood",
        "type": "object",
        "properties": {"mood": {"type": "string"}},
        "required": ["mood"],
        "additionalProperties": False,
    },
)


def ask(text: str = "hello", **fields: object) -> Request:
    sampling = fields.pop("sampling", SamplingParams())
    return Request(
        stage="mood",
        messages=(Message(role="system", text="You."), Message(role="user", text=text)),
        sampling=sampling,
        **fields,
    )


def fits(text: str) -> None:
    if json.loads(text).get("mood") != "calm":
        raise ReplyInvalid("mood", "mood: must be calm", text=text)


async def test_a_reply_carries_what_it_took(provider: ScriptedProvider, make_pool: MakePool) -> None:
    """Text, model, usage in our words, attempts, and that it was not cached."""
    provider.script = lambda body: '{"mood": "calm"}'
    got = await make_pool().send(ask())
    assert (got.text, got.model, got.usage) == (
        '{"mood": "calm"}',
        "scripted",
        Usage(input_tokens=10, output_tokens=5),
    )
    assert (got.attempts, got.cached, got.finish_reason) == (1, False, "stop")
    assert got.seconds > 0


async def test_the_same_request_is_paid_once(provider: ScriptedProvider, make_pool: MakePool) -> None:
    """A second pool on the same folder takes the reply from the cache, with the usage it once had."""
    first = await make_pool().send(ask())
    again = await make_pool().send(ask())
    assert (len(provider.bodies), again.cached, again.usage) == (1, True, first.usage)


@pytest.mark.parametrize(
    ("change", "sent"),
    [
        ({}, 0),
        ({"stage": "other label"}, 0),
        ({"sampling": SamplingParams(temperature=0.5)}, 1),
        ({"sampling": SamplingParams(max_tokens=9)}, 1),
        ({"replicate": 1}, 1),
        ({"model": "another"}, 1),
        ({"answer": SCHEMA}, 1),
        ({"messages": (Message(role="system", text="You!"), Message(role="user", text="hello"))}, 1),
    ],
)
async def test_the_key_holds_what_changes_the_answer_and_nothing_else(
    provider: ScriptedProvider, make_pool: MakePool, change: dict[str, object], sent: int
) -> None:
    """Each part of a request that can change the answer costs a call; a label costs none."""
    await make_pool().send(ask())
    await make_pool(max_concurrent=3, timeout_seconds=9, attempts_max=2).send(ask().model_copy(update=change))
    assert len(provider.bodies) == 1 + sent


async def test_another_endpoint_is_another_answer(provider: ScriptedProvider, make_pool: MakePool) -> None:
    """Replies of one base URL are not taken for those of another; a trailing slash is not another."""
    await make_pool().send(ask())
    await make_pool(api_base=provider.url + "/").send(ask())
    await make_pool(api_base=provider.url.replace("127.0.0.1", "localhost")).send(ask())
    assert len(provider.bodies) == 2


async def test_twenty_at_once_pay_once(provider: ScriptedProvider, make_pool: MakePool) -> None:
    """Tasks that ask for the same at the same time share one call, and all but one know that they did not pay."""
    provider.wait = lambda body: asyncio.sleep(0.05)
    pool = make_pool(cache="off")
    replies = await asyncio.gather(*(pool.send(ask()) for _ in range(20)))
    assert len(provider.bodies) == 1
    assert sum(not got.cached for got in replies) == 1


async def test_when_the_one_who_asks_is_cancelled_another_takes_over(
    provider: ScriptedProvider, make_pool: MakePool
) -> None:
    """Cancelling the owner of a shared call does not fail those who wait for it."""
    arrived, go = threading.Event(), threading.Event()

    async def hold(body: object) -> None:
        arrived.set()
        await asyncio.to_thread(go.wait, 5)

    provider.wait = hold
    pool = make_pool()
    owner = asyncio.create_task(pool.send(ask()))
    await asyncio.to_thread(arrived.wait, 5)
    other = asyncio.create_task(pool.send(ask()))
    await asyncio.sleep(0.02)
    owner.cancel()
    go.set()
    assert (await other).text == "{}"
    with pytest.raises(asyncio.CancelledError):
        await owner


async def test_a_failure_is_everybodys_and_is_not_cached(
    provider: ScriptedProvider, make_pool: MakePool
) -> None:
    """Those who share a call share its error; the next one asks again."""
    provider.script = lambda body: failure(401)
    provider.wait = lambda body: asyncio.sleep(0.05)
    pool = make_pool()
    errors = await asyncio.gather(*(pool.send(ask()) for _ in range(5)), return_exceptions=True)
    assert [type(error) for error in errors] == [KeyRefused] * 5
    assert len(provider.bodies) == 1
    provider.script = lambda body: "{}"
    assert (await pool.send(ask())).cached is False


async def test_never_more_in_flight_than_allowed(provider: ScriptedProvider, make_pool: MakePool) -> None:
    """The limit holds, counted at the server, and is used."""
    provider.wait = lambda body: asyncio.sleep(0.01)
    pool = make_pool(max_concurrent=7)
    await asyncio.gather(*(pool.send(ask(str(number))) for number in range(60)))
    assert provider.most_in_flight == 7


async def test_one_pool_in_two_loops_keeps_one_limit(provider: ScriptedProvider, make_pool: MakePool) -> None:
    """A thread with a loop of its own shares the limit with this one."""
    provider.wait = lambda body: asyncio.sleep(0.01)
    pool = make_pool(max_concurrent=4)

    async def many(start: int) -> None:
        await asyncio.gather(*(pool.send(ask(str(start + number))) for number in range(30)))

    await asyncio.gather(many(0), asyncio.to_thread(lambda: asyncio.run(many(100))))
    assert provider.most_in_flight == 4
    assert len(provider.bodies) == 60


def test_several_loops_in_a_row(provider: ScriptedProvider, make_pool: MakePool) -> None:
    """One pool serves one `asyncio.run` after another and `personalab.run`, and leaves no open connection behind."""
    pool = make_pool()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(3):
            assert asyncio.run(pool.send(ask(str(number)))).text == "{}"
        assert personalab.run(pool.send(ask("runner"))).text == "{}"
        gc.collect()
    assert len(provider.bodies) == 4


def test_clients_are_closed_with_their_loop(provider: ScriptedProvider) -> None:
    """A pool that is let go as its loop ends leaves no open session, and pools of one loop share one client."""
    code = (
        "import asyncio, gc, sys\n"
        "from personalab import LLMPool\n"
        "from personalab.records import Message, Request\n"
        "from personalab.clients import _clients\n"
        "async def main(text):\n"
        "    for _ in range(3):\n"
        "        pool = LLMPool(api_base=sys.argv[1], model='m', cache='off')\n"
        "        await pool.send(Request(stage='s', messages=(Message(role='user', text=text),)))\n"
        "    assert [len(clients) for clients in _clients.values()] == [1]\n"
        "for text in 'abc':\n"
        "    asyncio.run(main(text))\n"
        "gc.collect()\n"
        "assert not any(_clients.values())\n"
    )
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", code, provider.url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, "Unclosed" in done.stderr) == (0, False), done.stderr


@pytest.mark.parametrize("trouble", [500, 502, 503, 408, 409, "reset", "no json", "no choices"])
async def test_passing_trouble_is_tried_again(
    provider: ScriptedProvider, make_pool: MakePool, trouble: int | str
) -> None:
    """Server errors, dropped connections and nonsense in a 200 cost an attempt, not the request."""

    def script(body: object) -> web.StreamResponse | str:
        if len(provider.bodies) > 2:
            return "{}"
        if isinstance(trouble, int):
            return failure(trouble)
        if trouble == "reset":
            return DROPPED
        return web.Response(text="<html>" if trouble == "no json" else '{"choices": []}')

    provider.script = script
    got = await make_pool().send(ask())
    assert (got.text, got.attempts) == ("{}", 3)


async def test_attempts_end(provider: ScriptedProvider, make_pool: MakePool) -> None:
    """A server that stays down is an error that says how often it was tried."""
    provider.script = lambda body: failure(503, "overloaded")
    with pytest.raises(ProviderUnreachable, match=r"503: overloaded; .*gave up after 4 attempts"):
        await make_pool(attempts_max=4).send(ask())
    assert len(provider.bodies) == 4


async def test_nobody_there(make_pool: MakePool) -> None:
    """An endpoint that does not listen is an error that says where and what to check."""
    with pytest.raises(
        ProviderUnreachable, match=r"127\.0\.0\.1:9/v1: no answer: nothing listens on .*is the server running"
    ):
        await make_pool(api_base="http://127.0.0.1:9/v1", attempts_max=2).send(ask())


@pytest.mark.parametrize(
    ("headers", "at_least", "at_most"),
    [
        ({"Retry-After": "7"}, 7, 7 * 1.25),
        ({"retry-after-ms": "1500"}, 1.5, 1.5 * 1.25),
        ({}, 0.5, 0.5 * 1.25),
    ],
)
async def test_retry_after_is_obeyed(
    provider: ScriptedProvider, make_pool: MakePool, headers: dict[str, str], at_least: float, at_most: float
) -> None:
    """The wait after a 429 is what the server asks, plus at most a quarter."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    provider.script = lambda body: failure(429, headers=headers) if len(provider.bodies) == 1 else "{}"
    await make_pool(sleep=sleep).send(ask())
    assert len(waited) == 1
    assert at_least <= waited[0] <= at_most


async def test_rate_limits_cost_patience_not_attempts(
    provider: ScriptedProvider, make_pool: MakePool
) -> None:
    """Many 429s do not use up the attempts; too long a wait ends in an error."""
    provider.script = lambda body: (
        failure(429, headers={"retry-after-ms": "1"}) if len(provider.bodies) < 12 else "{}"
    )
    assert (await make_pool(attempts_max=3).send(ask())).attempts == 12
    provider.script = lambda body: failure(429, headers={"Retry-After": "600"})
    with pytest.raises(RateLimited, match="lower max_concurrent or wait; gave up after 2 attempts"):
        await make_pool(patience_seconds=1000).send(ask("other"))


async def test_a_server_with_fewer_slots_is_found_out(
    provider: ScriptedProvider, make_pool: MakePool
) -> None:
    """Asked by 20 where 5 are allowed: nothing is lost, and few requests are wasted."""

    def script(body: object) -> web.StreamResponse | str:
        return failure(429, headers={"retry-after-ms": "20"}) if provider.in_flight > 5 else "{}"

    provider.script = script
    provider.wait = lambda body: asyncio.sleep(0.01)
    pool = make_pool(max_concurrent=20, sleep=asyncio.sleep)
    replies = await asyncio.gather(*(pool.send(ask(str(number))) for number in range(200)))
    assert len(replies) == 200
    assert pool.counts.rate_limited <= 40


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (failure(401), KeyRefused),
        (failure(403), KeyRefused),
        (failure(404), ModelNotFound),
        (failure(400, "Invalid model name passed in model=x. Call /v1/models"), ModelNotFound),
        (failure(400, "The model `x` does not exist", code="model_not_found"), ModelNotFound),
        (failure(400, "API key not valid. Please pass a valid API key."), KeyRefused),
        (failure(400, "No connected db.", type="no_db_connection", code="400"), KeyRefused),
        (failure(402), QuotaExhausted),
        (failure(429, code="insufficient_quota"), QuotaExhausted),
        (failure(400, "bad"), RequestRefused),
        (failure(422, "bad"), RequestRefused),
    ],
)
async def test_what_cannot_succeed_is_not_tried_again(
    provider: ScriptedProvider, make_pool: MakePool, answer: web.Response, kind: type[Exception]
) -> None:
    """Key, model, quota and bad requests are errors of their own name at the first answer."""
    provider.script = lambda body: web.json_response(json.loads(answer.body), status=answer.status)
    with pytest.raises(kind):
        await make_pool().send(ask())
    assert len(provider.bodies) == 1


async def test_an_answer_that_does_not_fit_is_asked_again_with_what_was_wrong(
    provider: ScriptedProvider, make_pool: MakePool
) -> None:
    """The second request holds the bad answer, the problem and the schema; the usage of both is counted."""
    provider.script = lambda body: '{"mood": "wild"}' if len(provider.bodies) == 1 else '{"mood": "calm"}'
    got = await make_pool().send(ask(answer=SCHEMA), check=fits)
    again = provider.bodies[1]["messages"]
    assert [message["role"] for message in again] == ["system", "user", "assistant", "user"]
    assert again[2]["content"] == '{"mood": "wild"}'
    assert "must be calm" in again[3]["content"]
    assert '"mood"' in again[3]["content"]
    assert (got.attempts, got.usage.output_tokens) == (2, 10)
    assert (await make_pool().send(ask(answer=SCHEMA), check=fits)).text == '{"mood": "calm"}'
    assert len(provider.bodies) == 2


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (lambda: reply("half", finish_reason="length"), ReplyTruncated, "raise max_tokens"),
        (lambda: reply(None, refusal="I can't help"), ReplyRefused, 'declined: "I can\'t help"'),
        (lambda: reply("", finish_reason="content_filter"), ReplyRefused, "content filter"),
        (lambda: reply('{"mood": "wild"}'), ReplyInvalid, "must be calm"),
    ],
)
async def test_answers_that_stay_useless_are_named(
    provider: ScriptedProvider,
    make_pool: MakePool,
    answer: Callable[[], web.Response],
    kind: type[personalab.PersonalabError],
    said: str,
) -> None:
    """Cut off, declined and unfit are errors of their own, say what to do, cost what they cost, and are not cached."""
    provider.script = lambda body: answer()
    pool = make_pool(asks_max=3)
    with pytest.raises(kind, match=said) as caught:
        await pool.send(ask(), check=fits)
    assert len(provider.bodies) == 3
    assert caught.value.usage == Usage(input_tokens=30, output_tokens=15)
    assert not list(pool.cache.folder.glob("*/*.json"))


async def test_a_cut_off_or_declined_answer_may_be_followed_by_a_good_one(
    provider: ScriptedProvider, make_pool: MakePool
) -> None:
    """They are asked again as they were, without the useless answer."""
    answers = [reply("{", finish_reason="length"), reply(None, refusal="no"), reply('{"mood": "calm"}')]
    provider.script = lambda body: answers[len(provider.bodies) - 1]
    assert (await make_pool().send(ask(), check=fits)).attempts == 3
    assert provider.bodies[0] == provider.bodies[1] == provider.bodies[2]


async def test_an_endpoint_without_json_schema_is_remembered(
    provider: ScriptedProvider, make_pool: MakePool
) -> None:
    """Schema, then JSON mode, then plain text with the schema in the prompt; the lesson is paid for once."""

    def script(body: dict[str, object]) -> web.StreamResponse | str:
        return (
            failure(400, "unknown field response_format") if "response_format" in body else '{"mood": "calm"}'
        )

    provider.script = script
    pool = make_pool()
    await pool.send(ask(answer=SCHEMA), check=fits)
    assert [body.get("response_format", {}).get("type") for body in provider.bodies] == [
        "json_schema",
        "json_object",
        None,
    ]
    assert '"title": "mood"' in provider.bodies[2]["messages"][0]["content"]
    await pool.send(ask("two", answer=SCHEMA), check=fits)
    assert len(provider.bodies) == 4


async def test_a_bad_request_teaches_nothing(provider: ScriptedProvider, make_pool: MakePool) -> None:
    """A request that is refused in every wording leaves the next one its JSON schema."""
    provider.script = lambda body: (
        failure(400, "too long") if "long" in str(body["messages"]) else '{"mood": "calm"}'
    )
    pool = make_pool()
    with pytest.raises(RequestRefused, match="too long"):
        await pool.send(ask("long", answer=SCHEMA), check=fits)
    await pool.send(ask("short", answer=SCHEMA), check=fits)
    assert provider.bodies[-1]["response_format"]["type"] == "json_schema"


async def test_a_model_without_temperature(provider: ScriptedProvider, make_pool: MakePool) -> None:
    """It is left out, remembered, recorded on the reply, and warned of once."""

    def script(body: dict[str, object]) -> web.StreamResponse | str:
        if "temperature" in body:
            return failure(
                400,
                "Unsupported value: 'temperature' does not support 0.8 with this model.",
                param="temperature",
            )
        return "{}"

    provider.script = script
    pool = make_pool()
    request = ask(sampling=SamplingParams(temperature=0.8))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        got = await pool.send(request)
        more = await pool.send(request.model_copy(update={"replicate": 1}))
    assert [str(warning.message) for warning in caught if warning.category is NotApplied] == [
        "model 'scripted' takes no temperature: it was not applied"
    ]
    assert got.not_applied == more.not_applied == ("temperature",)
    assert len(provider.bodies) == 3


async def test_a_temperature_out_of_range_is_an_error(
    provider: ScriptedProvider, make_pool: MakePool
) -> None:
    """A value that is refused is not silently left out."""
    provider.script = lambda body: failure(400, "temperature must be at most 1", param="temperature")
    with pytest.raises(RequestRefused, match="temperature must be at most 1"):
        await make_pool().send(ask(sampling=SamplingParams(temperature=1.5)))


async def test_max_tokens_goes_by_two_names(provider: ScriptedProvider, make_pool: MakePool) -> None:
    """The other name is taken where one is refused."""

    def script(body: dict[str, object]) -> web.StreamResponse | str:
        if "max_tokens" in body:
            return failure(
                400,
                "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead.",
                param="max_tokens",
            )
        return "{}"

    provider.script = script
    await make_pool().send(ask(sampling=SamplingParams(max_tokens=50)))
    assert provider.bodies[1]["max_completion_tokens"] == 50


async def test_a_model_without_images(provider: ScriptedProvider, make_pool: MakePool) -> None:
    """The error says which model, which stage, and what to do."""
    provider.script = lambda body: failure(400, "This model does not support image input")
    message = Message(role="user", text="look", pictures=(Picture(sha256="0", width=1, height=1, data=b"x"),))
    with pytest.raises(
        ImagesUnsupported, match=r"model 'scripted' takes no images .* stage mood, or start from a text"
    ):
        await make_pool().send(Request(stage="mood", messages=(message,), answer=SCHEMA))
    assert len(provider.bodies) == 1


async def test_a_seed_does_not_make_replicates_the_same(
    provider: ScriptedProvider, make_pool: MakePool
) -> None:
    """Each replicate of a seeded request is sent with a seed of its own."""
    pool = make_pool()
    for replicate in range(3):
        await pool.send(ask(sampling=SamplingParams(seed=7), replicate=replicate))
    assert [body["seed"] for body in provider.bodies] == [7, 8, 9]


async def test_why_says_what_differs(provider: ScriptedProvider, make_pool: MakePool) -> None:
    """The nearest stored call of the stage, and only the parts that differ."""
    pool = make_pool()
    assert "no call of this stage" in str(pool.why(ask()))
    await pool.send(ask("one\ntwo", sampling=SamplingParams(temperature=0.8)))
    await pool.send(ask("quite different", sampling=SamplingParams(temperature=0.1, top_p=0.5)))
    assert pool.why(ask("one\ntwo", sampling=SamplingParams(temperature=0.8))).cached
    why = pool.why(ask("one\nthree", sampling=SamplingParams(temperature=0.8)))
    assert [difference.part for difference in why.differences] == ["messages.user"]
    assert "-two" in str(why)
    assert "+three" in str(why)


async def test_a_damaged_entry_is_asked_again(provider: ScriptedProvider, make_pool: MakePool) -> None:
    """A file cut in half, or of another key, counts as none and is written anew."""
    pool = make_pool()
    await pool.send(ask())
    (entry,) = pool.cache.folder.glob("*/*.json")
    whole = entry.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"[]", whole.replace(b'"key": "', b'"key": "0')):
        entry.write_bytes(broken)
        assert (await pool.send(ask())).cached is False
    assert entry.read_bytes()
    assert (await pool.send(ask())).cached is True


async def test_refresh_asks_again_and_keeps_the_new_answer(
    provider: ScriptedProvider, make_pool: MakePool
) -> None:
    """`cache="refresh"` never reads, always writes."""
    await make_pool().send(ask())
    provider.script = lambda body: '{"new": 1}'
    await make_pool(cache="refresh").send(ask())
    assert (await make_pool().send(ask())).text == '{"new": 1}'


async def test_the_key_is_nowhere(
    provider: ScriptedProvider, make_pool: MakePool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in the cache, a repr, a log or an error, not even when the server echoes it."""

    marker = "sk-MARKER-0123456789"
    caplog.set_level(0)
    pool = make_pool(api_key=marker)
    await pool.send(ask())
    provider.script = lambda body: failure(401, f"Incorrect API key provided: {marker}")
    with pytest.raises(KeyRefused) as caught:
        await pool.send(ask("two"))
    everything = (
        "".join(traceback.format_exception(caught.value)) + repr(pool) + caplog.text + repr(pool._settings)
    )
    everything += "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert "Bearer " + marker in str(provider.headers)
    assert marker not in everything


KEY = "sk-MARKER/01+234=56789wxyz"


@pytest.mark.parametrize(
    ("key", "said", "told"),
    [
        (KEY, f"bad key {KEY}!", "bad key [key]!"),
        (KEY, "bad key sk-MAR***wxyz, sk-...wxyz", "bad key [key]***[key], sk-...[key]"),
        (KEY, "ends in 789wxyz.", "ends in [key]"),
        (KEY, f"url ?k={urllib.parse.quote(KEY, safe='')}&a", "url ?k=[key]&a"),
        (KEY, "json " + KEY.replace("/", "\\/"), "json [key]"),
        (KEY, "json " + "".join(f"\\u{ord(mark):04x}" for mark in KEY), "json [key]"),
        (KEY, "html " + KEY.replace("/", "&#47;").replace("+", "&#x2B;"), "html [key]"),
        ("abc", "bad key abc, alphababc abcd", "bad key [key], alphababc abcd"),
        ("x", "example 'x' exceeded", "example '[key]' exceeded"),
        ("sk-local", "the localhost worker", "the localhost worker"),
    ],
)
async def test_of_the_key_a_server_shows_nothing_is_left(
    provider: ScriptedProvider, make_pool: MakePool, key: str, said: str, told: str
) -> None:
    """Not escaped, not in part; and a short key does not make other words unreadable."""
    provider.script = lambda body: failure(401, said)
    with pytest.raises(KeyRefused) as caught:
        await make_pool(api_key=key).send(ask())
    assert f"(401): {told}; check" in str(caught.value)


async def test_no_traceback_with_variables_shows_the_key(
    provider: ScriptedProvider, make_pool: MakePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the server echoes it in: an error, a page, a good answer; and when no client can be made."""
    pool = make_pool(api_key=KEY, attempts_max=1)
    shown = ""

    async def told(question: str) -> str:
        try:
            reply = await pool.send(ask(question))
        except (PersonalabError, ZeroDivisionError) as error:
            lines = traceback.TracebackException.from_exception(error, capture_locals=True).format()
            return "".join(lines) + repr(vars(error))
        return reply.model_dump_json()

    for answer in (
        lambda body: failure(401, f"no {KEY}"),
        lambda body: failure(400, f"no {KEY}", param=KEY),
        lambda body: failure(500, f"{KEY}"),
        lambda body: web.Response(text=f"<html>{KEY}</html>"),
        lambda body: web.json_response({"choices": [], "key": KEY}),
        lambda body: reply(json.dumps({"your key": KEY}), model=KEY),
        lambda body: reply("no", refusal=KEY),
    ):
        provider.script = answer
        shown += await told(str(len(shown)))
    monkeypatch.setattr("personalab.clients._new_session", lambda url, key: 1 / 0)
    monkeypatch.setattr("personalab.clients._clients", {})
    shown += await told("again")
    assert "ZeroDivisionError" in shown
    assert "[key]" in shown
    assert "MARKER" not in shown + "".join(p.read_text() for p in tmp_path.rglob("*") if p.is_file())


async def test_replies_with_half_a_character_are_kept(
    provider: ScriptedProvider, make_pool: MakePool
) -> None:
    """A lone surrogate, which no file can hold, becomes U+FFFD."""
    provider.script = lambda body: web.Response(
        text='{"choices":[{"message":{"content":"a\\ud83d"},"finish_reason":"stop"}]}'
    )
    got = await make_pool().send(ask())
    assert got.text == "a\ufffd"
    assert got.usage == Usage(input_tokens=None, output_tokens=None)


def test_an_endpoint_needs_a_model(provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an endpoint but no model, and with a model but no endpoint, the error says what to set."""
    with pytest.raises(ConfigError, match="PERSONALAB_MODEL"):
        LLMPool(api_base=provider.url)
    with pytest.raises(ConfigError, match="'gpt-9' needs an endpoint"):
        LLMPool(model="gpt-9")
    monkeypatch.setenv("PERSONALAB_MODEL", "from-env")
    assert LLMPool(api_base=provider.url).model == "from-env"
    assert LLMPool(api_base=provider.url, model="argument").model == "argument"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"api_base": "host/v1"}, "OPENAI_BASE_URL must .*https://host:8000/v1"),
        ({"api_base": "http://host:abc/v1"}, "OPENAI_BASE_URL"),
        ({"api_base": "http://[::1/v1"}, "OPENAI_BASE_URL"),
        ({"api_base": "http://me:word@host/v1"}, "must not hold a name or password"),
        ({"api_base": "http://host/v1?key=secret"}, "must not hold anything after a"),
        ({"api_base": "http://host/v1#part"}, "must not hold anything after a"),
        ({"api_key": "sk-MARKER-ü"}, "OPENAI_API_KEY must .*printable ASCII"),
        ({"api_key": "sk-MARKER\x07"}, "OPENAI_API_KEY"),
        ({"max_concurrent": 0}, "MAX_CONCURRENT"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, object], said: str) -> None:
    """Each is refused by the name of its variable, and no key is in the message or in a frame's variables."""
    with pytest.raises(ConfigError, match=said) as caught:
        LLMPool(**({"model": "m", "api_key": "sk-MARKER"} | settings))  # type: ignore[arg-type]
    trace = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    ours = [
        frame for frame in trace.stack if "personalab" in frame.filename and "tests" not in frame.filename
    ]
    assert ours
    assert "MARKER" not in str(caught.value) + str([frame.locals for frame in ours])


async def test_no_slot_is_lost_with_a_loop(provider: ScriptedProvider, make_pool: MakePool) -> None:
    """Loops that end while hundreds wait leave the gate as it was."""
    provider.wait = lambda body: asyncio.sleep(0.02)
    pool = make_pool(max_concurrent=3)

    async def many(start: int) -> None:
        async with asyncio.timeout(0.2):
            await asyncio.gather(*(pool.send(ask(str(start + number))) for number in range(300)))

    def loop_that_ends(start: int) -> None:
        with pytest.raises(TimeoutError):
            asyncio.run(many(start))

    await asyncio.gather(*(asyncio.to_thread(loop_that_ends, 1000 * number) for number in range(4)))
    assert pool.in_flight == 0
    provider.wait = None
    async with asyncio.timeout(10):
        await asyncio.gather(*(pool.send(ask(f"after {number}")) for number in range(10)))


@pytest.mark.parametrize("said", ["0", "-5", "inf", "nan", "1e300", "Wed, 21 Oct 2015 07:28:00 GMT", "soon"])
async def test_odd_retry_after(provider: ScriptedProvider, make_pool: MakePool, said: str) -> None:
    """However a server words it, asking ends: in an answer, or in an error after a bounded number of requests."""
    provider.script = lambda body: failure(429, headers={"Retry-After": said})
    with pytest.raises(RateLimited):
        await make_pool(max_concurrent=1, patience_seconds=3).send(ask())
    assert len(provider.bodies) < 40


async def test_neither_name_of_max_tokens(provider: ScriptedProvider, make_pool: MakePool) -> None:
    """Where both are refused the parameter is left out, and asking ends."""

    def script(body: dict[str, object]) -> web.StreamResponse | str:
        name = next((name for name in body if name.startswith("max_")), None)
        return failure(400, f"Unsupported parameter: '{name}'") if name else "{}"

    provider.script = script
    with pytest.warns(NotApplied, match="max_tokens"):
        got = await make_pool().send(ask(sampling=SamplingParams(max_tokens=50)))
    assert (len(provider.bodies), got.not_applied) == (3, ("max_tokens",))


async def test_a_lesson_is_paid_for_by_those_in_flight_only(
    provider: ScriptedProvider, make_pool: MakePool
) -> None:
    """Of 100 requests to an endpoint without response formats, only the first few are refused."""

    def script(body: dict[str, object]) -> web.StreamResponse | str:
        return (
            failure(400, "response_format is not supported")
            if "response_format" in body
            else '{"mood": "calm"}'
        )

    provider.script = script
    pool = make_pool(max_concurrent=4)
    await asyncio.gather(*(pool.send(ask(str(number), answer=SCHEMA), check=fits) for number in range(100)))
    assert len(provider.bodies) <= 100 + 2 * 4


async def test_one_bad_schema_is_no_lesson_for_others(
    provider: ScriptedProvider, make_pool: MakePool
) -> None:
    """A schema the endpoint refuses goes without it, the next request with another keeps its mode."""
    provider.script = lambda body: (
        failure(400, "Invalid schema for response_format 'bad'")
        if "'bad'" in str(body)
        else '{"mood": "calm"}'
    )
    pool = make_pool()
    bad = SCHEMA.model_copy(update={"name": "bad", "body": SCHEMA.body | {"title": "mood"}})
    await pool.send(ask("one", answer=bad), check=fits)
    await pool.send(ask("two", answer=SCHEMA), check=fits)
    assert provider.bodies[-1]["response_format"]["type"] == "json_schema"


async def test_a_reply_outlives_a_cache_that_cannot_be_written(
    provider: ScriptedProvider, make_pool: MakePool, tmp_path: Path
) -> None:
    """It is given back with a warning: it was paid. The warning comes once, however many replies there are."""
    (tmp_path / "file").write_text("")
    pool = make_pool(cache_dir=tmp_path / "file")
    with pytest.warns(NotKept, match="cannot write") as warned:
        replies = [await pool.send(ask(text)) for text in ("one", "another")]
    assert [reply.text for reply in replies] == ["{}", "{}"]
    assert len(warned) == 1


async def test_a_server_that_drips(provider: ScriptedProvider, make_pool: MakePool) -> None:
    """The limit is on the whole attempt, so a slot is not held for ever."""
    provider.wait = lambda body: asyncio.sleep(0.5)
    with pytest.raises(ProviderUnreachable, match="no answer"):
        await make_pool(timeout_seconds=0.1, attempts_max=2).send(ask())


async def test_the_longest_chain_goes_first(provider: ScriptedProvider, make_pool: MakePool) -> None:
    """Of those who wait for a place the highest rank is next, then who came first; who gives up is passed over."""
    pool = make_pool(max_concurrent=1)
    go_on = threading.Event()

    async def wait(body: dict[str, object]) -> None:
        if "one" in str(body):
            await asyncio.to_thread(go_on.wait, 10)

    provider.wait = wait
    tasks = {}
    for name, rank in [("one", 1), ("two", 1), ("three", 3), ("four", 2), ("five", 2), ("six", 9)]:
        tasks[name] = asyncio.create_task(pool.send(ask(name, rank=rank)))
        await asyncio.sleep(0)
    while pool.in_flight + pool.waiting < 6:
        await asyncio.sleep(0.01)
    tasks.pop("six").cancel()
    await asyncio.sleep(0)
    go_on.set()
    replies = dict(zip(tasks, await asyncio.gather(*tasks.values()), strict=True))
    begun = sorted(replies, key=lambda name: replies[name].spans[0])
    assert begun == ["one", "three", "four", "five", "two"]
    assert pool.waiting == 0


async def test_replay_never_sends(provider: ScriptedProvider, make_pool: MakePool) -> None:
    """What is stored is given; what is not is an error that names the stage and what differs."""
    first = await make_pool().send(ask())
    replaying = make_pool(cache="replay")
    assert (await replaying.send(ask())).text == first.text
    with pytest.raises(NotRecorded, match=r"stage mood: replay never sends(.|\n)*sampling.temperature"):
        await replaying.send(ask(sampling=SamplingParams(temperature=0.5)))
    assert len(provider.bodies) == 1
