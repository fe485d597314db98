"""Metrics: what is registered, how frames are scored, and that length and number do not pass for diversity."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from personalab.errors import ConfigError
from personalab.metrics import (
    diversities,
    find_metric,
    format_distance,
    known_metrics,
    metric,
    metrics_df,
    metrics_markdown,
    score,
    score_rows,
)

ROOT = Path(__file__).parents[1]
SET_METRICS = [
    "near_duplicate_rate",
    "shared_4gram_rate",
    "jaccard_mean",
    "distinct_2",
    "compression_ratio",
    "opener_top_share",
    "template_rate",
    "slop_rate",
]


def zipf_texts(seed: int, count: int, words: int, vocabulary: int = 400) -> list[str]:
    """Texts of one generator: only their number and length differ."""
    weights = 1 / np.arange(1, vocabulary + 1)
    drawn = np.random.default_rng(seed).choice(vocabulary, (count, words), p=weights / weights.sum())
    return [" ".join(f"w{each}" for each in row) for row in drawn]


def tweets(**conditions: tuple[int, int]) -> pd.DataFrame:
    """Tweets of eight images under conditions that differ in number and length (words) of the tweets only."""
    rows = [
        {"condition": name, "image": f"image {image}", "replicate": 0, "text": text}
        for number, (name, (count, length)) in enumerate(conditions.items())
        for image in range(8)
        for text in zipf_texts(100 * number + image, count, length)
    ]
    return pd.DataFrame(rows)


def test_every_metric_says_what_it_is() -> None:
    """Level, unit, range, direction and a description; the names of the frame's columns it reads."""
    names = [each.name for each in known_metrics()]
    assert len(set(names)) == len(names) == len(metrics_df())
    for each in known_metrics():
        assert each.description.endswith("."), each.name
        assert each.unit, each.name
        assert each.columns, each.name
        assert each.built_in, each.name
    assert find_metric("distinct_2").direction == 1
    with pytest.raises(ConfigError, match="did you mean 'distinct_2'"):
        find_metric("distinct_3")


def test_the_table_in_the_docs_is_the_registry() -> None:
    """docs/metrics.md holds what the command prints."""
    command = [sys.executable, "-m", "personalab.metrics"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert printed == metrics_markdown() + "\n"
    assert printed in (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")


def test_one_row_a_group() -> None:
    """Groups stand in the order of the frame, metrics of a row are means, what was used is told."""
    frame = pd.DataFrame(
        {
            "condition": pd.Categorical(["b", "b", "a"], ["b", "a"]),
            "image": ["x", "x", "x"],
            "text": ["Go! #run", "Stay home, read a book", "Nothing is new under the old sun"],
        }
    )
    with pytest.warns(UserWarning, match="jaccard_mean is unknown for 2 of 2 sets"):
        scores = score(frame, ["hashtags", "jaccard_mean", "exclamations"])
    assert list(scores.columns) == [
        "condition",
        "image",
        "n_rows",
        "hashtags",
        "jaccard_mean",
        "exclamations",
    ]
    assert scores["condition"].tolist() == ["b", "a"]
    assert scores["condition"].dtype == frame["condition"].dtype
    assert scores["hashtags"].tolist() == [0.5, 0]
    assert scores["n_rows"].tolist() == [2, 1]
    assert scores.attrs["params"]["jaccard_mean"]["words"] == 6
    assert score_rows(frame, "exclamations")["exclamations"].tolist() == [1, 0, 0]


def test_all_that_the_columns_allow() -> None:
    """Without names, every metric that can be computed is; unknown values stay unknown."""
    frame = tweets(a=(8, 20)).assign(status="done", error=None)
    frame.loc[0, ["status", "error", "text"]] = [
        "failed",
        "stage x: no; raise max_tokens for this stage",
        None,
    ]
    scores = score(frame)
    assert set(SET_METRICS) <= set(scores.columns)
    assert scores.loc[0, ["valid", "cut_off"]].tolist() == [7 / 8, 1 / 8]
    assert scores.loc[1, ["valid", "cut_off"]].tolist() == [1, 0]
    assert "copy_rate" not in scores.columns
    assert "attribution_accuracy" not in scores.columns
    assert scores[SET_METRICS].notna().all(axis=None)


@pytest.mark.parametrize(
    "conditions",
    [
        {"few": (8, 20), "many": (40, 20)},
        {"short": (12, 14), "long": (12, 40)},
    ],
    ids=["number", "length"],
)
def test_number_and_length_do_not_pass_for_diversity(conditions: dict[str, tuple[int, int]]) -> None:
    """One writer, more or longer tweets: no metric of a set differs by more than its noise."""
    scores = score(tweets(**conditions), SET_METRICS)
    by_condition = [
        part.set_index("image")[SET_METRICS] for _, part in scores.groupby("condition", sort=False)
    ]
    difference = by_condition[1] - by_condition[0]
    noise = difference.std() / np.sqrt(len(difference))
    assert (difference.mean().abs() <= 3 * noise + 1e-9).all(), (difference.mean() / noise).to_dict()


def test_without_a_budget_they_would() -> None:
    """The same tweets measured whole do differ: the budget is what holds."""
    from personalab.diversity import distinct, mean_jaccard, shared_ngram_rate
    from personalab.words import words

    few, many = ([words(text) for text in zipf_texts(1, count, 20)] for count in (8, 40))
    short, long = ([words(text) for text in zipf_texts(1, 12, length)] for length in (14, 40))
    assert distinct(few, 2) > 1.05 * distinct(many, 2)  # type: ignore[operator]
    assert shared_ngram_rate(many, 2) > 1.5 * shared_ngram_rate(few, 2)  # type: ignore[operator]
    assert mean_jaccard(long) > 1.2 * mean_jaccard(short)  # type: ignore[operator]


def test_more_alike_is_more_alike() -> None:
    """A writer with a smaller vocabulary is told from one with a larger, by each metric of diversity."""
    rows = [
        {"condition": size, "image": image, "text": text}
        for size in (60, 600)
        for image in range(4)
        for text in zipf_texts(image, 20, 25, size)
    ]
    scores = score(pd.DataFrame(rows), SET_METRICS).groupby("condition")[SET_METRICS].mean()
    for name in ("shared_4gram_rate", "jaccard_mean", "distinct_2", "compression_ratio", "opener_top_share"):
        change = scores.loc[600, name] - scores.loc[60, name]
        assert change * find_metric(name).direction > 0, name


def test_a_set_below_the_budget_is_unknown() -> None:
    """It is never measured with a smaller budget, and a warning says how many there are."""
    frame = pd.concat(
        [
            tweets(a=(12, 20)),
            tweets(b=(12, 20)),
            tweets(c=(12, 20)),
            tweets(d=(3, 20)).query("image == 'image 0'"),
        ]
    )
    with pytest.warns(
        UserWarning, match="distinct_2 is unknown for 1 of 25 sets, which are below the shared budget"
    ):
        scores = score(frame, ["distinct_2"])
    assert scores["distinct_2"].isna().tolist() == [False] * 24 + [True]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fixed = score(frame, "distinct_2", params={"distinct_2": {"budget": 50}})
    assert fixed.attrs["params"]["distinct_2"]["budget"] == 50
    assert fixed["distinct_2"].notna().all()
    with pytest.raises(ConfigError, match=r"unknown setting of metric distinct_2 'buget'.*'budget'"):
        score(frame, "distinct_2", params={"distinct_2": {"buget": 50}})


def test_three_diversities_stay_apart() -> None:
    """Copies within a run, across replicates and across images show in their own rows only."""
    own = iter(zipf_texts(5, 100, 20, 5000))

    def run(image: str, replicate: int, *fixed: str) -> list[dict[str, Any]]:
        rows = [*fixed, *(next(own) for _ in range(4 - len(fixed)))]
        return [{"condition": "c", "image": image, "replicate": replicate, "text": text} for text in rows]

    again, everywhere = next(own), next(own)
    frame = pd.DataFrame(
        run("x", 0, again)
        + run("x", 1, again)
        + run("y", 0, everywhere)
        + run("y", 1)
        + run("z", 0, everywhere)
        + run("z", 1)
    )
    found = diversities(frame, "near_duplicate_rate").set_index(["diversity", "image", "replicate"])
    rates = found["near_duplicate_rate"]
    assert (rates["within"] == 0).all()
    assert rates["across replicates"].tolist() == [2 / 8, 0, 0]
    assert rates["across images"].tolist() == [2 / 12, 0]
    with pytest.raises(
        ConfigError, match="cannot leave comparisons out; those that can: near_duplicate_rate"
    ):
        diversities(frame, "distinct_2")


def test_diversities_are_never_pooled() -> None:
    """Texts of several images in one set are an error that says both ways out."""
    frame = tweets(a=(8, 20))
    with pytest.raises(ConfigError, match=r"several images.*add 'image' to by, or give across='image'"):
        score(frame, "jaccard_mean", by="condition")
    assert score(frame, "jaccard_mean", by="condition", across="image")["jaccard_mean"].notna().all()
    with pytest.raises(ConfigError, match="leave image out of by"):
        score(frame, "jaccard_mean", across="image")
    with pytest.raises(ConfigError, match="leave image out of by"):
        score(frame, "attribution_accuracy")
    assert score(frame, "attribution_accuracy", by="condition").loc[0, "attribution_accuracy"] < 0.5


def test_personas_stand_for_images() -> None:
    """Of tweets files the image may be unknown; then texts of several personas are not pooled either."""
    frame = tweets(a=(8, 20)).rename(columns={"image": "persona_id"})
    assert len(score(frame, "jaccard_mean")) == 8
    with pytest.raises(ConfigError, match="several persona_ids"):
        score(frame, "jaccard_mean", by="condition")


def test_copy_rate() -> None:
    """Runs of five words that stand in what the model was shown."""
    shown = "You are Ana. Ana bakes bread at dawn and hates small talk."
    frame = pd.DataFrame(
        {"text": ["Ana bakes bread at dawn, quietly", "No more small talk", "x"], "shown": shown}
    )
    assert score_rows(frame, "copy_rate")["copy_rate"].tolist()[:1] == [0.5]
    assert score_rows(frame, "copy_rate")["copy_rate"].isna().tolist() == [False, True, True]
    with pytest.raises(ConfigError, match="metric copy_rate: unknown column 'shown'"):
        score_rows(frame[["text"]], "copy_rate")


def test_formats() -> None:
    """What a tweet is made of, counted."""
    frame = pd.DataFrame({"text": ["so tired — look: example.com! @ana_b #Mood #2025 👍🏽🇯🇵?", "日本語"]})
    found = score_rows(frame).iloc[0]
    names = [
        "emoji",
        "hashtags",
        "mentions",
        "links",
        "exclamations",
        "questions",
        "em_dashes",
        "all_lower_case",
    ]
    assert found[names].tolist() == [2, 1, 1, 1, 1, 1, 1, 0]
    assert pd.isna(score_rows(frame).loc[1, "all_lower_case"])


def test_distance_to_a_reference() -> None:
    """The same format has none; a hashtag more in every tweet has some; it can be a metric of one's own."""
    human = ["so tired", "coffee first!", "why is it raining? why", "monday"]
    assert format_distance(human, human[::-1]) == 0
    tagged = [f"{text} #mood" for text in human]
    assert format_distance(tagged, human) == pytest.approx(1 / 0.5 / 8)
    assert format_distance([], human) is None

    @metric(level="set", unit="standard deviations", range=(0, None), direction=-1)
    def unlike_ours(text: list[str]) -> float | None:
        """How far the format is from our own tweets."""
        return format_distance(text, human)

    assert score(pd.DataFrame({"text": human}), "unlike_ours")["unlike_ours"].tolist() == [0]


def test_a_metric_of_ones_own() -> None:
    """One decorator; parameters are columns, keyword-only ones are settings; run again it replaces itself."""
    for factor in (1, 2):

        @metric(unit="letters", range=(0, None), direction=-1)
        def capitals(text: str, *, times: int = factor) -> int:
            """Capital letters."""
            return times * sum(map(str.isupper, text))

        frame = pd.DataFrame({"text": ["AbC", "d"]})
        assert score_rows(frame, "capitals")["capitals"].tolist() == [2 * factor, 0]
    assert score(frame, "capitals", params={"capitals": {"times": 5}})["capitals"].tolist() == [5]
    assert find_metric("capitals").params == {"times": 2}
    assert not find_metric("capitals").built_in


def test_a_metric_that_is_wrong_about_itself() -> None:
    """Each mistake is one line that says how to mend it."""
    with pytest.raises(ConfigError, match="no docstring"):
        metric()(lambda text: 1)
    with pytest.raises(ConfigError, match="reads no column"):

        @metric()
        def nothing() -> int:
            """Nothing."""
            return 1

    with pytest.raises(ConfigError, match="one of personalab's own"):

        @metric()
        def emoji(text: str) -> int:
            """Emoji."""
            return 1

    @metric(range=(0, 1))
    def share(text: str) -> object:
        """A share."""
        return 1.2 if text == "high" else "much"

    with pytest.raises(ConfigError, match=r"metric share gave 1\.2, outside its range 0 to 1"):
        score_rows(pd.DataFrame({"text": ["high"]}), "share")
    with pytest.raises(ConfigError, match="metric share gave 'much'"):
        score_rows(pd.DataFrame({"text": ["low"]}), "share")

    @metric(range=(0, None))
    def ratio(text: str) -> float:
        """A ratio."""
        return math.inf

    with pytest.raises(ConfigError, match="metric ratio gave inf"):
        score_rows(pd.DataFrame({"text": ["x"]}), "ratio")


def test_embeddings() -> None:
    """A function gives them, each text is asked for once, and the model's name is kept."""
    asked: list[list[str]] = []

    def embed(texts: list[str]) -> list[list[float]]:
        asked.append(texts)
        return [[1.0, len(text)] for text in texts]

    embed.model = "tiny"  # type: ignore[attr-defined]
    frame = tweets(a=(4, 10), b=(6, 10))
    names = ["embedding_mean_cosine", "embedding_nearest_cosine", "vendi_score"]
    scores = score(frame, names, embed=embed)
    assert scores[names].notna().all(axis=None)
    assert [len(texts) for texts in asked] == [frame["text"].nunique()]
    assert scores.attrs["params"]["vendi_score"] == {
        "version": 1, "order": 1.0, "budget": 4, "embedding_model": "tiny",
    }  # fmt: skip
    with pytest.raises(ConfigError, match="needs embeddings: give embed="):
        score(frame, "vendi_score")
    with pytest.raises(ConfigError, match="gave 1 vectors for 80 texts"):
        score(frame, "vendi_score", embed=lambda texts: [[1.0]])


def test_what_was_used_can_be_written_down() -> None:
    """Settings are plain values."""
    scores = score(tweets(a=(8, 20)))
    assert json.loads(json.dumps(scores.attrs["params"]))["over_limit"] == {"version": 1, "limit": 280}


def test_an_empty_frame() -> None:
    """No rows, no scores, no error."""
    assert score(tweets(a=(8, 20)).iloc[:0], ["jaccard_mean", "emoji"]).empty
