"""The documentation holds: links lead somewhere, drawings and examples are of today's code, what it says to do works."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from conftest import PORTRAITS
from hypothesis import given
from hypothesis import strategies as st
from pages import DOCS, PAGES, READMES, ROOT, Page

from personalab.errors import PersonalabError
from personalab.pipeline import Pipeline
from personalab.pool import LLMPool
from personalab.prompts import open_prompt
from personalab.records import Record

sys.path.insert(0, str(ROOT / "docs"))
import drawn

DOCUMENTS = ROOT / "docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.path.relative_to(ROOT)))
def test_links(page: Page) -> None:
    """Every link leads to a file that is there and to a heading that it has."""
    broken = []
    for link in page.links():
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = unquote(link).partition("#")
        path = (page.path.parent / name).resolve() if name else page.path
        there = path.exists() and path.is_relative_to(ROOT)
        if not there or (anchor and anchor not in Page(path).anchors()):
            broken.append(link)
    assert broken == []


@given(st.text(st.sampled_from("aB é中-_ .`!*:"), max_size=20).map(str.strip))
def test_anchors(title: str) -> None:
    """A heading's name is one word of letters, digits, hyphens and underscores, and two of one text have two names."""
    page = Text(f"# {title}\n\n# {title}\n")
    names = page.anchors()
    assert all(re.fullmatch(r"[\w-]*", name) for name in names)
    heads = [token for token in page.tokens() if token.type == "heading_open"]
    assert len(names) == len(heads)


class Text(Page):
    """A page that lies in no file."""

    def __init__(self, text: str) -> None:
        object.__setattr__(self, "said", text)

    @property
    def text(self) -> str:
        return self.said  # type: ignore[attr-defined]


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    """The check itself: a heading that is not there is told from one that is."""
    page = tmp_path / "page.md"
    page.write_text("# Here it is, `code` & all\n\n[good](#here-it-is-code--all) [bad](#there)\n")
    assert set(Page(page).links()) == {"#here-it-is-code--all", "#there"}
    assert Page(page).anchors() == {"here-it-is-code--all"}


def test_graph_is_current() -> None:
    """The picture of the stages is of the stages; if not: python docs/drawn.py."""
    assert drawn.GRAPH.read_text(encoding="utf-8") == drawn.stage_graph()


def test_pictures() -> None:
    """Each is shown somewhere, and small enough for a repository; an old one is not left lying."""
    shown = {Path(unquote(link)).name for page in PAGES for link in page.links() if "pictures/" in link}
    assert {path.name for path in drawn.GRAPH.parent.iterdir()} == shown
    for path in drawn.GRAPH.parent.iterdir():
        assert path.stat().st_size <= 150_000, path.name


@pytest.mark.slow
def test_examples_are_current(tmp_path: Path) -> None:
    """docs/files.md shows what is written today; if not: python docs/drawn.py."""
    page = drawn.FILES.read_text(encoding="utf-8")
    assert page == drawn.with_examples(page, drawn.file_examples(tmp_path))


def test_fields_are_whole() -> None:
    """docs/files.md has each field of each file, and none that is gone."""
    text = drawn.FILES.read_text(encoding="utf-8")
    tables = re.findall(r"<!-- fields: ([\w.]+)\.(\w+) -->\n((?:\|.*\n)+)", text)
    assert len(tables) >= 6
    for module, name, table in tables:
        record: type[Record] = getattr(importlib.import_module(module), name)
        known = [*record.model_fields, *record.model_computed_fields]
        assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == known, name


def test_every_block_is_run_or_says_why_not() -> None:
    """A page whose commands or Python nobody tests says so at each of them."""
    tested = {"README", "README.zh-CN", "python", "commands", "stages", "prompts", "metrics", "statistics"}
    elsewhere = {
        "models",
        "errors",
        "clusters",
        "cards",
        "batch-requests",
    }  # a provider, a cluster, a person: see their tests
    unsaid = {
        page.path.stem
        for page in [*READMES, *DOCS]
        for block in page.blocks()
        if block.run and (block.language == "python" or block.commands)
    }
    assert unsaid - tested - elsewhere == set()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two portraits; with no key, the embedded provider answers."""
    portraits = tmp_path / "data" / "portraits"
    portraits.mkdir(parents=True)
    for name in ("teal_turban", "silver_bun"):
        shutil.copy(PORTRAITS / f"{name}.png", portraits)
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
async def test_stages_page(folder: Path) -> None:
    """docs/stages.md, step by step: one request for a changed stage, one for an eighth, which is in the card."""
    names: dict[str, Any] = {"__name__": "notebook"}
    await Page(DOCUMENTS / "stages.md").play(folder, names)
    assert names["again"].calls == 1 or names["again"]["social_network"] != names["run"]["social_network"]
    assert names["run"].card.extensions["personalab"]["pockets"]["oldest"] == names["run"]["pockets"].oldest
    assert names["run"].calls == 1
    assert list((folder / "outputs" / "personas" / "earlier").glob("*_run*.json"))
    with pytest.raises(ValueError, match="name each once"):
        names["Sorted"](things=("a key", "a key"), oldest="it")


@pytest.mark.slow
async def test_prompts_page(folder: Path) -> None:
    """docs/prompts.md: its comparison of two prompts runs."""
    names: dict[str, Any] = {"__name__": "notebook"}
    await Page(DOCUMENTS / "prompts.md").play(folder, names)
    assert set(names["texts"]["prompt"]) == {"A", "B"}


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:.* is unknown for:UserWarning"
)  # two images with one replicate hold little
@pytest.mark.parametrize("name", ["metrics", "statistics"])
async def test_pages_on_numbers(name: str, folder: Path) -> None:
    """Their blocks run with a frame of tweets under two temperatures."""
    from personalab.experiments import Experiment
    from personalab.frames import tweets_df
    from personalab.grids import grid

    conditions = grid("example_tweets", temperature=[0.3, 1.1])
    experiment = Experiment(Pipeline(), conditions, "data/portraits")
    await experiment.run()
    await Page(DOCUMENTS / f"{name}.md").play(folder, {"tweets": tweets_df(experiment)})


async def test_questions_quote_what_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/faq.md: each message in it is one that the package gives, word for word but for what is left out."""
    said = [text async for text in messages(folder, monkeypatch)]
    quoted = [block.text.strip() for block in Page(DOCUMENTS / "faq.md").blocks() if block.language == "text"]
    assert len(quoted) >= 8
    for text in quoted:
        pattern = ".*".join(map(re.escape, text.split("…")))
        assert [each for each in said if re.fullmatch(pattern, each)], text


async def messages(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What goes wrong in the FAQ, done here."""
    from personalab.budgets import Budget
    from personalab.offline.faults import Faults
    from personalab.offline.server import OfflineServer
    from personalab.stages import STAGES
    from personalab.sweeps import plan_sweep

    command = [sys.executable, "-m", "personalab", "persona", "--description", "a diver"]
    yield subprocess.run(command, capture_output=True, text=True, check=True).stderr.splitlines()[0]
    portrait = "data/portraits/silver_bun.png"
    with OfflineServer(Faults(no_images=True)) as blind:
        pool = LLMPool(api_base=blind.base_url, model="any")
        yield (await Pipeline(pool).run(portrait)).errors[0]
    yield await error_of(Pipeline(LLMPool(budget=Budget(requests=3), cache="off")).run(portrait))
    monkeypatch.setenv("MAX_CONCURRENT", "many")
    yield error_in(LLMPool)
    monkeypatch.delenv("MAX_CONCURRENT")
    yield error_in(lambda: STAGES[3].parse("{}"))
    yield error_in(lambda: Pipeline().stage("socail_network"))
    notebook = ROOT / "notebooks" / "03_compare_temperatures.ipynb"
    yield error_in(lambda: plan_sweep(notebook, {"langauge": ["English"]}))
    head = "---\nvariables: core_persona, language\n---\n# system\n$language\n# user\n$core_persona"
    for text in ("costs $ 5", "$persona"):
        Path("mine.md").write_text(f"{head}\n{text}\n")
        yield error_in(lambda: open_prompt("mine.md"))


def error_in(call: Any) -> str:
    """The message of what a call raises."""
    with pytest.raises(PersonalabError) as caught:
        call()
    return str(caught.value)


async def error_of(waiting: Any) -> str:
    """The message of what a coroutine raises."""
    with pytest.raises(PersonalabError) as caught:
        await waiting
    return str(caught.value)


def test_what_notebooks_import_has_a_page() -> None:
    """The reference has each module that a notebook or a page imports from."""
    texts = [page.text for page in PAGES]
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts += ["".join(cell["source"]) for cell in cells]
    used = set(re.findall(r"^\s*from (personalab\.\w+) import", "\n".join(texts), re.MULTILINE))
    listed = re.findall(r"^   (personalab\.\w+)$", "\n".join(page.text for page in DOCS if page.path.parent.name == "api"), re.MULTILINE)  # fmt: skip
    assert used <= set(listed)
    assert len(listed) == len(set(listed))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_site(tmp_path: Path) -> None:
    """Sphinx builds all pages and the reference without a warning, a name that leads nowhere or the network."""
    options = ["-b", "html", "-c", DOCUMENTS, "-W", "--keep-going", "-q", "-d", tmp_path / "trees"]
    command = [sys.executable, "-m", "sphinx", *options, ROOT, tmp_path / "site"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    page = tmp_path / "site" / "docs" / "api" / "modules" / "personalab.pipeline.html"
    assert "personalab.pipeline.Pipeline.vary" in page.read_text(encoding="utf-8")
