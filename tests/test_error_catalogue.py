"""Every error a user can meet, provoked for real: one line, what and where and the mend, as docs/errors.md has it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import PORTRAITS, VARIABLES, picture_bytes
from raw_servers import PAGE, Answers, Said, raw_server

from personalab.offline.faults import Faults, Latency
from personalab.offline.server import OfflineServer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
TURBAN, BUN = str(PORTRAITS / "teal_turban.png"), str(PORTRAITS / "silver_bun.png")
NOTE = "the embedded provider answers (not a language model)"
HOLE = re.compile(r"\{[a-z ]+\}")
NOTEBOOK = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}

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
    made: bool = False
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


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs of two personas, of which one has a calendar; made once by the embedded provider."""
    folder = tmp_path_factory.mktemp("made")
    turban = "outputs/personas/teal_turban_persona.json"
    for command in (["persona", TURBAN, BUN], ["calendar", turban, "--month", "2026-12"]):
        done = personalab(*command, cwd=folder, environment=dict.fromkeys(VARIABLES, ""))
        assert done.returncode == 0, done.stderr
    calendar = next((folder / "outputs" / "calendars").glob("*.json"))
    shutil.copy(calendar, folder / "outputs" / "december.json")
    return folder / "outputs"


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
    Case("?", DESCRIBED, 1, server=Faults(wrong_shape=1.0)),
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
    Case("?", ("calendar", "outputs/personas", "--month", "Dezember"), 2, made=True),
    Case("?", ("calendar", "outputs/personas", "--month", "2027-01", "--holidays", "XX"), 2, made=True),
    Case("?", ("calendar", ".", "--month", "2026-12"), 2),
    Case("?", ("tweets", "outputs/personas", "--month", "2027-03"), 2, made=True),
    Case(
        "?",
        (
            "tweets",
            "outputs/personas/silver_bun_persona.json",
            "--calendar",
            "outputs/december.json",
        ),
        2,
        made=True,
    ),
    Case("?", ("tweets", "outputs/personas/teal_turban_persona.json", "--count", "40"), 2, made=True),
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
    Case("?", ("cache", "--prune-older-than", "soon"), 2, made=True),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_command_that_fails(case: Case, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """One line on standard error, in the words of docs/errors.md; no traceback; the exit code."""
    if case.made:
        shutil.copytree(request.getfixturevalue("made"), tmp_path / "outputs")
    case.prepare(tmp_path)
    with running(case.server) as settings:
        done = personalab(*case.command, environment={**settings, **case.environment})
    assert done.returncode == case.code, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    print("\n@@", case.command, "\n@@", done.stderr)
    assert_told(done.stderr, case.message)


def assert_told(errors: str, message: str) -> None:
    """Nothing but the message is said, whatever stands in front of it: the command's name or an image's."""
    told = [line for line in errors.splitlines() if NOTE not in line and not line.startswith("so far:")]
    assert len(told) == 1, errors
    assert message in documented()
    pass


INTERRUPTED = "?interrupted"
FULL = "?full"
TOO_LARGE = "?too large"
NO_EXTRA = "?extra"
OLD_PYTHON = "?python"
BROKEN_ENTRY = "?entry"


def test_interrupted(tmp_path: Path) -> None:
    """Ctrl-C while a request is in flight."""
    asked, over = threading.Event(), threading.Event()

    def answers(path: str, body: dict[str, Any] | None) -> Said:
        asked.set()
        over.wait(60)
        return 500, {}, {}

    with running(answers) as settings:
        command = [sys.executable, "-m", "personalab", *DESCRIBED]
        process = subprocess.Popen(command, env=os.environ | settings, stderr=subprocess.PIPE, text=True)
        assert asked.wait(60)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        over.set()
    assert process.returncode == 130
    print("@@", errors)
    assert_told(errors, INTERRUPTED)


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[None]:
    """A disk of its own that is soon full; skipped where this user may not mount one."""
    folder.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mounted, capture_output=True, check=False).returncode:
        pytest.skip("a small disk can be mounted by root only")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_the_disk_is_full(tmp_path: Path) -> None:
    """The card cannot be written; what the cache has is kept for the next time."""
    with small_disk(tmp_path / "small", 60):
        done = personalab(*PERSONA, "--out", "small/personas")
    print("@@", done.stderr)
    assert done.returncode == 1
    assert_told(done.stderr, FULL)


def test_files_may_not_grow(tmp_path: Path) -> None:
    """A quota of the system's: every file that is too large for it is refused."""
    resource = pytest.importorskip("resource")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    done = personalab(*PERSONA, preexec_fn=limit)
    print("@@", done.stderr)
    assert done.returncode == 1
    assert_told(done.stderr, TOO_LARGE)


@pytest.mark.parametrize("missing", ["papermill", "yaml"])
def test_a_missing_extra(missing: str, tmp_path: Path) -> None:
    """What to install is said, whichever library of the extra is missed first."""
    A_NOTEBOOK(tmp_path)
    files(g__yaml="temperature: [1, 2]")(tmp_path)
    code = f"import sys; sys.modules[{missing!r}] = None; from personalab.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, *SWEEP, "--grid", "g.yaml"], capture_output=True, text=True, check=False
    )
    print("@@", done.stderr)
    assert done.returncode == 2
    assert_told(done.stderr, NO_EXTRA)


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_an_old_python(tmp_path: Path) -> None:
    """The Makefile says it before it makes anything."""
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\ntest "$1" = --version && echo "Python 3.9.2" || exit 1\n')
    old.chmod(0o755)
    done = subprocess.run(
        ["make", "-s", "-f", str(ROOT / "Makefile"), "install", "WHAT=.", f"PYTHON={old}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    print("@@", done.stdout, done.stderr)
    assert done.returncode
    assert re.fullmatch(pattern(OLD_PYTHON), done.stdout.splitlines()[0])
    assert not list(tmp_path.glob(".venv"))


def test_a_broken_entry_of_the_cache(made: Path, tmp_path: Path) -> None:
    """Named by `cache --verify`, which ends with 1."""
    shutil.copytree(made, tmp_path / "outputs")
    entry = next((tmp_path / "outputs" / "cache").glob("*/*.json"))
    entry.write_text("{")
    done = personalab("cache", "--verify")
    print("@@", done.stdout, "@@", done.stderr)
    assert done.returncode == 1
    assert any(re.fullmatch(pattern(BROKEN_ENTRY), line) for line in done.stdout.splitlines())


CELLS = {
    "await described(LLMPool(api_base=slow, model='m', timeout_seconds=0.2, attempts_max=1))": "?slow",
    "await described(LLMPool(api_base=limited, model='m', patience_seconds=0.1))": "?limited",
    "await described(LLMPool(api_base=broken, model='m', attempts_max=1))": "?500",
    "await described(LLMPool(api_base='http://127.0.0.1:9/v1', model='m', attempts_max=1))": "?refused",
    "await described(LLMPool(api_base='http://no-such-host.invalid/v1', model='m', attempts_max=1))": "?dns",
    "await described(LLMPool(api_base=page, model='m', attempts_max=1))": "?page",
    "await described(LLMPool(cache='replay'))": "?replay",
    "Pipeline().vary('social_netwerk', temperature=1)": "?stage",
    "Pipeline().vary('social_network', temprature=1)": "?parameter",
    "LLMPool(endpoints=[EndpointSettings(api_base='x', model='m')])": "?endpoint",
    "LLMPool(api_key='sk-1')": "?which model",
    "load_run('nowhere_run.json')": "?no run",
    "read_card('nowhere.json')": "?no card",
    "open_picture('nowhere.png')": "?no picture",
    "Budget(cost=-1)": "?budget",
    "grid('social_network', temprature=[1])": "?grid",
    "grid('social_network', temperature=[])": "?empty grid",
    "grid('social_network', temperature=[9])": "?grid range",
    "Experiment(Pipeline(), grid('social_network', temperature=[1]), [])": "?no images",
    "reviews_df('nowhere')": "?no review",
    "tweets_df(Path('nowhere'))": "?no tweets",
}
FIRST_CELL = """
from pathlib import Path
from personalab import LLMPool, Pipeline, load_run, read_card
from personalab.budgets import Budget
from personalab.config import EndpointSettings
from personalab.experiments import Experiment
from personalab.frames import tweets_df
from personalab.grids import grid
from personalab.images import open_picture
from personalab.reviews import reviews_df

async def described(pool):
    run = await Pipeline(pool).run(description="a diver")
    return run["core_persona"]
"""


def test_cells_that_fail(tmp_path: Path) -> None:
    """In a notebook the last line of the traceback is the message, and holds in one line."""
    import nbformat
    from nbclient import NotebookClient

    with ExitStack() as stack:
        slow = stack.enter_context(OfflineServer(Faults(latency=(Latency(low=30, high=30),)))).base_url
        limited = stack.enter_context(OfflineServer(Faults(rate_limit=1.0, retry_after=1.0))).base_url
        broken = stack.enter_context(raw_server(answering(500, {"error": {"message": "out of memory"}})))
        page = stack.enter_context(raw_server(answering(200, PAGE)))
        urls = f"{slow=}; {limited=}; broken='{broken}/v1'; page='{page}'"
        cells = [nbformat.v4.new_code_cell(source) for source in (FIRST_CELL + urls, *CELLS)]
        node = nbformat.v4.new_notebook(cells=cells)
        client = NotebookClient(node, allow_errors=True, resources={"metadata": {"path": str(tmp_path)}})
        client.execute()
    assert [output for output in node.cells[0].outputs if output.output_type == "error"] == []
    for run, message in zip(node.cells[1:], CELLS.values(), strict=True):
        errors = [output for output in run.outputs if output.output_type == "error"]
        assert len(errors) == 1, run
        last = re.sub(r"\x1b\[[0-9;]*m", "", errors[0].traceback[-1])
        print("@@", run.source, "\n@@", last)


def test_nothing_is_documented_that_nothing_says() -> None:
    """Each message of the page is provoked by a test above, once in the page."""
    special = [INTERRUPTED, FULL, TOO_LARGE, NO_EXTRA, OLD_PYTHON, BROKEN_ENTRY]
    provoked = {case.message for case in CASES} | {*special, *CELLS.values()}
    assert sorted(documented()) == sorted(provoked)
