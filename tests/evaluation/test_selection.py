"""The combination of segments is chosen on validation rows, by the metric of the decision rule; without enough of them it is the mean."""

from dataclasses import replace

import numpy as np
import pytest

from emotion.config import Config
from emotion.evaluation.combination import MIN_SPLIT_ROWS, combine_logits
from emotion.evaluation.selection import describe_combination, score_checkpoint

GENERATOR = np.random.default_rng(0)


def make_rows(num_split, better, num_labels=3):
    """Return gold labels, bool (200, L), logits of segments and starts: the max or the mean of four segments tells the labels apart."""
    labels = GENERATOR.random((200, num_labels)) < 0.4
    counts = np.where(np.arange(200) < num_split, 4, 1)
    starts = np.cumsum(counts) - counts
    logits = np.zeros((counts.sum(), num_labels), dtype=np.float32)
    for row, (start, count) in enumerate(zip(starts, counts, strict=True)):
        value = np.where(labels[row], 2.0, -2.0)
        if count == 1:
            logits[start] = value
        elif better == "max":  # one segment is of the label, the others lower the mean by a random amount
            logits[start : start + 4] = np.minimum(value, -GENERATOR.uniform(2, 9, (4, num_labels)))
            logits[start] = value
        else:  # one segment is high by chance
            logits[start : start + 4] = value - 3
            logits[start] = np.where(GENERATOR.random(num_labels) < 0.5, 5, value)
    return labels, logits, starts


@pytest.mark.parametrize("maximize", ["macro_f1", "micro_f1", "jaccard", "subset_accuracy"])
@pytest.mark.parametrize("better", ["mean", "max"])
def test_the_better_combination_is_chosen(better, maximize):
    config = replace(Config(), decision=replace(Config().decision, maximize=maximize))
    labels, logits, starts = make_rows(150, better)
    candidate = score_checkpoint(labels, logits, config, starts=starts)
    alone = {name: score_checkpoint(labels, combine_logits(logits, starts, name), config) for name in ("mean", "max")}
    assert candidate.combination == better and candidate.logits is logits
    assert candidate.rule == alone[better].rule  # thresholds and temperature are of the combined logits
    np.testing.assert_array_equal(candidate.probabilities, alone[better].probabilities)
    scores = {name: alone[name].scores[f"{maximize}_tuned"] for name in alone}
    assert scores[better] == max(scores.values()) > min(scores.values())
    assert candidate.scores == alone[better].scores | {f"{maximize}_tuned_{name}_of_segments": scores[name] for name in ("mean", "max")}
    assert describe_combination(candidate, starts, config) == (
        f"segments are combined by the {better} of their logits: 150 of 200 validation rows have several segments, "
        f"{maximize}_tuned is {scores['mean']:.4f} by the mean, {scores['max']:.4f} by the max"
    )


def test_few_long_rows_choose_nothing():
    for num_split, expected in ((MIN_SPLIT_ROWS - 1, "mean"), (MIN_SPLIT_ROWS, "max")):
        labels, logits, starts = make_rows(num_split, "max")
        candidate = score_checkpoint(labels, logits, Config(), starts=starts)
        assert candidate.combination == expected
        if expected == "mean":
            assert not any("of_segments" in name for name in candidate.scores)
            assert describe_combination(candidate, starts, Config()) == (
                "segments are combined by the mean of their logits, the default: "
                "49 of 200 validation rows have several segments, fewer than 50"
            )


def test_without_long_rows_the_scores_are_those_of_cut_texts():
    labels, logits, starts = make_rows(0, "max")
    candidate, cut = score_checkpoint(labels, logits, Config(), starts=starts), score_checkpoint(labels, logits, Config())
    assert candidate.scores == cut.scores and candidate.rule == cut.rule and (candidate.probabilities == cut.probabilities).all()
