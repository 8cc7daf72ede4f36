"""A verdict on a model: `useful`, `weak` or `do not use it`, with the numbers that it rests on and what to try next.

The model is held against rules that never read a text, against TF-IDF where its score is known, and against the number of labels that
people gave. Shapes: `labels` and `predictions` are bool (n, L). The rules for the verdict are in docs/results.md.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from emotion.evaluation.uncertainty import bootstrap_intervals, score_rows

USEFUL, WEAK, USELESS = "useful", "weak", "do not use it"
AVERAGES = ("macro_f1", "micro_f1")
MIN_ROWS = 10
"""Fewer rows allow no verdict: no model is better than another beyond chance on them."""
MIN_GAIN = 0.1
"""A useful model goes at least this fraction of the distance from the best rule that reads no text (its macro-F1) to 1."""
MAX_LABELS_RATIO = 2.0
"""A useful model gives at most this many times the labels that people gave, and at least that fraction of them."""

TRAIN_MORE = "train on more rows or for more epochs"
CHECK_LOSS = (
    "it gives every text the same labels: if its loss in metrics.jsonl fell and rose again, lower training.learning_rate; "
    "if it hardly fell, train for more epochs, and check that the labels belong to the texts"
)
REFIT = "fit its thresholds for micro-F1: export.py --refit decision.maximize=micro_f1"


@dataclass(frozen=True)
class Verdict:
    """A verdict and what it rests on."""

    verdict: str
    reason: str
    next_step: str
    """What to try; empty for a useful model."""
    scores: dict[str, dict[str, float]]
    """macro-F1 and micro-F1 of the model, of each rule, and of TF-IDF if they are known."""
    labels_per_text: dict[str, float]
    """Mean number of labels that the model gives (`predicted`) and that people gave (`gold`)."""

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON types."""
        return dict(vars(self))

    def __str__(self) -> str:
        return f"verdict: {self.verdict}: {self.reason}" + (f"; {self.next_step}" if self.next_step else "")


def reach_verdict(
    labels: np.ndarray, predictions: np.ndarray, tfidf_scores: dict[str, float] | None = None, is_judged: np.ndarray | None = None
) -> Verdict | None:
    """Return the verdict on a model's predictions; None where `find_obstacle` finds a reason.

    `tfidf_scores` are `macro_f1` and `micro_f1` of TF-IDF on the same rows. A cell that is not in `is_judged`, bool (n, L), does not count.
    A model is better than a rule if the rule's score is below the 95 % interval of the model's score.
    """
    if find_obstacle(labels) is not None:
        return None
    judged = np.ones_like(labels) if is_judged is None else is_judged
    is_constant = bool((predictions == predictions[0]).all())
    predictions = predictions & judged
    rules = score_without_texts(labels, judged)
    scores = {"model": score_averages(labels, predictions), **rules, **({"TF-IDF": tfidf_scores} if tfidf_scores else {})}
    intervals = bootstrap_intervals(labels, predictions)
    best = {average: max(rules, key=lambda name: rules[name][average]) for average in AVERAGES}
    is_better = {average: intervals[average][0] > rules[best[average]][average] for average in AVERAGES}
    counts = {"predicted": float(predictions.sum(axis=1).mean()), "gold": float(labels.sum(axis=1).mean())}
    own, trivial = scores["model"]["macro_f1"], rules[best["macro_f1"]]["macro_f1"]
    low, high = intervals["macro_f1"]
    summary = f"macro-F1 {own:.3f} ({low:.3f}-{high:.3f}), against {trivial:.3f} for {best['macro_f1']}"
    summary += f", {tfidf_scores['macro_f1']:.3f} for TF-IDF" if tfidf_scores else ""
    summary += f"; {counts['predicted']:.1f} labels per text, people gave {counts['gold']:.1f}"
    if not any(is_better.values()):
        reason = f"no better than {best['macro_f1']} beyond chance on {len(labels):,} rows: {summary}"
        return Verdict(USELESS, reason, _advise_useless(tfidf_scores, trivial, is_constant), scores, counts)
    reason, next_step = _find_weakness(scores, best, is_better, intervals, counts)
    return Verdict(WEAK if reason else USEFUL, f"{reason}: {summary}" if reason else summary, next_step, scores, counts)


def find_obstacle(labels: np.ndarray) -> str | None:
    """Return why these rows allow no verdict on any model; None if they do."""
    if not labels.any():
        return "no row has a gold label"
    if len(labels) < MIN_ROWS:
        return f"too few rows: {len(labels)}, at least {MIN_ROWS} are needed"
    if (labels == labels[0]).all():
        return "all rows have the same gold labels, so a model cannot be told from a constant answer"
    return None


def score_without_texts(labels: np.ndarray, is_judged: np.ndarray) -> dict[str, dict[str, float]]:
    """Return the scores of rules that know how frequent labels are in these very rows, and not the texts.

    No constant answer has a higher macro-F1 than all labels, or a higher micro-F1 than the k most frequent labels, for some k. A frequency
    is that among the rows in which the label was judged. Labels that are drawn at their frequency have the scores that are expected.
    """
    sets, counts = np.unique(labels, axis=0, return_counts=True)
    num_gold, num_judged = labels.sum(axis=0), is_judged.sum(axis=0)
    frequencies = num_gold / np.maximum(num_judged, 1)
    order = np.argsort(-frequencies, kind="stable")
    num_best = int((2 * num_gold[order].cumsum() / (num_judged[order].cumsum() + num_gold.sum())).argmax()) + 1
    answers = {
        "all labels for every text": np.ones(labels.shape[1], dtype=bool),
        "the most frequent set of labels for every text": sets[counts.argmax()],
        f"the {num_best} most frequent labels for every text": np.isin(np.arange(labels.shape[1]), order[:num_best]),
    }
    drawn = {"macro_f1": float(frequencies[num_gold > 0].mean()), "micro_f1": float(num_gold @ frequencies / num_gold.sum())}
    return {
        **{name: score_averages(labels, answer & is_judged) for name, answer in answers.items()},
        "labels drawn at their frequency": drawn,
    }


def score_averages(labels: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """Return macro-F1 over the labels with a gold row, and micro-F1 over all labels, as in a report."""
    scores = score_rows(labels, predictions)
    return {average: float(scores[average]) for average in AVERAGES}


def _find_weakness(
    scores: dict[str, dict[str, float]],
    best: dict[str, str],
    is_better: dict[str, bool],
    intervals: dict[str, tuple[float, float]],
    counts: dict[str, float],
) -> tuple[str, str]:
    """Return why a model is weak that is better than the rules by one average at least, and what to try; empty strings if it is not."""
    own, trivial = scores["model"]["macro_f1"], scores[best["macro_f1"]]["macro_f1"]
    if "TF-IDF" in scores and scores["TF-IDF"]["macro_f1"] > intervals["macro_f1"][1]:
        return "TF-IDF is better", f"use TF-IDF (configs/tfidf.yaml), or {TRAIN_MORE}"
    for average, name in (("macro_f1", "macro-F1"), ("micro_f1", "micro-F1")):
        if not is_better[average]:
            rule = f"{best[average]} ({scores[best[average]][average]:.3f})"
            reason = f"its {name} of {scores['model'][average]:.3f} is not above that of {rule} beyond chance"
            is_excessive = average == "micro_f1" and counts["predicted"] > MAX_LABELS_RATIO * counts["gold"]
            return reason, REFIT if is_excessive else TRAIN_MORE
    if own - trivial < MIN_GAIN * (1 - trivial):
        return "little better than a rule that reads no text", TRAIN_MORE
    if not 1 / MAX_LABELS_RATIO <= counts["predicted"] / counts["gold"] <= MAX_LABELS_RATIO:
        relation = "more" if counts["predicted"] > counts["gold"] else "fewer"
        return f"it gives far {relation} labels than people", REFIT
    return "", ""


def _advise_useless(tfidf_scores: dict[str, float] | None, trivial: float, is_constant: bool) -> str:
    """Return what to try with a model that has learned nothing; `is_constant` says whether it gives every text the same labels."""
    is_learnable = tfidf_scores is None or tfidf_scores["macro_f1"] - trivial >= MIN_GAIN * (1 - trivial)
    if not is_learnable:
        return "TF-IDF learns nothing from these rows either: check that the labels belong to the texts, or label more rows"
    if is_constant:
        return CHECK_LOSS
    if tfidf_scores is None:
        return f"{TRAIN_MORE}, and check that the labels belong to the texts"
    return "TF-IDF learns from these rows, so train for more epochs or at a higher learning rate, or use TF-IDF (configs/tfidf.yaml)"
