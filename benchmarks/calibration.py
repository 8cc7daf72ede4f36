"""How well does each kind of calibration hold on rows that it was not fitted on, by the number of validation rows?

    python -m benchmarks.calibration --runs runs/minilm runs/tfidf
    python -m benchmarks.calibration --runs runs/minilm runs/tfidf --scores

Each draw splits the stored validation predictions of a run: the calibration is fitted on some rows and judged on all others. The stored
probabilities are calibrated already; a scale and a shift of their logits undo that. The test rows take no part.
"""

import argparse
import sys
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from scipy.special import expit

from benchmarks.decision_rule import MAX_FRACTION, SIZES
from emotion.config import DecisionConfig
from emotion.errors import exit_on_error
from emotion.evaluation.calibration import fit_calibration, fit_common_scale, fit_scaling
from emotion.evaluation.decision import compute_logits, fit_rule
from emotion.evaluation.metrics import expected_calibration_error, score_predictions
from emotion.evaluation.selection import score_rule
from emotion.tracking.run_folder import RunFolder

Maximize = Literal["macro_f1", "micro_f1", "jaccard", "subset_accuracy"]
FIXED_STDS = (0.2, 0.5)
"""Standard deviations of the priors of a label's own slope and intercept, where they are not learnt."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", nargs="+", required=True, metavar="RUN", help="runs with predictions of validation rows")
    parser.add_argument("--draws", type=int, default=20, help="draws of a cell (default: 20)")
    parser.add_argument("--scores", action="store_true", help="compare F1 and other scores at the fitted thresholds instead")
    arguments = parser.parse_args()
    if arguments.scores:
        print("| run | decision.maximize | one scale and shift | of each label | difference |", "|---|---|---|---|---|", sep="\n")
        for run in arguments.runs:
            rows = RunFolder(Path(run)).read_predictions("validation")
            for maximize in get_args(Maximize):
                scores = np.array([compare_scores(rows.labels, rows.probabilities, maximize, d) for d in range(arguments.draws)])
                means, differences = scores.mean(axis=0), scores[:, 1] - scores[:, 0]
                spread = f"{differences.mean():+.4f} (standard error {differences.std() / len(differences) ** 0.5:.4f})"
                print(f"| {Path(run).name} | {maximize} | {means[0]:.4f} | {means[1]:.4f} | {spread} |", flush=True)
        return 0
    print("| run | rows | calibration | cross-entropy | calibration error | frequency error |", "|---|---|---|---|---|---|", sep="\n")
    for run in arguments.runs:
        rows = RunFolder(Path(run)).read_predictions("validation")
        logits = compute_logits(rows.probabilities)
        for size in (size for size in (*SIZES, len(logits) // 2) if size <= MAX_FRACTION * len(logits)):
            draws = [judge_calibrations(rows.labels, logits, size, np.random.default_rng([draw, size])) for draw in range(arguments.draws)]
            for name in draws[0]:
                scores = np.mean([draw[name] for draw in draws], axis=0)
                print(f"| {Path(run).name} | {size:,} | {name} | " + " | ".join(f"{score:.4f}" for score in scores) + " |", flush=True)
    return 0


def judge_calibrations(labels: np.ndarray, logits: np.ndarray, size: int, generator: np.random.Generator) -> dict[str, tuple[float, ...]]:
    """Return the scores of each kind of calibration on the rows that it was not fitted on."""
    order = generator.permutation(len(labels))
    fitted, rest = order[:size], order[size:]
    results = {}
    for name, has_bias in (("temperature", False), ("temperature and shift", True)):
        scale, shift = fit_common_scale(labels[fitted], logits[fitted], has_bias)
        results[name] = score(labels[rest], scale * logits[rest] + shift)
    scaled, own = scale * logits + shift, np.empty_like(logits[rest])
    for column, gold in enumerate(labels.T):
        slope, intercept = fit_scaling(scaled[fitted, column], gold[fitted].astype(float), 1.0 - gold[fitted], *FIXED_STDS)
        own[:, column] = slope * scaled[rest, column] + intercept
    results["then each label, fixed priors"] = score(labels[rest], own)
    results["then each label, learnt priors"] = score(labels[rest], fit_calibration(labels[fitted], logits[fitted]).apply(logits[rest]))
    return results


def compare_scores(labels: np.ndarray, probabilities: np.ndarray, maximize: Maximize, draw: int) -> tuple[float, float]:
    """Return the score on one half of the rows with calibration and thresholds of the other: of all labels alike, and of each label."""
    logits, order = compute_logits(probabilities), np.random.default_rng(draw).permutation(len(labels))
    fitted, rest = order[: len(order) // 2], order[len(order) // 2 :]
    scale, shift = fit_common_scale(labels[fitted], logits[fitted])
    own = fit_calibration(labels[fitted], logits[fitted])
    scores = []
    for calibrated in (scale * logits + shift, own.apply(logits)):
        rule = fit_rule(labels[fitted], calibrated[fitted], DecisionConfig(maximize), "")
        at_rule = score_predictions(labels[rest], rule.decide(expit(calibrated[rest])))
        scores.append(score_rule(at_rule, maximize)[f"{maximize}_tuned"])
    return scores[0], scores[1]


def score(labels: np.ndarray, logits: np.ndarray) -> tuple[float, ...]:
    """Return the cross-entropy, the expected calibration error and the mean relative error of the labels' mean probabilities."""
    probabilities, gold = expit(logits), labels.astype(float)
    is_found = labels.any(axis=0)
    error = np.abs(probabilities.mean(axis=0) - gold.mean(axis=0))[is_found] / gold.mean(axis=0)[is_found]
    cross_entropy = np.mean(np.logaddexp(0, logits) - gold * logits)
    return float(cross_entropy), expected_calibration_error(labels, probabilities), float(error.mean())


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
