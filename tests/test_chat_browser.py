"""A chat in a real JupyterLab, in a real browser: typed, answered, kept in the notebook, and nothing runs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import CHROMIUM, Page, browser, jupyter_lab, write_notebook
from sample_cards import card_data

from personalab.cards import CharacterCard

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(400),
    pytest.mark.skipif(
        CHROMIUM is None and not os.environ.get("CI"), reason="no Chromium: apt install chromium"
    ),
]
HOSTILE = "<img src=x onerror=window.hacked=1><script>window.hacked=1</script> $x$"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a card whose texts would run if they could."""
    made = tmp_path_factory.mktemp("lab")
    data = card_data() | {"first_mes": f"Good evening. {HOSTILE}"}
    data["character_book"]["entries"][0]["content"] = f"The ledger lies open. {HOSTILE}"
    CharacterCard.from_data(data).save(made / "moira.json")
    return made


@pytest.fixture(scope="module")
def notebook(folder: Path) -> Iterator[Page]:
    """The notebook with the chat, run."""
    write_notebook(folder / "talk.ipynb", "from personalab.chat import chat\nchat('moira.json', user='Ann')")
    with jupyter_lab(folder) as address, browser() as chromium:
        page = Page(chromium, address, "talk.ipynb")
        page.command("notebook:run-all-cells")
        page.page.locator(".personalab-chat").wait_for()
        yield page


def lines(page: Any, count: int) -> list[str]:
    """The texts of the talk, once there are so many."""
    page.wait_for_function(
        "count => document.querySelectorAll('.personalab-chat .line').length === count", arg=count
    )
    return [text.strip() for text in page.locator(".personalab-chat .line .text").all_inner_texts()]


def test_typing(notebook: Page, folder: Path) -> None:
    """Enter sends, the lorebook speaks, again and undo work, the field is empty again, and hostile text is only text."""
    page = notebook.page
    assert lines(page, 1) == [f"Good evening. {HOSTILE}"]
    field = page.locator(".personalab-chat textarea")
    field.fill("What does the ledger say?")
    field.press("Enter")
    said = lines(page, 3)
    assert said[1] == "What does the ledger say?"
    assert page.locator(".personalab-chat .line .dim").all_inner_texts() == ["lore: The ledger"]
    page.wait_for_function("document.querySelector('.personalab-chat textarea').value === ''")
    page.get_by_title("another answer to what was said last").click()
    page.wait_for_function(
        "before => { const all = document.querySelectorAll('.personalab-chat .line .text');"
        " return all.length === 3 && all[2].textContent.trim() !== before; }",
        arg=said[2],
    )
    field.fill("And yours?")
    field.press("Enter")
    lines(page, 5)
    page.get_by_title("take the last turn back").click()
    lines(page, 3)
    assert page.evaluate("window.hacked") is None
    assert notebook.errors == []
    assert not page.locator(".personalab-chat-text").is_visible()
    stored = [json.loads(path.read_bytes()) for path in (folder / "outputs" / "chats").rglob("*.json")]
    assert [[turn["said"] for turn in one["turns"]] for one in stored] == [["What does the ledger say?"]]


def test_the_saved_notebook_can_be_read(notebook: Page, folder: Path) -> None:
    """What was said stands in the saved notebook as text, for whoever exports it or runs no kernel."""
    notebook.save()
    cell = json.loads((folder / "talk.ipynb").read_text(encoding="utf-8"))["cells"][0]
    shown = ["".join(output["data"].get("text/html", "")) for output in cell["outputs"] if "data" in output]
    text = next(html for html in shown if "personalab-chat-text" in html)
    assert "What does the ledger say?" in text
    assert "&lt;img" in text
    assert "<img" not in text
