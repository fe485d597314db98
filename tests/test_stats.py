"""Statistics against reference values computed elsewhere, and what has to hold for all data."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference

from personalab.agreement import cohens_kappa, fleiss_kappa, graded_kappa, krippendorff_alpha
from personalab.errors import ConfigError
from personalab.power import difference_variance, minimal_detectable_effect, units_needed
from personalab.rankings import bradley_terry, strength_intervals, win_chances
from personalab.stats import (
    agreement,
    cliffs_delta,
    clustered_error,
    exact_interval,
    holm,
    mcnemar_p,
    mean_interval,
    page_trend,
    sign_flip_floor,
    sign_flip_level,
    sign_flip_p,
    slopes,
    standard_error,
    standardised_difference,
    wilson_interval,
)

numbers = st.lists(st.integers(-50, 50).map(lambda each: each / 8), min_size=2, max_size=10)
DIFFERENCES = [0.31, -0.12, 0.44, 0.05, 0.27, 0.18, -0.03, 0.36]


def test_t_interval() -> None:
    """Below twenty units the mean's interval is Student's."""
    found = mean_interval(DIFFERENCES)
    low, high = reference.t.interval(0.95, 7, np.mean(DIFFERENCES), reference.sem(DIFFERENCES))
    assert found is not None
    assert (found.low, found.high, found.method) == (pytest.approx(low, abs=1e-9), pytest.approx(high), "t")


def test_bca_interval_agrees_with_scipy() -> None:
    """From twenty on it is BCa: scipy's, but for the draw."""
    skewed = np.random.default_rng(3).lognormal(size=40)
    found = mean_interval(skewed)
    theirs = reference.bootstrap((skewed,), np.mean, n_resamples=50_000, method="BCa", rng=1)
    assert found is not None
    assert found.method == "bca"
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert found.low == pytest.approx(theirs.confidence_interval.low, abs=0.05 * width)
    assert found.high == pytest.approx(theirs.confidence_interval.high, abs=0.05 * width)


def test_intervals_that_cannot_be() -> None:
    """One value has no interval; equal values have one of no width; an unknown method is named."""
    assert mean_interval([1.0]) is None
    constant = mean_interval([0.5] * 30)
    assert constant is not None
    assert (constant.low, constant.high, constant.method) == (0.5, 0.5, "constant")
    rounded = [0.35 - 0.25, 0.45 - 0.35, 0.1]
    assert len(set(rounded)) > 1
    assert standardised_difference(rounded) is None, "equal but for rounding"
    with pytest.raises(ConfigError, match="known: bca, t"):
        mean_interval([1, 2], method="magic")


def test_intervals_of_shares() -> None:
    """Wilson, Clopper and Pearson."""
    assert wilson_interval(18, 20).low == pytest.approx(0.69897, abs=5e-6)
    assert wilson_interval(18, 20).high == pytest.approx(0.97213, abs=5e-6)
    assert wilson_interval(20, 20).low == pytest.approx(0.83887, abs=5e-6)
    assert wilson_interval(20, 20).high == 1
    assert exact_interval(0, 20).high == pytest.approx(0.16843, abs=5e-6)
    theirs = reference.binomtest(7, 20).proportion_ci(method="exact")
    assert exact_interval(7, 20).low == pytest.approx(theirs.low)
    assert exact_interval(7, 20).high == pytest.approx(theirs.high)
    with pytest.raises(ConfigError, match="21 of 20"):
        wilson_interval(21, 20)


def test_errors_of_a_mean() -> None:
    """Plain and clustered."""
    values, clusters = [1, 1, 0, 0, 0, 1, 1, 1], "AAABBCCC"
    assert standard_error(values) == pytest.approx(0.182981, abs=5e-7)
    assert clustered_error(values, clusters) == pytest.approx(0.220497, abs=5e-7)
    assert standard_error([1]) is None


@pytest.mark.parametrize("count", [1, 2, 5, 8, 13])
def test_sign_flip_is_exact(count: int) -> None:
    """Every flip of signs is counted once: scipy's exact permutation test, ties by rounding included."""
    differences = np.round(np.random.default_rng(count).normal(0.3, 1, count), 1)
    signs = np.array(list(itertools.product([1, -1], repeat=count)))
    by_hand = (np.abs(signs @ differences) >= abs(differences.sum()) - 1e-9).mean()
    assert sign_flip_p(differences) == pytest.approx(by_hand, abs=1e-12)
    if count > 1:
        theirs = reference.permutation_test(
            (differences,), np.mean, permutation_type="samples", n_resamples=9999
        )
        assert sign_flip_p(differences) == pytest.approx(theirs.pvalue, abs=1e-9)


def test_sign_flip_of_many() -> None:
    """Beyond twenty units flips are drawn: near the t-test, never 0, the same each time."""
    differences = np.random.default_rng(0).normal(0.3, 1, 60)
    p = sign_flip_p(differences)
    assert p == pytest.approx(reference.ttest_1samp(differences, 0).pvalue, abs=0.01)
    assert p == sign_flip_p(differences)
    assert sign_flip_p(np.ones(60)) == sign_flip_floor(60) == 1 / 10_000


def test_the_floor_of_p() -> None:
    """Five images can never reach .05, six can; three contrasts need seven images, ten need nine."""
    assert [sign_flip_floor(count) for count in (5, 6)] == [0.0625, 0.03125]
    assert sign_flip_p([1.0] * 6) == 0.03125
    for contrasts, images in [(3, 7), (10, 9)]:
        assert sign_flip_floor(images) * contrasts < 0.05 < sign_flip_floor(images - 1) * contrasts
    assert sign_flip_floor(0) is None
    assert [sign_flip_level(count, 0.05) for count in (5, 6, 7, 8)] == [None, 2 / 64, 6 / 128, 12 / 256]
    assert sign_flip_p([]) is None


@given(numbers)
def test_sign_flip_depends_on_neither_order_nor_direction(differences: list[float]) -> None:
    """Order, sign and unit of the differences change no p; no p is below the floor."""
    p = sign_flip_p(differences)
    assert p is not None
    assert p == sign_flip_p(differences[::-1]) == sign_flip_p([-4 * each for each in differences])
    assert sign_flip_floor(len(differences)) <= p <= 1


def test_holm() -> None:
    """The worked example; what is unknown stays unknown and does not count."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01, None, 0.04]) == [0.02, None, 0.04]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_careful(p_values: list[float]) -> None:
    """Never below p nor above Bonferroni, and in the order of p."""
    corrected = holm(p_values)
    assert all(p <= each <= min(1, p * len(p_values)) for p, each in zip(p_values, corrected, strict=True))
    ranked = [each for _, each in sorted(zip(p_values, corrected, strict=True))]
    assert ranked == sorted(ranked)


def test_mcnemar() -> None:
    """Exact."""
    assert mcnemar_p(8, 2) == mcnemar_p(2, 8) == pytest.approx(0.109375)
    assert mcnemar_p(0, 0) == mcnemar_p(3, 3) == 1


def test_cliffs_delta() -> None:
    """The worked example, and none for nothing."""
    assert cliffs_delta([1, 2, 3, 4], [2, 3, 4, 5]) == 0.4375
    assert cliffs_delta([], [1]) is None


@given(numbers, numbers)
def test_cliffs_delta_is_antisymmetric(a: list[float], b: list[float]) -> None:
    """Swapped it is the negative; by hand it is a count of pairs."""
    by_hand = sum((y > x) - (y < x) for x in a for y in b) / (len(a) * len(b))
    assert cliffs_delta(a, b) == pytest.approx(by_hand)
    assert cliffs_delta(b, a) == pytest.approx(-by_hand)


def test_effects_of_paired_differences() -> None:
    """Agreement counts units, d_z the spread; without spread there is no d_z."""
    assert agreement(DIFFERENCES) == 0.75
    assert agreement([0, 0, 1]) == pytest.approx(1 / 3)
    assert standardised_difference(DIFFERENCES) == pytest.approx(
        np.mean(DIFFERENCES) / np.std(DIFFERENCES, ddof=1)
    )
    assert standardised_difference([1, 1]) is None


def test_page_trend_agrees_with_scipy() -> None:
    """L and one-sided p as scipy has them; falling is the mirror."""
    table = np.random.default_rng(1).normal(size=(7, 4)) + np.arange(4) * 0.4
    theirs = reference.page_trend_test(table)
    found = page_trend(table)
    assert found is not None
    assert (found.statistic, found.rising) == (pytest.approx(theirs.statistic), pytest.approx(theirs.pvalue))
    mirror = page_trend(-table)
    assert mirror is not None
    assert mirror.falling == pytest.approx(found.rising)
    assert found.p == pytest.approx(2 * min(found.rising, found.falling))
    assert page_trend(table[:, :2]) is None


def test_slopes() -> None:
    """Least squares, row by row."""
    table = [[1, 2, 4], [3, 3, 2]]
    expected = [np.polyfit([0.3, 0.7, 1.1], row, 1)[0] for row in table]
    assert slopes(table, [0.3, 0.7, 1.1]) == pytest.approx(expected)


def test_how_many_units() -> None:
    """Miller's example, with and without noise within a unit."""
    assert units_needed(1 / 9, 0.03) == 969
    assert units_needed(difference_variance(1 / 9, (1 / 6, 1 / 6)), 0.03) == 3876
    assert units_needed(difference_variance(1 / 9, (1 / 6, 1 / 6), (10, 10)), 0.03) == 1260
    with pytest.raises(ConfigError, match="effect of 0"):
        units_needed(1, 0)
    with pytest.raises(ConfigError, match="more than 1,000,000"):
        units_needed(1, 1e-9)


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        (5, [1.88, 1.20, 1.01, 0.84]),
        (10, [1.33, 0.85, 0.71, 0.59]),
        (20, [0.94, 0.60, 0.51, 0.42]),
        (40, [0.66, 0.42, 0.36, 0.30]),
    ],
)
def test_minimal_detectable_effect(units: int, expected: list[float]) -> None:
    """More images help more than more replicates."""
    found = [
        minimal_detectable_effect(difference_variance(0.25, (1, 1), (count, count)), units)
        for count in (1, 3, 5, 10)
    ]
    assert found == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("units", [6, 8, 12, 20])
def test_detectable_with_few_units(units: int) -> None:
    """With `small` the t-test's power at the effect found is the power asked for."""
    effect = minimal_detectable_effect(1.0, units, small=True)
    assert effect is not None
    critical = reference.t.ppf(0.975, units - 1)
    power = reference.nct.sf(critical, units - 1, effect * math.sqrt(units))
    assert power == pytest.approx(0.8, abs=0.02)
    assert units_needed(1.0, effect * 1.000001, small=True) == units
    assert minimal_detectable_effect(1.0, 1, small=True) is None


HUMAN, JUDGE = [1, 2, 3, 4, 5, 3, 2, 4, 5, 1], [1, 2, 4, 4, 5, 3, 3, 4, 4, 2]
_ = math.nan
CODERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3],
    [_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _],
]
FLEISS = [
    [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
]  # fmt: skip


def test_kappas() -> None:
    """Two raters with three weights, many raters."""
    assert cohens_kappa(HUMAN, JUDGE) == pytest.approx(0.5)
    assert cohens_kappa(HUMAN, JUDGE, "linear") == pytest.approx(0.72973, abs=5e-6)
    assert cohens_kappa(HUMAN, JUDGE, "quadratic") == pytest.approx(0.882353, abs=5e-7)
    assert fleiss_kappa(FLEISS) == pytest.approx(0.209931, abs=5e-7)
    assert cohens_kappa([1, 1], [1, 1]) is None
    with pytest.raises(ConfigError, match="same number"):
        fleiss_kappa([[1, 2], [2, 2]])
    with pytest.raises(ConfigError, match="one has 1"):
        cohens_kappa([1], [1, 2])


@pytest.mark.parametrize(
    ("scale", "expected"),
    [("nominal", 0.7434), ("ordinal", 0.8154), ("interval", 0.8491), ("ratio", 0.7974)],
)
def test_krippendorff(scale: str, expected: float) -> None:
    """Four coders, missing ratings, four scales; the order of coders and units does not matter."""
    found = krippendorff_alpha(CODERS, scale)  # type: ignore[arg-type]
    assert found == pytest.approx(expected, abs=5e-5)
    mixed = np.array(CODERS)[::-1, np.random.default_rng(0).permutation(12)]
    assert krippendorff_alpha(mixed, scale) == pytest.approx(found)  # type: ignore[arg-type]


def test_krippendorff_of_nothing() -> None:
    """Where nothing can be compared it is unknown, not perfect."""
    assert krippendorff_alpha([[1, _], [_, 2]]) is None
    assert krippendorff_alpha([[1, 1], [1, 1]]) is None
    assert krippendorff_alpha([[1, 2, 3], [1, 2, 3]]) == 1
    with pytest.raises(ConfigError, match="unknown scale"):
        krippendorff_alpha(CODERS, "ordnal")  # type: ignore[arg-type]


WINS = [[0, 3.5, 4], [1.5, 0, 3], [1, 2, 0]]


def test_bradley_terry() -> None:
    """The worked example with a tie split, without and with the prior."""
    assert bradley_terry(WINS, prior=0) == pytest.approx([2.097130, 0.861481, 0.553514], abs=5e-7)
    strengths = bradley_terry(WINS)
    assert strengths == pytest.approx([1.814778, 0.887325, 0.621003], abs=5e-7)
    assert win_chances(bradley_terry(WINS, prior=0))[0, 1] == pytest.approx(0.7088, abs=5e-5)


def test_one_who_always_wins() -> None:
    """With the prior the strength is finite; without it there is none, and the error says what to do."""
    strengths = bradley_terry([[0, 5], [0, 0]])
    assert strengths == pytest.approx([3.316625, 0.301511], abs=5e-7)
    assert win_chances(strengths)[0, 1] == pytest.approx(0.916667, abs=5e-7)
    with pytest.raises(ConfigError, match="give prior=1"):
        bradley_terry([[0, 5], [0, 0]], prior=0)
    with pytest.raises(ConfigError, match="compare more pairs"):
        bradley_terry([[0, 1, 0], [1, 0, 0], [0, 0, 0]])


@given(st.permutations(range(4)), st.lists(st.integers(0, 9), min_size=16, max_size=16))
def test_strengths_do_not_depend_on_the_order(order: list[int], counts: list[int]) -> None:
    """Conditions in another order have the same strengths."""
    wins = np.array(counts, dtype=float).reshape(4, 4) + 1
    np.fill_diagonal(wins, 0)
    assert bradley_terry(wins[np.ix_(order, order)]) == pytest.approx(
        bradley_terry(wins)[list(order)], rel=1e-6
    )


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=30))
def test_kappa_by_the_grades_themselves(pairs: list[tuple[int, int]]) -> None:
    """Without a gap as by places; a mean of several ratings moves nobody else's grades apart."""
    both = [*pairs, *((grade, grade) for grade in range(1, 6))]
    one, other = ([pair[side] for pair in both] for side in (0, 1))
    assert graded_kappa(one, other) == pytest.approx(cohens_kappa(one, other, "quadratic"))
    nudged = graded_kappa([*one[:-1], 5.001], other)
    assert nudged == pytest.approx(graded_kappa(one, other), abs=0.01)


def test_strength_intervals_are_over_images() -> None:
    """Ten images that agree leave less doubt than ten that don't, however many comparisons each has."""
    clear = np.array([[[0, 4], [1, 0]]] * 10)
    torn = np.array([[[0, 5], [0, 0]]] * 8 + [[[0, 0], [5, 0]]] * 2)
    widths = []
    for tables in (clear, torn):
        interval = strength_intervals(tables)[0]
        assert interval.low <= bradley_terry(tables.sum(axis=0))[0] <= interval.high
        widths.append(interval.high - interval.low)
    assert widths[0] < widths[1]
    with pytest.raises(ConfigError, match="need a prior"):
        strength_intervals(clear, prior=0)
