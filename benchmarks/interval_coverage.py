"""How often do 95% intervals hold the true value? Simulate two models on a population, draw test splits from it, and count.

    python -m benchmarks.interval_coverage --output interval_coverage.json

The population has labels with frequencies from 25% to 0.1% and two correlated models. Each trial draws a test split and computes the
intervals of `emotion.evaluation.uncertainty` and of three other methods. Macro scores are averaged over the labels with a gold row in the
split.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from emotion.errors import exit_on_error
from emotion.evaluation.uncertainty import (
    bootstrap_label_intervals,
    draw_counts,
    find_interval,
    resample_totals,
    score_rows,
    score_totals,
    split_totals,
    tabulate_rows,
)
from emotion.files import write_json

POPULATION_SIZE = 200_000
NUM_LABELS = (6, 28)
ROWS_AND_TRIALS = ((100, 400), (300, 400), (1_000, 200), (5_000, 60))
SUPPORTS = (3, 10, 30, 100, 300)
"""Upper bounds of the groups of labels by number of gold rows in the split."""
MACRO_SCORES = ("macro_f1", "macro_precision", "macro_recall")
USED = "used"
"""The method of `emotion.evaluation.uncertainty`."""
ABSENT_IS_ZERO = "a label without gold row in a resample counts 0"
PLAIN = "percentiles without pseudo-counts"
BCA = "BCa"
JEFFREYS = "Bayesian bootstrap with pseudo-counts"
DIFFERENCE = "difference in macro_f1"

Interval = tuple[float, float]


@dataclass(frozen=True)
class Population:
    """Gold labels, bool (N, L), and the scores of two models, float (N, L); a label is predicted at a score of at least its threshold."""

    labels: np.ndarray
    scores: tuple[np.ndarray, np.ndarray]
    thresholds: tuple[np.ndarray, np.ndarray]

    def draw(self, generator: np.random.Generator, num_rows: int) -> "Population":
        rows = generator.integers(0, len(self.labels), num_rows)
        return Population(self.labels[rows], (self.scores[0][rows], self.scores[1][rows]), self.thresholds)

    @property
    def predictions(self) -> list[np.ndarray]:
        """The predictions of both models, bool (N, L)."""
        return [scores >= thresholds for scores, thresholds in zip(self.scores, self.thresholds, strict=True)]

    @cached_property
    def totals(self) -> list[np.ndarray]:
        """The column totals of both models, float (1, 3 L + 3)."""
        return [tabulate_rows(self.labels, predicted).sum(axis=0, keepdims=True, dtype=np.float64) for predicted in self.predictions]


class Tally:
    """Counts, by name and method, of intervals that hold the true value, that hold their own estimate, and their mean width."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], list[tuple[bool, bool, float]]] = defaultdict(list)

    def add(self, name: str, method: str, interval: Interval, estimate: float, truth: float) -> None:
        low, high = interval
        self._rows[name, method].append((low <= truth <= high, low - 1e-9 <= estimate <= high + 1e-9, high - low))

    def summarize(self) -> Iterator[dict[str, str | float]]:
        for (name, method), rows in sorted(self._rows.items()):
            held, held_estimate, width = np.mean(rows, axis=0)
            figures = {"intervals": len(rows), "coverage": held, "holds_its_estimate": held_estimate, "width": width}
            yield {"score": name, "method": method} | figures


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--trials", type=float, default=1.0, help="factor on the number of trials (default: 1)")
    parser.add_argument("--output", default="interval_coverage.json", help="JSON file for the results")
    arguments = parser.parse_args()
    results = []
    print("| labels | rows | score | method | coverage | holds its estimate | mean width |\n|---|---|---|---|---|---|---|")
    for num_labels in NUM_LABELS:
        population = simulate_population(num_labels)
        for num_rows, num_trials in ROWS_AND_TRIALS:
            tally = Tally()
            for trial in range(max(1, round(arguments.trials * num_trials))):
                run_trial(tally, population, population.draw(np.random.default_rng([num_labels, num_rows, trial]), num_rows), trial)
            for row in tally.summarize():
                results.append({"labels": num_labels, "rows": num_rows} | row)
                figures = f"{row['coverage']:.3f} | {row['holds_its_estimate']:.3f} | {row['width']:.3f}"
                print(f"| {num_labels} | {num_rows:,} | {row['score']} | {row['method']} | {figures} |", flush=True)
            write_json(Path(arguments.output), results)
    return 0


def simulate_population(num_labels: int) -> Population:
    """Return labels of geometric frequencies and two models whose scores are shifted normal variables with shared noise."""
    generator = np.random.default_rng(num_labels)
    frequencies = generator.permutation(np.geomspace(0.25, 0.001, num_labels))
    shape = (POPULATION_SIZE, num_labels)
    labels = generator.random(shape) < frequencies
    strength = generator.uniform(1.5, 3.0, num_labels)
    shared = generator.standard_normal(shape)
    first = labels * strength + shared
    second = labels * (strength + generator.normal(0, 0.15, num_labels)) + 0.8 * shared + 0.6 * generator.standard_normal(shape)
    thresholds = [np.array([np.quantile(column, 1 - rate) for column, rate in zip(s.T, frequencies, strict=True)]) for s in (first, second)]
    return Population(labels, (first, second), (thresholds[0], thresholds[1]))


def run_trial(tally: Tally, population: Population, split: Population, seed: int) -> None:
    """Add the intervals of one test split to the tally."""
    labels, predictions = split.labels, split.predictions
    is_measured = np.asarray(labels.any(axis=0))
    truths = [score_on(population, model, is_measured) for model in (0, 1)]
    estimates = [score_rows(labels, predicted) for predicted in predictions]
    totals = resample_totals(labels, predictions, draw_counts(len(labels), seed=seed))
    draws = [score_totals(part, len(labels)) for part in totals]

    for name in (*MACRO_SCORES, "micro_f1"):
        tally.add(name, USED, find_interval(draws[0][name], float(estimates[0][name])), float(estimates[0][name]), float(truths[0][name]))
    estimate, truth = (float(values[0]["macro_f1"] - values[1]["macro_f1"]) for values in (estimates, truths))
    tally.add(DIFFERENCE, USED, find_interval(draws[0]["macro_f1"] - draws[1]["macro_f1"], estimate), estimate, truth)

    zeros = [average_with_zeros(part, is_measured) for part in totals]
    for name in MACRO_SCORES:
        tally.add(name, ABSENT_IS_ZERO, find_percentiles(zeros[0][name]), float(estimates[0][name]), float(truths[0][name]))
    tally.add(DIFFERENCE, ABSENT_IS_ZERO, find_percentiles(zeros[0]["macro_f1"] - zeros[1]["macro_f1"]), estimate, truth)
    f1, true_f1 = float(estimates[0]["macro_f1"]), float(truths[0]["macro_f1"])
    tally.add("macro_f1", BCA, find_bca(labels, predictions[0], zeros[0]["macro_f1"], f1), f1, true_f1)
    tally.add("macro_f1", JEFFREYS, find_percentiles(draw_with_pseudo_counts(labels, predictions[0], is_measured, seed)), f1, true_f1)

    plain = [find_percentiles(values) for values in draws[0]["label_f1"].T]
    for method, intervals in ((USED, bootstrap_label_intervals(labels, predictions[0], seed=seed).tolist()), (PLAIN, plain)):
        for label in np.flatnonzero(is_measured):
            name = f"F1 of a label with {describe_support(int(labels[:, label].sum()))} gold rows"
            tally.add(name, method, intervals[label], estimates[0]["label_f1"][label], truths[0]["label_f1"][label])


def score_on(population: Population, model: int, is_measured: np.ndarray) -> dict[str, np.ndarray]:
    """Return the scores of a model on the population, with macro averages over the labels that are measured in the split."""
    totals = population.totals[model]
    scores = {name: values[0] for name, values in score_totals(totals, len(population.labels)).items()}
    return scores | {name: values[0] for name, values in average_with_zeros(totals, is_measured).items()}


def average_with_zeros(totals: np.ndarray, is_measured: np.ndarray) -> dict[str, np.ndarray]:
    """Return macro scores, float (B,), over all labels of the split: a label that a resample does not contain has the score 0."""
    hits, gold, predicted = (part[:, is_measured] for part in split_totals(totals))
    parts = {"macro_f1": (2 * hits, gold + predicted), "macro_precision": (hits, predicted), "macro_recall": (hits, gold)}
    return {name: (part[0] / np.maximum(part[1], 1)).mean(axis=1) for name, part in parts.items()}


def draw_with_pseudo_counts(labels: np.ndarray, predictions: np.ndarray, is_measured: np.ndarray, seed: int) -> np.ndarray:
    """Return macro-F1, float (B,), for exponential weights of the rows, with Jeffreys' pseudo-counts for every label."""
    generator = np.random.default_rng(seed)
    weights = generator.standard_exponential((1_000, len(labels)), dtype=np.float32)
    label_hits, gold, predicted = split_totals(weights @ tabulate_rows(labels, predictions))
    hits, errors = generator.standard_gamma(0.5, (2, *gold.shape))
    return (2 * (label_hits + hits) / (gold + predicted + 2 * hits + errors))[:, is_measured].mean(axis=1)


def find_percentiles(values: np.ndarray) -> Interval:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def find_bca(labels: np.ndarray, predictions: np.ndarray, draws: np.ndarray, estimate: float) -> Interval:
    """Return the bias-corrected and accelerated interval of macro-F1.

    Source: Efron 1987, "Better Bootstrap Confidence Intervals".
    """
    from scipy.stats import norm

    table = tabulate_rows(labels, predictions)
    jackknife = average_with_zeros(table.sum(axis=0, keepdims=True) - table, np.asarray(labels.any(axis=0)))["macro_f1"]
    gaps = jackknife.mean() - jackknife
    acceleration = (gaps**3).sum() / (6 * ((gaps**2).sum() ** 1.5) + 1e-12)
    bias = norm.ppf(np.clip((draws < estimate).mean() + (draws == estimate).mean() / 2, 0.001, 0.999))
    z = bias + norm.ppf([0.025, 0.975])
    low, high = np.percentile(draws, 100 * norm.cdf(bias + z / (1 - acceleration * z)))
    return float(low), float(high)


def describe_support(support: int) -> str:
    """Return the group of a label by its number of gold rows."""
    bounds = (1, *(bound + 1 for bound in SUPPORTS))
    for low, high in zip(bounds, SUPPORTS, strict=False):
        if support <= high:
            return f"{low} to {high}"
    return f"more than {SUPPORTS[-1]}"


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
