"""Comparisons: right numbers, honest words, warnings where they are due, no findings where there is nothing."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference

from personalab.comparison import compare, compare_many
from personalab.errors import ConfigError
from personalab.power import minimal_detectable_effect
from personalab.stats import holm, sign_flip_level, sign_flip_p, sign_flip_ps


def scored(values: Any, levels: Any = None, **columns: Any) -> pd.DataFrame:
    """A tidy frame of a table: one row an image, one column a level, or replicates in a third dimension."""
    table = np.asarray(values, dtype=float)
    table = table[:, :, None] if table.ndim == 2 else table
    levels = list(range(table.shape[1])) if levels is None else levels
    rows = [
        {
            "image": f"image {image:03}",
            "level": levels[level],
            "replicate": replicate,
            "value": table[image, level, replicate],
        }
        for image, level, replicate in np.ndindex(*table.shape)
    ]
    return pd.DataFrame(rows).assign(**columns)


A = [0.21, 0.35, 0.28, 0.19, 0.33, 0.27, 0.22, 0.31]
B = [0.26, 0.37, 0.35, 0.18, 0.40, 0.33, 0.29, 0.36]
C = [0.35, 0.41, 0.37, 0.30, 0.44, 0.39, 0.36, 0.47]
TABLE = np.array([A, B, C]).T


def test_contrasts_are_of_pairs() -> None:
    """Differences, intervals, tests and effects of complete pairs, against values computed by scipy."""
    found = compare(scored(TABLE, [0.3, 0.7, 1.1]), by="level", metric="value")
    assert list(zip(found.contrasts["a"], found.contrasts["b"], strict=True)) == [
        (0.3, 0.7),
        (0.7, 1.1),
        (0.3, 1.1),
    ]
    row = found.contrasts.iloc[0]
    differences = np.subtract(B, A)
    theirs = reference.ttest_rel(B, A)
    interval = theirs.confidence_interval()
    assert (row.n_pairs, row.n_dropped_units, row.ci_method, row.test) == (8, 0, "t", "exact sign flip")
    assert row["diff"] == pytest.approx(differences.mean())
    assert row["diff_rel"] == pytest.approx(differences.mean() / np.mean(A))
    assert (row.ci_low, row.ci_high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert row.se == pytest.approx(reference.sem(differences))
    assert row.p == pytest.approx(
        reference.permutation_test((differences,), np.mean, permutation_type="samples").pvalue
    )
    assert row.p_floor == 2 / 2**8
    assert row.agree == 7 / 8
    assert row.d_z == pytest.approx(differences.mean() / differences.std(ddof=1))
    assert row.cliffs_delta == pytest.approx(2 * reference.mannwhitneyu(B, A).statistic / 64 - 1)
    detectable = minimal_detectable_effect(differences.var(ddof=1), 8, alpha=12 / 2**8, small=True)
    assert row.mde_80 == pytest.approx(detectable), "p comes in steps of 2 ÷ 2^8"
    assert found.contrasts["p_adj"].tolist() == pytest.approx(holm(list(found.contrasts["p"])))
    assert (found.contrasts["n_contrasts"] == 3).all()
    assert (found.contrasts["favours"] == "-").all(), "a column has no direction"


def test_levels() -> None:
    """Mean, interval and spread of each level, replicates counted, within and between apart."""
    table = np.stack([TABLE - 0.01, TABLE + 0.01], axis=2)
    found = compare(scored(table), by="level", metric="value").levels
    assert found["mean"].tolist() == pytest.approx(TABLE.mean(axis=0))
    assert found["median"].tolist() == pytest.approx(np.median(TABLE, axis=0))
    assert found["sd_between"].tolist() == pytest.approx(TABLE.std(axis=0, ddof=1))
    assert found["sd_within"].tolist() == pytest.approx([0.01 * 2**0.5] * 3)
    assert found["n_units"].tolist() == [8, 8, 8]
    assert (
        found[["n_replicates_min", "n_replicates_median", "n_replicates_max"]].to_numpy().tolist()
        == [[2] * 3] * 3
    )
    low, high = reference.t.interval(0.95, 7, np.mean(A), reference.sem(A))
    assert (found.loc[0, "ci_low"], found.loc[0, "ci_high"]) == (pytest.approx(low), pytest.approx(high))
    assert found["n_failed"].isna().all(), "the frame does not say what failed"


def test_the_unit_is_the_image() -> None:
    """Twice the tweets of each image are no more evidence."""
    once = compare(scored(TABLE), by="level", metric="value").contrasts
    twice = compare(scored(np.stack([TABLE, TABLE], axis=2)), by="level", metric="value").contrasts
    pd.testing.assert_frame_equal(once, twice)


def test_trend() -> None:
    """Slope by image and Page's test, where levels are numbers; none where they are names."""
    levels = [0.3, 0.7, 1.1]
    found = compare(scored(TABLE, levels), by="level", metric="value").trend
    slopes = [np.polyfit(levels, row, 1)[0] for row in TABLE]
    theirs = reference.page_trend_test(TABLE)
    assert found.loc[0, "slope"] == pytest.approx(np.mean(slopes))
    assert found.loc[0, "p"] == pytest.approx(sign_flip_p(slopes))
    assert (found.loc[0, "page_l"], found.loc[0, "page_p"]) == (
        theirs.statistic,
        pytest.approx(2 * theirs.pvalue),
    )
    assert compare(scored(TABLE, ["x", "y", "z"]), by="level", metric="value").trend.empty


def test_which_contrasts() -> None:
    """Adjacent, against a baseline, all; a pair is one contrast however it is asked for."""

    def pairs(**options: Any) -> list[str]:
        found = compare(
            scored(np.hstack([TABLE, TABLE[:, :1]]), list("abcd")), by="level", metric="value", **options
        )
        return [f"{row.a}{row.b}" for row in found.contrasts.itertuples()]

    assert pairs() == ["ab", "bc", "cd", "ac", "ad"]
    assert pairs(contrasts="adjacent") == ["ab", "bc", "cd"]
    assert pairs(contrasts="baseline") == ["ab", "ac", "ad"]
    assert pairs(contrasts="baseline", baseline="c") == ["ca", "cb", "cd"]
    assert pairs(baseline="c") == ["ab", "bc", "cd", "ca"]
    assert pairs(contrasts="all") == ["ab", "ac", "ad", "bc", "bd", "cd"]
    with pytest.raises(ConfigError, match="unknown level for baseline 'e'"):
        pairs(baseline="e")
    with pytest.raises(ConfigError, match="did you mean 'adjacent'"):
        pairs(contrasts="adjacant")


def test_levels_stand_in_grid_order() -> None:
    """Of a categorical its own order, of numbers theirs, else that of appearance."""
    frame = scored(TABLE, ["low", "high", "middle"])
    assert compare(frame, by="level", metric="value").levels["level"].tolist() == ["low", "high", "middle"]
    ordered = frame.assign(level=pd.Categorical(frame["level"], ["low", "middle", "high", "unused"]))
    assert compare(ordered, by="level", metric="value").levels["level"].tolist() == ["low", "middle", "high"]
    assert compare(scored(TABLE, [1.1, 0.3, 0.7]), by="level", metric="value").levels["level"].tolist() == [
        0.3,
        0.7,
        1.1,
    ]


def test_a_metric_of_sets_is_scored_first() -> None:
    """Texts are scored by image, condition and replicate, at one budget; the direction says whom it favours."""
    generator = np.random.default_rng(0)
    rows = [
        {
            "condition": name,
            "image": image,
            "replicate": replicate,
            "text": " ".join(generator.choice(vocabulary, 15)),
        }
        for name, vocabulary in [
            ("narrow", ["a", "b", "c", "d"]),
            ("wide", [f"w{each}" for each in range(200)]),
        ]
        for image in range(8)
        for replicate in range(2)
        for _ in range(5)
    ]
    found = compare(pd.DataFrame(rows), metric="jaccard_mean")
    row = found.contrasts.iloc[0]
    assert (row.a, row.b, row.favours, row.p) == ("narrow", "wide", "b", 2 / 2**8)
    assert row["diff"] < -0.5
    assert found.meta["params"] == {"words": 15}
    assert found.meta["direction"] == -1
    assert found.levels["n_rows"].tolist() == [80, 80]
    assert found.length_check is not None
    assert found.length_check["length"].tolist() == ["word_count"]
    assert "Lower is better, so this favours wide." in str(found)
    assert str(found).startswith("jaccard_mean by condition: ")
    assert "Computed with the first 15 words of each text." in str(found)
    across = compare(pd.DataFrame(rows), metric="jaccard_mean", across="replicate")
    assert str(across).startswith("jaccard_mean between replicates by condition: ")
    assert "jaccard_mean between replicates by condition: " in across._repr_html_()
    assert across.contrasts.loc[0, "favours"] == "-", "to vary when asked again is neither good nor bad"
    assert (
        "Between replicates neither is better by itself: it shows how much a condition varies when asked again."
        in str(across)
    )
    assert "is better, so" not in str(across) + across._repr_html_()
    assert (
        compare_many(pd.DataFrame(rows), metrics=["jaccard_mean"], across="replicate").contrasts.loc[
            0, "favours"
        ]
        == "-"
    )
    with pytest.raises(ConfigError, match="one value for all images"):
        compare(pd.DataFrame(rows), metric="attribution_accuracy")


def test_a_judge_s_rows_are_watched() -> None:
    """What one condition lacks more often than the other is failure; criteria are not one measure."""
    rows = [
        (level, image, criterion, 3.0, "refused" if level == "b" and image < "c" else None, "m")
        for level in "ab"
        for image in "abcdefg"
        for criterion in ("voice", "lived")
    ]
    frame = pd.DataFrame(rows, columns=["condition", "image", "criterion", "score", "missing", "judge_model"])
    frame.loc[frame["missing"].notna(), "score"] = np.nan
    warnings = " ".join(compare(frame, metric="score").warnings)
    assert "failures differ between levels (a: 0%, b: 29%)" in warnings
    assert "level a mixes 2 values of criterion" in warnings
    assert compare(frame, metric="score").levels["n_failed"].tolist() == [0, 4]


def test_what_people_keep_is_better() -> None:
    """The share that people kept has a direction, though no code computes it."""
    table = TABLE[:, :2] + 0.4
    kept = scored(table).rename(columns={"value": "kept_share"}).astype({"kept_share": "Float64"})
    found = compare(kept, by="level", metric="kept_share")
    assert found.contrasts.loc[0, "favours"] == "b"
    assert "Higher is better, so this favours 1." in str(found)
    rated = scored(table * 5).rename(columns={"value": "mean_rating"})
    assert compare(rated, by="level", metric="mean_rating").contrasts.loc[0, "favours"] == "b"


def test_an_interval_ends_where_the_range_does() -> None:
    """A mean share is no more than 1, a difference of two no more than 1 either way; other columns have no such ends."""
    table = np.array([[0, 1]] * 5 + [[0.3, 0.2]])
    free = compare(scored(table), by="level", metric="value")
    assert free.levels.loc[0, "ci_low"] < 0
    assert free.levels.loc[1, "ci_high"] > 1
    assert free.contrasts.loc[0, "ci_high"] > 1
    found = compare(scored(table).rename(columns={"value": "kept_share"}), by="level", metric="kept_share")
    assert (found.levels.loc[0, "ci_low"], found.levels.loc[1, "ci_high"]) == (0, 1)
    assert found.contrasts.loc[0, "ci_high"] == 1
    assert found.contrasts.loc[0, "ci_low"] == free.contrasts.loc[0, "ci_low"]
    assert found.contrasts.loc[0, "p"] == free.contrasts.loc[0, "p"]
    outside = compare(
        scored(table * 2).rename(columns={"value": "kept_share"}), by="level", metric="kept_share"
    )
    assert outside.levels.loc[1, "ci_high"] > 2, "values that pass the range are not held to it"


def test_favours_nobody_without_evidence() -> None:
    """Where the interval or the corrected p leaves doubt it is unclear, and the reader is told what could be seen."""
    frame = scored(np.array([A, A[::-1]]).T).rename(columns={"value": "over_limit"})
    found = compare(frame, by="level", metric="over_limit")
    assert found.contrasts.loc[0, "favours"] == "unclear"
    detectable = found.contrasts.loc[0, "mde_80"]
    assert "Not shown: from 0 to 1" in str(found)
    assert f"That is not the same as no difference: with 8 images one of {detectable:.3g}" in str(found)


def test_several_comparisons_need_more_evidence() -> None:
    """Six images that all go one way show one difference, but none of three: the corrected p counts."""
    frame = scored(TABLE[[0, 1, 2, 4, 5, 6]]).rename(columns={"value": "valid"})
    one = compare(frame[frame["level"] < 2], by="level", metric="valid").contrasts.iloc[0]
    assert (one.p, one.p_adj, one.favours) == (2 / 64, 2 / 64, "b")
    three = compare(frame, by="level", metric="valid").contrasts
    assert three["p"].tolist() == [2 / 64] * 3
    assert (three["ci_low"] > 0).all()
    assert three["favours"].tolist() == ["unclear"] * 3


def test_one_image_is_described() -> None:
    """No test, no interval, no error."""
    found = compare(scored(TABLE[:1]), by="level", metric="value")
    assert found.contrasts[["p", "p_adj", "ci_low", "mde_80", "se"]].isna().all(axis=None)
    assert found.contrasts["diff"].notna().all()
    assert "a description only" in str(found)
    assert "Not tested: from 0 to 1 it rises by 0.05 (+24%) in the one image there is." in str(found)
    with pytest.raises(ConfigError, match="two images or more"):
        found.how_many_images(0.1)


def test_too_few_to_show_anything() -> None:
    """With five images no p can fall below .05, so no effect is called detectable."""
    found = compare(scored(TABLE[:5, :2]), by="level", metric="value")
    assert found.contrasts["mde_80"].isna().all()
    assert "With 5 images nothing can be shown, whatever the difference." in str(found)


def test_missing_cells() -> None:
    """A contrast takes the pairs there are, and says how many it left out."""
    table = TABLE.copy()
    table[0, 1] = table[1, 2] = np.nan
    found = compare(scored(table), by="level", metric="value")
    assert found.contrasts["n_pairs"].tolist() == [7, 6, 7]
    assert found.contrasts["n_dropped_units"].tolist() == [1, 2, 1]
    assert any("2 of 8 units (image) lack a level (1: 1, 2: 1)" in text for text in found.warnings)
    assert re.search(
        r"from 0 to 1 it rises by \S+ \(\+\d+%\) over the 7 images seen under both\. ", str(found)
    )
    assert "seen under both" not in str(compare(scored(TABLE), by="level", metric="value"))
    differences = np.delete(TABLE[:, 1] - TABLE[:, 0], 0)
    assert found.contrasts.loc[0, "diff"] == pytest.approx(differences.mean())


def test_paired_by_image_and_what_came_before() -> None:
    """Several columns together are the unit."""
    frame = pd.concat([scored(TABLE).assign(upstream="u1"), scored(TABLE + 0.1).assign(upstream="u2")])
    found = compare(frame, by="level", metric="value", paired=["image", "upstream"])
    assert found.contrasts["n_pairs"].tolist() == [16] * 3
    assert compare(frame, by="level", metric="value").contrasts["n_pairs"].tolist() == [8] * 3


@pytest.mark.parametrize(
    ("frame", "warned"),
    [
        (scored(TABLE[:5]), "fewer than 6 pairs of image (5): read this as a description"),
        (scored(TABLE[:5]), "p cannot fall below 0.0625, so nothing can be shown at 0.05"),
        (scored(TABLE[:6]), "with 6 pairs of image and 3 contrasts the corrected p cannot fall below 0.0938: 7 pairs"),
        (scored(np.zeros((8, 2))), "the metric is 0 everywhere"),
        (scored(TABLE), "one replicate of each"),
        (scored(TABLE, model=["m1", "m2"] * 12), "level 0 mixes 2 values of model: compare within one of them"),
        (scored(np.stack([TABLE] * 2, axis=2), text="same"), "replicates are word for word the same under 0, 1, 2"),
        (scored(TABLE, status=["failed", "done", "done"] * 8), "failures differ between levels (0: 100%, 1: 0%, 2: 0%)"),
        (scored(TABLE, error=["no", None, None] * 8), "failures differ between levels (0: 100%"),
        (scored(TABLE).assign(image=lambda each: each["image"].where(each.index > 0)), "1 rows without level or image"),
        (scored(TABLE[:, :1]), "there is one level only: nothing to compare"),
    ],
)  # fmt: skip
def test_warnings(frame: pd.DataFrame, warned: str) -> None:
    """Each trap has a warning of its own."""
    found = compare(frame, by="level", metric="value")
    assert [text for text in found.warnings if warned in text], found.warnings
    assert warned in str(found)


def test_failed_cells_count_as_cells() -> None:
    """Two failed cells of eight are a quarter, though each has one row and a cell that is done has eight."""
    done = scored(np.repeat(TABLE[:, :2, None], 2, axis=2))
    tweets = pd.concat([done] * 8).assign(error=None)
    lost = (tweets["level"] == 1) & tweets["image"].isin(["image 000", "image 001"])
    failed = tweets[lost].drop_duplicates(["image", "replicate"]).assign(error="no", value=np.nan)
    found = compare(pd.concat([tweets[~lost], failed]), by="level", metric="value")
    assert any("failures differ between levels (0: 0%, 1: 25%)" in text for text in found.warnings)
    assert found.levels["n_failed"].tolist() == [0, 4]


def test_nothing_to_warn_of() -> None:
    """Good data are not warned of."""
    table = np.stack([TABLE, TABLE + 0.01], axis=2)
    assert compare(scored(table, status="done", model="m"), by="level", metric="value").warnings == ()


def test_length_is_checked() -> None:
    """A metric that moves with length is called confounded where length changes; another is not."""
    tokens = np.array([[100 + image, 150 + 2 * image] for image in range(8)]).ravel()
    frame = scored(TABLE[:, :2], output_tokens=tokens).rename(columns={"value": "over_limit"})
    found = compare(frame, by="level", metric="over_limit")
    assert found.length_check is not None
    assert found.length_check.loc[0, "diff"] == pytest.approx(53.5)
    assert any(
        "length-confounded: from 0 to 1 length (output_tokens) changes too (+52%)" in text
        for text in found.warnings
    )
    other = compare(frame.rename(columns={"over_limit": "valid"}), by="level", metric="valid")
    assert not any("confounded" in text for text in other.warnings)
    assert "Length (output_tokens) differs as well" in str(other)
    assert found.levels["mean_tokens"].tolist() == [103.5, 157]


def test_several_metrics_are_corrected_together() -> None:
    """Holm's correction is over all contrasts of all metrics, unless they are called exploratory."""
    frame = scored(TABLE).assign(other=lambda each: each["value"] ** 2, third=lambda each: -each["value"])
    names = ["value", "other", "third"]
    found = compare_many(frame, "level", names)
    assert found.contrasts["p_adj"].tolist() == pytest.approx(holm(list(found.contrasts["p"])))
    assert (found.contrasts["n_contrasts"] == 9).all()
    assert found["other"].contrasts["p_adj"].tolist() == found.contrasts["p_adj"].tolist()[3:6]
    alone = compare_many(frame, "level", names, exploratory=True)
    assert (
        alone["other"].contrasts["p_adj"].tolist()
        == compare(frame, "level", "other").contrasts["p_adj"].tolist()
    )
    assert any("exploratory: one of 3 metrics" in text for text in alone.warnings)
    with pytest.raises(ConfigError, match="did you mean 'other'"):
        found["othr"]


def test_how_many_images() -> None:
    """So many that the detectable effect is the one asked for; more replicates need fewer images, never more."""
    generator = np.random.default_rng(4)
    truth = generator.normal(0, 0.3, (10, 1)) + generator.normal(0, 0.1, (10, 2))
    found = compare(
        scored(truth[:, :, None] + generator.normal(0, 0.4, (10, 2, 3))), by="level", metric="value"
    )
    variance = found.contrasts.loc[0, "se"] ** 2 * 10
    needed = found.how_many_images(0.2)
    assert minimal_detectable_effect(variance, needed, small=True) <= 0.2  # type: ignore[operator]
    assert minimal_detectable_effect(variance, needed - 1, small=True) > 0.2  # type: ignore[operator]
    assert found.how_many_images(0.2, a=0, b=1) == needed
    assert found.how_many_images(0.2, replicates=3) == needed
    assert found.how_many_images(0.2, replicates=12) < needed < found.how_many_images(0.2, replicates=1)
    with pytest.raises(ConfigError, match="unknown contrast '1 → 0'"):
        found.how_many_images(0.2, a=1, b=0)


def test_a_small_p_is_below() -> None:
    """It is `p below 0.001`, and `p = 0.0078` where it is larger."""
    many = np.concatenate([TABLE, TABLE + 0.01])[:, [0, 2]]
    assert "; p below 0.001." in str(compare(scored(many), by="level", metric="value"))
    assert "; p = 0.0078." in str(compare(scored(many[:8]), by="level", metric="value"))
    assert "p = below" not in str(
        compare(scored(np.concatenate([TABLE, TABLE + 0.01])), by="level", metric="value")
    )


def test_what_is_shown_is_safe() -> None:
    """Names of levels and columns are escaped, control characters never reach a terminal."""
    evil = '<img src=x onerror="alert(1)">\x1b[31m'
    frame = scored(TABLE[:, :2], ["plain", evil]).rename(columns={"value": "<b>value</b>"})
    found = compare(frame, by="level", metric="<b>value</b>")
    html = found._repr_html_()
    assert "<img" not in html
    assert "<b>" not in html
    assert "\x1b" not in str(found) + html
    assert "&lt;img" in html


def test_the_page_is_whole() -> None:
    """Every contrast has its sentence and its bar; tags are closed; the numbers are there."""
    found = compare(scored(TABLE, [0.3, 0.7, 1.1]), by="level", metric="value")
    html = found._repr_html_()
    assert html.count("<svg") == len(found.contrasts) == html.count("<circle")
    assert "8 of 8 images go the same way" in html
    for tag in ("div", "table", "tr", "td", "details", "li", "ul", "svg"):
        assert len(re.findall(rf"<{tag}[ >]", html)) == html.count(f"</{tag}>"), tag
    assert repr(found) == str(found)
    assert "because several comparisons are made" in html
    single = compare(scored(TABLE[:, :2], [0.3, 0.7]), by="level", metric="value")
    assert "corrected" not in single._repr_html_()


def test_a_result_says_what_it_was_made_from() -> None:
    """Settings, versions and a hash of the data, as plain values; the same data have the same hash in any order."""
    frame = scored(TABLE)
    meta = compare(frame, by="level", metric="value").meta
    assert json.loads(json.dumps(dict(meta)))["seed"] == 0
    assert meta["packages"].keys() == {"numpy", "pandas", "scipy"}
    assert meta["frame_sha256"] == compare(frame.iloc[::-1], by="level", metric="value").meta["frame_sha256"]
    assert meta["frame_sha256"] != compare(scored(TABLE + 1), by="level", metric="value").meta["frame_sha256"]


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(2, 9))
def test_the_order_of_the_rows_does_not_matter(order: Any, images: int) -> None:
    """Nor do names of images."""
    table = np.random.default_rng(images).normal(size=(images, 3, 2))
    frame = scored(table)
    rows = list(range(len(frame)))
    order.shuffle(rows)
    mixed = frame.iloc[rows].assign(image=lambda each: "x" + each["image"])
    one, other = (compare(each, by="level", metric="value") for each in (frame, mixed))
    pd.testing.assert_frame_equal(one.contrasts, other.contrasts)
    pd.testing.assert_frame_equal(one.trend, other.trend)


def test_mistakes_are_named() -> None:
    """A column, metric or value that cannot be is one line."""
    frame = scored(TABLE)
    with pytest.raises(ConfigError, match="holds infinite numbers"):
        compare(scored(np.array([A, A]).T).replace({"value": {A[0]: np.inf}}), by="level", metric="value")
    with pytest.raises(ConfigError, match="unknown column 'levle': did you mean 'level'"):
        compare(frame, by="levle", metric="value")
    with pytest.raises(ConfigError, match="unknown metric 'valeu'"):
        compare(frame, by="level", metric="valeu")
    with pytest.raises(ConfigError, match="column 'image' holds no numbers"):
        compare(frame, by="level", metric="image", paired="replicate")
    with pytest.raises(ConfigError, match="same column"):
        compare(frame, by="level", metric="value", paired="level")
    with pytest.raises(ConfigError, match="no rows"):
        compare(frame.iloc[:0], by="level", metric="value")


@pytest.mark.parametrize(("images", "size"), [(6, 2 / 64), (8, 12 / 256), (12, 0.05), (16, 0.05), (21, 0.05)])
def test_false_findings_are_near_five_percent(images: int, size: float) -> None:
    """Under a true null, ten tweets an image, tweets of an image alike (ICC .3): near 5 % and not 31 %, as by tweets.

    p comes in steps of 2 ÷ 2^n: with 6 images .031 is the last below .05, so the exact test finds 3 %.
    """
    generator = np.random.default_rng(images)
    studies, tweets = 4000, 10
    means = generator.normal(0, 0.3**0.5, (studies, images, 2))
    values = means[..., None] + generator.normal(0, 0.7**0.5, (studies, images, 2, tweets))
    differences = np.diff(values.mean(axis=3), axis=2)[..., 0]
    by_image = np.mean([p < 0.05 for p in sign_flip_ps(differences)])  # type: ignore[operator]
    flat = values.transpose(0, 2, 1, 3).reshape(studies, 2, -1)
    by_tweet = np.mean(reference.ttest_ind(flat[:, 0], flat[:, 1], axis=1).pvalue < 0.05)
    assert by_image == pytest.approx(size, abs=3 * (size * (1 - size) / studies) ** 0.5)
    assert by_tweet > 0.25


@pytest.mark.slow
def test_compare_finds_nothing_where_there_is_nothing() -> None:
    """The whole of `compare`: a study of twelve images and three temperatures finds something in at most 5 %."""
    generator = np.random.default_rng(1)
    studies, found = 300, 0
    for _ in range(studies):
        table = generator.normal(0, 0.5, (12, 3, 1)) + generator.normal(0, 1, (12, 3, 2))
        contrasts = compare(
            scored(table).rename(columns={"value": "valid"}), by="level", metric="valid"
        ).contrasts
        found += contrasts["favours"].isin(["a", "b"]).any()
    assert found / studies <= 0.05 + 2 * (0.05 * 0.95 / studies) ** 0.5


@pytest.mark.parametrize("images", [7, 8, 12])
def test_a_true_difference_is_found(images: int) -> None:
    """At the effect said to be detectable with so many images, four of five studies find it.

    With 6 images it is 7 of 10, as all six have to go the same way.
    """
    generator, studies = np.random.default_rng(2), 1500
    effect = minimal_detectable_effect(1.0, images, alpha=sign_flip_level(images, 0.05) or 0, small=True)
    drawn = generator.normal(effect, 1, (studies, images))
    hits = np.mean([sign_flip_p(each) < 0.05 for each in drawn])  # type: ignore[operator]
    assert hits == pytest.approx(0.8, abs=0.04)
