"""Decisions on disk: nothing lost, nothing twice, the newest counts, the history stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personalab.errors import ConfigError, OutputError
from personalab.reviews import Judgement, ReviewFile, clean, item_keys, review_path, reviews_df


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a review lies."""
    return tmp_path / "outputs" / "reviews" / "tweets.jsonl"


def test_a_decision_is_on_disk_when_it_is_made(path: Path) -> None:
    """A line an act, with who and when; opened again, what was said is there."""
    anna = ReviewFile(path, "anna")
    anna.decide("one", "verdict", "keep", seconds=2.5, about={"text": "hello"})
    anna.decide("one", "rating", 4)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["rater"], line["action"], line["verdict"], line["rating"]) for line in lines] == [
        ("anna", "verdict", "keep", None),
        ("anna", "rating", "keep", 4),
    ]
    assert lines[0]["time"].endswith("+00:00")
    assert ReviewFile(path, "anna").judgement("one") == Judgement(verdict="keep", rating=4)
    assert ReviewFile(path, "bert").judgement("one") == Judgement()


def test_the_same_act_twice_is_one(path: Path) -> None:
    """What a browser sends again because no answer came is not written again; nor is an undo undone twice."""
    file = ReviewFile(path, "anna")
    file.decide("one", "verdict", "keep", act_id="x")
    assert ReviewFile(path, "anna").decide("one", "verdict", "reject", act_id="x").verdict == "keep"
    file.decide("two", "verdict", "keep")
    assert file.undo(act_id="y") == file.undo(act_id="y")
    assert len(path.read_text().splitlines()) == 3


def test_undo_is_a_line_more(path: Path) -> None:
    """Act by act back to nothing, also after opening again; only what the act changed goes back."""
    file = ReviewFile(path, "anna")
    file.decide("one", "verdict", "keep")
    file.decide("one", "verdict", "reject")
    file.decide("one", "tags", ("dull",))
    again = ReviewFile(path, "anna")
    seen = []
    while undone := again.undo():
        seen.append((undone.action, undone.verdict, undone.tags))
    assert seen == [("tags", "reject", ()), ("verdict", "keep", ()), ("verdict", None, ())]
    assert len(path.read_text().splitlines()) == 6
    assert reviews_df(path).empty
    assert len(reviews_df(path, history=True)) == 6


def test_two_tabs_of_one_rater(path: Path) -> None:
    """Each sees what the other has said before it writes; undo takes back one's own act and keeps the other's."""
    one, other = ReviewFile(path, "anna"), ReviewFile(path, "anna")
    one.decide("x", "verdict", "keep")
    other.decide("x", "rating", 2)
    one.decide("x", "note", "hm")
    assert other.judgement("x") == Judgement(verdict="keep", rating=2)
    other.read_new()
    assert other.judgement("x") == Judgement(verdict="keep", rating=2, note="hm")
    undone = other.undo()
    assert undone is not None
    assert undone.judgement == Judgement(verdict="keep", note="hm")
    assert other.undo() is None


def test_the_newest_decision_of_a_rater_counts(path: Path) -> None:
    """One row a rater and item; `kept` is True, False or empty, never 0."""
    anna, bert = ReviewFile(path, "anna"), ReviewFile(path, "bert")
    anna.decide("x", "verdict", "keep", about={"text": "t", "condition": "hot"})
    bert.decide("x", "verdict", "reject")
    bert.decide("y", "rating", 5)
    anna.decide("x", "verdict", "reject", about={"text": "t", "condition": "hot"})
    frame = reviews_df("tweets", folder=path.parent)
    assert list(zip(frame["rater"], frame["item"], frame["kept"].astype(object), strict=True)) == [
        ("anna", "x", False),
        ("bert", "x", False),
        ("bert", "y", pd.NA),
    ]
    assert frame["rating"].tolist() == [pd.NA, pd.NA, 5]
    assert frame.loc[0, "condition"] == "hot"


@pytest.mark.slow
def test_writers_in_several_processes_lose_nothing(path: Path) -> None:
    """Four raters at once, fifty decisions each: two hundred whole lines."""
    code = "import sys; from personalab.reviews import ReviewFile; f = ReviewFile(sys.argv[1], sys.argv[2]); [f.decide(str(i), 'verdict', 'keep') for i in range(50)]"
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), f"r{n}"]) for n in range(4)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0, 0]
    frame = reviews_df(path)
    assert frame.groupby("rater").size().tolist() == [50, 50, 50, 50]


@pytest.mark.slow
def test_a_killed_writer_loses_nothing_confirmed(path: Path) -> None:
    """What was confirmed before kill -9 is there, and the next writer goes on."""
    code = "import sys; from personalab.reviews import ReviewFile; f = ReviewFile(sys.argv[1], 'anna')\nfor i in range(100000): f.decide(str(i), 'verdict', 'keep'); print(i, flush=True)"
    writer = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    for line in writer.stdout:
        if line == "20\n":
            break
    os.kill(writer.pid, signal.SIGKILL)
    confirmed = 20 + len(writer.stdout.read().split())
    writer.wait()
    file = ReviewFile(path, "anna")
    assert len(file.history) >= confirmed + 1
    file.decide("after", "verdict", "reject")
    assert reviews_df(path)["item"].tolist()[-1] == "after"


def test_a_half_written_line_is_left_out_and_mended(path: Path) -> None:
    """With a warning; the next decision stands on a line of its own, and then nothing warns."""
    ReviewFile(path, "anna").decide("one", "verdict", "keep")
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:-2] + b" " * 2000)  # longer than what will be written there
    with pytest.warns(UserWarning, match="half written"):
        file = ReviewFile(path, "anna")
    with pytest.warns(UserWarning, match="half written"):
        file.decide("two", "verdict", "reject")
    assert [json.loads(line)["item"] for line in path.read_text().splitlines()] == ["one", "two"]
    assert reviews_df(path)["item"].tolist() == ["one", "two"]


def test_a_line_that_is_no_decision_is_left_out(path: Path) -> None:
    """As after an edit by hand: a warning that names the line."""
    file = ReviewFile(path, "anna")
    file.decide("one", "verdict", "keep")
    with path.open("a") as stream:
        stream.write('{"rater": 3}\nnot json\n')
    with pytest.warns(UserWarning, match=r"line [23] is no decision"):
        file.decide("two", "verdict", "keep")
    with pytest.warns(UserWarning, match="is no decision"):
        assert reviews_df(path)["item"].tolist() == ["one", "two"]


@pytest.mark.parametrize("edit", ["delete", "cut", "rewrite", "open end"])
def test_a_file_edited_under_an_open_review(path: Path, edit: str) -> None:
    """What is on disk counts: nothing is written in the wrong place, no line is damaged, what was taken out cannot be undone."""
    file = ReviewFile(path, "anna")
    for item in ("one", "two", "three"):
        file.decide(item, "verdict", "keep")
    lines = path.read_bytes().splitlines(keepends=True)
    left = {"delete": [], "cut": lines[:1], "rewrite": [lines[2], lines[0], b"\n"], "open end": lines}[edit]
    path.unlink() if edit == "delete" else path.write_bytes(b"".join(left).removesuffix(b"\n"))
    file.decide("after", "verdict", "reject")
    expected = {
        "delete": [],
        "cut": ["one"],
        "rewrite": ["three", "one"],
        "open end": ["one", "two", "three"],
    }[edit]
    assert [json.loads(line)["item"] for line in path.read_text().splitlines() if line] == [
        *expected,
        "after",
    ]
    assert reviews_df(path)["item"].tolist() == [*expected, "after"]
    assert [each.item for each in file.history] == [*expected, "after"]
    undone = []
    while act := file.undo():
        undone.append(act.item)
    assert undone == [item for item in ("after", "three", "two", "one") if item in [*expected, "after"]]


def test_what_cannot_be_decided(path: Path) -> None:
    """A rating of 6, a rater without a name, a review that is not there, a folder that cannot be written."""
    file = ReviewFile(path, "anna")
    with pytest.raises(ConfigError, match="rating"):
        file.decide("one", "rating", 6)
    assert not path.exists()
    with pytest.raises(ConfigError, match="needs a rater"):
        ReviewFile(path, " ")
    with pytest.raises(OutputError, match="there is no review"):
        reviews_df("nothing", folder=path.parent)
    blocked = path.parent / "file"
    blocked.write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        ReviewFile(blocked / "x.jsonl", "anna")


@settings(deadline=None)
@given(st.text(alphabet=st.characters(codec=None), max_size=20), st.text(max_size=20))
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, note: str, tag: str) -> None:
    """Notes and tags of any characters; halves of surrogate pairs become U+FFFD."""
    path = tmp_path_factory.mktemp("any") / "x.jsonl"
    ReviewFile(path, "anna").decide("one", "note", note)
    ReviewFile(path, "anna").decide("one", "tags", (tag,))
    said = ReviewFile(path, "anna").judgement("one")
    assert (said.note, said.tags) == (clean(note), (clean(tag),))
    clean(note).encode()


def test_names_of_items() -> None:
    """The same tweet in another file has the same name; other conditions, and the same twice, have others."""
    frame = pd.DataFrame(
        {"text": ["a", "a", "b"], "persona_id": "p", "file": ["x", "y", "z"], "condition": "hot"}
    )
    keys = item_keys(frame)
    assert keys[1] == f"{keys[0]}-2"
    assert item_keys(frame.assign(file="other", prompt="longer")).equals(keys)
    assert not set(item_keys(frame.assign(condition="cool"))) & set(keys)
    with pytest.raises(ConfigError, match="needs a column 'text'"):
        item_keys(frame.drop(columns="text"))


@settings(deadline=None)
@given(st.text(max_size=40))
def test_a_review_never_leaves_its_folder(name: str) -> None:
    """Whatever it is called."""
    assert review_path(name, "there").parent == Path("there")
