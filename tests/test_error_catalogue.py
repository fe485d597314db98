"""Every error a user can meet, provoked for real: one line, what and where and the mend, as docs/errors.md has it."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import PORTRAITS, ScriptedProvider, picture_bytes
from raw_servers import PAGE, Answers, raw_server, self_signed

from personalab.offline.faults import Faults, Latency
from personalab.offline.server import OfflineServer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
TURBAN, BUN = str(PORTRAITS / "teal_turban.png"), str(PORTRAITS / "silver_bun.png")
NOTE = "the embedded provider answers (not a language model)"
HOLE = re.compile(r"\{[a-z ]+\}")
NOTEBOOK = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}

Prepare = Callable[[Path], None]


def documented() -> list[str]:
    """The messages of docs/errors.md: what stands in backticks in the first column of its tables."""
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


def pattern(message: str) -> re.Pattern[str]:
    """A documented message with its {holes} filled by anything."""
    return re.compile(".+?".join(map(re.escape, HOLE.split(message))))


@dataclass(frozen=True)
class Case:
    """A command that fails. `message` stands in docs/errors.md; `server` answers it, if there is one."""

    message: str
    command: tuple[str, ...]
    code: int
    server: Faults | Answers | None = None
    prepare: Prepare = field(default=lambda folder: None)
    environment: Mapping[str, str] = field(default_factory=dict)
    name: str = ""

    def __str__(self) -> str:
        return self.name or "-".join(re.findall(r"[a-z]+", self.message.lower())[:6])


def files(**contents: str | bytes | dict[str, Any]) -> Prepare:
    """Files of a case, by their names with "__" for a dot."""

    def write(folder: Path) -> None:
        for name, content in contents.items():
            path = folder / name.replace("__", ".")
            data = json.dumps(content) if isinstance(content, dict) else content
            path.write_bytes(data if isinstance(data, bytes) else data.encode())

    return write


def cell(source: str, *tags: str) -> dict[str, Any]:
    return {"cell_type": "code", "metadata": {"tags": [*tags]}, "source": source, "outputs": [], "execution_count": None}  # fmt: skip


def notebook(*sources: str) -> dict[str, Any]:
    """A notebook whose first cell holds its parameters."""
    cells = [cell(source, *(["parameters"] if at == 0 else [])) for at, source in enumerate(sources)]
    return NOTEBOOK | {"cells": cells}


def template(text: str, variables: str) -> str:
    return f"---\nvariables: {variables}\n---\n# system\nWrite.\n# user\n{text}\n"


def answering(status: int, said: Any, **headers: str) -> Answers:
    return lambda path, body: (status, said, headers)


def a_persona(folder: Path) -> None:
    """A persona and its calendar, made by the embedded provider."""
    for command in (
        ["persona", TURBAN],
        ["calendar", "outputs/personas", "--month", "2026-12"],
    ):
        assert personalab(*command).returncode == 0


def two_personas(folder: Path) -> None:
    a_persona(folder)
    assert personalab("persona", BUN).returncode == 0
    calendar = next((folder / "outputs" / "calendars").glob("*.json"))
    calendar.rename(folder / "of_another.json")


def no_folder(folder: Path) -> None:
    """A file where the folder for results should be."""
    (folder / "outputs").write_text("not a folder")


def personalab(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command, ended when this returns."""
    environment = os.environ | options.pop("environment", {})
    return subprocess.run(
        [sys.executable, "-m", "personalab", *arguments],
        capture_output=True, text=True, timeout=100, env=environment, check=False, **options,
    )  # fmt: skip


@contextmanager
def running(server: Faults | Answers | None) -> Iterator[dict[str, str]]:
    """The settings that lead to a server."""
    with ExitStack() as stack:
        if server is None:
            yield {}
        elif isinstance(server, Faults):
            url = stack.enter_context(OfflineServer(server)).base_url
            yield {"OPENAI_BASE_URL": url, "PERSONALAB_MODEL": "personalab-offline"}
        else:
            url = stack.enter_context(raw_server(server))
            yield {"OPENAI_BASE_URL": f"{url}/v1", "PERSONALAB_MODEL": "m"}


PERSONA = ("persona", TURBAN)
DESCRIBED = ("persona", "--description", "a diver")
SWEEP = ("sweep", "n.ipynb")
A_NOTEBOOK = files(n__ipynb=notebook("temperature = 0.7", "1"))

CASES = [
    # settings
    Case("?", (*PERSONA, "--model", "gpt-9"), 2),
    Case("?", PERSONA, 2, environment={"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}),
    Case("?", PERSONA, 2, environment={"MAX_CONCURRENT": "abc"}),
    Case("?", PERSONA, 2, environment={"MAX_CONCURRENT": "0"}),
    Case("?", PERSONA, 2, environment={"OPENAI_BASE_URL": "localhost:8000"}),
    Case("?", PERSONA, 2, environment={"OPENAI_API_KEY": "sk-ä"}),
    Case("?", PERSONA, 2, prepare=files(__env=b"OPENAI_API_KEY=\xff\xfe")),
    # endpoint
    Case("?", PERSONA, 3, server=Faults(key="right"), environment={"OPENAI_API_KEY": "wrong"}),
    Case("?", PERSONA, 3, server=Faults(models=("other",))),
    Case("?", PERSONA, 3, server=answering(404, {"detail": "Not Found"})),
    Case("?", PERSONA, 3, server=Faults(no_quota=True)),
    Case("?", PERSONA, 1, server=Faults(no_images=True)),
    Case("?", PERSONA, 1, server=answering(413, {"error": {"message": "too large"}})),
    Case("?", DESCRIBED, 1, server=Faults(broken_json=1.0)),
    Case("?", DESCRIBED, 1, server=Faults(cut_off=1.0)),
    Case("?", DESCRIBED, 1, server=Faults(refusal=1.0)),
    # images
    Case("?", ("persona", "missing.png"), 1),
    Case("?", ("persona", "broken.png"), 1, prepare=files(broken__png=picture_bytes()[:60])),
    Case("?", ("persona", "text.png"), 1, prepare=files(text__png=b"no image")),
    Case("?", ("persona", "empty.png"), 1, prepare=files(empty__png=b"")),
    Case("?", ("persona", "."), 2),
    Case("?", ("persona",), 2),
    # prompts
    Case("?", (*PERSONA, "--prompt", "authenticity=no.md"), 2),
    Case("?", (*PERSONA, "--prompt", "authenticity=p.md"), 2, prepare=files(p__md="Write.")),
    Case(
        "?",
        (*PERSONA, "--prompt", "authenticity=p.md"),
        2,
        prepare=files(p__md=template("$language", "language, location")),
    ),
    Case(
        "?",
        (*PERSONA, "--prompt", "authenticity=p.md"),
        2,
        prepare=files(p__md=template("$langauge", "language")),
    ),
    Case(
        "?",
        (*PERSONA, "--prompt", "authenticity=p.md"),
        2,
        prepare=files(p__md=template("$tweet_strategy", "tweet_strategy")),
    ),
    Case("?", (*PERSONA, "--prompt", "authenticity=p.md"), 2, prepare=files(p__md=template("5 $", ""))),
    # results
    Case("?", PERSONA, 1, prepare=no_folder),
    # options
    Case("?", (*PERSONA, "--temperature", "social_netwerk=1"), 2),
    Case("?", (*PERSONA, "--temperature", "1"), 2),
    Case("?", (*PERSONA, "--temperature", "authenticity=hot"), 2),
    Case("?", (*PERSONA, "--temperature", "authenticity=9"), 2),
    Case("?", (*PERSONA, "--colour", "red"), 2),
    Case("?", ("portrait",), 2),
    Case("?", (*PERSONA, "--budget", "five"), 2),
    Case("?", (*PERSONA, "--budget", "2requests"), 4),
    Case("?", (*PERSONA, "--budget", "5usd"), 2, server=Faults()),
    Case("?", ("offline", "--fault", "rate_limt=1"), 2),
    # cards
    Case("?", ("card", "missing.json"), 1),
    Case("?", ("card", "card.json"), 1, prepare=files(card__json={"name": "x"})),
    Case("?", ("card", "card.json"), 1, prepare=files(card__json=b"{")),
    Case("?", ("card", TURBAN), 1),
    # months
    Case("?", ("calendar", "outputs/personas", "--month", "Dezember"), 2, prepare=a_persona),
    Case(
        "?", ("calendar", "outputs/personas", "--month", "2027-01", "--holidays", "XX"), 2, prepare=a_persona
    ),
    Case("?", ("calendar", ".", "--month", "2026-12"), 2),
    Case("?", ("tweets", "outputs/personas", "--month", "2027-03"), 2, prepare=a_persona),
    Case(
        "?",
        ("tweets", "outputs/personas/silver_bun_persona.json", "--calendar", "of_another.json"),
        2,
        prepare=two_personas,
    ),
    Case("?", ("tweets", "outputs/personas", "--count", "40"), 2, prepare=a_persona),
    # sweeps
    Case("?", ("sweep", "missing.ipynb"), 2),
    Case("?", SWEEP, 2, prepare=files(n__ipynb=b"{")),
    Case(
        "?", (*SWEEP, "-g", "temperature=1,2"), 2, prepare=files(n__ipynb=NOTEBOOK | {"cells": [cell("1")]})
    ),
    Case("?", (*SWEEP, "-g", "temprature=1,2"), 2, prepare=A_NOTEBOOK),
    Case("?", (*SWEEP, "-g", "temperature=warm"), 2, prepare=A_NOTEBOOK),
    Case("?", (*SWEEP, "-g", "temperature"), 2, prepare=A_NOTEBOOK),
    Case("?", (*SWEEP, "-g", "temperature=1,1"), 2, prepare=A_NOTEBOOK),
    Case("?", (*SWEEP, "-p", "api_key=x"), 2, prepare=A_NOTEBOOK),
    Case(
        "?",
        (*SWEEP, "--grid", "g.yaml"),
        2,
        prepare=lambda folder: (A_NOTEBOOK(folder), files(g__yaml="a: [1")(folder))[0],
    ),
    Case("?", (*SWEEP, "--engine", "froke"), 2, prepare=A_NOTEBOOK),
    Case("?", (*SWEEP, "--jobs", "0"), 2, prepare=A_NOTEBOOK),
    Case("?", SWEEP, 1, prepare=files(n__ipynb=notebook("x = 1", "1 / 0"))),
    Case("?", SWEEP, 2, prepare=files(n__ipynb=notebook("x = (1"))),
    # cache
    Case("?", ("cache", "nowhere"), 1),
    Case("?", ("cache", "--prune-older-than", "soon"), 2, prepare=a_persona),
]
