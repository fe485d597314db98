"""What an endpoint can do: asked of the real embedded server with its quirks, and of servers that answer oddly."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ScriptedProvider, failure, reply
from raw_servers import PAGE, Said, completion, listing, raw_server, self_signed

from personalab.connection_problems import likely_urls
from personalab.endpoint_checks import SUBJECTS, EndpointCheck, Finding, check_endpoint
from personalab.offline.faults import Faults, Latency
from personalab.offline.server import OfflineServer
from personalab.records import Usage

MODEL = "personalab-offline"


async def checked(url: str, model: str | None = MODEL, **options: Any) -> EndpointCheck:
    return await check_endpoint(api_base=url, model=model, **options)


def states(done: EndpointCheck) -> dict[str, str]:
    return {finding.subject: finding.state for finding in done.findings}


async def test_the_embedded_provider_can_do_everything() -> None:
    """With nothing set: four requests, nothing to pay, and a persona can be made."""
    done = await check_endpoint()
    expected = dict.fromkeys(SUBJECTS, "yes") | {"JSON mode": "unknown", "limits told": "no"}
    assert states(done) == expected, str(done)
    assert (done.requests, done.cost, done.persona_cost) == (4, 0, 0)
    assert done.makes_personas
    assert "A persona can be made from an image." in str(done)


async def test_few_and_small_requests() -> None:
    """One list of models and three chats, of which one has a picture; each may take few tokens."""
    with OfflineServer(record_bodies=True) as server:
        await checked(server.base_url)
        bodies = server.ledger.bodies
    assert len(bodies) == 3
    assert all(body["max_tokens"] <= 512 for body in bodies)
    assert sum("image_url" in json.dumps(body) for body in bodies) == 1
    assert sum(len(json.dumps(body)) for body in bodies) < 5_000


@pytest.mark.parametrize(
    ("faults", "noes", "makes"),
    [
        ({"no_temperature": True}, ["temperature"], True),
        ({"no_max_tokens": True}, [], True),
        ({"no_json_schema": True}, ["JSON schema"], True),
        ({"no_json_mode": True}, ["JSON schema", "JSON mode"], True),
        ({"no_images": True}, ["images"], False),
        ({"no_images": True, "no_json_mode": True, "no_temperature": True, "no_max_tokens": True},
         ["temperature", "JSON schema", "JSON mode", "images"], False),
    ],
)  # fmt: skip
async def test_what_an_endpoint_does_not_take(faults: dict[str, Any], noes: list[str], makes: bool) -> None:
    """Each quirk is one no, says what it means for the work, and costs one or two requests more."""
    with OfflineServer(Faults(**faults)) as server:
        done = await checked(server.base_url)
    found = [f for f in done.findings if f.state == "no" and f.subject not in ("limits told", "price known")]
    assert [finding.subject for finding in found] == noes, str(done)
    assert all(finding.means for finding in found)
    assert done.makes_personas is makes
    assert done.requests <= 4 + 2 * len(faults)


async def test_without_images_a_description_will_do() -> None:
    """Said in words that can be used; with `from_description` images are not asked for and nothing is missing."""
    with OfflineServer(Faults(no_images=True)) as server:
        done = await checked(server.base_url)
        assert "--model core_persona=" in done["images"].means
        assert "--description" in done.verdict
        text = await checked(server.base_url, from_description=True)
    assert text.makes_personas
    assert text["images"].state == "unknown"
    assert text.requests == 3


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (404, "No endpoints found that support image input"),  # OpenRouter
        (500, "image input is not supported - hint: you may need to provide the mmproj"),  # llama.cpp
        (500, 'Failed to parse messages: Unsupported content part type: "image_url"'),  # llama.cpp, earlier
        (400, "this model does not support image input"),  # Ollama
        (400, "m is not a multimodal model"),  # vLLM
    ],
)
async def test_images_are_refused_in_many_ways(provider: ScriptedProvider, status: int, said: str) -> None:
    """A model that is not blamed for being missing, and a server that is not asked again for being down."""
    provider.script = lambda body: (
        failure(status, said) if "image_url" in json.dumps(body) else '{"answer": "yes"}'
    )
    done = await checked(provider.url, "m")
    assert (done["model"].state, done["images"].state) == ("yes", "no")
    assert done["images"].said == said
    assert done.requests == 4


async def test_a_picture_that_breaks_the_server(provider: ScriptedProvider) -> None:
    """Where words are answered, a server error is about the picture, and the rest stands."""
    provider.script = lambda body: (
        failure(500, "failed to process inputs") if "image_url" in json.dumps(body) else '{"answer": "yes"}'
    )
    done = await checked(provider.url, "m")
    assert (done["answers"].state, done["images"].state, done.makes_personas) == ("yes", "no", False)
    assert "failed to process inputs" in done["images"].said


async def test_max_completion_tokens_is_named() -> None:
    """A model that takes the length limit under its other name takes it."""
    with OfflineServer(Faults(no_max_tokens=True)) as server:
        assert (await checked(server.base_url))["max_tokens"].said == "as max_completion_tokens"


async def test_limits_are_told() -> None:
    """What the headers say is left is shown."""
    with OfflineServer(
        Faults(quota_headers=True, requests_per_minute=60, tokens_per_minute=100_000)
    ) as server:
        told = (await checked(server.base_url))["limits told"]
    assert told.state == "yes"
    assert "57 requests left" in told.said
    assert "tokens left" in told.said


async def test_a_refused_key() -> None:
    """Nothing after it is asked, and the key is not repeated."""
    with OfflineServer(Faults(key="right")) as server:
        done = await check_endpoint("wrong-key-marker", server.base_url, MODEL)
        none = await checked(server.base_url)
        right = await check_endpoint("right", server.base_url, MODEL)
    for refused in (done, none):
        assert refused["key"].state == "no"
        assert (refused.refused, refused.makes_personas) == (True, False)
        assert refused["images"].state == "unknown"
    assert "marker" not in done.model_dump_json()
    assert right.makes_personas


@pytest.mark.parametrize(
    ("asked", "hint"),
    [("qwen3-vl", "did you mean 'qwen3-vl:8b'"), ("qwne3-vl:8b", "'qwen3-vl:8b'"), ("zzz", "there are llama3.3, qwen3-vl:8b")],
)  # fmt: skip
async def test_a_model_that_is_not_there(asked: str, hint: str) -> None:
    """The near ones are named, else those that are there."""
    with OfflineServer(Faults(models=("llama3.3", "qwen3-vl:8b"))) as server:
        done = await checked(server.base_url, asked)
    assert done["model"].state == "no"
    assert hint in done["model"].said
    assert done.refused


async def test_no_model_set() -> None:
    """An address without a model: those that are there are named, and nothing is asked of them."""
    with OfflineServer(Faults(models=("llama3.3",))) as server:
        done = await checked(server.base_url, None)
        assert server.ledger.received == 0
    assert done["model"].said == "none is set; there are llama3.3"
    assert not done.makes_personas


async def test_a_used_up_quota_and_a_limit_of_the_moment() -> None:
    """The first is refused, the second is unknown: a 429 says that the key is good."""
    with OfflineServer(Faults(no_quota=True)) as server:
        gone = await checked(server.base_url)
    with OfflineServer(Faults(rate_limit=1.0)) as server:
        limited = await checked(server.base_url)
    assert (gone["key"].state, gone["answers"].state, gone.refused) == ("yes", "no", True)
    assert "billing" in gone["answers"].said
    assert (limited["key"].state, limited["answers"].state, limited.refused) == ("yes", "unknown", False)
    assert not limited.makes_personas


async def test_nobody_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection, an unknown host, a server that is too slow: told apart, each with its mend."""
    monkeypatch.setenv("no_proxy", "*")  # where there is a proxy, it would answer for the unknown host
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        refused = await checked(f"http://127.0.0.1:{taken.getsockname()[1]}/v1")
    assert refused["reachable"].state == "no"
    assert "nothing listens on 127.0.0.1:" in refused["reachable"].said
    assert refused.requests == 1
    unknown = await checked("http://no-such-host.invalid/v1")
    assert "nobody knows a host 'no-such-host.invalid'" in unknown["reachable"].said
    with OfflineServer(Faults(latency=(Latency(low=30.0, high=30.0),))) as server:
        slow = await checked(server.base_url, timeout_seconds=0.3)
    assert slow["reachable"].state == "yes"
    assert "none within 0.3 s" in slow["answers"].said


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
def test_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that nobody trusts is said to be so, and is trusted where SSL_CERT_FILE names it; no https is noticed."""

    def answers(path: str, body: dict[str, Any] | None) -> Said:
        return 200, listing("m") if body is None else completion("yes"), {}

    certificate = self_signed(tmp_path)
    with raw_server(answers, certificate) as url:
        strange = asyncio.run(checked(f"{url}/v1", "m"))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        trusted = asyncio.run(checked(f"{url}/v1", "m"))
    assert "its certificate is not trusted (self-signed certificate" in strange["reachable"].said
    assert "SSL_CERT_FILE" in strange["reachable"].said
    assert trusted["reachable"].state == "yes"
    with raw_server(answers) as url:
        plain = asyncio.run(checked(f"{url.replace('http:', 'https:')}/v1", "m"))
    assert f"did you mean {url}/v1" in plain["reachable"].said


def only_under(prefix: str, elsewhere: Said) -> Any:
    """A server of one model under a path, that says the same everywhere else."""

    def answers(path: str, body: dict[str, Any] | None) -> Said:
        if path == f"{prefix}/models" and body is None:
            return 200, listing("m"), {}
        return (200, completion("yes"), {}) if path == f"{prefix}/chat/completions" else elsewhere

    return answers


@pytest.mark.parametrize(
    "elsewhere",
    [
        (200, PAGE, {"Content-Type": "text/html"}),
        (404, PAGE, {"Content-Type": "text/html"}),
        (404, {"detail": "Not Found"}, {}),
        (405, {"detail": "Method Not Allowed"}, {}),
        (200, {"error": "Unexpected endpoint or method. (POST /chat/completions)"}, {}),
    ],
    ids=["page", "page-404", "json-404", "405", "error-in-200"],
)
@pytest.mark.parametrize("typed", ["", "/v1/chat/completions", "/api"])
async def test_a_base_url_that_is_not_quite_right(elsewhere: Said, typed: str) -> None:
    """Where nothing speaks the protocol, the place beside it that does is named."""
    with raw_server(only_under("/v1", elsewhere)) as url:
        done = await checked(f"{url}{typed}", "m")
    assert done["reachable"].state == "yes"
    assert done["answers"].state == "no"
    assert f"did you mean OPENAI_BASE_URL={url}/v1?" in done["answers"].said
    assert done["answers"].said.count("did you mean") == 1
    assert not done.makes_personas


async def test_a_page_and_nothing_else() -> None:
    """A server that is no model's at all is no dead end: what it said stands in the finding."""
    with raw_server(lambda path, body: (200, PAGE, {})) as url:
        done = await checked(f"{url}/v1", "m")
    assert "something that is no chat completion" in done["answers"].said
    assert "Welcome to nginx" in done["answers"].said


async def test_no_list_of_models_is_no_fault(provider: ScriptedProvider) -> None:
    """Many endpoints have none: the model counts as there if it answers."""
    provider.script = lambda body: '{"answer": "yes", "colour": "red"}'
    done = await checked(provider.url, "scripted")
    assert done["model"].state == "yes"
    assert done.makes_personas


async def test_taken_but_ignored(provider: ScriptedProvider) -> None:
    """A schema that is not kept to and a picture that is not seen are not taken for granted."""
    provider.script = lambda body: "On a clear day it is, yes."
    done = await checked(provider.url, "scripted")
    assert done["JSON schema"].state == "no"
    assert "ignored: 'On a clear day it is, yes.'" in done["JSON schema"].said
    assert done["images"].state == "unknown"
    assert "does the model see?" in done["images"].said


async def test_thought_without_an_answer(provider: ScriptedProvider) -> None:
    """A model that thinks until the limit is not called good."""
    provider.script = lambda body: reply("", finish_reason="length")
    done = await checked(provider.url, "scripted")
    assert done["answers"].state == "unknown"
    assert not done.makes_personas


async def test_the_name_it_answers_by(provider: ScriptedProvider) -> None:
    """A server that serves one model whatever is asked for is seen through."""
    provider.script = lambda body: reply('{"answer": "yes", "colour": "red"}', model="other-7b")
    assert (await checked(provider.url, "mine"))["model"].said == "it answers as 'other-7b'"


async def test_a_server_in_trouble(provider: ScriptedProvider) -> None:
    """A server error and a refusal of every request are said as they came."""
    provider.script = lambda body: failure(500, "out of memory")
    assert "out of memory" in (await checked(provider.url, "m"))["answers"].said
    provider.script = lambda body: failure(400, "no such luck")
    assert "no such luck" in (await checked(provider.url, "m"))["answers"].said


async def test_what_a_persona_costs() -> None:
    """From the usual tokens and the known price; unknown prices are unknown and not free."""
    with OfflineServer() as server:
        done = await checked(server.base_url)
    assert done["price known"].state == "no"
    assert (done.cost, done.persona_cost) == (None, None)
    assert done.persona_usage.output_tokens == 4150
    assert 5_000 < (done.persona_usage.input_tokens or 0) < 30_000
    assert "cost unknown" in str(done)


@pytest.mark.slow
def test_the_command() -> None:
    """The exit code says if a persona can be made; `--json` is for programs."""

    def check(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "personalab", "check", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=os.environ | environment
        )

    good = check()
    assert good.returncode == 0, good.stderr
    assert "A persona can be made from an image." in good.stdout
    assert "not a language model" in good.stderr
    with OfflineServer(Faults(no_images=True, key="right-key-marker")) as server:
        settings = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "right-key-marker"}
        blind = check("--model", MODEL, "--json", **settings)
        text = check("--description", **settings, PERSONALAB_MODEL=MODEL)
        refused = check("--model", MODEL, OPENAI_BASE_URL=server.base_url)
        unnamed = check(**settings)
    told = json.loads(blind.stdout)
    assert (blind.returncode, told["makes_personas"]) == (1, False)
    assert {finding["subject"]: finding["state"] for finding in told["findings"]}["images"] == "no"
    assert "marker" not in blind.stdout + text.stdout
    assert (text.returncode, refused.returncode, unnamed.returncode) == (0, 3, 1)
    assert MODEL in unnamed.stdout
    assert [done.stderr for done in (blind, text, refused, unnamed)] == [""] * 4


def test_shown_in_a_notebook() -> None:
    """What a server says is escaped."""
    done = EndpointCheck(
        endpoint="http://x/v1",
        model="<m>",
        findings=tuple(
            Finding(subject=subject, state="no", said="<script>", means="m") for subject in SUBJECTS
        ),
        usage=Usage(),
    )
    assert "<script>" not in done._repr_html_()
    assert "&lt;script&gt;" in done._repr_html_()


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("http://h:1", ("http://h:1/v1",)),
        ("http://h:1/", ("http://h:1/v1",)),
        ("http://h:1/api", ("http://h:1/api/v1", "http://h:1/v1")),
        ("http://h:1/v1/chat/completions", ("http://h:1/v1",)),
        ("http://h:1/v1", ()),
    ],
)
def test_likely_urls(url: str, meant: tuple[str, ...]) -> None:
    """One step further, one step back, or nothing to say."""
    assert likely_urls(url) == meant
