"""Taxonomies: which labels a parent has, its gold labels, and probabilities fitted on validation rows."""

import numpy as np
import pytest
from scipy.special import expit, logit

from emotion.config import DecisionConfig
from emotion.errors import ConfigError, DataError
from emotion.evaluation.parents import compute_noisy_or_logits, fit_parents, scale_parent
from emotion.evaluation.taxonomy import BUILT_IN, Taxonomy, read_taxonomy
from emotion.evaluation.thresholds import fit_thresholds
from emotion.labels import LabelSet

GOEMOTIONS = LabelSet(
    (
        *("admiration", "amusement", "anger", "annoyance", "approval", "caring", "confusion", "curiosity", "desire", "disappointment"),
        *("disapproval", "disgust", "embarrassment", "excitement", "fear", "gratitude", "grief", "joy", "love", "nervousness", "optimism"),
        *("pride", "realization", "relief", "remorse", "sadness", "surprise", "neutral"),
    )
)
LABELS = LabelSet(("a", "b", "c", "d"))
TAXONOMY = Taxonomy("test", {"x": ("a", "b"), "y": ("b", "c"), "z": ("gone",)})


@pytest.mark.parametrize(("name", "num_parents"), [("ekman", 7), ("sentiment", 4)])
def test_built_in_taxonomies_give_each_label_of_goemotions_one_parent(name, num_parents):
    level = read_taxonomy(name).apply(GOEMOTIONS)
    assert name in BUILT_IN and len(GOEMOTIONS) == 28 and len(level.label_set) == num_parents
    assert (level.children.sum(axis=1) == 1).all() and level.notes == () and level.name == name


def test_labels_that_a_model_lacks_and_labels_without_parent_are_named():
    level = TAXONOMY.apply(LABELS)
    assert level.label_set.names == ("x", "y") and level.children.tolist() == [[True, False], [True, True], [False, True], [False, False]]
    assert level.notes == (
        "taxonomy test: the model does not have the labels 'gone'",
        "taxonomy test: left out, because the model has none of their labels: 'z'",
        "taxonomy test: left out, because they have no parent: 'd'",
    )


def test_a_taxonomy_for_other_labels_is_refused():
    with pytest.raises(DataError) as caught:
        TAXONOMY.apply(LabelSet(("c", "d")))
    assert str(caught.value) == (
        "taxonomy test: 1 of its 3 parents have labels of the model, must be at least 2; the labels of the model are 'c', 'd'"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a, b]", "must map parents to labels"),
        ("x: a\ny: [b]", "x: must be a list of one or more labels"),
        ("x: []\ny: [b]", "x: must be a list of one or more labels"),
        ("x: [[a]]\ny: [b]", "x: must be a list of one or more labels"),
        ("x: [a]\nx: [b]\ny: [c]", "the parents 'x' occur more than once; merge their lists"),
        ("x: [a]\nX: [b]", "the parents 'x' and 'X' look the same; rename one of them"),
        ("x: [a]", "has 1 parents, must be at least 2"),
        ("x: [a]\n? [q]\n: [b]", ":2: the name of a parent must be text"),
        ("x: [a", "is not valid YAML"),
        ("", "must map parents to labels"),
    ],
)
def test_a_file_that_is_no_taxonomy_is_one_line(text, message, tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_taxonomy(str(path))
    assert str(caught.value).startswith(f"--taxonomy {path}:") and message in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_name_lists_the_built_in_ones(tmp_path):
    with pytest.raises(ConfigError) as caught:
        read_taxonomy(f"{tmp_path}/ekmann")
    assert str(caught.value).endswith("cannot be read (No such file or directory); allowed are ekman, sentiment and YAML files")


def test_names_of_a_file_are_text_whatever_yaml_makes_of_them(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("no: [yes, 1, 1]\n2: [null]\n")
    assert read_taxonomy(str(path)).parents == {"no": ("yes", "1"), "2": ("null",)}


def test_a_row_has_a_parent_if_it_has_a_child():
    level = TAXONOMY.apply(LABELS)
    merged, judged = level.merge_labels(np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [1, 0, 1, 0]], dtype=bool))
    assert merged.tolist() == [[True, False], [True, True], [False, False], [True, True]] and judged is None


def test_a_parent_is_judged_if_all_its_children_were():
    level = TAXONOMY.apply(LABELS)
    labels = np.array([[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]], dtype=bool)
    is_judged = np.array([[1, 0, 1, 1], [1, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 1]], dtype=bool)
    merged, judged = level.merge_labels(labels, is_judged)
    assert merged.tolist() == [[False, False], [False, False], [False, False], [True, False]]
    assert judged.tolist() == [[False, False], [False, False], [False, True], [True, False]]
    assert level.merge_labels(labels, np.ones_like(labels))[1] is None


def test_rows_whose_children_were_judged_in_part_do_not_make_a_parent_more_frequent():
    """Rows with a judged child that is there, and without those that may lack it, would be 0.66 of the rows, not 0.51."""
    generator = np.random.default_rng(3)
    labels, is_judged = generator.random((2, 20_000, 4)) < np.array([[[0.3]], [[0.7]]])
    level = TAXONOMY.apply(LABELS)
    merged, judged = level.merge_labels(labels & is_judged, is_judged)
    frequencies = merged.sum(axis=0) / judged.sum(axis=0)
    assert frequencies == pytest.approx([1 - 0.7**2] * 2, abs=0.02) and not (merged & ~judged).any()  # standard error: 0.005


def test_gold_labels_may_be_named_by_the_parent():
    level = TAXONOMY.apply(LABELS)
    assert level.gold_labels.names == ("a", "b", "c", "d", "x", "y")
    labels = level.gold_labels.encode([["y"], ["a"], ["x", "c"]])
    is_judged = np.zeros_like(labels)
    is_judged[:, 4:] = True
    is_judged[1] = [True, True, False, False, False, False]
    merged, judged = level.merge_labels(labels, is_judged)
    assert merged.tolist() == [[False, True], [True, False], [True, True]]
    assert judged.tolist() == [[True, True], [True, False], [True, True]]
    assert Taxonomy("t", {"A": ("a",), "x": ("b",)}).apply(LABELS).gold_labels.names == ("a", "b", "c", "d", "x")


def test_columns_named_as_parents_are_theirs_also_where_labels_have_these_names():
    """Of Ekman's seven all are labels of GoEmotions. A file with these columns says where joy is missing, not only where it is."""
    level = read_taxonomy("ekman").apply(GOEMOTIONS)
    labels = GOEMOTIONS.encode([["joy"], ["anger", "fear"], []])
    is_judged = np.tile(GOEMOTIONS.encode([level.label_set.names]), (3, 1))
    merged, judged = level.merge_labels(labels, is_judged)
    assert judged is None and [level.label_set.decode(row) for row in merged] == [["joy"], ["anger", "fear"], []]
    is_judged[2, GOEMOTIONS.column("amusement")] = True  # a column of another label that is joy: then joy is a label, too
    judged = level.merge_labels(labels, is_judged)[1]
    assert judged.all(axis=0).tolist() == judged.any(axis=0).tolist() == [name != "joy" for name in level.label_set.names]


def test_noisy_or_equals_the_product_and_one_child_is_itself():
    probabilities = np.array([[0.5, 0.2, 0.0, 1.0], [1e-12, 1e-12, 0.3, 0.9]])
    children = np.array([[1, 0], [1, 0], [0, 1], [0, 0]], dtype=bool)
    parents = expit(compute_noisy_or_logits(probabilities, children))
    assert parents[0] == pytest.approx([0.6, 1e-9]) and parents[1] == pytest.approx([2e-9, 0.3], rel=1e-6)
    assert np.isfinite(compute_noisy_or_logits(np.array([[1.0, 1.0, 1.0, 1.0]], dtype=np.float32), children)).all()


def test_calibration_recovers_slope_and_intercept_and_stays_near_noisy_or_on_few_rows():
    generator = np.random.default_rng(0)
    logits = generator.normal(-1, 2, 100_000)
    labels = generator.random(len(logits)) < expit(0.6 * logits - 0.5)
    slope, intercept = scale_parent(labels, logits)
    assert slope == pytest.approx(0.6, abs=0.03) and intercept == pytest.approx(-0.5, abs=0.05)  # standard errors are 0.005 and 0.009
    assert scale_parent(labels[:0], logits[:0]) == (1.0, 0.0)
    few_slope, few_intercept = scale_parent(np.zeros(5, dtype=bool), np.full(5, -3.0))
    assert abs(few_slope - 1) < 0.1 and abs(few_intercept) < 0.1  # without the penalty the loss falls for ever


def test_calibration_has_the_least_penalized_loss():
    """At the minimum both derivatives are 0."""
    generator = np.random.default_rng(1)
    logits, labels = generator.normal(0, 2, 300), generator.random(300) < 0.2
    slope, intercept = scale_parent(labels, logits, penalty=2.0)
    errors = expit(slope * logits + intercept) - labels
    assert abs(errors @ logits + 2 * (slope - 1)) < 1e-6 and abs(errors.sum() + 2 * intercept) < 1e-6


@pytest.mark.parametrize("seed", range(5))
def test_calibration_has_the_least_loss_where_the_logits_are_much_too_sure(seed):
    """Newton's full steps swing between two points there, and the slope stayed 1."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 6, 300)
    labels = generator.random(300) < expit(0.1 * logits + 1.5)
    slope, intercept = scale_parent(labels, logits, penalty=2.0)
    errors = expit(slope * logits + intercept) - labels
    assert abs(errors @ logits + 2 * (slope - 1)) < 1e-6 and abs(errors.sum() + 2 * intercept) < 1e-6 and slope < 0.3


def make_rows(num_rows=4_000):
    """Return gold labels and probabilities of labels that exclude one another, so that noisy-or is too high."""
    generator = np.random.default_rng(2)
    probabilities = generator.dirichlet([0.5] * 4, num_rows)
    return (generator.random(num_rows)[:, None] < probabilities.cumsum(axis=1)).cumsum(axis=1) == 1, probabilities


def test_fitted_parents_are_calibrated_where_noisy_or_is_not():
    labels, probabilities = make_rows()
    level = TAXONOMY.apply(LABELS)
    parents = fit_parents(level, labels, probabilities, DecisionConfig())
    gold, _ = level.merge_labels(labels)
    fitted, plain = parents.convert(probabilities), expit(compute_noisy_or_logits(probabilities, level.children))
    assert fitted.dtype == np.float32 and fitted.shape == (4_000, 2) and ((fitted >= 0) & (fitted <= 1)).all()
    assert np.abs(fitted.mean(axis=0) - gold.mean(axis=0)).max() < 0.002  # the intercept's derivative, but for the penalty
    assert (plain.mean(axis=0) < gold.mean(axis=0) - 0.03).all()
    for column in range(2):  # the order of the rows stays
        assert (np.diff(fitted[np.argsort(plain[:, column]), column]) >= 0).all()


def test_thresholds_are_fitted_at_the_level_of_the_parents():
    labels, probabilities = make_rows()
    level = TAXONOMY.apply(LABELS)
    parents = fit_parents(level, labels, probabilities, DecisionConfig(empty_set="top1"))
    gold, _ = level.merge_labels(labels)
    assert parents.rule.empty_set == "top1" and parents.rule.fitted_on == "4,000 validation rows, labels of the taxonomy test"
    expected = fit_thresholds(gold, logit(parents.convert(probabilities).astype(float)), DecisionConfig())
    assert parents.rule.thresholds == pytest.approx(expected, abs=1e-4)  # float32 moves a threshold by less than the gap of two rows


def test_rows_that_were_not_judged_do_not_count():
    labels, probabilities = make_rows()
    level = TAXONOMY.apply(LABELS)
    is_judged = np.ones_like(labels)
    is_judged[2_000:] = False
    wrong = np.where(is_judged, labels, False)
    half = fit_parents(level, labels[:2_000], probabilities[:2_000], DecisionConfig())
    masked = fit_parents(level, wrong, probabilities, DecisionConfig(), is_judged)
    assert masked.slopes == pytest.approx(half.slopes) and masked.rule.thresholds == pytest.approx(half.rule.thresholds)
