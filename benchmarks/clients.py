"""One client under load: `python benchmarks/clients.py CLIENT URL CONCURRENCY CALLS`.

Asks an endpoint so many times, so many at once, after a first wave that opens the connections, and prints seconds, CPU
seconds and the peak of memory in MB as JSON. It runs in whatever environment its client is installed in.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

PROMPT = "Say in a few words what you see here. " * 50  # about 2 KB
MODEL = "personalab-offline"
Ask = Callable[[str], Awaitable[str]]


def chat(text: str) -> dict[str, Any]:
    """The body of a request."""
    return {"model": MODEL, "messages": [{"role": "user", "content": text}]}


@asynccontextmanager
async def aiohttp(url: str, limit: int) -> AsyncIterator[Ask]:
    import aiohttp as library

    async with library.ClientSession(connector=library.TCPConnector(limit=0)) as session:

        async def ask(text: str) -> str:
            async with session.post(f"{url}/chat/completions", json=chat(text)) as response:
                return str(json.loads(await response.read())["choices"][0]["message"]["content"])

        yield ask


@asynccontextmanager
async def httpx2(url: str, limit: int) -> AsyncIterator[Ask]:
    import httpx2 as library

    async with library.AsyncClient(timeout=300) as client:

        async def ask(text: str) -> str:
            response = await client.post(f"{url}/chat/completions", json=chat(text))
            return str(response.json()["choices"][0]["message"]["content"])

        yield ask


@asynccontextmanager
async def openai(url: str, limit: int) -> AsyncIterator[Ask]:
    async with _openai(url) as client:
        yield _asking(client)


@asynccontextmanager
async def openai_aiohttp(url: str, limit: int) -> AsyncIterator[Ask]:
    import openai as library

    async with _openai(url, http_client=library.DefaultAioHttpClient()) as client:
        yield _asking(client)


@asynccontextmanager
async def personalab(url: str, limit: int) -> AsyncIterator[Ask]:
    yield _pool(url, limit, cache="off")


@asynccontextmanager
async def personalab_cached(url: str, limit: int) -> AsyncIterator[Ask]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        yield _pool(url, limit, cache_dir=folder)


@asynccontextmanager
async def litellm(url: str, limit: int) -> AsyncIterator[Ask]:
    import litellm as library

    async def ask(text: str) -> str:
        messages = chat(text)["messages"]
        reply = await library.acompletion(
            model=f"openai/{MODEL}", api_base=url, api_key="x", messages=messages, num_retries=0
        )
        return str(reply.choices[0].message.content)

    yield ask


@asynccontextmanager
async def langchain_openai(url: str, limit: int) -> AsyncIterator[Ask]:
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model=MODEL, base_url=url, api_key="x", max_retries=0)

    async def ask(text: str) -> str:
        return str((await model.ainvoke(text)).content)

    yield ask


@asynccontextmanager
async def instructor(url: str, limit: int) -> AsyncIterator[Ask]:
    import instructor as library
    from pydantic import BaseModel

    class Said(BaseModel):
        text: str

    async with _openai(url) as plain:
        client = library.from_openai(plain, mode=library.Mode.JSON_SCHEMA)

        async def ask(text: str) -> str:
            messages = chat(text)["messages"]
            said = await client.chat.completions.create(
                model=MODEL, messages=messages, response_model=Said, max_retries=1
            )
            return str(said.text)

        yield ask


@asynccontextmanager
async def inspect_ai(url: str, limit: int) -> AsyncIterator[Ask]:
    from inspect_ai.model import GenerateConfig, get_model

    config = GenerateConfig(max_connections=limit, max_retries=0)
    name = f"openai/{MODEL}"
    async with get_model(name, base_url=url, api_key="x", config=config, responses_api=False) as model:

        async def ask(text: str) -> str:
            return str((await model.generate(text)).completion)

        yield ask


def curator(url: str, limit: int, texts: list[str]) -> list[str]:
    from bespokelabs import curator as library

    about = {
        "base_url": url, "api_key": "x", "max_concurrent_requests": limit, "max_requests_per_minute": 10**7,
        "max_tokens_per_minute": 10**10,
    }  # fmt: skip
    model = library.LLM(model_name=MODEL, backend="openai", backend_params=about)
    return [row["response"] for row in model(texts).dataset]


def distilabel(url: str, limit: int, texts: list[str]) -> list[str]:
    from distilabel.models import OpenAILLM

    model = OpenAILLM(model=MODEL, base_url=url, api_key="x", max_retries=0)
    model.load()
    replies: list[str] = []
    for at in range(0, len(texts), limit):
        asked = [chat(text)["messages"] for text in texts[at : at + limit]]
        replies += [str(reply["generations"][0]) for reply in model.generate(inputs=asked)]
    return replies


Opened = Callable[[str, int], AbstractAsyncContextManager[Ask]]
ONE_BY_ONE: dict[str, Opened] = {
    "aiohttp": aiohttp,
    "httpx2": httpx2,
    "personalab": personalab,
    "personalab, cached": personalab_cached,
    "openai": openai,
    "openai over aiohttp": openai_aiohttp,
    "litellm": litellm,
    "langchain-openai": langchain_openai,
    "instructor": instructor,
    "inspect-ai": inspect_ai,
}
ALL_AT_ONCE = {"bespokelabs-curator": curator, "distilabel": distilabel}


def _openai(url: str, **options: Any) -> Any:
    import openai as library

    return library.AsyncOpenAI(api_key="x", base_url=url, max_retries=0, timeout=300, **options)


def _asking(client: Any) -> Ask:
    async def ask(text: str) -> str:
        reply = await client.chat.completions.create(**chat(text))
        return str(reply.choices[0].message.content)

    return ask


def _pool(url: str, limit: int, **options: Any) -> Ask:
    from personalab import LLMPool
    from personalab.records import Message, Request

    pool = LLMPool(api_base=url, model=MODEL, max_concurrent=limit, **options)

    async def ask(text: str) -> str:
        return (await pool.send(Request(stage="bench", messages=(Message(role="user", text=text),)))).text

    return ask


class Meter:
    """Seconds and CPU seconds from when it is made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), self._used()

    @staticmethod
    def _used() -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime

    def read(self) -> dict[str, float]:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {"seconds": time.perf_counter() - self._wall, "cpu": self._used() - self._cpu, "peak": peak}


async def measured(opened: Opened, url: str, limit: int, calls: int) -> dict[str, float]:
    """A client that is asked through one coroutine a call, behind a semaphore."""
    places = asyncio.Semaphore(limit)
    async with opened(url, limit) as ask:

        async def one(number: int) -> str:
            async with places:
                return await ask(f"{PROMPT} {number}")

        await asyncio.gather(*(one(-1 - number) for number in range(limit)))
        meter = Meter()
        replies = await asyncio.gather(*(one(number) for number in range(calls)))
        assert all(replies), "an answer is empty"
        return meter.read()


def main(client: str, url: str, limit: int, calls: int) -> dict[str, float]:
    """A client that takes everything at once includes what it does before and after, as it cannot be told apart."""
    if client in ONE_BY_ONE:
        return asyncio.run(measured(ONE_BY_ONE[client], url, limit, calls))
    ask = ALL_AT_ONCE[client]
    ask(url, limit, [f"{PROMPT} {-1 - number}" for number in range(limit)])
    meter = Meter()
    replies = ask(url, limit, [f"{PROMPT} {number}" for number in range(calls)])
    assert len(replies) == calls, "answers are missing"
    return meter.read()


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
