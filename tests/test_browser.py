"""Reviews in a real JupyterLab, by keyboard and mouse, in a real browser: nothing lost, nothing twice, nothing runs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PORTRAITS
from lab import CHROMIUM, Page, browser, jupyter_lab, write_notebook

from personalab.reviews import clean

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(400),
    pytest.mark.skipif(
        CHROMIUM is None and not os.environ.get("CI"), reason="no Chromium: apt install chromium"
    ),
]

HOSTILE = [
    "<script>window.hacked=1</script>", "<SCRIPT SRC=//evil.example/x.js></SCRIPT>", "</script><script>window.hacked=1</script>",
    "<img src=x onerror=window.hacked=1>", "<img src=x onerror='window.hacked=1'//", "<svg onload=window.hacked=1>",
    "<svg><script>window.hacked=1</script></svg>", "<svg><animate onbegin=window.hacked=1 attributeName=x dur=1s>",
    "<body onload=window.hacked=1>", "<iframe src=\"javascript:parent.hacked=1\"></iframe>",
    "<iframe srcdoc=\"<script>parent.hacked=1</script>\"></iframe>", "<a href=\"javascript:window.hacked=1\">click</a>",
    "<details open ontoggle=window.hacked=1>", "<input autofocus onfocus=window.hacked=1>", "<video><source onerror=window.hacked=1>",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=window.hacked=1>", "<object data=\"javascript:window.hacked=1\">",
    "<embed src=\"javascript:window.hacked=1\">", "<link rel=stylesheet href=\"//evil.example/x.css\">", "<style>*{display:none}</style>",
    "<style>@import '//evil.example/x.css'</style>", "<meta http-equiv=refresh content=\"0;url=//evil.example\">",
    "<base href=\"//evil.example/\">", "<form action=//evil.example><button>go</button></form>", "<marquee onstart=window.hacked=1>x</marquee>",
    "<template><script>window.hacked=1</script></template>", "<noscript><p title=\"</noscript><img src=x onerror=window.hacked=1>\">",
    "\"><img src=x onerror=window.hacked=1>", "'><img src=x onerror=window.hacked=1>", "`${window.hacked=1}`", "${window.hacked=1}",
    "{{constructor.constructor('window.hacked=1')()}}", "%3Cscript%3Ewindow.hacked=1%3C/script%3E", "&lt;script&gt;window.hacked=1&lt;/script&gt;",
    "&#60;img src=x onerror=window.hacked=1&#62;", "\\u003cscript\\u003ewindow.hacked=1\\u003c/script\\u003e", "javascript:window.hacked=1",
    "data:text/html,<script>window.hacked=1</script>", "<!--<img src=x onerror=window.hacked=1>-->", "<![CDATA[<script>window.hacked=1</script>]]>",
    "$\\href{javascript:window.hacked=1}{x}$ $$\\unicode{x}$$", "[x](javascript:window.hacked=1) ![x](x\" onerror=\"window.hacked=1)",
    "#<img/src/onerror=window.hacked=1> #tag<script>window.hacked=1</script>", "@<b>bold</b> @user\"onclick=window.hacked=1",
    "\u202egnp.exe\u202c tfel ot thgir", "\u2066\u2067isolated\u2069 and never closed \u202e", "مرحبا بالعالم <b>عربي</b> #وسم", "שלום @עולם \u200f!",
    "zero\u200bwidth\u200b<b>\u200bspace", "\ufeffbyte order mark\ufeff", "joined \u200d\u200d\u200d marks \u2060\u2063", "soft\u00adhyphen\u00ad",
    "nul\u0000 bell\u0007 escape\u001b[31m red delete\u007f", "line\u2028separator paragraph\u2029separator", "Z̸̢̛͓a̷l̶g̵o̴ t̷e̸x̵t̶ " + "\u0300\u0301\u0302\u0303" * 30,
    "x" * 10_000, "<b>" * 3_333 + "x", "lone \ud83d half", "other \ude00 half \udfff", "swapped \ude00\ud83d and \U0001F600",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for notebooks, with a portrait beside which a card would lie."""
    made = tmp_path_factory.mktemp("lab")
    personas = made / "outputs" / "personas"
    personas.mkdir(parents=True)
    shutil.copy(PORTRAITS / "felt_hat.png", personas / "felt_hat_persona.png")
    return made


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """A running JupyterLab."""
    with jupyter_lab(folder) as running:
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A running browser."""
    with browser() as running:
        yield running


def tweets(count: int) -> list[dict[str, Any]]:
    """Rows of a frame; no two texts are near copies."""
    return [
        {
            "text": f"{number} {hashlib.sha256(str(number).encode()).hexdigest()[:30]} #tide @pier",
            "persona": "Ann Lee", "card": "felt_hat_persona.json", "date": "2026-12-01", "content_type": "harbour",
            "topic": "gulls", "image": str(number // 2), "condition": ["cool", "hot"][number % 2], "temperature": number % 2,
        }
        for number in range(count)
    ]  # fmt: skip


def notebook(folder: Path, name: str, rows: list[dict[str, Any]], call: str) -> str:
    """A notebook that reviews these rows."""
    (folder / f"{name}.json").write_text(json.dumps(rows))
    source = f"""import json, pandas as pd
from personalab.review import review, review_pairs
frame = pd.DataFrame(json.load(open("{name}.json")), dtype=object)
{call}"""
    return write_notebook(folder / f"{name}.ipynb", source).name


def lines(folder: Path, review: str) -> list[dict[str, Any]]:
    """The decisions on disk."""
    path = folder / "outputs" / "reviews" / f"{review}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def focus(page: Page) -> None:
    """Click where the hint says."""
    page.review.locator(".hint").click()


def test_two_hundred_decisions(folder: Path, address: str, chromium: Any) -> None:
    """By keyboard, with a restart of the kernel, a reload and a killed kernel between: 200 on disk, in order, none twice."""
    call = "import os; print(os.getpid(), file=open('pid', 'w'), flush=True)\nreview(frame, 'many', rater='anna', blind=False)"
    name = notebook(folder, "many", tweets(200), call)
    page = Page(chromium, address, name)
    page.run()
    focus(page)
    keys = ["krk"[number % 3] for number in range(200)]
    for key in keys[:70]:
        page.press(key)
    page.settled()
    page.restart()
    page.page.keyboard.press("k")  # meets no kernel: refused, and said
    page.page.locator(".message.bad", has_text="not saved").wait_for()
    page.run()
    page.page.locator(".count", has_text="70 of 200").wait_for()
    focus(page)
    for key in keys[70:100]:
        page.page.keyboard.press(key)  # as fast as they come: they queue
    page.page.locator(".count", has_text="100 of 200").wait_for()
    page.save()
    page.open()
    page.review.wait_for()
    page.page.locator(".count", has_text="100 of 200").wait_for()
    focus(page)
    for key in keys[100:150]:
        page.press(key)
    page.settled()
    os.kill(int((folder / "pid").read_text()), signal.SIGKILL)
    page.restarted()
    page.run()
    page.page.locator(".count", has_text="150 of 200").wait_for()
    focus(page)
    for key in keys[150:]:
        page.press(key)
    page.page.locator(".count", has_text="200 of 200").wait_for()
    written = lines(folder, "many")
    assert [line["about"]["text"] for line in written] == [row["text"] for row in tweets(200)]
    assert [line["verdict"] for line in written] == [{"k": "keep", "r": "reject"}[key] for key in keys]
    assert len({line["id"] for line in written}) == 200


def test_two_raters_in_two_browsers(folder: Path, address: str, chromium: Any) -> None:
    """Key by key in turn, from two kernels into one file: both sets are whole; undo takes back one's own."""
    names = [notebook(folder, f"of_{rater}", tweets(20), f"review(frame, 'both', rater='{rater}')") for rater in ("anna", "bert")]  # fmt: skip
    pages = [Page(chromium.new_context(), address, name) for name in names]
    for page in pages:
        page.run()
        focus(page)
    for key in "kr" * 10:
        for page in pages:
            page.page.keyboard.press(key)
    for page in pages:
        page.page.locator(".count", has_text="20 of 20").wait_for()
    pages[0].press("u")
    pages[0].page.locator(".count", has_text="19 of 20").wait_for()
    written = lines(folder, "both")
    assert [sum(line["rater"] == rater for line in written) for rater in ("anna", "bert")] == [21, 20]
    assert len({line["item"] for line in written if line["rater"] == "bert"}) == 20


def test_hostile_text_shows_as_text(folder: Path, address: str, chromium: Any) -> None:
    """Sixty strings as text, name, topic and condition, and as rater, note and tag, one by one and on a page: each is shown
    whole, none runs."""
    assert len(HOSTILE) == 60
    rows = [
        {"text": text, "persona": text[:60], "topic": text[:60], "content_type": text[:60], "condition": HOSTILE[place // 2][:60]}
        for place, text in enumerate(HOSTILE)
    ]  # fmt: skip
    rater = "<img src=x onerror=window.hacked=1>"
    name = notebook(folder, "hostile", rows, f"review(frame, 'hostile', rater={rater!r})")
    page = Page(chromium, address, name)
    asked: list[str] = []
    page.page.on("request", lambda request: asked.append(request.url))
    page.run()
    focus(page)
    # A browser's textContent gives each character back but NUL, which it cannot hold either way.
    shown = []
    for place in range(60):
        page.page.locator(".turn", has_text=f"{place + 1} of 60").wait_for()
        shown.append(page.review.locator(".tweet .text").text_content())
        page.press("c")
        page.review.locator("dl.condition").wait_for()
        page.press("ArrowRight")
        page.settled()
    order = sorted(range(60), key=lambda place: shown.index(clean(HOSTILE[place])))
    assert [shown[at] for at in range(60)] == [clean(HOSTILE[place]) for place in order]
    page.press("n")
    page.page.keyboard.type("<img src=x onerror=window.hacked=1>")
    page.page.keyboard.press("Enter")
    page.page.locator(".marks .note", has_text="<img").wait_for()
    page.press("t")
    page.page.keyboard.type("<svg onload=window.hacked=1>, \u202ereversed")
    page.page.keyboard.press("Enter")
    page.page.locator(".marks .tag", has_text="<svg").wait_for()
    page.press("v")
    page.page.locator(".stage.page .item").nth(9).wait_for()
    assert page.page.evaluate("() => window.hacked") is None
    assert page.dialogs == []
    assert page.errors == []
    assert not [url for url in asked if "evil" in url]
    assert (
        page.review.locator("script, iframe, svg, object, embed, style, link, form, .text img").count() == 0
    )


def test_typed_without_waiting(folder: Path, address: str, chromium: Any) -> None:
    """Keys, a note and tags typed in one go: what belongs into a box decides nothing."""
    name = notebook(folder, "typed", tweets(10), "review(frame, 'typed', rater='anna', blind=False)")
    page = Page(chromium, address, name)
    page.run()
    focus(page)
    for key in ["k", "n", *"reject this k r 5", "Enter", "r", "t", *"kr, 1", "Enter", "5", "r"]:
        page.page.keyboard.press(key if key != " " else "Space")
    page.page.locator(".count", has_text="3 of 10").wait_for()
    said = [(line["action"], line[line["action"]]) for line in lines(folder, "typed")]
    assert said == [
        ("verdict", "keep"), ("note", "reject this k r 5"), ("verdict", "reject"), ("tags", ["kr", "1"]), ("rating", 5),
        ("verdict", "reject"),
    ]  # fmt: skip


def test_what_cannot_be_saved_takes_nothing_with_it(folder: Path, address: str, chromium: Any) -> None:
    """Keys typed ahead of a decision that could not be written were meant for the next tweets: they decide nothing."""
    name = notebook(folder, "unsaved", tweets(10), "review(frame, 'unsaved', rater='anna', blind=False)")
    page = Page(chromium, address, name)
    page.run()
    focus(page)
    page.press("k")
    page.settled()
    path = folder / "outputs" / "reviews" / "unsaved.jsonl"
    path.rename(path.with_suffix(".away"))
    path.mkdir()
    for key in "rkr":
        page.page.keyboard.press(key)
    page.page.locator(".message.bad", has_text="typed after it was not taken").wait_for()
    page.settled()
    path.rmdir()
    path.with_suffix(".away").rename(path)
    for key in "rk":
        page.press(key)
    page.page.locator(".count", has_text="3 of 10").wait_for()
    assert [line["about"]["text"] for line in lines(folder, "unsaved")] == [row["text"] for row in tweets(3)]
    assert [line["verdict"] for line in lines(folder, "unsaved")] == ["keep", "reject", "keep"]


def test_one_rater_in_two_tabs(folder: Path, address: str, chromium: Any) -> None:
    """The same notebook open twice shows the same review: what one tab decides the other shows, and nothing is decided twice."""
    name = notebook(folder, "tabs", tweets(20), "review(frame, 'tabs', rater='anna', blind=False)")
    one = Page(chromium, address, name)
    one.run()
    one.save()
    other = Page(chromium, address, name)
    other.page.locator(".personalab-review:not(.asleep)").wait_for()
    for page in (one, other):
        focus(page)
    for turn in range(10):
        for page in (one, other):
            page.press("k")
            page.page.locator(".count", has_text=f"{2 * turn + 1 + (page is other)} of 20").wait_for()
            other_page = other if page is one else one
            other_page.page.locator(".count", has_text=f"{2 * turn + 1 + (page is other)} of 20").wait_for()
    assert [line["about"]["text"] for line in lines(folder, "tabs")] == [row["text"] for row in tweets(20)]
    one.press("u")
    other.page.locator(".count", has_text="19 of 20").wait_for()


def test_the_notebook_gets_no_key_meant_for_the_review(folder: Path, address: str, chromium: Any) -> None:
    """Keys that mean nothing here cut, add or change no cell; a keyboard of another script works by the places of its keys."""
    name = notebook(folder, "stray", tweets(5), "review(frame, 'stray', rater='anna', blind=False)")
    page = Page(chromium, address, name)
    page.run()
    focus(page)
    page.page.evaluate(
        "() => { window.leaked = []; window.addEventListener('keydown', (event) => leaked.push(event.key)); }"
    )
    for key in "ddxzmyabj":
        page.page.keyboard.press(key)
    assert page.page.evaluate("() => leaked") == []
    assert page.page.evaluate("() => jupyterapp.shell.currentWidget.model.cells.length") == 1
    page.review.dispatch_event("keydown", {"key": "л", "code": "KeyK", "bubbles": True})
    page.page.locator(".count", has_text="1 of 5").wait_for()
    assert lines(folder, "stray")[0]["verdict"] == "keep"


def test_by_mouse(folder: Path, address: str, chromium: Any) -> None:
    """Buttons do what keys do; search and filter find; a page of a feed is decided in place; the condition only on request."""
    name = notebook(folder, "mouse", tweets(120), "review(frame, 'mouse', rater='anna')")
    page = Page(chromium, address, name)
    page.run()
    assert not page.page.locator(".personalab-review-table").is_visible()
    assert page.review.locator("img.avatar").count() == 1
    assert page.review.locator(".hashtag", has_text="#tide").count() == 1
    assert "hot" not in page.review.text_content()
    assert "cool" not in page.review.text_content()
    page.click("keep")
    page.click("rate 3")
    page.click("condition")
    assert page.review.locator("dl.condition").text_content().startswith("condition")
    page.click("reject")
    page.review.locator(".search").press_sequentially("abc nothing")
    page.review.locator(".nothing").wait_for()  # found as one types
    assert page.review.locator(".search").input_value() == "abc nothing"
    assert page.review.locator(".search").evaluate("box => box === document.activeElement")
    page.review.locator(".search").press("Escape")
    page.review.locator("select").first.select_option("kept")
    page.page.locator(".turn", has_text="1 of 1").wait_for()
    page.review.locator("select").first.select_option("all")
    page.settled()
    page.click("one / page")
    page.review.locator(".item").nth(49).wait_for()
    page.review.locator(".item").nth(5).click()
    page.settled()
    page.press("k")
    page.settled()
    assert page.review.locator(".item").nth(5).locator(".verdict.keep").count() == 1
    page.click("undo")
    assert page.review.locator(".item").nth(5).locator(".verdict.keep").count() == 0
    written = lines(folder, "mouse")
    assert [(line["action"], line["verdict"], line["rating"], line["blind"]) for line in written[:3]] == [
        ("verdict", "keep", None, True), ("rating", None, 3, True), ("verdict", "reject", 3, False),
    ]  # fmt: skip


def test_pairs(folder: Path, address: str, chromium: Any) -> None:
    """Which is better, by keys; what is on disk is the condition, whichever side it stood on."""
    name = notebook(folder, "pairs", tweets(12), "review_pairs(frame, rater='anna', name='pairs')")
    page = Page(chromium, address, name)
    page.run()
    focus(page)
    for key in "aaabbe":
        page.press(key)
    page.page.locator(".count", has_text="6 of 6").wait_for()
    for line in lines(folder, "pairs"):
        assert {line["about"]["a"], line["about"]["b"]} == {"cool", "hot"}
    chosen = [line["choice"] for line in lines(folder, "pairs")]
    left = [line["left"] for line in lines(folder, "pairs")]
    assert chosen[:3] == left[:3]
    assert all(one != other for one, other in zip(chosen[3:5], left[3:5], strict=True))
    assert chosen[5] == "tie"


def test_without_a_kernel_a_table_stands(folder: Path, address: str, chromium: Any) -> None:
    """In an executed notebook, trusted or not, and in an exported one."""
    name = notebook(folder, "static", tweets(5), "review(frame, 'static', rater='anna', blind=False)")
    environment = {**os.environ, "PERSONALAB_OUTPUTS": str(folder / "outputs")}
    for command in (
        ["papermill", name, "executed.ipynb", "--no-progress-bar"],
        ["nbconvert", "--to", "html", "executed.ipynb"],
        ["jupyter", "trust", "executed.ipynb"],
    ):
        if command[0] == "jupyter":
            shutil.copy(folder / "executed.ipynb", folder / "untrusted.ipynb")
        subprocess.run(
            [sys.executable, "-m", *command], cwd=folder, env=environment, check=True, capture_output=True
        )
    exported = chromium.new_page()
    exported.goto((folder / "executed.html").as_uri())
    assert exported.locator(".personalab-review-table td", has_text="#tide @pier").first.is_visible()
    for shown in ("untrusted.ipynb", "executed.ipynb"):
        page = Page(chromium, address, shown)
        page.page.locator("td", has_text="#tide @pier").first.wait_for()
        assert page.review.locator(".keys").is_visible() is False


def test_hostile_text_in_a_table(folder: Path, address: str, chromium: Any) -> None:
    """Sixty strings in a table to browse: shown as text, sorted, searched, and none runs."""
    rows = [{"place": place, "text": text, "persona": text[:60]} for place, text in enumerate(HOSTILE)]
    (folder / "table.json").write_text(json.dumps(rows))
    source = """import json, pandas as pd
from personalab.browser import browse
browse(pd.DataFrame(json.load(open("table.json")), dtype=object).astype({"place": int}), rows=60)"""
    page = Page(chromium, address, write_notebook(folder / "table.ipynb", source).name)
    asked: list[str] = []
    page.page.on("request", lambda request: asked.append(request.url))
    page.command("notebook:run-all-cells")
    table = page.page.locator("table.dataTable tbody")
    table.locator("tr").nth(59).wait_for()
    shown = [cells.locator("td").nth(1).text_content() for cells in table.locator("tr").all()]
    assert shown == [clean(text).replace("\0", "") for text in HOSTILE]
    page.page.locator("th .dtcc-button").first.click()
    page.page.locator("th .dtcc-button").first.click()
    page.page.locator("tbody tr:first-child td:first-child", has_text="59").wait_for()
    page.page.locator("input[type=search]").first.fill("herons or nothing")
    page.page.locator("td.dt-empty").wait_for()
    assert page.page.evaluate("() => window.hacked") is None
    assert page.dialogs == []
    assert not [url for url in asked if not url.startswith((address, "data:", "blob:", "ws"))]
