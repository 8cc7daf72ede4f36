"""Scores, tests and conclusions of a comparison on simulated models with known differences."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score

from emotion.config import load_config
from emotion.errors import DataError
from emotion.evaluation.comparison.accuracy import compare_labels, compare_pairs, count_resamples, score_models
from emotion.evaluation.comparison.conclusion import conclude
from emotion.evaluation.comparison.costs import compute_cost, find_pareto_front, find_scaling_curves
from emotion.evaluation.comparison.report import list_runs
from emotion.evaluation.comparison.runs import Run, check_comparable, group_seeds
from emotion.evaluation.uncertainty import adjust_p_values, draw_counts, equivalence_p_value, paired_p_value, resample_scores
from emotion.labels import LabelSet

NUM_LABELS = 4


LARGE = ["model.backbone=bundled:all-mpnet-base-v2"]


def make_run(name, error=0.15, draw=0, num_rows=400, label_draw=0, seed=0, overrides=(), bad_label=None, **speed):
    """Return a run that flips each decision with probability `error`, and with 0.45 on `bad_label`.

    `draw` seeds the errors and `label_draw` the gold labels; `seed` is the training seed in the run's config.
    """
    labels = np.random.default_rng(label_draw).random((num_rows, NUM_LABELS)) < 0.3
    generator = np.random.default_rng([draw, 77])
    errors = np.full(NUM_LABELS, error)
    if bad_label is not None:
        errors[bad_label] = 0.45
    predictions = labels ^ (generator.random(labels.shape) < errors)
    probabilities = np.where(predictions, 0.6, 0.1) + 0.3 * generator.random(labels.shape)
    config = load_config(None, [f"training.seed={seed}", f"run.name={name}", *overrides])
    label_set = LabelSet(tuple("abcd"[:NUM_LABELS]))
    return Run(name, config, label_set, [str(i) for i in range(num_rows)], labels, probabilities, predictions, {}, speed)


def compare(*runs, num_resamples=500):
    models = score_models(group_seeds(runs), num_resamples)
    return models, compare_pairs(models, "macro_f1")


def write_conclusion(models, differences):
    return " ".join(conclude(models, differences, [compute_cost(model) for model in models]))


def test_holm_correction_equals_values_computed_by_hand():
    # 0.01 x 4 = 0.04, 0.02 x 3 = 0.06, 0.03 x 2 = 0.06, 0.5 x 1 = 0.5; each is at least the one before
    assert adjust_p_values(np.array([0.03, 0.01, 0.5, 0.02])) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert adjust_p_values(np.array([0.4, 0.9])) == pytest.approx([0.8, 0.9])
    assert adjust_p_values(np.array([])).shape == (0,)


def test_identical_models_show_no_difference():
    models, (difference,) = compare(make_run("one"), make_run("copy"))
    assert difference.value == 0 and difference.p_value == 1 and difference.winner is None
    assert difference.verdict == "practically equal"
    text = write_conclusion(models, [difference])
    assert text.startswith(("**one** and **copy** have the highest macro-F1", "**copy** and **one** have the highest macro-F1"))
    assert " and it are practically equal: their macro-F1 differs by less than 0.01 (p < 0.05)." in text and "better" not in text


def test_the_table_of_runs_says_which_ones_were_taught():
    taught = make_run("student", overrides=["distillation.teachers=[runs/a, runs/b]"])
    models = score_models(group_seeds([make_run("single"), taught]), 10)
    methods = {row[0]: row[3] for row in list_runs(models).rows}
    assert methods == {"single": "full fine-tuning", "student": "full fine-tuning, 2 teachers"}


def test_two_different_models_of_the_same_quality_are_not_called_equal_on_few_rows():
    models, (difference,) = compare(make_run("one"), make_run("two", draw=1))
    assert difference.verdict == "no significant difference" and not difference.is_equivalent
    assert "There is no significant difference between it and" in write_conclusion(models, [difference])


def test_equivalence_p_value_counts_the_resamples_beyond_the_margin():
    differences = np.array([-0.03, -0.01, 0.0, 0.005, 0.01, 0.02, 0.0, 0.0, 0.0])
    assert equivalence_p_value(differences, 0.01, 600) == pytest.approx((1 + 2) / 10)  # 0.01 and 0.02; -0.01 and -0.03
    assert equivalence_p_value(differences, 0.025, 600) == pytest.approx((1 + 1) / 10)
    assert equivalence_p_value(np.full(99, 0.2), 0.1, 600) == 1


def test_few_rows_without_a_difference_do_not_show_that_there_is_none():
    """299 rows: where two models differ on one row of a hundred, 298 show nothing with a probability of 0.99^298 = 0.0500."""
    none = np.zeros(9_999)
    assert equivalence_p_value(none, 0.01, 1) == pytest.approx(0.99) and equivalence_p_value(none, 0.01, 100) == pytest.approx(
        0.366, abs=1e-3
    )
    assert equivalence_p_value(none, 0.01, 298) > 0.05 > equivalence_p_value(none, 0.01, 299)
    assert compare(make_run("one", num_rows=20), make_run("copy", num_rows=20))[1][0].verdict == "no significant difference"


@pytest.mark.parametrize(("margin", "verdict"), [(0.5, "good is better, but practically equal"), (0.001, "good is better")])
def test_a_model_can_be_better_and_practically_equal(margin, verdict):
    models = score_models(group_seeds([make_run("good", 0.1), make_run("bad", 0.2, draw=1)]), 500)
    (difference,) = compare_pairs(models, "macro_f1", margin)
    assert difference.verdict == verdict and difference.margin == margin


def test_equivalence_is_corrected_for_the_number_of_pairs():
    """The smallest of the three p-values is multiplied by 3, as Holm's method does."""
    runs = [make_run("one"), make_run("two", draw=1), make_run("three", 0.3, draw=2)]
    models = score_models(group_seeds(runs), 500)
    gaps = [models[i].resampled["macro_f1"] - models[j].resampled["macro_f1"] for i, j in ((0, 1), (0, 2), (1, 2))]
    single = [equivalence_p_value(gap, 0.05, 400) for gap in gaps]
    pairs = compare_pairs(models, "macro_f1", 0.05)
    assert single[0] == min(single) < max(single) and pairs[0].equivalence_p_value == pytest.approx(min(1, 3 * single[0]))


def test_models_that_differ_by_the_margin_are_rarely_called_equal():
    """The true difference of accuracy is 0.05 = the margin, so p < 0.05 occurs in at most about 5% of 200 draws.

    The number of such draws is binomial; it is above 22 with a probability below 0.001. At a true difference of 0 it is usual.
    """
    num_equal = dict.fromkeys((0.0, 0.05), 0)
    for draw in range(200):
        for difference in num_equal:
            generator = np.random.default_rng([draw, 5])
            # Rows that only the first, only the second, or both or none of two models gets right.
            rows = generator.multinomial(600, [0.1 + difference, 0.1, 0.8 - difference])
            resampled = generator.multinomial(600, rows / 600, 2_000)
            num_equal[difference] += equivalence_p_value((resampled[:, 0] - resampled[:, 1]) / 600, 0.05, 600) < 0.05
    assert num_equal[0.05] <= 22 and num_equal[0.0] > 50


def make_external(name="other model", has_probabilities=False, **options):
    run = make_run(name, **options)
    probabilities = run.probabilities if has_probabilities else None
    return replace(run, config=None, probabilities=probabilities, notes=("labels only",))


def test_models_that_were_not_trained_here_are_tested_in_the_same_way():
    runs = [make_run("good", 0.1), make_run("bad", 0.3, draw=1)]
    _, (expected,) = compare(*runs)
    models, (difference,) = compare(runs[0], make_external("bad", error=0.3, draw=1))
    assert (difference.value, difference.interval, difference.p_value) == (expected.value, expected.interval, expected.p_value)
    assert np.isnan(models[1].score("macro_average_precision")) and models[0].score("macro_average_precision") > 0.5
    text = write_conclusion(models, [difference])
    assert "Every model was trained with one seed" in text and "The predictions of bad were read from files" in text


def test_models_that_were_not_trained_here_are_never_seeds_of_one_model():
    names = [group.name for group in group_seeds([make_external("x"), make_external("y", draw=1), make_run("z")])]
    assert names == ["x", "y", "z"]
    assert find_scaling_curves(score_models(group_seeds([make_external("x"), make_run("z")]), 50)) == []


def test_a_known_difference_is_found_in_the_right_label():
    good, bad = make_run("good", 0.1), make_run("bad", 0.1, draw=1, bad_label=2)
    models, (difference,) = compare(good, bad)
    assert difference.winner is models[0] and difference.interval[0] > 0
    gaps, p_values = compare_labels(models[1], models[0])
    assert gaps.argmin() == 2 and (p_values < 0.05).tolist() == [False, False, True, False]
    assert "It is better than bad (paired bootstrap over test rows, p < 0.05" in write_conclusion(models, [difference])


@pytest.mark.slow
def test_false_positive_rate_is_near_the_significance_level():
    """Two models have the same error rate, so p < 0.05 occurs in about 5% of 200 draws.

    The number of such draws is binomial; it is 0 or above 22 with a probability below 0.001.
    """
    num_significant = 0
    for draw in range(200):
        runs = [make_run(str(i), draw=2 * draw + i, num_rows=150, label_draw=draw) for i in range(2)]
        scores = [resample_scores(run.labels, run.predictions, draw_counts(150, 200, seed=draw))["macro_f1"] for run in runs]
        num_significant += paired_p_value(scores[0] - scores[1]) < 0.05
    assert 1 <= num_significant <= 22


def test_a_label_without_gold_rows_is_neither_compared_nor_counted():
    runs = [make_run("good", 0.1), make_run("bad", 0.2, draw=1)]
    labels = runs[0].labels.copy()
    labels[:, 3] = False
    models, (difference,) = compare(*(replace(run, labels=labels) for run in runs))
    gaps, p_values = compare_labels(models[1], models[0])
    assert np.isnan([gaps[3], p_values[3]]).all() and not np.isnan([gaps[:3], p_values[:3]]).any()
    expected = [f1_score(labels[:, :3], run.predictions[:, :3], average="macro") for run in runs]
    assert difference.value == pytest.approx(expected[0] - expected[1])


def test_runs_that_differ_in_their_seed_are_one_model_with_their_mean_score():
    runs = [make_run("m-seed0"), make_run("m-seed1", draw=1, seed=1), make_run("other", overrides=["training.epochs=9"])]
    models, _ = compare(*runs)
    assert [(model.name, len(model.by_seed)) for model in models] == [("m", 2), ("other", 1)]
    scores = [f1_score(run.labels, run.predictions, average="macro") for run in runs[:2]]
    assert models[0].score("macro_f1") == pytest.approx(np.mean(scores))
    assert models[0].std("macro_f1") == pytest.approx(np.std(scores, ddof=1)) and models[1].std("macro_f1") is None


@pytest.mark.parametrize("num_models", [2, 20, 23, 40])
def test_a_clear_difference_is_significant_among_any_number_of_models(num_models):
    """With 10,000 resamples, 23 models make so many pairs that Holm's correction would leave none of them below 0.05."""
    num_pairs, num_resamples = num_models * (num_models - 1) // 2, count_resamples(num_models)
    smallest = paired_p_value(np.ones(num_resamples))
    assert num_resamples >= 10_000 and adjust_p_values(np.full(num_pairs, smallest)).max() < 0.05


@pytest.mark.parametrize(
    ("names", "name"),
    [(("mini-10", "mini-11"), "mini"), (("mini-s1", "mini-s10"), "mini"), (("mini-1a", "mini-1b"), "mini-1"), (("10", "11"), "10")],
)
def test_name_of_a_model_with_several_seeds_has_no_part_of_a_number(names, name):
    (group,) = group_seeds([make_run(run_name, seed=seed) for seed, run_name in enumerate(names)])
    assert group.name == name


def test_relative_and_absolute_data_paths_are_one_model(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    runs = [make_run("m-0", overrides=["data.source=data"]), make_run("m-1", seed=1, overrides=[f"data.source={tmp_path}/data"])]
    assert [len(group.runs) for group in group_seeds(runs)] == [2]
    assert len(group_seeds([runs[0], make_run("other", seed=1, overrides=["data.source=elsewhere"])])) == 2


def test_two_different_models_with_one_name_are_refused():
    with pytest.raises(DataError, match="same: two different models have this name; rename one of the run folders"):
        group_seeds([make_run("same"), make_run("same", overrides=["training.epochs=9"])])


def test_conclusion_names_a_difference_within_the_range_of_seeds():
    runs = [make_run("m-0", 0.05), make_run("m-1", 0.25, draw=1, seed=1), make_run("other", 0.2, draw=2, overrides=["training.epochs=9"])]
    models, (difference,) = compare(*runs)
    assert difference.winner is models[0] and difference.is_within_seed_range
    text = write_conclusion(models, [difference])
    assert "However, m and other differ no more than two seeds of one model do" in text
    assert "unknown for models that were trained with one seed: other." in text


def test_conclusion_of_a_single_model_makes_no_comparison():
    (model,), differences = compare(make_run("only"))
    text = write_conclusion([model], differences)
    assert text.startswith("**only** has a macro-F1 of ") and "nothing to compare it with" in text and "highest" not in text


def test_pareto_front_leaves_out_models_that_another_beats_in_cost_and_score():
    assert find_pareto_front([1.0, 2.0, 3.0, 3.0], [0.5, 0.4, 0.7, 0.6]) == [0, 2]


def test_scaling_curves_hold_models_that_differ_only_in_their_train_fraction():
    runs = [make_run(f"r{i}", overrides=[f"data.train_fraction={fraction}"]) for i, fraction in enumerate((1.0, 0.25))]
    runs.append(make_run("other", overrides=["training.epochs=9", "data.train_fraction=0.5"]))
    models, _ = compare(*runs)
    assert [[model.name for model in curve] for curve in find_scaling_curves(models)] == [["r1", "r0"]]


def test_conclusion_names_the_cheapest_model_that_is_not_significantly_worse():
    runs = [
        make_run("slow", texts_per_second=10.0, overrides=LARGE),
        make_run("quick", texts_per_second=1_000.0),
        make_run("bad", 0.4, texts_per_second=1e6),
    ]
    text = write_conclusion(*compare(*runs))
    assert "**quick** is the cheapest at inference: 0.28 hours per million texts, compared with 28 for slow." in text
    text = write_conclusion(*compare(make_run("slow", texts_per_second=2.3, overrides=LARGE), *runs[1:]))
    assert "compared with 120 for slow." in text  # two significant digits, but no exponent


@pytest.mark.parametrize("rates", [(40.0, 60.0), (60.0, 40.0)])
def test_conclusion_calls_no_model_cheaper_than_one_that_computes_the_same(rates):
    one, other = (make_run(name, texts_per_second=rate) for name, rate in zip(("one", "other"), rates, strict=True))
    assert "cheapest" not in write_conclusion(*compare(one, other))  # two trainings of one backbone: their times differ by chance
    assert "cheapest" not in write_conclusion(*compare(one, other, make_run("large", texts_per_second=1.0, overrides=LARGE)))
    assert "**large** is the cheapest" in write_conclusion(*compare(one, other, make_run("large", texts_per_second=1e3, overrides=LARGE)))


def test_conclusion_compares_no_costs_of_different_devices():
    slow = make_run("slow", texts_per_second=10.0, device="x86_64 CPU", overrides=LARGE)
    runs = [slow, make_run("quick", texts_per_second=1e3, device="NVIDIA H100")]
    assert "cheapest" not in write_conclusion(*compare(*runs))
    assert "cheapest" in write_conclusion(*compare(runs[0], make_run("quick", texts_per_second=1e3, device="x86_64 CPU")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": [str(i + 1) for i in range(400)]}, "their test rows differ (400 and 400 rows, 399 ids in common)"),
        ({"label_set": LabelSet(tuple("abce"))}, "their label sets differ (d, e)"),
        ({"label_set": LabelSet(tuple("abdc"))}, "their label sets differ (same names in another order)"),
        ({"labels": np.zeros((400, NUM_LABELS), dtype=bool)}, "gold labels of"),
        ({"is_judged": np.arange(400)[:, None] * np.ones(NUM_LABELS, dtype=bool) > 0}, "the gold labels of 1 test rows differ"),
    ],
)
def test_runs_with_other_test_data_are_refused(change, message):
    with pytest.raises(DataError) as caught:
        check_comparable([make_run("one"), replace(make_run("two"), **change)])
    assert message in str(caught.value) and str(caught.value).startswith("two: cannot be compared with one")


def test_test_rows_without_a_gold_label_are_refused():
    runs = [replace(make_run(name), labels=np.zeros((400, NUM_LABELS), dtype=bool), taxonomy="ekman") for name in ("one", "two")]
    with pytest.raises(
        DataError, match=r"^one: none of its 400 test rows has a gold label of the taxonomy ekman: nothing can be compared$"
    ):
        check_comparable(runs)
