"""Every error a user can meet, provoked for real: one line, what and where and the mend, as docs/errors.md has it."""

from __future__ import annotations

import asyncio
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
from raw_servers import PAGE, Answers, Said, raw_server, self_signed

from personalab.errors import ProviderUnreachable
from personalab.offline.faults import Faults, Latency
from personalab.offline.server import OfflineServer
from personalab.pool import LLMPool
from personalab.records import Message, Request

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


def message_with(words: str) -> str:
    """The one documented message that has these words, or begins with them where several do."""
    found = [message for message in documented() if words in message]
    (message,) = [message for message in found if message.startswith(words)] or found
    return message


def assert_line(line: str, words: str) -> None:
    """A line is the documented message with these words, its {holes} filled, behind a name of whatever it befell."""
    message = ".+?".join(map(re.escape, HOLE.split(message_with(words))))
    assert re.fullmatch(rf"([\w.-]+: )?{message}", line), line


@dataclass(frozen=True)
class Case:
    """A command that fails. `says` are words of its message in docs/errors.md; `server` answers, if there is one."""

    says: str
    command: tuple[str, ...]
    code: int
    server: Faults | Answers | None = None
    prepare: Prepare = field(default=lambda folder: None)
    environment: Mapping[str, str] = field(default_factory=dict)
    made: bool = False

    def __str__(self) -> str:
        return "-".join(re.findall(r"[a-z]+", self.says.lower()))


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
    Case("needs an endpoint", (*PERSONA, "--model", "gpt-9"), 2),
    Case(
        "which model? a key or an address",
        PERSONA,
        2,
        environment={"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"},
    ),
    Case("setting MAX_CONCURRENT", PERSONA, 2, environment={"MAX_CONCURRENT": "abc"}),
    Case("setting MAX_CONCURRENT", PERSONA, 2, environment={"MAX_CONCURRENT": "0"}),
    Case("setting OPENAI_BASE_URL", PERSONA, 2, environment={"OPENAI_BASE_URL": "localhost:8000"}),
    Case("setting OPENAI_API_KEY", PERSONA, 2, environment={"OPENAI_API_KEY": "sk-ä"}),
    Case("is no text in UTF-8", PERSONA, 2, prepare=files(__env=b"OPENAI_API_KEY=\xff\xfe")),
    # endpoint
    Case("no key is set", PERSONA, 3, server=Faults(key="right")),
    Case(
        "; check OPENAI_API_KEY",
        PERSONA,
        3,
        server=Faults(key="right"),
        environment={"OPENAI_API_KEY": "wrong"},
    ),
    Case("not found: model", PERSONA, 3, server=Faults(models=("other",))),
    Case("not found (404", PERSONA, 3, server=answering(404, {"detail": "Not Found"})),
    Case("no quota left", PERSONA, 3, server=Faults(no_quota=True)),
    Case("no batches at all", (*PERSONA, "--batch"), 3, server=Faults(no_batches=True)),
    Case("takes no images", PERSONA, 1, server=Faults(no_images=True)),
    Case("request refused (413)", PERSONA, 1, server=answering(413, {"error": {"message": "too large"}})),
    Case("try a stronger model", DESCRIBED, 1, server=Faults(wrong_shape=1.0)),
    Case("was cut off after", DESCRIBED, 1, server=Faults(cut_off=1.0)),
    Case("the model declined", DESCRIBED, 1, server=Faults(refusal=1.0)),
    # images
    Case("no image or folder", ("persona", "missing.png"), 2),
    Case("damaged or cut off", ("persona", "broken.png"), 1, prepare=files(broken__png=picture_bytes()[:60])),
    Case("is not an image", ("persona", "text.png"), 1, prepare=files(text__png=b"no image")),
    Case("is empty (0 bytes)", ("persona", "empty.png"), 1, prepare=files(empty__png=b"")),
    Case("no image in", ("persona", "."), 2),
    Case("give one or more images", ("persona",), 2),
    # prompts
    Case("prompt template {file}: cannot be read", (*PERSONA, "--prompt", "authenticity=no.md"), 2),
    Case(
        "must begin with a block",
        (*PERSONA, "--prompt", "authenticity=p.md"),
        2,
        prepare=files(p__md="Write."),
    ),
    Case(
        "is listed but never used",
        (*PERSONA, "--prompt", "authenticity=p.md"),
        2,
        prepare=files(p__md=template("$language", "language, location")),
    ),
    Case(
        "is used but not listed",
        (*PERSONA, "--prompt", "authenticity=p.md"),
        2,
        prepare=files(p__md=template("$langauge", "language")),
    ),
    Case(
        "stage authenticity: unknown variable",
        (*PERSONA, "--prompt", "authenticity=p.md"),
        2,
        prepare=files(p__md=template("$tweet_strategy", "tweet_strategy")),
    ),
    Case(
        "stands alone",
        (*PERSONA, "--prompt", "authenticity=p.md"),
        2,
        prepare=files(p__md=template("5 $", "")),
    ),
    # results
    Case("Not a directory", PERSONA, 1, prepare=no_folder),
    # options
    Case("unknown stage", (*PERSONA, "--temperature", "social_netwerk=1"), 2),
    Case("takes stage=value", (*PERSONA, "--temperature", "1"), 2),
    Case("takes a number", (*PERSONA, "--temperature", "authenticity=hot"), 2),
    Case("stage authenticity: temperature", (*PERSONA, "--temperature", "authenticity=9"), 2),
    Case("No such option", (*PERSONA, "--colour", "red"), 2),
    Case("No such command", ("portrait",), 2),
    Case("a budget is such as", (*PERSONA, "--budget", "five"), 2),
    Case("everything done is kept: start", (*PERSONA, "--budget", "2requests"), 4),
    Case("so a ceiling of", (*PERSONA, "--budget", "5usd"), 2, server=Faults()),
    Case("language must not be empty", (*PERSONA, "--language", ""), 2),
    Case("Missing argument", ("sweep",), 2),
    Case("Invalid value for", (*PERSONA, "--max-concurrent", "abc"), 2),
    Case("cannot serve on", ("offline", "--port", "99999"), 2),
    Case("latency {value}", ("offline", "--latency", "x"), 2),
    Case("unknown fault", ("offline", "--fault", "rate_limt=1"), 2),
    # cards
    Case("card {file}: cannot be read: ", ("card", "missing.json"), 1),
    Case("is no character card", ("card", "card.json"), 1, prepare=files(card__json={"name": "x"})),
    Case("cannot be read as JSON", ("card", "card.json"), 1, prepare=files(card__json=b"{")),
    Case("the card is not in it", ("card", TURBAN), 1),
    # months
    Case("a month is written", ("calendar", "outputs/personas", "--month", "Dezember"), 2, made=True),
    Case(
        "no holidays are known",
        ("calendar", "outputs/personas", "--month", "2027-01", "--holidays", "XX"),
        2,
        made=True,
    ),
    Case("no persona in", ("calendar", ".", "--month", "2026-12"), 2),
    Case("has no calendar of", ("tweets", "outputs/personas", "--month", "2027-03"), 2, made=True),
    Case(
        "not a calendar of these",
        (
            "tweets",
            "outputs/personas/silver_bun_persona.json",
            "--calendar",
            "outputs/december.json",
        ),
        2,
        made=True,
    ),
    Case(
        "so --count is",
        ("tweets", "outputs/personas/teal_turban_persona.json", "--count", "40"),
        2,
        made=True,
    ),
    Case(
        "calendar {file} cannot be read",
        ("tweets", "outputs/personas", "--calendar", "no.json"),
        1,
        made=True,
    ),
    # sweeps
    Case("notebook {file}: cannot be read", ("sweep", "missing.ipynb"), 2),
    Case("is no Jupyter notebook", SWEEP, 2, prepare=files(n__ipynb=b"{")),
    Case(
        "has no cell tagged",
        (*SWEEP, "-g", "temperature=1,2"),
        2,
        prepare=files(n__ipynb=NOTEBOOK | {"cells": [cell("1")]}),
    ),
    Case("unknown parameter of n.ipynb", (*SWEEP, "-g", "temprature=1,2"), 2, prepare=A_NOTEBOOK),
    Case("takes float", (*SWEEP, "-g", "temperature=warm"), 2, prepare=A_NOTEBOOK),
    Case("-g takes", (*SWEEP, "-g", "temperature"), 2, prepare=A_NOTEBOOK),
    Case("twice: give it once", (*SWEEP, "-g", "temperature=1,1"), 2, prepare=A_NOTEBOOK),
    Case("its name says that it is a key", (*SWEEP, "-p", "api_key=x"), 2, prepare=A_NOTEBOOK),
    Case(
        "is no YAML",
        (*SWEEP, "--grid", "g.yaml"),
        2,
        prepare=lambda folder: (A_NOTEBOOK(folder), files(g__yaml="a: [1")(folder))[0],
    ),
    Case("unknown engine", (*SWEEP, "--engine", "froke"), 2, prepare=A_NOTEBOOK),
    Case("needs one job", (*SWEEP, "--jobs", "0"), 2, prepare=A_NOTEBOOK),
    Case("ZeroDivisionError", SWEEP, 1, prepare=files(n__ipynb=notebook("x = 1", "1 / 0"))),
    Case("is not plain Python", SWEEP, 2, prepare=files(n__ipynb=notebook("x = (1"))),
    # cache
    Case("no cache in", ("cache", "nowhere"), 1),
    Case("an age is a number", ("cache", "--prune-older-than", "soon"), 2, made=True),
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
    assert_told(done.stderr, case.says)


def assert_told(errors: str, words: str) -> None:
    """Nothing is said but the documented message with these words."""
    told = [line for line in errors.splitlines() if NOTE not in line and not line.startswith("so far:")]
    assert len(told) == 1, errors
    assert_line(told[0], words)


INTERRUPTED = "interrupted: what is done"
FULL = "cannot write {file}: No space left"
TOO_LARGE = "File too large"
NO_OUTPUT = "the output cannot be written"
EXTRAS = [("papermill", "sweeps need papermill"), ("yaml", "this needs {library}")]
OLD_PYTHON = "is too old"
BROKEN_ENTRY = "it cannot be read; it will"


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
    assert done.returncode == 1
    assert_told(done.stderr, FULL)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_the_output_is_full(form: tuple[str, ...]) -> None:
    """What is printed goes into a file on a disk that is full."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "personalab", *DESCRIBED, *form],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert_told(done.stderr, NO_OUTPUT)


def test_files_may_not_grow(tmp_path: Path) -> None:
    """A quota of the system's: every file that is too large for it is refused."""
    resource = pytest.importorskip("resource")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    done = personalab(*PERSONA, preexec_fn=limit)
    assert done.returncode == 1
    assert_told(done.stderr, TOO_LARGE)


@pytest.mark.parametrize(("missing", "says"), EXTRAS)
def test_a_missing_extra(missing: str, says: str, tmp_path: Path) -> None:
    """What to install is said, whichever library of the extra is missed first."""
    A_NOTEBOOK(tmp_path)
    files(g__yaml="temperature: [1, 2]")(tmp_path)
    code = f"import sys; sys.modules[{missing!r}] = None; from personalab.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, *SWEEP, "--grid", "g.yaml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert_told(done.stderr, says)


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
    assert done.returncode
    assert_line(done.stdout.splitlines()[0], OLD_PYTHON)
    assert not list(tmp_path.glob(".venv"))


def test_a_broken_entry_of_the_cache(made: Path, tmp_path: Path) -> None:
    """Named by `cache --verify`, which ends with 1."""
    shutil.copytree(made, tmp_path / "outputs")
    entry = next((tmp_path / "outputs" / "cache").glob("*/*.json"))
    entry.write_text("{")
    done = personalab("cache", "--verify")
    assert done.returncode == 1
    assert done.stdout.count("broken") == 1
    assert_line(done.stderr.strip(), BROKEN_ENTRY)


CELLS = {
    "await described(LLMPool(api_base=slow, model='m', timeout_seconds=0.2, attempts_max=1))": "none within",
    "await described(LLMPool(api_base=limited, model='m', patience_seconds=0.1))": "rate limit",
    "await described(LLMPool(api_base=broken, model='m', attempts_max=1))": "server error 500",
    "await described(LLMPool(api_base='http://127.0.0.1:9/v1', model='m', attempts_max=1))": "nothing listens",
    "await described(LLMPool(api_base='http://no-such-host.invalid/v1', model='m', attempts_max=1))": "nobody knows a host",
    "await described(LLMPool(api_base=page, model='m', attempts_max=1))": "no chat completion",
    "await described(LLMPool(cache='replay'))": "replay never sends",
    "Pipeline().vary('social_netwerk', temperature=1)": "unknown stage",
    "Pipeline().vary('social_network', temprature=1)": "unknown parameter of stage",
    "LLMPool(endpoints=[EndpointSettings(api_base='x', model='m')])": "endpoint: api_base",
    "LLMPool(api_key='sk-1')": "which model? a key",
    "load_run('nowhere_run.json')": "{file} cannot be read",
    "read_card('nowhere.json')": "card {file}: cannot be read: ",
    "open_picture('nowhere.png')": "image {file}: cannot be read",
    "Budget(cost=-1)": "budget: cost",
    "grid('social_network', temprature=[1])": "unknown parameter of stage",
    "grid('social_network', temperature=[])": "is empty: give a value",
    "grid('social_network', temperature=[9])": "social_network: temperature: Input",
    "Experiment(Pipeline(), grid('social_network', temperature=[1]), [])": "an experiment needs",
    "reviews_df('nowhere')": "there is no review",
    "tweets_df(Path('nowhere'))": "there is no folder",
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


def test_cells_that_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a notebook the last line of the traceback is the message, and holds in one line."""
    monkeypatch.setenv("no_proxy", "*")  # where there is a proxy, it would answer for the unknown host
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
    for run, words in zip(node.cells[1:], CELLS.values(), strict=True):
        errors = [output for output in run.outputs if output.output_type == "error"]
        assert len(errors) == 1, run
        last = re.sub(r"\x1b\[[0-9;]*m", "", errors[0].traceback[-1])
        assert_line(last, words)


CERTIFICATES = ["its certificate is not trusted", "it does not speak https"]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
def test_certificates(tmp_path: Path) -> None:
    """A certificate that nobody trusts, and a server without one."""
    with (
        raw_server(answering(200, {}), self_signed(tmp_path)) as strange,
        raw_server(answering(200, {})) as plain,
    ):
        for url, words in zip((strange, plain.replace("http:", "https:")), CERTIFICATES, strict=True):
            pool = LLMPool(api_base=f"{url}/v1", model="m", attempts_max=1)
            request = Request(stage="s", messages=(Message(role="user", text="x"),))
            with pytest.raises(ProviderUnreachable) as told:
                asyncio.run(pool.send(request))
            assert_line(str(told.value), words)


def test_nothing_is_documented_that_nothing_says() -> None:
    """Each message of the page is provoked by a test above, and stands there once."""
    special = [
        INTERRUPTED,
        FULL,
        TOO_LARGE,
        NO_OUTPUT,
        OLD_PYTHON,
        BROKEN_ENTRY,
        *(says for _, says in EXTRAS),
        *CERTIFICATES,
    ]
    provoked = {message_with(words) for words in (*(case.says for case in CASES), *special, *CELLS.values())}
    assert sorted(provoked) == sorted(documented())
