"""The verdict on a model: each of its branches, with the numbers that lead to it."""

import json

import numpy as np
import pytest
from scipy.special import expit, logit

from emotion.config import DecisionConfig
from emotion.evaluation.calibration import fit_calibration
from emotion.evaluation.decision import fit_rule
from emotion.evaluation.verdict import CHECK_LOSS, USEFUL, USELESS, WEAK, Verdict, find_obstacle, reach_verdict, score_without_texts

FREQUENCIES = 0.33 / np.arange(1, 29) + 0.01
NUM_ROWS = 400
GENERATOR = np.random.default_rng(0)
LABELS = GENERATOR.random((NUM_ROWS, len(FREQUENCIES))) < FREQUENCIES


def predict(signal, seed=0, num_rows=NUM_ROWS):
    """Return gold labels, and the predictions of a model that knows `signal` of them, with thresholds fitted on these rows."""
    generator = np.random.default_rng(seed)
    labels = generator.random((num_rows, len(FREQUENCIES))) < FREQUENCIES
    logits = logit(FREQUENCIES) + signal * (labels - FREQUENCIES) + generator.normal(0, 0.6, labels.shape)
    logits = fit_calibration(labels, logits).apply(logits)
    return labels, fit_rule(labels, logits, DecisionConfig(), "").decide(expit(logits))


def test_scores_of_rules_that_read_no_text_by_hand():
    labels = np.array([[1, 0], [1, 0], [1, 1], [0, 0]], dtype=bool)
    rules = score_without_texts(labels, np.ones_like(labels))
    everything = {"macro_f1": (6 / 7 + 2 / 5) / 2, "micro_f1": 8 / 12}
    first_only = {"macro_f1": 6 / 7 / 2, "micro_f1": 6 / 8}
    assert rules["all labels for every text"] == pytest.approx(everything)
    assert rules["the most frequent set of labels for every text"] == rules["the 1 most frequent labels for every text"]
    assert rules["the 1 most frequent labels for every text"] == pytest.approx(first_only)
    drawn = {"macro_f1": (3 / 4 + 1 / 4) / 2, "micro_f1": (3 * 3 / 4 + 1 * 1 / 4) / 4}
    assert rules["labels drawn at their frequency"] == pytest.approx(drawn)


def test_no_constant_answer_has_a_higher_score_than_the_rules():
    from itertools import product

    labels = LABELS[:, [0, 2, 5, 9]]
    rules = score_without_texts(labels, np.ones_like(labels))
    best = {average: max(scores[average] for scores in rules.values()) for average in ("macro_f1", "micro_f1")}
    answers = [np.broadcast_to(np.array(answer, dtype=bool), labels.shape) for answer in product([False, True], repeat=4)]
    hits, given, gold = (np.array([part.sum(axis=0) for part in parts]) for parts in ([labels & a for a in answers], answers, [labels]))
    assert best["macro_f1"] == pytest.approx((2 * hits / (given + gold)).mean(axis=1).max())
    assert best["micro_f1"] == pytest.approx((2 * hits.sum(axis=1) / (given.sum(axis=1) + gold.sum())).max())


def test_no_constant_answer_is_better_where_labels_are_judged_in_part():
    labels, is_judged = np.zeros((2, 1_000, 2), dtype=bool)
    labels[:100, 0], labels[:90, 1] = True, True  # the second label is in most of the few rows in which it was judged
    is_judged[:, 0], is_judged[:100, 1] = True, True
    rules = score_without_texts(labels, is_judged)
    assert rules["the 1 most frequent labels for every text"]["micro_f1"] == pytest.approx(2 * 90 / (100 + 190))
    predictions = np.zeros_like(labels)
    predictions[:, 1] = True
    verdict = reach_verdict(labels, predictions, is_judged=is_judged)
    assert verdict.verdict == USELESS and verdict.next_step == CHECK_LOSS


def test_a_model_that_knows_the_labels_is_useful():
    verdict = reach_verdict(*predict(3.0), tfidf_scores={"macro_f1": 0.4, "micro_f1": 0.4})
    assert (verdict.verdict, verdict.next_step) == (USEFUL, "")
    assert f"macro-F1 {verdict.scores['model']['macro_f1']:.3f} (" in verdict.reason and "0.400 for TF-IDF" in verdict.reason
    assert str(verdict) == f"verdict: useful: {verdict.reason}"


@pytest.mark.parametrize("num_rows", [25, 100, 400, 2_000])
def test_a_model_that_knows_nothing_is_not_to_be_used_although_its_thresholds_were_fitted_on_the_same_rows(num_rows):
    verdicts = [reach_verdict(*predict(0.0, seed, num_rows)) for seed in range(5)]
    assert [verdict.verdict for verdict in verdicts] == [USELESS] * 5
    assert verdicts[0].reason.startswith(f"no better than all labels for every text beyond chance on {num_rows:,} rows: macro-F1 0.")


def test_all_labels_for_every_text_is_not_to_be_used():
    verdict = reach_verdict(LABELS, np.ones_like(LABELS), {"macro_f1": 0.5, "micro_f1": 0.5})
    assert verdict.verdict == USELESS and verdict.labels_per_text["predicted"] == 28
    gold = LABELS.sum(axis=1).mean()
    assert verdict.reason.endswith(f"0.500 for TF-IDF; 28.0 labels per text, people gave {gold:.1f}")
    assert verdict.next_step.startswith("it gives every text the same labels: if its loss in metrics.jsonl fell and rose again, lower")


@pytest.mark.parametrize(
    ("tfidf", "expected"), [(None, "train on more rows"), (0.5, "TF-IDF learns from"), (0.08, "TF-IDF learns nothing from these rows")]
)
def test_what_to_try_depends_on_tfidf(tfidf, expected):
    scores = None if tfidf is None else {"macro_f1": tfidf, "micro_f1": tfidf}
    assert reach_verdict(*predict(0.0), tfidf_scores=scores).next_step.startswith(expected)


def test_rows_that_cannot_tell_a_model_from_a_constant_answer_allow_no_verdict():
    labels = np.tile([True, False, True], (50, 1))
    assert reach_verdict(labels, labels) is None
    assert find_obstacle(labels) == "all rows have the same gold labels, so a model cannot be told from a constant answer"
    labels[0] = [False, True, False]
    assert find_obstacle(labels) is None and reach_verdict(labels, labels) is not None
    assert find_obstacle(labels[:9]) == "too few rows: 9, at least 10 are needed" and reach_verdict(labels[:9], labels[:9]) is None
    assert find_obstacle(labels & False) == "no row has a gold label"


def test_a_model_that_tfidf_beats_beyond_chance_is_weak():
    labels, predictions = predict(1.5)
    own = reach_verdict(labels, predictions)
    assert own.verdict == USEFUL
    verdict = reach_verdict(labels, predictions, {"macro_f1": own.scores["model"]["macro_f1"] + 0.15, "micro_f1": 0.9})
    assert verdict.verdict == WEAK and verdict.reason.startswith("TF-IDF is better: macro-F1 0.")
    assert "configs/tfidf.yaml" in verdict.next_step
    nearly = reach_verdict(labels, predictions, {"macro_f1": own.scores["model"]["macro_f1"] + 0.005, "micro_f1": 0.9})
    assert nearly.verdict == USEFUL  # within the interval


def test_a_model_that_is_better_by_one_average_only_is_weak():
    labels, predictions = predict(3.0)
    predictions = predictions.copy()
    predictions[:, 0] = True  # one label for every text, 27 by knowledge
    predictions[:, 20:] |= np.random.default_rng(0).random((NUM_ROWS, 8)) < 0.9
    verdict = reach_verdict(labels, predictions)
    assert verdict.verdict == WEAK and "its micro-F1 of 0." in verdict.reason and "beyond chance: macro-F1 0." in verdict.reason


def test_a_model_that_is_little_better_is_weak():
    generator = np.random.default_rng(0)
    labels = generator.random((5_000, 2)) < 0.5
    predictions = labels | (generator.random(labels.shape) < 0.9)  # F1 0.69, that of every label for every text 0.67
    verdict = reach_verdict(labels, predictions)
    assert verdict.verdict == WEAK and verdict.reason.startswith("little better than a rule that reads no text: macro-F1 0.689 (")


@pytest.mark.parametrize("relation", ["more", "fewer"])
def test_a_model_that_gives_far_more_or_fewer_labels_is_weak(relation):
    labels = LABELS[:, :6]
    predictions = labels.copy()
    if relation == "more":
        predictions |= np.random.default_rng(0).random(labels.shape) < 0.25
    else:
        predictions &= np.random.default_rng(0).random(labels.shape) < 0.35
    verdict = reach_verdict(labels, predictions)
    assert verdict.verdict == WEAK and verdict.reason.startswith(f"it gives far {relation} labels than people: macro-F1 0.")
    assert "--refit decision.maximize=micro_f1" in verdict.next_step


def test_labels_that_nobody_judged_do_not_count():
    labels, predictions = predict(3.0)
    is_judged = np.random.default_rng(1).random(labels.shape) < 0.7
    noisy = np.where(is_judged, predictions, ~predictions)
    verdict = reach_verdict(labels & is_judged, noisy, is_judged=is_judged)
    assert verdict == reach_verdict(labels & is_judged, predictions & is_judged, is_judged=is_judged) and verdict.verdict == USEFUL
    with_all = reach_verdict(labels & is_judged, np.ones_like(labels), is_judged=is_judged)
    assert with_all.scores["model"] == with_all.scores["all labels for every text"] and with_all.verdict == USELESS


def test_a_label_without_a_gold_row_counts_as_in_a_report_in_micro_f1_and_labels_per_text_only():
    labels, predictions = predict(3.0)
    more = np.column_stack([labels, np.zeros(NUM_ROWS, dtype=bool)]), np.column_stack([predictions, np.ones(NUM_ROWS, dtype=bool)])
    own, verdict = reach_verdict(labels, predictions), reach_verdict(*more)
    hits, given, gold = (labels & predictions).sum(), predictions.sum() + NUM_ROWS, labels.sum()
    assert verdict.scores["model"] == pytest.approx({"macro_f1": own.scores["model"]["macro_f1"], "micro_f1": 2 * hits / (given + gold)})
    assert verdict.labels_per_text == pytest.approx({"predicted": given / NUM_ROWS, "gold": gold / NUM_ROWS})
    others = [
        {name: rule for name, rule in found.scores.items() if name not in ("model", "all labels for every text")}
        for found in (own, verdict)
    ]
    assert (
        others[0] == others[1]
        and own.scores["all labels for every text"]["macro_f1"] == verdict.scores["all labels for every text"]["macro_f1"]
    )


def test_a_label_that_nobody_judged_does_not_count():
    labels, predictions = predict(3.0)
    more = np.column_stack([labels, np.zeros(NUM_ROWS, dtype=bool)]), np.column_stack([predictions, np.ones(NUM_ROWS, dtype=bool)])
    is_judged = np.column_stack([np.ones_like(labels), np.zeros(NUM_ROWS, dtype=bool)])
    assert reach_verdict(*more, is_judged=is_judged) == reach_verdict(labels, predictions)
    assert reach_verdict(np.zeros_like(labels), predictions) is None


def test_a_verdict_is_json_and_back():
    verdict = reach_verdict(*predict(3.0))
    assert Verdict(**json.loads(json.dumps(verdict.to_dict()))) == verdict
