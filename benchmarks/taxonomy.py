"""Which probability of a parent is best calibrated? Candidates on validation rows, then scores of the chosen one on test rows.

    python -m benchmarks.taxonomy --runs runs/minilm runs/tfidf --output taxonomy.json

Each candidate is fitted on a part of the stored validation predictions of a run and judged on the others: four fifths by turns, or a few
hundred rows, for which six draws are averaged. Test rows are used for the last table only.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.special import expit

from emotion.config import DecisionConfig
from emotion.errors import exit_on_error
from emotion.evaluation.metrics import expected_calibration_error, score_predictions, score_probabilities
from emotion.evaluation.parents import PENALTY, compute_noisy_or_logits, fit_parents, scale_parent
from emotion.evaluation.rows import ScoredRows
from emotion.evaluation.taxonomy import BUILT_IN, TaxonomyLevel, read_taxonomy
from emotion.evaluation.thresholds import fit_thresholds
from emotion.evaluation.uncertainty import bootstrap_intervals
from emotion.files import write_json
from emotion.tracking.run_folder import RunFolder

SIZES = (None, 1_000, 300, 100)
"""Rows that a candidate is fitted on; None for four fifths of all."""
NUM_DRAWS = 6
EPSILON = 1e-7
"""Probabilities are clipped to [epsilon, 1 - epsilon] before their logits and logarithms."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", nargs="+", required=True, metavar="RUN", help="run folders with stored validation predictions")
    parser.add_argument("--output", default="taxonomy.json", help="file of the figures")
    arguments = parser.parse_args()
    figures: dict[str, dict] = {"candidates": {}, "test": {}}
    for name in BUILT_IN:
        for path in arguments.runs:
            run = RunFolder(Path(path))
            rows = run.read_predictions("validation")
            level = read_taxonomy(name).apply(rows.label_set)
            for size in SIZES if len(rows.ids) > 2 * SIZES[1] else SIZES[:1]:
                scores = score_candidates(level, rows, size)
                figures["candidates"][f"{name}, {path}, {size or 'four fifths of the'} rows"] = scores
                print(f"\n{name}, {path}, fitted on {size or 'four fifths of the'} rows: log loss, calibration error")
                print("\n".join(f"{candidate:<34}{loss:>9.4f}{error:>8.4f}" for candidate, (loss, error) in scores.items()))
            if run.predictions("test").is_file():
                figures["test"][f"{name}, {path}"] = at_test = score_test(
                    level, rows, run.read_predictions("test"), run.read_config().decision
                )
                print(f"\n{name}, {path}, test rows\n" + "\n".join(f"{key:<34}{value}" for key, value in at_test.items()))
    write_json(Path(arguments.output), figures)
    return 0


def score_candidates(level: TaxonomyLevel, rows: ScoredRows, size: int | None) -> dict[str, tuple[float, float]]:
    """Return mean log loss and calibration error of each candidate over the parents."""
    gold, _ = level.merge_labels(rows.labels)
    found: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for column in range(len(level.label_set)):
        predicted: defaultdict[str, list[np.ndarray]] = defaultdict(list)
        labels = []
        for is_fitted in draw_parts(len(gold), size):
            labels.append(gold[~is_fitted, column])
            arguments = (rows.probabilities.astype(float), level.children[:, column], gold[:, column], is_fitted)
            for name, probabilities in predict_candidates(*arguments):
                predicted[name].append(probabilities)
        for name, parts in predicted.items():
            values, truth = np.clip(np.concatenate(parts), EPSILON, 1 - EPSILON), np.concatenate(labels)
            loss = -np.mean(np.where(truth, np.log(values), np.log(1 - values)))
            found[name].append((float(loss), expected_calibration_error(truth, values)))
    return {
        name: (float(np.mean([loss for loss, _ in pairs])), float(np.mean([error for _, error in pairs]))) for name, pairs in found.items()
    }


def draw_parts(num_rows: int, size: int | None) -> Iterator[np.ndarray]:
    """Yield which rows candidates are fitted on, bool (n,); they are judged on the others."""
    generator = np.random.default_rng(0)
    if size is None:
        folds = generator.permutation(num_rows) % 5
        yield from (folds != fold for fold in range(5))
        return
    for _ in range(NUM_DRAWS):
        yield np.isin(np.arange(num_rows), generator.permutation(num_rows)[:size])


def predict_candidates(
    probabilities: np.ndarray, is_child: np.ndarray, gold: np.ndarray, is_fitted: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each candidate's name and its probabilities of one parent for the rows that it was not fitted on."""
    children, labels, others = probabilities[:, is_child], gold[is_fitted], ~is_fitted
    highest, total = children.max(axis=1), np.minimum(children.sum(axis=1), 1)
    noisy_or = compute_noisy_or_logits(probabilities, is_child[:, None])[:, 0]
    yield "maximum", highest[others]
    yield "sum, at most 1", total[others]
    yield "noisy-or", expit(noisy_or[others])
    for name, logits, penalty in (
        ("maximum, scaled and shifted", compute_logits(highest), EPSILON),
        ("sum, scaled and shifted", compute_logits(total), EPSILON),
        ("noisy-or, scaled and shifted", noisy_or, EPSILON),
        *((f"the same, penalty {penalty:g}", noisy_or, penalty) for penalty in (1.0, 3.0, PENALTY, 30.0, 100.0)),
    ):
        slope, intercept = scale_parent(labels, logits[is_fitted], penalty)
        yield name, expit(slope * logits[others] + intercept)
    child_logits, all_logits = compute_logits(children), compute_logits(probabilities)
    for name, features, strength in (
        ("regression on the children", child_logits, 1.0),
        ("regression on all labels", all_logits, 0.1),
        ("regression on noisy-or, children", np.column_stack([noisy_or, child_logits]), 0.1),
        ("regression on noisy-or, all labels", np.column_stack([noisy_or, all_logits]), 0.1),
    ):
        yield name, predict_regression(features[is_fitted], labels, features[others], strength)


def compute_logits(probabilities: np.ndarray) -> np.ndarray:
    clipped = np.clip(probabilities, EPSILON, 1 - EPSILON)
    return np.log(clipped) - np.log1p(-clipped)


def predict_regression(features: np.ndarray, labels: np.ndarray, others: np.ndarray, strength: float) -> np.ndarray:
    """Return the probabilities of a logistic regression with an L2 penalty for other rows."""
    from sklearn.linear_model import LogisticRegression

    if labels.all() or not labels.any():
        return np.full(len(others), (labels.sum() + 0.5) / (len(labels) + 1))
    return LogisticRegression(C=strength, max_iter=2_000).fit(features, labels).predict_proba(others)[:, 1]


def score_test(level: TaxonomyLevel, validation: ScoredRows, test: ScoredRows, config: DecisionConfig) -> dict[str, str]:
    """Return test scores of the parents, and of deciding the model's own labels and merging them."""
    parents = fit_parents(level, validation.labels, validation.probabilities, config)
    gold, _ = level.merge_labels(test.labels)
    probabilities = parents.convert(test.probabilities)
    predictions = parents.rule.decide(probabilities)
    scores, ranking = score_predictions(gold, predictions), score_probabilities(gold, probabilities)
    intervals = bootstrap_intervals(gold, predictions)
    thresholds = fit_thresholds(validation.labels, compute_logits(validation.probabilities.astype(float)), config)
    merged, _ = level.merge_labels(test.probabilities >= np.array(thresholds))
    own = {f"{name} of own labels, merged": f"{score_predictions(gold, merged)[name]:.3f}" for name in ("macro_f1", "micro_f1")}
    with_interval = {name: f"{scores[name]:.3f} ({intervals[name][0]:.3f}-{intervals[name][1]:.3f})" for name in ("macro_f1", "micro_f1")}
    return with_interval | {name: f"{ranking[name]:.3f}" for name in ("macro_average_precision", "expected_calibration_error")} | own


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
