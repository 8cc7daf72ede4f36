"""How often is a fit called poor where label shift holds, and where texts are of another sort?

    python -m benchmarks.prevalence_fit --run runs/minilm-1 --model models/goemotions-minilm --output fit.json

Where it holds: validation rows and groups are drawn from the validation and test rows of a run, each label at 0 to 5 times its frequency.
Texts of another sort: the bundled corpus, scored by a model of GoEmotions, whose validation rows are those of the model.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.prevalence import FACTORS, MAX_PREVALENCE, SIZES, Rows, read_rows
from emotion.analysis.prevalence.cells import CellCounter, CellKey
from emotion.analysis.prevalence.changes import measure
from emotion.analysis.prevalence.correction import fit_correction
from emotion.analysis.prevalence.fit import measure_fit
from emotion.analysis.prevalence.histograms import list_atoms
from emotion.analysis.prevalence.levels import Levels
from emotion.analysis.prevalence.validation import count_rows, read_stored
from emotion.config import load_config
from emotion.data.reading import read_dataset
from emotion.errors import exit_on_error
from emotion.files import write_json
from emotion.inference.predictor import Predictor

LEVEL = 0.05


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--run", required=True, help="run with predictions of validation and test rows")
    parser.add_argument("--model", required=True, help="model of GoEmotions with validation predictions")
    parser.add_argument("--draws", type=int, default=100, help="draws of a label (default: 100)")
    parser.add_argument("--output", required=True, metavar="FILE", help="JSON file")
    arguments = parser.parse_args()
    results = {"label shift": simulate_shift(arguments.run, arguments.draws), "bundled corpus": measure_corpus(arguments.model)}
    write_json(Path(arguments.output), results)
    for name, part in results.items():
        print(name, *(f"{key}: {value:.4g}" for key, value in part.items()), sep="\n  ")
    return 0


def simulate_shift(run: str, num_draws: int) -> dict[str, float]:
    """Return the fraction of p-values below 5 %, and below 5 % divided by the number of labels, by factor and size of the group."""
    names, *sides = read_rows(run)
    results = {}
    for factor in FACTORS:
        for size in SIZES:
            generator = np.random.default_rng([int(10 * factor), size])
            pools = [validation + test for validation, test in zip(*sides, strict=True)]
            chosen = [pool for pool in pools if factor * pool.prevalence <= MAX_PREVALENCE]
            found = np.array([draw_fit(pool, factor, size, generator) for pool in chosen for _ in range(num_draws)])
            results[f"{factor:g} times, {size:,} rows, p < 0.05"] = float((found < LEVEL).mean())
            results[f"{factor:g} times, {size:,} rows, p < 0.05 / labels"] = float((found < LEVEL / len(names)).mean())
    return results


def draw_fit(pool: Rows, factor: float, size: int, generator: np.random.Generator) -> float:
    """Return the p-value of the fit of a random group, corrected by random validation rows."""
    values, is_predicted = list_atoms()
    rows = pool.draw(int(pool.total.sum()) // 2, pool.prevalence, generator, min_positives=1)
    group = pool.draw(size, factor * pool.prevalence, generator).total[None]
    correction = fit_correction(values, is_predicted, rows.positives, rows.negatives)
    num_rows = int(rows.positives.sum()), int(rows.negatives.sum())
    return float(measure_fit(group, np.ones(1), correction.estimate(group), correction, num_rows)[0])


def measure_corpus(model: str) -> dict[str, Any]:
    """Return how many labels have a poor fit in the bundled corpus, and the mean absolute errors of SLD and of the plain count."""
    predictor = Predictor.load(model)
    dataset = read_dataset(load_config(None, ["data.source=sample"]).data)
    columns = [dataset.label_set.names.index(name) for name in predictor.label_set.names]
    parts = dataset.splits.values()
    gold = np.concatenate([part.labels for part in parts])[:, columns]
    probabilities = predictor.predict([text for part in parts for text in part.texts])
    counter = CellCounter(len(columns), has_clusters=False)
    counter.add([CellKey()] * len(gold), probabilities, predictor.rule.decide(probabilities))
    levels = Levels(predictor.label_set, predictor.rule)
    validation = count_rows(read_stored(model, levels), levels, levels.label_set)
    found = measure(counter.cells, validation, [])
    truth = gold.mean(axis=0)
    bounds = found.bounds[0]
    pcc = [
        float(fit_correction(*list_atoms(), positives.astype(float), negatives.astype(float)).estimate(group.astype(float), "pcc"))
        for positives, negatives, group in zip(validation.positives, validation.negatives, counter.cells[CellKey()].counts, strict=True)
    ]
    return {
        "rows": len(gold),
        "labels with a poor fit": int(found.is_misfit.sum()),
        "error of SLD in points": float(100 * np.abs(found.estimates[0] - truth).mean()),
        "error of PCC in points": float(100 * np.abs(np.array(pcc) - truth).mean()),
        "error of the plain count in points": float(100 * np.abs(found.counts[0] - truth).mean()),
        "intervals that hold the truth": int(((bounds[:, 0] <= truth) & (truth <= bounds[:, 1])).sum()),
    }


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
