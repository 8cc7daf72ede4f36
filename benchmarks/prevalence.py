"""How far is each estimator of prevalence from the truth, and how often does its 95% interval hold it? Simulate groups of real predictions.

    python -m benchmarks.prevalence --runs runs/minilm-1 runs/minilm-2 --output prevalence.json
    python -m benchmarks.prevalence --runs runs/minilm-1 --output changes.json --changes

Each label is resampled to prevalences from 0 to 5 times its own, in groups of 100 to 10,000 rows. Two protocols:
`test`: the correction is fitted on the run's validation rows, and groups are drawn from its test rows. Of a rare label these are a few
rows, which differ from all possible rows, and the validation rows are the same in every draw.
`pooled`: validation rows and groups are drawn from validation and test rows together, so that the truth is known and the assumption of the
intervals holds.

`--changes` simulates twelve months: how often is a label found that is doubled in one month, and how often is anything found where nothing
changed? Finished labels are kept: the command resumes.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emotion.analysis.prevalence.correction import Correction, fit_correction
from emotion.analysis.prevalence.estimators import average, compute_ratios, maximize_likelihood
from emotion.analysis.prevalence.histograms import count_atoms, find_atoms, list_atoms
from emotion.analysis.prevalence.intervals import find_bounds, resample_correction, resample_group
from emotion.errors import exit_on_error
from emotion.files import write_json
from emotion.inference.sidecar import read_sidecar
from emotion.tracking.run_folder import RunFolder

FACTORS = (0, 0.5, 1, 2, 5)
SIZES = (100, 1_000, 10_000)
NUM_RESAMPLES = 200
MAX_PREVALENCE = 0.9
WITH_INTERVAL = {"test": ("sld",), "pooled": ("pacc", "sld")}
ESTIMATORS = ("count", "pcc", "acc", "pacc", "sld")
UNCALIBRATED = ("pcc, model's probabilities", "sld, model's probabilities")
FREQUENCIES = (0, 30, 100, 300, 100_000)
"""Bounds of the groups of labels by number of validation rows with the label."""


@dataclass(frozen=True)
class Rows:
    """Rows of a label by atom: with the label and without it, float (A,)."""

    positives: np.ndarray
    negatives: np.ndarray

    def draw(self, size: int, prevalence: float, generator: np.random.Generator, min_positives: int = 0) -> "Rows":
        """Return a random sample of rows in which each has the label with the probability `prevalence`."""
        num_positives = max(generator.binomial(size, prevalence), min_positives)
        parts = ((num_positives, self.positives), (size - num_positives, self.negatives))
        return Rows(*(generator.multinomial(number, weights / weights.sum()).astype(float) for number, weights in parts))

    @property
    def total(self) -> np.ndarray:
        return self.positives + self.negatives

    @property
    def prevalence(self) -> float:
        return float(self.positives.sum() / self.total.sum())

    def __add__(self, other: "Rows") -> "Rows":
        return Rows(self.positives + other.positives, self.negatives + other.negatives)

    def keep(self, chosen: np.ndarray) -> "Rows":
        return Rows(self.positives[chosen], self.negatives[chosen])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", nargs="+", required=True, metavar="RUN", help="runs with predictions of validation and test rows")
    parser.add_argument("--draws", type=int, default=500, help="draws of a cell (default: 500)")
    parser.add_argument("--output", required=True, metavar="FILE", help="JSON file; finished labels in it are kept")
    parser.add_argument("--protocols", nargs="+", choices=tuple(WITH_INTERVAL), default=tuple(WITH_INTERVAL))
    arguments = parser.parse_args()
    output = Path(arguments.output)
    results: dict[str, Any] = json.loads(output.read_text()) if output.is_file() else {}
    for run in arguments.runs:
        names, validation, test = read_rows(run)
        for protocol in arguments.protocols:
            for label, name in enumerate(names):
                key = f"{Path(run).name}/{protocol}/{name}"
                if key not in results:
                    started = time.perf_counter()
                    cells = list(simulate(validation[label], test[label], protocol, arguments.draws, np.random.default_rng([label, 7])))
                    results[key] = {"support": int(validation[label].positives.sum()), "cells": cells}
                    write_json(output, results)
                    print(f"{key}: {time.perf_counter() - started:.0f} s", flush=True)
    for line in summarize(results):
        print(line)
    return 0


def read_rows(run: str) -> tuple[list[str], list[Rows], list[Rows]]:
    """Return the names of the labels of a run, and for each label its validation rows and its test rows."""
    folder = RunFolder(Path(run))
    sidecar, rule = read_sidecar(str(folder.model))
    sides = []
    for split in ("validation", "test"):
        stored = folder.read_predictions(split)
        atoms = find_atoms(stored.probabilities, rule.decide(stored.probabilities))
        counts = [count_atoms(np.where(chosen, atoms, -1), np.zeros(len(atoms), int), 1)[0] for chosen in (stored.labels, ~stored.labels)]
        sides.append([Rows(positives.astype(float), negatives.astype(float)) for positives, negatives in zip(*counts, strict=True)])
    return list(sidecar.labels), sides[0], sides[1]


def simulate(validation: Rows, test: Rows, protocol: str, num_draws: int, generator: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Yield the mean error and the coverage of each estimator, cell by cell."""
    pool = validation + test if protocol == "pooled" else test
    is_used = (validation + test).total > 0
    values, is_predicted = (atoms[is_used] for atoms in list_atoms())
    validation, pool = validation.keep(is_used), pool.keep(is_used)
    cells = [(factor, size) for factor in FACTORS if factor * pool.prevalence <= MAX_PREVALENCE for size in SIZES]
    outcomes: dict[tuple[float, int], list[dict[str, float]]] = {cell: [] for cell in cells}
    resampled = None
    for _ in range(num_draws):
        rows = validation
        if protocol == "pooled":
            rows = pool.draw(int(validation.total.sum()), pool.prevalence, generator, min_positives=1)
        if protocol == "pooled" or resampled is None:
            correction = fit_correction(values, is_predicted, rows.positives, rows.negatives)
            resampled = resample_correction(values, is_predicted, rows.positives, rows.negatives, generator, NUM_RESAMPLES)
        for factor, size in cells:
            group = pool.draw(size, factor * pool.prevalence, generator)
            draws = resample_group(group.total, correction, resampled, generator)
            outcome = measure_errors(group, correction, rows.prevalence)
            for name in WITH_INTERVAL[protocol]:
                estimate = correction.estimate(group.total, name)
                low, high = find_bounds(estimate, resampled.estimate(draws, name, is_bounded=False))
                truth = factor * pool.prevalence
                outcome |= {
                    f"held {name}": float(low <= truth <= high),
                    f"above {name}": float(low > truth),
                    f"width {name}": float(high - low),
                }
            outcomes[factor, size].append(outcome)
    for (factor, size), found in outcomes.items():
        means = {key: float(np.mean([outcome[key] for outcome in found])) for key in found[0]}
        yield {"factor": factor, "size": size, "prevalence": factor * pool.prevalence, "draws": num_draws} | means


def measure_errors(group: Rows, correction: Correction, prior: float) -> dict[str, float]:
    """Return the absolute error of each estimator: its distance from the fraction of the group's rows with the label."""
    estimates = {name: correction.estimate(group.total, name) for name in ESTIMATORS}
    raw = (average(group.total, correction.values), maximize_likelihood(group.total, compute_ratios(correction.values, np.array(prior))))
    estimates |= dict(zip(UNCALIBRATED, raw, strict=True))
    return {f"error {name}": abs(float(estimate) - group.prevalence) for name, estimate in estimates.items()}


def summarize(results: dict[str, Any]) -> list[str]:
    """Return the tables in Markdown: errors relative to the plain count, and coverage by frequency of the label."""
    import pandas as pd

    rows = [
        {"protocol": key.split("/")[1], "support": result["support"], **cell} for key, result in results.items() for cell in result["cells"]
    ]
    frame = pd.DataFrame(rows)
    frame["positives"] = pd.cut(frame["support"], FREQUENCIES, labels=["up to 30", "31-100", "101-300", "over 300"])
    errors = [column for column in map(str, frame) if column.startswith("error ")]
    lines = []
    for protocol, part in frame.groupby("protocol"):
        for by in ("size", "factor", "positives"):
            means = part.groupby(by, observed=True)[errors].mean()
            lines += [f"\n{protocol}: mean absolute error in points (plain count), and relative to it", *format_errors(means, by)]
        for name in WITH_INTERVAL[str(protocol)]:
            for by in ("factor", "size"):
                table = part.pivot_table(index="positives", columns=by, values=f"held {name}", observed=True)
                lines += [f"\n{protocol}, {name}: coverage by {by}", *format_table(table.map("{:.1%}".format))]
            lines += [f"all cells: {part[f'held {name}'].mean():.1%}; low bound above the truth {part[f'above {name}'].mean():.1%}"]
    return lines


def format_errors(means: Any, by: str) -> list[str]:
    """Return a table of mean errors: the plain count in points, the other estimators as a fraction of it."""
    table = means.div(means["error count"], axis=0).map("{:.2f}".format)
    table["error count"] = (100 * means["error count"]).map("{:.2f}".format)
    return format_table(table.rename(columns=lambda name: name.removeprefix("error ")).rename_axis(by))


def format_table(table: Any) -> list[str]:
    """Return a data frame of strings as the lines of a Markdown table."""
    lines = [[str(table.index.name), *map(str, table.columns)], ["---"] * (len(table.columns) + 1)]
    lines += [[str(index), *row] for index, row in zip(table.index, table.to_numpy().tolist(), strict=True)]
    return ["| " + " | ".join(line) + " |" for line in lines]


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
