"""The README's pictures: its own commands and blocks, run in a real JupyterLab and photographed in a real Chromium.

make pictures
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from lab import Page as Lab
from lab import browser, jupyter_lab, write_notebook
from pages import READMES
from pages import Page as Text

ROOT = Path(__file__).parents[1]
PICTURES = Path(__file__).parent / "pictures"
BYTES_MAX = 150_000
COLOURS = (192, 128, 96, 64, 48)
SCALE = 2
"""Pixels of the picture for one of the page."""

INSET = 3
"""Pixels of the page by which the edge of a cell is left out."""

README = READMES[0]


def main() -> None:
    """Take all pictures, or those named: persona, explore, sweep, review."""
    wanted = sys.argv[1:] or ["persona", "explore", "sweep", "review"]
    with tempfile.TemporaryDirectory() as name:
        folder = _project(Path(name))
        os.environ["PERSONALAB_OUTPUTS"] = str(folder / "outputs")
        os.environ["PYTHONPATH"] = str(ROOT)
        os.environ["LOGNAME"] = "anna"  # whose review it is
        with jupyter_lab(folder) as address, browser() as chromium:
            for picture in wanted:
                globals()[f"take_{picture}"](folder, address, chromium)


def take_persona(folder: Path, address: str, chromium: Any) -> None:
    """The persona of the first block, with what was typed; once in the language of each README."""
    (block,) = _blocks("run  # shows")
    for name, language in (("persona", "English"), ("persona.zh-CN", "中文")):
        source = block.replace('"English"', f'"{language}"').replace("  # shows the persona above", "")
        with _opened(folder, address, chromium, name, source) as lab:
            _photograph(lab, name, lab.page.locator(".jp-Cell"), until=lab.page.locator(".tweet").nth(1))


def take_explore(folder: Path, address: str, chromium: Any) -> None:
    """Pages side by side, and what a comparison says."""
    first, grid, side, compare = _blocks("run  # shows", "conditions =", "side_by_side(", "compare(texts")
    first = first.replace("\nrun  # shows the persona above", "")
    with _opened(folder, address, chromium, "explore", first, grid, side, compare) as lab:
        pages, said = (lab.page.locator(".jp-Cell").nth(place) for place in (2, 3))
        for _ in range(6):
            pages.get_by_text("next →").click()
        pages.get_by_text("page 7 of").wait_for()
        for sent in pages.locator("summary").all():
            sent.click()
        pages.locator(".jp-OutputArea-output").first.evaluate(
            "each => Object.assign(each.style, {maxHeight: '408px', overflow: 'hidden'})"
        )
        _photograph(lab, "explore", pages, said)


def take_sweep(folder: Path, address: str, chromium: Any) -> None:
    """The report that the command writes."""
    for command in _commands("personalab sweep"):
        _run(command, folder)
    page = chromium.new_context(device_scale_factor=SCALE, viewport={"width": 980, "height": 400}).new_page()
    page.goto(next((folder / "outputs" / "sweeps").glob("*/report.html")).as_uri())
    page.wait_for_load_state("networkidle")
    _keep("sweep", page.screenshot(full_page=True))


def take_review(folder: Path, address: str, chromium: Any) -> None:
    """A review of the tweets that the commands wrote: a few decided, one rated and tagged."""
    _run("personalab persona data/portraits/*.png", folder)
    for command in _commands("personalab calendar", "personalab tweets"):
        _run(command, folder)
    (block,) = _blocks('review(tweets, "december")')
    with _opened(folder, address, chromium, "review", block) as lab:
        lab.review.locator(".hint").click()
        for key in "kkrkrkkrkkkr":
            lab.page.wait_for_timeout(2_000)  # as long as somebody takes, for the time that is left
            lab.press(key)
        lab.press("4")
        lab.press("t")
        lab.page.keyboard.type("dry humour")
        lab.page.keyboard.press("Enter")
        lab.settled()
        lab.page.mouse.move(0, 0)
        _photograph(lab, "review", lab.review, inset=0)


def _project(folder: Path) -> Path:
    for name in ("data", "notebooks"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / "pyproject.toml").touch()
    return folder


def _blocks(*parts: str) -> list[str]:
    """The README's blocks that hold these parts."""
    blocks = [block.text for block in Text(README.path).blocks() if block.language == "python"]
    return [next(block for block in blocks if part in block).rstrip("\n") for part in parts]


def _commands(*starts: str) -> list[str]:
    """The README's commands that begin so."""
    commands = [command for block in README.blocks() for command in block.commands]
    return [next(command for command in commands if command.startswith(start)) for start in starts]


def _run(command: str, folder: Path) -> None:
    subprocess.run(
        ["bash", "-c", command.replace("personalab", f"{sys.executable} -m personalab", 1)],
        cwd=folder,
        check=True,
    )


@contextmanager
def _opened(folder: Path, address: str, chromium: Any, name: str, *cells: str) -> Iterator[Lab]:
    """A notebook of these cells, run, in a window high enough to show all of it."""
    context = chromium.new_context(device_scale_factor=SCALE)
    lab = Lab(context, address, write_notebook(folder / f"{name}.ipynb", *cells).name)
    lab.page.set_viewport_size({"width": 1180, "height": 3200})
    lab.command("application:toggle-left-area")
    lab.command("notebook:run-all-cells")
    lab.page.wait_for_function(_DONE, timeout=300_000)
    lab.page.wait_for_timeout(1_500)  # for pictures that are drawn after the kernel is done
    lab.page.add_style_tag(content=_PLAIN)
    try:
        yield lab
    finally:
        context.close()


_DONE = """() => [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].every(each => /\\d/.test(each.textContent))
    && jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'"""
_PLAIN = ".jp-Collapser, .jp-Toolbar, .jp-cell-toolbar { visibility: hidden !important }"


def _photograph(lab: Lab, name: str, *shown: Any, until: Any = None, inset: int = INSET) -> None:
    """A picture of what is shown from the first to the last, or until the end of something in it."""
    boxes = [each.bounding_box() for each in shown]
    left, top = min(box["x"] for box in boxes) + inset, min(box["y"] for box in boxes) + inset
    right = max(box["x"] + box["width"] for box in boxes)
    last = until.bounding_box() if until else max(boxes, key=lambda box: box["y"])
    bottom = last["y"] + last["height"] + 2 * inset
    clip = {"x": left, "y": top, "width": right - left, "height": bottom - top}
    _keep(name, lab.page.screenshot(clip=clip))


def _keep(name: str, png: bytes) -> None:
    """Write a picture with as many colours as its bytes allow."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    path = PICTURES / f"{name}.png"
    for colours in COLOURS:
        picture.quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size <= BYTES_MAX:
            break
    print(
        f"{path.name}: {picture.size[0]} × {picture.size[1]}, {path.stat().st_size:,} bytes, {colours} colours"
    )


if __name__ == "__main__":
    main()
