"""The HTTP client beneath the pool: what the environment asks of it, and large bodies."""

from __future__ import annotations

import base64
import warnings
from collections.abc import Callable

import pytest
from conftest import ScriptedProvider

from personalab.pool import LLMPool
from personalab.records import Message, Picture, Request

MakePool = Callable[..., LLMPool]
ASK = Request(stage="s", messages=(Message(role="user", text="hello"),))


async def test_the_proxy_of_the_environment(
    provider: ScriptedProvider, make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address is reached through it, unless it is excepted."""
    for name in ("no_proxy", "NO_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", provider.url.removesuffix("/v1"))
    await make_pool(api_base="http://models.invalid/v1").send(ASK)
    assert provider.headers[0]["Host"] == "models.invalid"
    monkeypatch.setenv("HTTP_PROXY", "http://nobody.invalid:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    await make_pool(api_key="sk-another-key").send(ASK)
    assert len(provider.bodies) == 2


async def test_organization_and_project(
    provider: ScriptedProvider, make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenAI's variables for who pays become headers, as its own client does it."""
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-2")
    await make_pool().send(ASK)
    (headers,) = provider.headers
    assert (headers["OpenAI-Organization"], headers["OpenAI-Project"]) == ("org-1", "proj-2")


async def test_a_large_picture(provider: ScriptedProvider, make_pool: MakePool) -> None:
    """Arrives whole, and nothing warns of it."""
    data = bytes(range(256)) * 8_000
    picture = Picture(sha256="0" * 64, width=1024, height=1024, data=data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await make_pool().send(
            Request(stage="s", messages=(Message(role="user", text="who?", pictures=(picture,)),))
        )
    (body,) = provider.bodies
    (url,) = (
        part["image_url"]["url"] for part in body["messages"][0]["content"] if part["type"] == "image_url"
    )
    assert base64.b64decode(url.partition(",")[2]) == data
