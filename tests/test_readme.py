"""What the READMEs and the pages on use show is run, top to bottom: commands, and Python as the cells of one notebook."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PORTRAITS
from pages import DEMO, READMES, ROOT, Page

from personalab.offline.server import OfflineServer

ENGLISH, CHINESE = READMES
pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place with two of the portraits and the notebooks; with no key, the embedded provider answers."""
    portraits = tmp_path / "data" / "portraits"
    portraits.mkdir(parents=True)
    for name in ("teal_turban", "silver_bun"):
        shutil.copy(PORTRAITS / f"{name}.png", portraits)
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    (tmp_path / "pyproject.toml").touch()  # where results go: the folder of the project
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A provider that knows any model."""
    with OfflineServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("PERSONALAB_MODEL", "any")
        yield


def cells() -> dict[str, Any]:
    """The names of a notebook that has just begun."""
    return {"__name__": "notebook"}


@pytest.mark.slow
async def test_readme(folder: Path) -> None:
    """A newcomer who does what stands there has a persona, a comparison, a sweep, and a review's export."""
    names = cells()
    await ENGLISH.play(folder, names)
    outputs = folder / "outputs"
    assert set(names["experiment"].design.images) == {"silver_bun", "teal_turban"}
    assert (outputs / "personas" / "teal_turban_persona.png").is_file()
    assert len(list(outputs.glob("sweeps/*/*/trial.json"))) == 6
    assert (outputs / "sweeps" / "03_compare_temperatures" / "report.html").is_file()
    assert len(names["tweets"]) == 62
    assert (outputs / "kept.parquet").is_file()


def test_readme_in_chinese() -> None:
    """The same blocks but for their comments, and the same pages."""
    shown = [
        [(block.language, re.sub(r"\s+#.*", "", block.text)) for block in page.blocks() if block.language]
        for page in READMES
    ]
    assert shown[0] == shown[1]
    assert len(shown[0]) >= 8
    links = [
        [link for link in page.links() if link.startswith(("docs/", "notebooks/", "data/"))]
        for page in READMES
    ]
    assert {link for link in links[0] if "pictures/" not in link} <= set(links[1])
    heads = [[token for token in page.tokens() if token.type == "heading_open"] for page in READMES]
    assert [token.tag for token in heads[0]] == [token.tag for token in heads[1]]


@pytest.mark.slow
async def test_commands_page(folder: Path) -> None:
    """docs/commands.md: every command but the server that does not end."""
    await Page(ROOT / "docs" / "commands.md").play(folder, cells())
    assert list((folder / "outputs" / "tweets").glob("*.json"))


@pytest.mark.slow
async def test_python_page(folder: Path, server: None) -> None:
    """docs/python.md: from an image to what a judge says and a person kept."""
    names = cells()
    await Page(ROOT / "docs" / "python.md").play(folder, names)
    assert set(names["texts"]["image"]) == {"teal_turban", "silver_bun"}
    assert names["scores"]["score"].notna().all()
    assert set(names["done"].frame()["status"]) == {"done"}
    assert (folder / "outputs" / "personas" / "teal_turban_persona.png").is_file()


def test_make() -> None:
    """Every `make …` that a page speaks of is there, and `make demo` is the command that is tested in its place."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"\n\t@$(BIN)/{DEMO}\n" in makefile
    spoken = {
        word
        for page in READMES
        for text in page.text.split("make ")[1:]
        if (word := text.split("`")[0].split()[0].strip("*，。")).isalpha() and word.isascii()
    }
    targets = {"demo", "lab", "test", "check", "bench", "docs"}
    assert spoken & targets == targets
    for target in targets:
        assert f"\n{target}:" in makefile
