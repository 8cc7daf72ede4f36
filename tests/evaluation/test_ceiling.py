"""The human ceiling: each rater against the majority of the others, beside the model on the same labels."""

import numpy as np
import pytest

from emotion.evaluation.ceiling import MIN_TEXTS, describe_ceiling, list_ceiling, measure_ceiling
from emotion.evaluation.decision import default_rule
from emotion.evaluation.document import Figure
from emotion.evaluation.reporting import write_report
from emotion.evaluation.rows import ScoredRows
from emotion.labels import LabelSet
from emotion.ratings import UNKNOWN, Ratings

PIXEL = b"\x89PNG\r\n\x1a\n" + bytes(12)
NUM_TEXTS, NUM_LABELS = 60, 4
GENERATOR = np.random.default_rng(0)
GOLD = GENERATOR.random((NUM_TEXTS, NUM_LABELS)) < 0.4


def make_ratings(*labels, names=None, is_judged=None):
    """Return the ratings of raters who labelled every text, with `labels`, bool (n, L), of each."""
    num_raters, num_texts = len(labels), len(labels[0])
    together = np.concatenate(labels)
    judged = np.ones_like(together) if is_judged is None else np.concatenate(is_judged)
    raters = np.repeat(np.arange(num_raters), num_texts)
    return Ratings(np.tile(np.arange(num_texts), num_raters), raters, tuple(names or "abcdef"[:num_raters]), together, judged)


def add_noise(fraction, seed):
    generator = np.random.default_rng(seed)
    return GOLD ^ (generator.random(GOLD.shape) < fraction)


def test_the_ceiling_of_raters_who_agree_is_one():
    ceiling = measure_ceiling(make_ratings(GOLD, GOLD, GOLD), ~GOLD)
    for name in ("macro_f1", "micro_f1"):
        assert ceiling["all"]["raters"][name] == 1 and ceiling["all"]["raters"][f"{name}_interval_95"] == (1, 1)
        assert ceiling["all"]["model"][name] == 0
    assert ceiling["num_ratings"] == 3 * NUM_TEXTS and ceiling["num_texts"] == NUM_TEXTS and ceiling["num_ties"] == 0
    sentence = describe_ceiling(ceiling)[1]
    assert sentence.endswith("it agrees less well with the majority than a rater does (model minus rater -1.000 (-1.000 to -1.000))")


def test_a_careless_rater_has_the_lowest_agreement():
    ratings = make_ratings(add_noise(0.05, 1), add_noise(0.5, 2), add_noise(0.05, 3), add_noise(0.05, 4), names=["x", "careless", "y", "z"])
    ceiling = measure_ceiling(ratings, add_noise(0.05, 5))
    rows = {row["rater"]: row for row in ceiling["per_rater"]}
    assert list(rows)[-1] == "careless" and len(rows) == 4
    assert rows["careless"]["raters"]["macro_f1_interval_95"][1] < min(rows[name]["raters"]["macro_f1_interval_95"][0] for name in "xyz")
    assert [cells[0] for cells in list_ceiling(ceiling)] == ["all 4 raters", *rows]


def test_targets_are_the_majority_of_the_others_and_ties_count():
    """Worked out by hand, one label besides an unused one, repeated so that there are enough texts.

    Raters give 1, 1, 0: for the first two, the others tie (1 and 0), which counts as given: a hit each. For the third the others gave it:
    missed. The model, which predicts it, is right in all three.
    """
    given = [np.tile([[vote, 0]], (MIN_TEXTS, 1)) > 0 for vote in (1, 1, 0)]
    ceiling = measure_ceiling(make_ratings(*given), given[0])
    assert ceiling["num_ties"] == 2 * MIN_TEXTS
    assert ceiling["all"]["raters"]["micro_f1"] == pytest.approx(2 * 2 / (2 + 3)) and ceiling["all"]["model"]["micro_f1"] == 1
    by_rater = {row["rater"]: row["raters"]["micro_f1"] for row in ceiling["per_rater"]}
    assert by_rater == {"a": 1, "b": 1, "c": 0}


def test_what_a_rater_or_all_others_did_not_judge_is_left_out():
    is_judged = [np.ones_like(GOLD) for _ in range(3)]
    is_judged[0][:, 0] = False  # the first did not judge it
    is_judged[1][:, 1] = is_judged[2][:, 1] = False  # nobody but the first did
    noisy = GOLD.copy()
    noisy[:, :2] = ~GOLD[:, :2]  # so these are not counted, whatever they are
    ceiling = measure_ceiling(make_ratings(noisy & is_judged[0], GOLD & is_judged[1], GOLD & is_judged[2], is_judged=is_judged), GOLD)
    assert ceiling["all"]["raters"]["micro_f1"] == 1


def test_a_rater_is_not_compared_with_itself():
    ratings = make_ratings(GOLD)
    assert measure_ceiling(ratings, GOLD) is None
    unknown = make_ratings(GOLD, ~GOLD)
    unknown.raters[NUM_TEXTS:] = UNKNOWN  # votes, but is nobody's
    ceiling = measure_ceiling(unknown, GOLD)
    assert ceiling["num_raters"] == 1 and ceiling["all"]["raters"]["micro_f1"] == 0


def test_raters_with_few_texts_are_taken_together_or_named_as_too_few():
    few = [make_ratings(add_noise(0.1, 1), add_noise(0.1, 2), GOLD).take(np.arange(MIN_TEXTS - 1))]
    ceiling = measure_ceiling(few[0], GOLD)
    assert "all" not in ceiling and describe_ceiling(ceiling) == [
        "human ceiling: only 29 texts have several raters, too few to measure how well these agree (30 are needed)"
    ]
    whole = make_ratings(add_noise(0.1, 1), add_noise(0.1, 2), GOLD)
    rows = np.flatnonzero((whole.raters < 2) | (whole.rows < 5))
    small = Ratings(whole.rows[rows], whole.raters[rows], whole.names, whole.labels[rows], whole.is_judged[rows])
    ceiling = measure_ceiling(small, GOLD)
    assert list_ceiling(ceiling)[-1] == ["1 other raters", "5", "too few", "", "", ""]
    raters = np.where(whole.raters == 2, 2 + whole.rows // 20, whole.raters)  # three raters of 20 texts each
    spread = Ratings(whole.rows, raters, tuple("abcde"), whole.labels, whole.is_judged)
    ceiling = measure_ceiling(spread, GOLD)
    assert ceiling["other_raters"]["num_raters"] == 3 and ceiling["other_raters"]["num_texts"] == NUM_TEXTS
    alone = measure_ceiling(whole, GOLD)["per_rater"]
    assert ceiling["other_raters"]["raters"] == next(row["raters"] for row in alone if row["rater"] == "c")


def test_a_difference_within_its_interval_is_not_claimed():
    ratings = make_ratings(*(add_noise(0.1, seed) for seed in range(1, 4)))
    lines = describe_ceiling(measure_ceiling(ratings, add_noise(0.1, 9)))  # the model is one more of their like
    assert "a difference in macro-F1 is not shown (model minus rater " in lines[1]
    lines = describe_ceiling(measure_ceiling(make_ratings(*(add_noise(0.3, seed) for seed in range(1, 6))), GOLD))
    assert "by macro-F1, it agrees better with the majority than a rater does" in lines[1]


def test_ratings_of_one_text_are_drawn_together():
    """Copies of a rater add ratings but no texts: the interval must not get narrower, as it would by the square root of 5."""
    pair = [add_noise(0.2, 1), add_noise(0.2, 2)]
    low, high = measure_ceiling(make_ratings(*pair), GOLD)["all"]["model"]["micro_f1_interval_95"]
    ratings = make_ratings(*(pair[0] for _ in range(5)), pair[1])
    others = measure_ceiling(ratings, GOLD)["all"]["model"]["micro_f1_interval_95"]
    assert others[1] - others[0] > 0.8 * (high - low)


def test_a_report_has_the_ceiling_where_raters_are_known(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(PIXEL)
    figures = dict.fromkeys(("confusions", "reliability", "precision_recall", "thresholds"), Figure(tmp_path / "a.png", PIXEL, "A caption"))
    monkeypatch.setattr("emotion.evaluation.reporting.draw_figures", lambda *_: figures)  # drawing takes seconds
    label_set, probabilities = LabelSet(("anger", "fear", "joy", "love")), np.where(GOLD, 0.9, 0.1)
    ratings = make_ratings(add_noise(0.1, 1), add_noise(0.1, 2), GOLD, names=["<b>", "x\ny", "z"])
    scored = ScoredRows([str(row) for row in range(NUM_TEXTS)], label_set, GOLD, probabilities, None, None, ratings)
    report = write_report(tmp_path, scored, default_rule(NUM_LABELS), "test")
    page = (tmp_path / "index.html").read_text()
    assert '<section id="raters">' in page and "&lt;b&gt;" in page and "<b>" not in page
    assert "Human ceiling: one rater against the majority of the others has macro-F1" in page
    assert '"human_ceiling"' in (tmp_path / "metrics.json").read_text() and report["human_ceiling"]["num_raters"] == 3


def test_a_rater_beside_whom_nobody_gave_a_label_is_not_measured():
    """The first 40 texts have raters a and b, who find nothing; the next 40 have b and c, who agree on all."""
    rows = np.repeat(np.arange(80), 2)
    raters = np.array([0, 1] * 40 + [1, 2] * 40)
    labels = np.ones((160, 1), dtype=bool) & (rows >= 40)[:, None]
    ceiling = measure_ceiling(Ratings(rows, raters, ("a", "b", "c"), labels, np.ones_like(labels)), np.zeros((80, 1), dtype=bool))
    assert [row["rater"] for row in ceiling["per_rater"]] == ["b", "c", "a"]
    assert list_ceiling(ceiling)[3][:4] == ["a", "40", "not measured", "not measured"]
