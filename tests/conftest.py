"""Shared by all tests: an isolated environment, a provider that follows a script, pictures."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from PIL import Image

from personalab import registry
from personalab.pipeline import Pipeline
from personalab.pool import LLMPool
from personalab.registry import known_metrics

VARIABLES = (
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "PERSONALAB_MODEL",
    "MAX_CONCURRENT",
    "REQUESTS_PER_MINUTE",
    "TOKENS_PER_MINUTE",
    "PERSONALAB_BATCH",
    "PERSONALAB_OUTPUTS",
)
PORTRAITS = Path(__file__).parents[1] / "data" / "portraits"

Answer = Callable[[dict[str, Any]], "web.Response | str"]


def pytest_configure(config: pytest.Config) -> None:
    """The notebooks that nbmake runs get forked kernels where there are any: they take a tenth of the time."""
    if not config.getoption("nbmake", False):
        return
    from jupyter_client.manager import KernelManager
    from nbclient import NotebookClient
    from nbmake import nb_run
    from traitlets import Enum, Type

    from personalab.forked_kernels import ForkedKernelManager, can_fork

    class ForkedNotebookClient(NotebookClient):
        """As nbmake's, with a kernel that is forked and killed when it is done."""

        kernel_manager_class = Type(ForkedKernelManager.for_notebook("altair"), klass=KernelManager)
        shutdown_kernel = Enum(["graceful", "immediate"], default_value="immediate")

    if can_fork():
        nb_run.NotebookClient = ForkedNotebookClient


@pytest.fixture(autouse=True)
def own_metrics_are_forgotten() -> Iterator[None]:
    """Metrics that a test, or a page that it runs, has registered are not there for the next."""
    yield
    for metric in known_metrics():
        if not metric.built_in:
            del registry._REGISTRY[metric.name]


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings from outside; outputs and cache in the test's own folder."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


DROPPED = web.Response()
"""From a script: the connection is dropped instead of an answer."""


class ScriptedProvider:
    """A real HTTP server that answers as it is told and remembers what it was asked.

    `script` is called with the body of each request and gives a Response or the text of a good reply.
    """

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.script: Answer = lambda body: "{}"
        self.wait: Callable[[dict[str, Any]], Any] | None = None
        self.in_flight = 0
        self.most_in_flight = 0
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if self.wait is not None:
                await self.wait(body)
            said = self.script(body)
            if said is DROPPED and request.transport is not None:
                request.transport.close()
            return said if isinstance(said, web.StreamResponse) else reply(said)
        finally:
            self.in_flight -= 1


def reply(
    text: str | None, *, finish_reason: str = "stop", refusal: str | None = None, model: str = "scripted"
) -> web.Response:
    """A chat completion."""
    message = {"role": "assistant", "content": text, "refusal": refusal}
    return web.json_response(
        {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        }
    )


def failure(
    status: int, message: str = "no", *, headers: dict[str, str] | None = None, **fields: Any
) -> web.Response:
    """An error in OpenAI's form."""
    return web.json_response(
        {"error": {"message": message, "type": "error", **fields}}, status=status, headers=headers
    )


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    """A scripted provider on a loopback port, in a thread of its own, so that any event loop can ask it."""
    scripted = ScriptedProvider()
    ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/v1/chat/completions", scripted.answer)
        runner = web.AppRunner(app, shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        scripted.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        stopped = asyncio.Event()
        ready.set_result((asyncio.get_running_loop(), stopped))
        await stopped.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    loop, stopped = ready.result(10)
    yield scripted
    loop.call_soon_threadsafe(stopped.set)
    thread.join(10)


async def no_wait(seconds: float) -> None:
    """For `sleep=`: tests do not wait, but let others run."""
    await asyncio.sleep(0)


@pytest.fixture
def make_pool(provider: ScriptedProvider, tmp_path: Path) -> Callable[..., LLMPool]:
    """Makes pools that ask the scripted provider."""

    def make(**options: Any) -> LLMPool:
        defaults = {
            "api_key": "sk-test-marker",
            "api_base": provider.url,
            "model": "scripted",
            "cache_dir": tmp_path / "cache",
            "sleep": no_wait,
        }
        return LLMPool(**(defaults | options))

    return make


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    """A pipeline on the embedded provider."""
    return Pipeline(LLMPool(cache_dir=tmp_path / "cache"))


def picture_bytes(
    colour: str | tuple[int, int, int] = "teal",
    size: tuple[int, int] = (64, 96),
    kind: str = "PNG",
    **options: Any,
) -> bytes:
    """An image file of one colour."""
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, kind, **options)
    return file.getvalue()
