"""Checks, intervals and gaps: a constant model passes invariance and nothing else, a planted gap is found with its size."""

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_1samp

from emotion.errors import DataError
from emotion.evaluation.behaviour.checks import TOLERANCE, list_texts, run_checks
from emotion.evaluation.behaviour.gaps import find_gaps
from emotion.evaluation.behaviour.intervals import compute_paired_p_value, find_pass_interval
from emotion.evaluation.behaviour.suite import BUNDLED, Case, read_suite
from emotion.evaluation.decision import DecisionRule, default_rule
from emotion.labels import LabelSet

LABELS = LabelSet(("anger", "joy", "love"))
RULE = default_rule(3)


def make_case(text, expect, labels=(), compare_to="", group="", term="", capability="c"):
    return Case(text, capability, text, expect, tuple(labels), compare_to, group, term, "", False)


def check(case, values, *others, label_set=LABELS, rule=RULE):
    """Return the outcome of a case, given the probabilities of its text and of its counterpart."""
    (outcome,) = run_checks([case], np.array([values, *others]), label_set, rule).answered
    return outcome.is_passed, pytest.approx(outcome.excess)


@pytest.mark.parametrize(
    ("expect", "labels", "values", "expected"),
    [
        ("any", ["joy", "love"], [0.9, 0.1, 0.6], (True, 0)),
        ("any", ["joy", "love"], [0.9, 0.1, 0.2], (False, 0.3)),  # love is nearest to its threshold
        ("all", ["joy", "love"], [0.1, 0.7, 0.6], (True, 0)),
        ("all", ["joy", "love"], [0.1, 0.7, 0.2], (False, 0.3)),
        ("none", ["joy", "love"], [0.9, 0.4, 0.4], (True, 0)),
        ("none", ["joy", "love"], [0.1, 0.6, 0.9], (False, 0.4)),
    ],
)
def test_minimum_functionality(expect, labels, values, expected):
    assert check(make_case("a", expect, labels), values) == expected


@pytest.mark.parametrize(
    ("expect", "value", "other", "expected"),
    [
        ("higher", 0.7, 0.6, (True, 0)),
        ("higher", 0.6, 0.6, (False, 0)),
        ("higher", 0.2, 0.6, (False, 0.4)),
        ("lower", 0.6, 0.7, (True, 0)),
        ("lower", 0.6, 0.6, (False, 0)),
        ("lower", 0.9, 0.6, (False, 0.3)),
        ("not_lower", 0.5, 0.55, (True, 0)),
        ("not_lower", 0.3, 0.9, (False, 0.6 - TOLERANCE)),
        ("same", 0.5, 0.55, (True, 0)),
        ("same", 0.3, 0.9, (False, 0.6 - TOLERANCE)),
        ("same", 0.9, 0.3, (False, 0.6 - TOLERANCE)),
    ],
)
def test_directions_and_invariance(expect, value, other, expected):
    assert check(make_case("a", expect, ["joy"], "b"), [0.5, value, 0.5], [0.5, other, 0.5]) == expected


def test_directions_are_those_of_the_mean_and_invariance_is_of_every_label():
    values, others = [0.5, 0.6, 0.1], [0.5, 0.3, 0.3]
    assert check(make_case("a", "higher", ["joy", "love"], "b"), values, others)[0]
    assert check(make_case("a", "same", (), "b"), values, others) == (False, 0.2)
    assert check(make_case("a", "same", ["anger"], "b"), values, others)[0]


def test_a_group_is_compared_with_its_mean():
    cases = [make_case(text, "same", group="g") for text in "abc"]
    probabilities = np.array([[0.5, 0.3, 0], [0.5, 0.3, 0], [0.5, 0.9, 0]])  # mean of joy: 0.5
    outcomes = run_checks(cases, probabilities, LABELS, RULE).answered
    assert [outcome.excess for outcome in outcomes] == pytest.approx([0.1, 0.1, 0.3])
    assert outcomes[2].detail == "joy 0.90, mean of the group 0.50"


def test_the_empty_set_policy_counts():
    rule = DecisionRule((0.5, 0.5, 0.5), "top1")
    case = make_case("a", "any", ["joy"])
    assert check(case, [0.1, 0.4, 0.2], rule=rule) == (True, 0) and not check(case, [0.1, 0.4, 0.2])[0]


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_constant_model_passes_invariance_and_no_direction(value):
    cases = read_suite(BUNDLED)
    names = sorted({name for case in cases for name in case.labels})
    probabilities = np.full((len(list_texts(cases)), len(names)), value)
    outcomes = run_checks(cases, probabilities, LabelSet(tuple(names)), default_rule(len(names)))
    passed = {
        expect: {outcome.is_passed for outcome in outcomes.answered if outcome.case.expect == expect}
        for expect in ("same", "not_lower", "higher", "lower", "any", "none")
    }
    assert passed["same"] == passed["not_lower"] == {True} and passed["higher"] == passed["lower"] == {False}
    assert passed["any"] == {value >= 0.5} and passed["none"] == {value < 0.5}  # a model cannot pass both
    assert not any(gap["difference"] for row in find_gaps(cases, probabilities, LabelSet(tuple(names))) for gap in row["gaps"])


def test_cases_of_other_labels_are_skipped_and_counted():
    cases = [
        make_case("a", "any", ["joy", "pride"]),
        make_case("b", "all", ["pride"]),
        make_case("c", "higher", ["joy", "pride"], "d"),
        make_case("e", "none", ["anger", "pride"]),  # holds for anger alone
        make_case("f", "none", ["grief"]),
        make_case("g", "any", ["JOY"]),
    ]
    outcomes = run_checks(cases, np.full((7, 3), 0.4), LABELS, RULE)
    assert [outcome.case.text for outcome in outcomes.answered] == ["e", "g"]
    assert [case.text for case in outcomes.skipped] == ["a", "b", "c", "f"] and outcomes.missing_labels == {"pride": 3, "grief": 1}
    with pytest.raises(DataError, match=r"^no case has labels of the model only: it lacks 'grief', and has 'anger', 'joy', 'love'$"):
        run_checks(cases[4:5], np.full((1, 3), 0.4), LABELS, RULE)


@pytest.mark.parametrize(("passed", "cases"), [(0, 10), (3, 10), (10, 10), (40, 57)])
def test_interval_of_independent_cases_is_wilsons(passed, cases):
    expected = binomtest(passed, cases).proportion_ci(method="wilson")
    values = np.arange(cases) < passed
    assert find_pass_interval(values.astype(float), np.arange(cases)) == pytest.approx((expected.low, expected.high))


def test_interval_of_equal_answers_in_each_cluster_is_about_that_of_the_clusters():
    """Eight copies of 12 cases tell no more than the 12: the interval is as wide as that, and wider by Student's factor."""
    once = np.array([1.0] * 9 + [0.0] * 3)
    low, high = find_pass_interval(np.repeat(once, 8), np.repeat(np.arange(12), 8))
    alone = find_pass_interval(once, np.arange(12))
    independent = find_pass_interval(np.repeat(once, 8), np.arange(96))
    assert low < alone[0] < independent[0] and independent[1] < alone[1] < high
    assert high - low < 1.2 * (alone[1] - alone[0])  # t with 11 degrees of freedom: 2.20 in place of 1.99 and 1.96
    passed_all = find_pass_interval(np.ones(96), np.repeat(np.arange(12), 8))
    assert passed_all == pytest.approx(find_pass_interval(np.ones(12), np.arange(12))) and passed_all[1] == 1
    assert find_pass_interval(np.ones(5), np.zeros(5, dtype=int)) == (0, 1)


def test_interval_holds_its_level_on_clustered_cases():
    """200 draws of 12 clusters of 8 cases whose rates vary between clusters: 95 % hold the true rate, give or take 4 standard errors."""
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        rates = generator.beta(4, 2, 12)  # mean 2/3
        passed = (generator.random((12, 8)) < rates[:, None]).astype(float).ravel()
        low, high = find_pass_interval(passed, np.repeat(np.arange(12), 8))
        hits += low <= 2 / 3 <= high
    assert hits / 200 >= 0.95 - 4 * np.sqrt(0.95 * 0.05 / 200)


def test_paired_test_is_mcnemars_where_cases_are_independent():
    first, second = np.zeros(40), np.zeros(40)
    first[:12], second[9:12], second[12:14] = 1, 1, 1  # 9 cases are passed by the first only, 2 by the second only
    expected = binomtest(2, 11).pvalue
    error = np.sqrt(expected * (1 - expected) / 10_000)
    assert compute_paired_p_value(first, second, np.arange(40)) == pytest.approx(expected, abs=5 * error + 1e-4)
    assert compute_paired_p_value(first, first, np.arange(40)) == 1
    assert compute_paired_p_value(np.ones(40), np.zeros(40), np.zeros(40, dtype=int)) == 1  # one cluster shows nothing


def make_identity_cases(num_sentences, terms):
    return [
        make_case(f"{term} {number}", "same", group=str(number), term=term, capability="identity")
        for number in range(num_sentences)
        for term in terms
    ]


def test_a_planted_gap_is_found_with_its_size():
    """One of four terms raises joy by 0.2: 0.15 above the mean of the four terms. Noise does not make the other terms differ."""
    terms, num_sentences = ("w", "x", "y", "z"), 12
    generator = np.random.default_rng(0)
    probabilities = 0.4 + np.repeat(generator.normal(0, 0.1, (num_sentences, 3)), 4, axis=0) + generator.normal(0, 0.01, (48, 3))
    probabilities[2::4, 1] += 0.2
    cases = make_identity_cases(num_sentences, terms)
    assert list_texts(cases) == [case.text for case in cases]
    (found,) = find_gaps(cases, probabilities, LABELS)
    best = found["gaps"][0]
    assert (best["term"], best["label"], best["sentences"]) == ("y", "joy", 12) and best["p_value"] < 1e-6
    assert best["low"] < 0.15 < best["high"] and best["difference"] == pytest.approx(0.15, abs=4 * 0.01 / np.sqrt(12))
    differences = probabilities[2::4, 1] - probabilities.reshape(12, 4, 3)[:, :, 1].mean(axis=1)
    assert (best["low"], best["high"]) == pytest.approx(tuple(ttest_1samp(differences, 0).confidence_interval()))
    assert found["num_tests"] == 12 and 1 <= found["num_found"] <= 4  # joy of the other terms is 0.05 below the mean
    assert {gap["term"] for gap in found["gaps"]} == set(terms)


def test_without_a_gap_none_is_significant_in_most_suites():
    """Holm's correction: of 100 suites without any gap, about 5 have a significant difference; 5 + 4 standard errors at most."""
    generator = np.random.default_rng(1)
    cases = make_identity_cases(12, ("w", "x", "y", "z"))
    wrong = sum(find_gaps(cases, generator.normal(0.5, 0.05, (48, 3)), LABELS)[0]["num_found"] > 0 for _ in range(100))
    assert wrong <= 100 * (0.05 + 4 * np.sqrt(0.05 * 0.95 / 100))
