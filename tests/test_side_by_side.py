"""Side by side: what is compared with what, marks by word, hostile text, pages that turn."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape

import pytest
from conftest import PORTRAITS, ScriptedProvider
from hypothesis import given
from hypothesis import strategies as st

from personalab import LLMPool, Pipeline
from personalab.errors import ConfigError
from personalab.experiments import Experiment
from personalab.grids import grid
from personalab.offline.writer import write
from personalab.side_by_side import Pages, marked_texts
from personalab.widgets import side_by_side

TWO = sorted(PORTRAITS.glob("*.png"))[:2]


@pytest.fixture
async def experiment(pipeline: Pipeline) -> Experiment:
    """Five conditions of one stage, two images."""
    made = grid("authenticity", temperature=[0.1, 0.4, 0.7, 1.0, 1.3], replicates=2)
    return await Experiment(pipeline, made, TWO).run()


def test_words_that_differ_are_marked() -> None:
    """In each column what the first lacks, in the first what no other has; neighbours are one mark."""
    assert marked_texts(["a red hat", "a blue hat", "a red scarf"]) == [
        "a red hat",
        "a <ins>blue</ins> hat",
        "a red <ins>scarf</ins>",
    ]
    assert marked_texts(["she keeps bees", "she sells old boats"]) == [
        "she <del>keeps bees</del>",
        "she <ins>sells old boats</ins>",
    ]
    assert marked_texts(["我有一只猫", "我有两只猫"]) == ["我有<del>一</del>只猫", "我有<ins>两</ins>只猫"]
    assert marked_texts(["don't", "do"]) == ["<del>don&#x27;t</del>", "<ins>do</ins>"]


def test_lines_in_another_order_are_the_same() -> None:
    """A line that stands in the other column has no marks; the rest is compared with the line most like it."""
    queue, rain, late = "Three of us turned up.", "The rain had other plans.", "The bus was late again."
    assert marked_texts([f"{queue}\n\n{rain}\n\n{late}", f"{late}\n\n{queue}\n\n{rain}"]) == [
        f"{queue}\n\n{rain}\n\n{late}",
        f"{late}\n\n{queue}\n\n{rain}",
    ]
    assert marked_texts(
        [f"{queue}\n\n{rain}", f"Something new!\n\n{queue}\n\nThe snow had other plans."]
    ) == [
        f"{queue}\n\nThe <del>rain</del> had other plans.",
        f"<ins>Something new!</ins>\n\n{queue}\n\nThe <ins>snow</ins> had other plans.",
    ]
    assert marked_texts([f"{queue}\n{rain}", late, rain])[0].startswith("<del>Three of us turned up</del>.")


def test_nothing_is_compared_with_a_text_that_is_missing() -> None:
    """A failed cell does not make the others look different."""
    assert marked_texts(["a", ""]) == ["a", ""]
    assert marked_texts(["", "a", "b"]) == ["", "a", "b"]


@given(st.lists(st.text(alphabet="ab<&> \n'é我", max_size=30), min_size=2, max_size=4))
def test_marks_change_no_text(texts: list[str]) -> None:
    """Without the marks each text is itself, and its markup is escaped."""
    for text, marked in zip(texts, marked_texts(texts), strict=True):
        bare = re.sub(r"</?(ins|del)>", "", marked)
        assert "<" not in bare
        assert unescape(bare) == text


async def test_a_page_shows_image_prompt_and_outputs(experiment: Experiment) -> None:
    """For each condition in the order asked, of the same image and replicate."""
    pages = Pages.of(experiment, ["temperature=1.3", "temperature=0.1"])
    assert pages.places == tuple((path.stem, replicate) for path in TWO for replicate in (0, 1))
    page = pages.html(3)
    assert "data:image/png;base64," in page
    assert re.findall(r"<section><h4>(.*?)</h4>", page) == ["temperature=1.3", "temperature=0.1"]
    assert f"authenticity of {TWO[1].stem}, replicate 1" in page
    bare = unescape(re.sub(r"<.*?>", "", page))
    for condition in pages.columns:
        cell = experiment.cell(condition, TWO[1].stem, 1)
        assert all(flaw.shows in bare for flaw in cell.run["authenticity"].flaws)
    assert bare.count("── system ──") == bare.count("── user ──") == 2
    assert "temperature <del>1.3</del>, replicate 1" in page
    assert "temperature <ins>0.1</ins>, replicate 1" in page
    other = Pages.of(experiment, ["temperature=1.3", "temperature=0.1"], stage="core_persona").html(0)
    assert "<ins>" not in other.split("columns")[-1]  # shared, so the same


async def test_hostile_text_and_failures(
    provider: ScriptedProvider, make_pool: Callable[..., LLMPool]
) -> None:
    """Markup is text; a failed cell says why and the other is not marked."""
    provider.script = lambda body: (
        "no"
        if body.get("temperature") == 0.2
        else write(body).replace('"flaw": "', '"flaw": "<script>alert(1)</script>')
    )
    made = grid("authenticity", temperature={"<b>good": 0.9, "bad": 0.2})
    experiment = await Experiment(Pipeline(make_pool()), made, TWO[:1]).run()
    page = Pages.of(experiment).html(0)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "temperature=&lt;b&gt;good" in page
    assert '<p class="error">stage authenticity: ' in page
    assert "<ins>" not in page.split('<div class="columns">')[1].replace("temperature <ins>0.2</ins>", "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "5 conditions beside each other: choose two to four"),
        ({"conditions": ["temperature=0.1"]}, "1 conditions beside each other"),
        ({"conditions": ["temperature=0.1", "temperature=0.5"]}, "unknown condition 'temperature=0.5'"),
        (
            {"conditions": ["temperature=0.1", "temperature=0.4"], "stage": "authentic"},
            "unknown stage of this experiment",
        ),
    ],
)
async def test_what_cannot_be_shown(
    experiment: Experiment, options: dict[str, list[str]], message: str
) -> None:
    """One line that says how to mend it."""
    with pytest.raises(ConfigError, match=message):
        side_by_side(experiment, **options)  # type: ignore[arg-type]


def test_before_anything_has_run(pipeline: Pipeline) -> None:
    """It says so."""
    with pytest.raises(ConfigError, match="nothing to see yet"):
        side_by_side(Experiment(pipeline, grid("authenticity", temperature=[0.1, 0.2]), TWO))


async def test_pages_turn_and_end(experiment: Experiment) -> None:
    """The widget follows its position, stays within the pages, and leaves the page where no widgets run."""
    widget = side_by_side(experiment, ["temperature=0.1", "temperature=1.3"])
    assert (widget.count, widget.position, widget.page) == (4, 0, widget.pages.html(0))
    widget.position = 2
    assert widget.page == widget.pages.html(2)
    widget.position = 99
    assert widget.position == 3
    assert widget._repr_mimebundle_()[0]["text/html"] == widget.pages.html(3)
