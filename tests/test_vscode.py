"""Widgets as VS Code draws them: by its own bundle of ipywidgets, in a page like that of its notebooks.

The bundle comes from npm and is no dependency: `npm install --prefix FOLDER @vscode/jupyter-ipywidgets8 requirejs`, then
`VSCODE_WIDGETS=FOLDER pytest tests/test_vscode.py`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import CHROMIUM, Page, browser, jupyter_lab, write_notebook

WIDGETS = Path(os.environ.get("VSCODE_WIDGETS", "missing"))
EXTENSIONS = Path(sys.prefix) / "share" / "jupyter" / "nbextensions"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(400),
    pytest.mark.skipif(
        CHROMIUM is None or not WIDGETS.is_dir(), reason="VSCODE_WIDGETS names no folder: see above"
    ),
]

REVIEW = """
import pandas as pd
from personalab.review import review
review(pd.DataFrame({"text": ["herons", "copper pipes", "letters in March", "soup"], "persona": "Ann"}), rater="anna")
"""
SIDES = """
from personalab import LLMPool, Pipeline
from personalab.experiments import Experiment
from personalab.grids import grid
from personalab.widgets import side_by_side
experiment = Experiment(Pipeline(LLMPool()), grid("example_tweets", temperature=[0.3, 1.1]), ["a gardener", "a baker"])
await experiment.run()
side_by_side(experiment)
"""


def _serve(route: Any) -> None:
    path = route.request.url.split("/vscode/")[1]
    root = {"index.html": Path(__file__).parent, "nbextensions": EXTENSIONS.parent}.get(
        path.split("/")[0], WIDGETS
    )
    file = root / ("vscode.html" if path == "index.html" else path)
    kind = "text/html" if file.suffix == ".html" else "text/javascript"
    route.fulfill(body=file.read_bytes(), content_type=kind)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the notebook lies, and outputs."""
    return tmp_path_factory.mktemp("vscode")


@pytest.fixture(scope="module")
def page(folder: Path) -> Iterator[Any]:
    """A JupyterLab whose kernel a frame uses that is made like VS Code's."""
    with jupyter_lab(folder) as address, browser() as chromium:
        page = Page(chromium, address, write_notebook(folder / "empty.ipynb", "").name).page
        page.route("**/vscode/**", _serve)
        yield page


def _frame(page: Any, code: str, *, live: bool = True) -> Any:
    """A new frame with the outputs of a cell that a new kernel ran; with `live` off as where no kernel is chosen."""
    page.evaluate("""async () => {
        window.kernel = await jupyterapp.serviceManager.kernels.startNew({ name: "python3" });
        const frame = document.createElement("iframe");
        frame.style = "position: fixed; inset: 0; width: 100%; height: 100%; z-index: 99999; border: 0; background: white";
        document.querySelector("iframe")?.remove();
        frame.src = "/vscode/index.html";
        document.body.append(frame);
    }""")
    page.wait_for_function("() => document.querySelector('iframe').contentWindow.run")
    page.evaluate(
        "([code, live]) => document.querySelector('iframe').contentWindow.run(kernel, code, live)",
        [code, live],
    )
    return page.frame_locator("iframe")


def _leaked(page: Any) -> list[str]:
    found: list[str] = page.evaluate("() => document.querySelector('iframe').contentWindow.leaked")
    return found


def _contrast(locator: Any) -> float:
    """Of an element's colour and what it stands on, by the formula of WCAG 2: 1 to 21."""
    colours = locator.evaluate("""(element) => {
        const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
        let under = element;
        while (under.parentElement && parse(getComputedStyle(under).backgroundColor)[3] === 0) under = under.parentElement;
        return [getComputedStyle(element).color, getComputedStyle(under).backgroundColor].map(parse);
    }""")
    lights = []
    for colour in colours:
        parts = [part / 255 for part in colour[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)


def test_a_review(page: Any, folder: Path) -> None:
    """By keyboard; the editor gets no key of it; the table for others is hidden; a dark theme can be read."""
    frame = _frame(page, REVIEW)
    frame.locator(".personalab-review:not(.asleep)").wait_for()
    assert not frame.locator(".personalab-review-table").is_visible()
    assert _contrast(frame.locator(".tweet .text")) > 7
    assert _contrast(frame.locator(".keys button").first) > 4.5
    frame.locator(".hint").click()
    for turn, key in enumerate("krdk"):
        page.keyboard.press(key)
        frame.locator(".count", has_text=f"{len('krdk'[: turn + 1].replace('d', ''))} of 4").wait_for()
    page.keyboard.press("n")
    page.keyboard.type("k, r and dd")
    page.keyboard.press("Enter")
    frame.locator(".marks .note", has_text="k, r and dd").wait_for()
    assert _leaked(page) == []
    written = (folder / "outputs" / "reviews" / "tweets.jsonl").read_text().splitlines()
    assert [json.loads(line)["verdict"] for line in written] == ["keep", "reject", "keep", None]


def test_side_by_side(page: Any) -> None:
    """The arrow keys turn the pages; a dark theme can be read."""
    frame = _frame(page, SIDES)
    frame.locator(".personalab-sides", has_text="page 1 of 2").wait_for()
    assert _contrast(frame.locator(".personalab-sides h4").first) > 7
    frame.get_by_title("right arrow").click()
    frame.locator(".personalab-sides", has_text="page 2 of 2").wait_for()
    page.keyboard.press("ArrowLeft")
    frame.locator(".personalab-sides", has_text="page 1 of 2").wait_for()
    assert _leaked(page) == []


def test_without_a_kernel_a_table_stands(page: Any) -> None:
    """VS Code falls back to HTML where the kernel does not know the widget, as after opening a saved notebook."""
    frame = _frame(page, REVIEW, live=False)
    assert frame.locator(".personalab-review-table td", has_text="copper pipes").is_visible()
    assert _contrast(frame.locator(".personalab-review-table td").first) > 7
