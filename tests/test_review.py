"""Sittings, pairs and the widget, without a browser: what an act does, and what is seen after it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import PORTRAITS
from hypothesis import given, settings
from hypothesis import strategies as st

from personalab.browser import browse
from personalab.errors import ConfigError, OutputError
from personalab.pairs import pairs_of, preferences_df
from personalab.preferences import strengths_df
from personalab.review import Review, review, review_pairs
from personalab.reviews import reviews_df
from personalab.sittings import marked

COUNT = itertools.count()


@pytest.fixture
def frame() -> pd.DataFrame:
    """Eight tweets of two images under two conditions."""
    texts = [
        "herons",
        "copper pipes #plumbing",
        "letters in March",
        "soup again",
        "eleven gulls",
        "a cold pier",
        "tide tables",
        "toast @ann",
    ]
    return pd.DataFrame(
        {
            "text": texts,
            "persona": "Ann Lee",
            "image": ["one"] * 4 + ["two"] * 4,
            "condition": ["hot", "cool"] * 4,
            "date": pd.Timestamp("2026-12-01"),
            "content_type": "harbour",
            "score": range(8),
        }
    )  # fmt: skip


def act(widget: Review, do: str, value: Any = None, **more: Any) -> dict[str, Any]:
    """What the browser would send for the item in view; gives the item that is in view then."""
    view = widget.view
    item = view["items"][view["current"]]["key"] if view["items"] else ""
    widget.act({"id": f"act{next(COUNT)}", "do": do, "value": value, "item": item, **more})
    view = widget.view
    assert view["answers"].startswith("act")
    return view["items"][view["current"]] if view["items"] else {}


def test_decisions_move_on_and_opening_again_goes_on(frame: pd.DataFrame, tmp_path: Path) -> None:
    """Keep and reject go to the next undecided one; the rest stays; a new widget starts where the last stopped."""
    widget = review(frame, rater="anna", folder=tmp_path)
    seen = [widget.view["items"][0]["key"]]
    act(widget, "rating", 4)
    act(widget, "tags", ["fun", "sea"])
    act(widget, "note", "good")
    assert widget.view["items"][0]["key"] == seen[0]
    seen += [act(widget, "verdict", value)["key"] for value in ("keep", "reject", "keep")]
    assert len(set(seen)) == 4
    assert (widget.view["done"], widget.view["count"]) == (3, 8)
    again = review(frame.sample(frac=1, random_state=3), rater="anna", folder=tmp_path)
    assert again.view["items"][0]["key"] == seen[-1]
    saved = reviews_df("tweets", folder=tmp_path)
    assert saved["kept"].tolist() == [True, False, True]
    assert (saved["rating"][0], saved["tags"][0], saved["note"][0]) == (4, ("fun", "sea"), "good")
    while again.view["done"] < 8:
        act(again, "verdict", "keep")
    assert again.view["told"] == "all of these are decided"


def test_undo_goes_back_to_the_item(frame: pd.DataFrame, tmp_path: Path) -> None:
    """Also from elsewhere, until nothing is left."""
    widget = review(frame, rater="anna", folder=tmp_path)
    first = widget.view["items"][0]["key"]
    act(widget, "verdict", "keep")
    act(widget, "go", 3)
    assert act(widget, "undo")["key"] == first
    assert widget.view["told"] == "undone: verdict"
    act(widget, "undo")
    assert widget.view["told"] == "nothing to undo"
    assert widget.view["done"] == 0


def test_the_condition_only_on_request(frame: pd.DataFrame, tmp_path: Path) -> None:
    """Nothing in view tells it; asked for, it shows, and the decision says that it was not blind, also later."""
    widget = review(frame, rater="anna", folder=tmp_path)
    assert "hot" not in json.dumps(widget.view)
    assert "cool" not in json.dumps(widget.view)
    assert act(widget, "reveal")["condition"][0][0] == "condition"
    act(widget, "verdict", "keep")
    act(widget, "verdict", "keep")
    act(widget, "go", -1)
    assert reviews_df("tweets", folder=tmp_path)["blind"].tolist() == [False, True]


def test_the_table_beside_it_is_as_blind(frame: pd.DataFrame, tmp_path: Path) -> None:
    """It stands in the page too: neither a column nor the order of its rows tells the condition."""
    sorted_rows = frame.sort_values("condition").assign(content_type=["calm"] * 4 + ["wild"] * 4)
    widget = review(sorted_rows, rater="anna", folder=tmp_path)
    assert "wild" not in widget._table
    places = [widget._table.index(f">{text}<") for text in sorted_rows["text"]]
    assert places != sorted(places)
    act(widget, "query", {"search": "wild"})
    assert widget.view["found"] == 0
    open_table = review(sorted_rows, rater="anna", folder=tmp_path, blind=False)._table
    assert "wild" in open_table


def test_the_order_tells_nothing_either_where_a_temperature_is_the_condition(
    frame: pd.DataFrame, tmp_path: Path
) -> None:
    """Tweets of files have no column of conditions."""
    by_file = frame.drop(columns="condition").assign(temperature=[0.2] * 4 + [1.2] * 4)
    orders = [review(by_file, rater=rater, folder=tmp_path).sitting.deck.order for rater in "abc"]  # type: ignore[attr-defined]
    assert len(set(orders)) > 1
    same = review(by_file.assign(temperature=0.2), rater="a", folder=tmp_path).sitting.deck.order  # type: ignore[attr-defined]
    assert same == tuple(range(8))


def test_the_time_left_is_that_of_whole_items(frame: pd.DataFrame, tmp_path: Path) -> None:
    """Ratings, tags and notes on the way to a decision don't make it look shorter; unknown until there is a pace."""
    widget = review(frame, rater="anna", folder=tmp_path)
    for _ in range(5):
        assert widget.view["seconds_left"] is None
        act(widget, "rating", 3, seconds=1.0)
        act(widget, "note", "hm", seconds=2.0)
        act(widget, "verdict", "keep", seconds=10.0)
    assert widget.view["seconds_left"] == 30.0


def test_a_full_disk(frame: pd.DataFrame, tmp_path: Path) -> None:
    """It is said, the tweet stays, what was decided is whole, and with room again it goes on."""
    resource = pytest.importorskip("resource")
    widget = review(frame, rater="anna", folder=tmp_path)
    act(widget, "verdict", "keep")
    path = tmp_path / "tweets.jsonl"
    whole = path.read_bytes()
    shown = widget.view["items"][0]["key"]
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 40, most))
    try:
        assert act(widget, "verdict", "reject")["key"] == shown
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert "nothing was decided" in widget.view["problem"]
    assert widget.view["done"] == 1
    with pytest.warns(UserWarning, match="half written"):
        assert act(widget, "verdict", "reject")["key"] != shown
    assert [json.loads(line)["verdict"] for line in path.read_text().splitlines()] == ["keep", "reject"]
    assert path.read_bytes().startswith(whole)


def test_personas_beside_each_other(frame: pd.DataFrame, tmp_path: Path) -> None:
    """All texts that a condition has of an image, each with its heading and without a tweet's limit."""
    parts = ["description", "first_mes"] * 4
    texts = frame.assign(stage="core_persona", part=parts, text=frame["text"] + " and more" * 50)
    widget = review_pairs(texts, whole=True, rater="anna", folder=tmp_path)
    pair = widget.view["items"][0]
    assert widget.view["count"] == 2
    assert [each["limit"] for each in pair["left"]] == [None, None]
    assert all(each["heading"] in ("description", "first mes") for each in (*pair["left"], *pair["right"]))


def test_pages_search_and_a_refused_query(frame: pd.DataFrame, tmp_path: Path) -> None:
    """A page of 50; what is looked for; a column that is not there is said and changes nothing."""
    many = pd.concat([frame.assign(text=frame["text"] + f" {'xyz'[n % 3] * n}") for n in range(1, 20)])
    widget = review(many, rater="anna", folder=tmp_path, mode="page", blind=False)
    assert len(widget.view["items"]) == 50
    act(widget, "page", 1)
    act(widget, "page", 9)
    assert (widget.view["first"], len(widget.view["items"])) == (150, 2)
    act(widget, "query", {"search": "soup", "sort": "score"})
    assert widget.view["found"] == 19
    act(widget, "query", {"sort": "nothing"})
    assert "unknown column" in widget.view["problem"]
    assert widget.view["found"] == 19
    assert act(widget, "query", {"search": "not there"}) == {}
    act(widget, "rating", 4)
    assert "nothing is in view" in widget.view["problem"]


def test_what_the_browser_should_not_send(frame: pd.DataFrame, tmp_path: Path) -> None:
    """A rating of 9 is said; what is no act is left alone."""
    widget = review(frame, rater="anna", folder=tmp_path, ask="rating")
    first = widget.view["items"][0]["key"]
    assert act(widget, "rating", 9)["key"] == first
    assert "rating" in widget.view["problem"]
    before = widget.view
    widget.act({"do": "rm -rf"})
    assert widget.view == before
    assert act(widget, "rating", 5)["key"] != first
    assert widget.view["done"] == 1


def test_the_table_beside_it_is_escaped(frame: pd.DataFrame, tmp_path: Path) -> None:
    """What stands where no kernel runs holds text, no markup of a model's, and what was decided."""
    hostile = frame.assign(text="<script>x</script>" + frame["text"], persona="<b>Ann")
    act(review(hostile, rater="<i>anna", folder=tmp_path), "verdict", "keep")
    table = review(hostile, rater="<i>anna", folder=tmp_path)._table
    assert "<script" not in table
    assert "<b>" not in table
    assert "<i>" not in table
    assert "1 of 8 decided" in table
    assert ">keep<" in table


def test_portraits(frame: pd.DataFrame, tmp_path: Path) -> None:
    """Beside the card, or the image it was made from; never outside the folder; none is no error."""
    for column, value, folder in (
        ("card", "felt_hat_persona.json", PORTRAITS),
        ("run", "felt_hat", PORTRAITS),
        ("card", "../../data/portraits/felt_hat.json", PORTRAITS / "nothing"),
    ):
        shown = review(frame.assign(**{column: value}), rater="a", folder=tmp_path, portraits=folder)
        assert any(shown.portraits.values()) == (folder == PORTRAITS)
        assert all(url.startswith("data:image/") for url in shown.portraits.values())
        assert "felt_hat" not in json.dumps(
            [shown.view, shown.portraits]
        )  # a file's name might tell the condition
    pair = review_pairs(frame.assign(run="felt_hat"), rater="a", folder=tmp_path, portraits=PORTRAITS)
    for _ in range(2):  # the same each time it is seen
        act(pair, "look")
        assert pair.portraits[pair.view["items"][0]["left"][0]["portrait"]]


def test_rows_without_a_text_are_left_out(frame: pd.DataFrame, tmp_path: Path) -> None:
    """A stage that failed has nothing to review; nor is it one of a pair."""
    failed = frame.assign(text=[None, *frame["text"][1:]])
    assert review(failed, rater="anna", folder=tmp_path).view["count"] == 7
    assert review_pairs(failed, rater="anna", folder=tmp_path).view["count"] == 3


def test_what_cannot_be_reviewed(frame: pd.DataFrame, tmp_path: Path) -> None:
    """No column of texts, nobody, a folder that is a file."""
    with pytest.raises(ConfigError, match="'tweet'"):
        review(frame, text="tweet", folder=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another folder"):
        review(frame, rater="anna", folder=tmp_path / "file")


@settings(deadline=None)
@given(st.text())
def test_marking_changes_no_text(text: str) -> None:
    """The parts together are the text."""
    assert "".join(part for _, part in marked(text)) == text


def test_hashtags_and_mentions_are_marked() -> None:
    """As X would link them."""
    assert marked("go #tide, @ann!") == [
        ("", "go "),
        ("hashtag", "#tide"),
        ("", ", "),
        ("mention", "@ann"),
        ("", "!"),
    ]


def test_pairs_are_of_one_image_and_two_conditions(frame: pd.DataFrame) -> None:
    """Each text in one pair; sides and order are of the seed; drawn evenly where not all are asked."""
    pairs = pairs_of(frame, seed="s")
    assert len(pairs) == 4
    assert all((pair.a.condition, pair.b.condition) == ("hot", "cool") for pair in pairs)
    assert pairs == pairs_of(frame, seed="s")
    assert {pair.image for pair in pairs_of(frame, seed="s", pairs_max=2)} == {"one", "two"}
    whole = pairs_of(frame, whole=True)
    assert [len(pair.a.texts) for pair in whole] == [2, 2]
    drawn = [{pair.key for pair in pairs_of(frame, seed="s", rater=rater, pairs_max=2)} for rater in "ab"]
    assert drawn[0] == drawn[1]
    lefts = [pair.left for seed in range(50) for pair in pairs_of(frame, seed=str(seed))]
    assert 60 < lefts.count("a") < 140
    with pytest.raises(ConfigError, match="nothing to pair"):
        pairs_of(frame.assign(condition="hot"))
    with pytest.raises(ConfigError, match="unknown column 'picture'"):
        pairs_of(frame, paired="picture")


@pytest.mark.parametrize("favourite", ["hot", "cool"])
def test_a_choice_is_of_conditions_not_of_sides(frame: pd.DataFrame, tmp_path: Path, favourite: str) -> None:
    """Whoever always prefers one gives it all wins, wherever it stood; undo and opening again work as with tweets."""
    widget = review_pairs(frame, rater="anna", folder=tmp_path)
    better = set(frame.loc[frame["condition"] == favourite, "text"])
    assert favourite not in json.dumps(widget.view["items"])
    while widget.view["done"] < 4:
        item = widget.view["items"][0]
        text = "".join(part for _, part in item["left"][0]["parts"])
        act(widget, "choice", "left" if text in better else "right", seconds=2.0)
    pairs = preferences_df(reviews_df("pairs", folder=tmp_path))
    assert {row.a if row.outcome == "a" else row.b for row in pairs.itertuples()} == {favourite}
    assert strengths_df(pairs, ["hot", "cool"], "image")["condition"][0] == favourite
    act(widget, "undo")
    assert widget.view["done"] == 3
    act(widget, "note", "close")
    act(review_pairs(frame, rater="anna", folder=tmp_path), "choice", "tie")
    assert set(preferences_df(reviews_df("pairs", folder=tmp_path))["outcome"]) >= {"tie"}


def test_no_pair_was_decided(frame: pd.DataFrame, tmp_path: Path) -> None:
    """It is said."""
    act(review(frame, rater="anna", folder=tmp_path), "verdict", "keep")
    with pytest.raises(ConfigError, match="no pair was decided"):
        preferences_df(reviews_df(folder=tmp_path))


def test_browsing_shows_text_as_text(frame: pd.DataFrame, tmp_path: Path) -> None:
    """In the table and in what stands beside it; numbers stay numbers; a column that is not there is said."""
    table = browse(frame.assign(text="<script>x</script>"), ["text", "score"])
    data, _ = table._repr_mimebundle_()
    assert "<script" not in data["text/html"]
    assert "&lt;script&gt;" in data["text/html"]
    assert table.df["score"].tolist() == list(range(8))
    with pytest.raises(ConfigError, match="did you mean 'text'"):
        browse(frame, ["txt"])
