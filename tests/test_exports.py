"""Exports keep texts, sources and the note that they are AI-made; predictors say what they cannot show."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personalab.errors import ConfigError, OutputError
from personalab.exports import (
    NOTICE,
    chats,
    hosted,
    kept_df,
    load_frame,
    pair_preferences,
    preferences,
    ratings,
    save_frame,
    save_lines,
    with_reviews,
)
from personalab.predictors import predictors_df
from personalab.reviews import ReviewFile, item_keys, reviews_df


@pytest.fixture
def frame() -> pd.DataFrame:
    """Four tweets of one persona."""
    return pd.DataFrame(
        {
            "text": ["herons", "@ann soup", "=1+1", "pipes"],
            "persona": "Ann Lee",
            "persona_id": "p",
            "content_type": ["sea", "sea", "home", "home"],
            "date": pd.Timestamp("2026-12-01"),
            "model": "personalab-offline",
            "condition": "hot",
        }
    )


@pytest.fixture
def reviews(frame: pd.DataFrame, tmp_path: Path) -> pd.DataFrame:
    """Anna keeps the first and third and rejects the others; Bert agrees about the first two and rejects the third."""
    path = tmp_path / "x.jsonl"
    keys = item_keys(frame)
    for rater, verdicts in (("anna", "krkr"), ("bert", "krr")):
        file = ReviewFile(path, rater)
        for key, verdict in zip(keys, verdicts, strict=False):
            file.decide(key, "verdict", {"k": "keep", "r": "reject"}[verdict])
    ReviewFile(path, "anna").decide(keys[0], "rating", 5)
    ReviewFile(path, "bert").decide(keys[0], "rating", 2)
    return reviews_df(path)


def test_what_raters_say_of_each_tweet(frame: pd.DataFrame, reviews: pd.DataFrame) -> None:
    """Shares and means of those who decided; of a tweet that nobody read nothing is said."""
    more = pd.concat([frame, frame.head(1).assign(text="unread")], ignore_index=True)
    judged = with_reviews(more, reviews)
    assert judged["kept_share"].tolist() == [1.0, 0.0, 0.5, 0.0, pd.NA]
    assert judged["raters"].tolist() == [2, 2, 2, 1, 0]
    assert judged["mean_rating"].tolist()[:2] == [3.5, pd.NA]
    assert judged["text"].tolist() == more["text"].tolist()
    assert with_reviews(frame, reviews.head(0))["kept_share"].isna().all()
    assert with_reviews(judged, reviews)["kept_share"].tolist() == judged["kept_share"].tolist()


def test_kept_is_settled_between_raters(frame: pd.DataFrame, reviews: pd.DataFrame) -> None:
    """Any, most, all; what is kept says that it is AI-made."""
    sizes = {settle: len(kept_df(frame, reviews, settle=settle)) for settle in ("any", "most", "all")}
    assert sizes == {"any": 2, "most": 1, "all": 1}
    assert set(kept_df(frame, reviews)["notice"]) == {NOTICE}
    with pytest.raises(ConfigError, match="way to settle"):
        kept_df(frame, reviews, settle="some")  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_tables_come_back(frame: pd.DataFrame, reviews: pd.DataFrame, tmp_path: Path, suffix: str) -> None:
    """In every format the same texts, also those that a spreadsheet would take for a formula."""
    kept = kept_df(frame, reviews, settle="any")
    path = save_frame(kept, tmp_path / f"deep/kept.{suffix}")
    back = load_frame(path)
    assert back["text"].tolist() == kept["text"].tolist()
    assert back["notice"].tolist() == [NOTICE] * 2
    if suffix == "csv":
        assert "'=1+1" in path.read_text()
    if suffix == "parquet":
        assert back["date"].tolist() == kept["date"].tolist()


@settings(max_examples=30, deadline=None)
@given(
    texts=st.lists(
        st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=5
    )
)
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, suffix: str, texts: list[str]) -> None:
    """Of any characters, digits that stay text among them."""
    path = tmp_path_factory.mktemp("any") / f"x.{suffix}"
    assert load_frame(save_frame(pd.DataFrame({"text": texts}), path))["text"].tolist() == texts


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.sampled_from("'=+-@\t\n\"NAone,; ＝"), min_size=1, max_size=6))
def test_any_tweet_comes_back_from_csv(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Quotes, beginnings of formulas, and words that others take for nothing; no cell begins as a formula."""
    path = tmp_path_factory.mktemp("any") / "x.csv"
    texts = [f"{text}x", f"'=1{text}", "NA", "None"]
    save_frame(pd.DataFrame({"text": texts}), path)
    assert load_frame(path)["text"].tolist() == texts
    with path.open(newline="", encoding="utf-8") as file:
        assert not [
            cell for [cell] in csv.reader(file) if cell.startswith(("=", "+", "-", "@", "\t", "\n", "＝"))
        ]


def test_broken_surrogates_are_replaced(tmp_path: Path) -> None:
    """No format can hold them."""
    frame = pd.DataFrame({"text": ["half \ud83d"]}, dtype=object)
    for suffix in ("csv", "jsonl", "parquet"):
        assert load_frame(save_frame(frame, tmp_path / f"x.{suffix}"))["text"].tolist() == ["half \ufffd"]


def test_files_that_cannot_be(tmp_path: Path) -> None:
    """Another ending, a missing file, a file of another kind."""
    with pytest.raises(ConfigError, match="end it in"):
        save_frame(pd.DataFrame(), tmp_path / "x.xlsx")
    with pytest.raises(OutputError, match="cannot be read"):
        load_frame(tmp_path / "x.parquet")
    with pytest.raises(OutputError, match="one type a column"):
        save_frame(pd.DataFrame({"mixed": [1, "two"]}, dtype=object), tmp_path / "x.parquet")
    (tmp_path / "y.parquet").write_text("no")
    with pytest.raises(OutputError, match="cannot be read as parquet"):
        load_frame(tmp_path / "y.parquet")


def test_formats_of_fine_tuning(frame: pd.DataFrame, reviews: pd.DataFrame, tmp_path: Path) -> None:
    """Chats, rated examples, preferences: roles and names as the tools read them, with source and note in each line."""
    judged = with_reviews(frame, reviews)
    lines = {
        "chats": chats(kept_df(frame, reviews)),
        "ratings": ratings(judged),
        "preferences": preferences(judged),
    }
    read = {
        name: [json.loads(line) for line in save_lines(rows, tmp_path / name).read_text().splitlines()]
        for name, rows in lines.items()
    }
    [chat] = read["chats"]
    assert [message["role"] for message in chat["messages"]] == ["system", "user", "assistant"]
    assert chat["messages"][2]["content"] == "herons"
    assert NOTICE in chat["messages"][0]["content"]
    assert chat["metadata"]["model"] == "personalab-offline"
    assert chat["metadata"]["notice"] == NOTICE
    assert [(each["rating"], each["label"]) for each in read["ratings"]] == [
        (3.5, True),
        (None, False),
        (None, False),
        (None, False),
    ]
    [preference] = read["preferences"]
    assert preference["chosen"][0]["content"] == "herons"
    assert preference["rejected"][0]["content"] == "@ann soup"
    assert preference["metadata"]["chosen"]["notice"] == NOTICE


def test_what_hosted_services_take(frame: pd.DataFrame, reviews: pd.DataFrame) -> None:
    """They refuse a column they don't know; that it is AI-made is said in the chat itself."""
    judged = with_reviews(frame, reviews)
    [chat] = hosted(chats(kept_df(frame, reviews)))
    assert set(chat) == {"messages"}
    [preference] = hosted(preferences(judged))
    assert set(preference) == {"input", "preferred_output", "non_preferred_output"}
    assert preference["preferred_output"] == [{"role": "assistant", "content": "herons"}]
    for messages in (chat["messages"], preference["input"]["messages"]):
        assert NOTICE in messages[0]["content"]


def test_a_prompt_asks_for_what_both_were_asked(frame: pd.DataFrame, reviews: pd.DataFrame) -> None:
    """The topic of one of two tweets would speak for it."""
    judged = with_reviews(frame.assign(topic=["herons", "soup", "sums", "pipes"]), reviews)
    [preference] = preferences(judged)
    asked = preference["prompt"][1]["content"]
    assert "topic" not in asked
    assert "content type: sea" in asked


def test_decided_pairs_are_preferences() -> None:
    """The winner is chosen, whichever it was; a tie is left out."""
    row = {"rater": "anna", "image": "one", "a": "hot", "b": "cool", "a_text": "A", "b_text": "B"}
    found = pair_preferences(pd.DataFrame([{**row, "outcome": each} for each in ("a", "b", "tie")]))
    assert [(each["chosen"][0]["content"], each["rejected"][0]["content"]) for each in found] == [
        ("A", "B"),
        ("B", "A"),
    ]
    assert found[0]["metadata"]["notice"] == NOTICE
    assert found[0]["prompt"][0] == {"role": "system", "content": NOTICE}


def test_a_metric_that_predicts() -> None:
    """The AUC is that of all comparisons; what predicts stands first; what does not says so."""
    made = np.random.default_rng(3)
    table = pd.DataFrame(
        {"image": np.repeat(range(30), 12), "good": made.normal(size=360), "noise": made.integers(0, 4, 360)}
    )
    table["kept_share"] = (table["good"] + made.normal(size=360) > 0).astype(float)
    found = predictors_df(table)
    assert found["metric"].tolist() == ["good", "noise"]
    for row in found.itertuples():
        kept, rejected = (table.loc[table["kept_share"] == side, row.metric].to_numpy() for side in (1, 0))
        wins = (kept[:, None] > rejected).mean() + (kept[:, None] == rejected).mean() / 2
        assert row.auc == pytest.approx(wins)
        assert row.low <= row.auc <= row.high
    assert found["note"].tolist() == ["predicts", "shows nothing"]


def test_a_metric_that_only_tells_images_apart() -> None:
    """`within` stays at a coin's 0.5 while the AUC is high; the interval over few images says that it is too narrow."""
    table = pd.DataFrame({"image": np.repeat(range(4), 10), "level": np.repeat([1.0, 2.0, 3.0, 4.0], 10)})
    table["kept_share"] = [
        float(place % 10 < share) for place, share in enumerate(np.repeat([2, 4, 6, 8], 10))
    ]
    [row] = predictors_df(table).itertuples()
    assert row.within == 0.5
    assert row.auc > 0.7
    assert "too narrow" in row.note


def test_what_cannot_be_predicted() -> None:
    """Nothing rejected, one image, a column that is not there."""
    table = pd.DataFrame({"image": ["a", "a"], "n": [1, 2], "kept_share": [1.0, 0.0]})
    assert predictors_df(table)["low"].isna().all()
    assert "one image" in predictors_df(table)["note"][0]
    with pytest.raises(ConfigError, match="no rejected one"):
        predictors_df(table.head(1))
    with pytest.raises(ConfigError, match="unknown metric column"):
        predictors_df(table, "m")
