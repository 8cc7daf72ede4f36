"""Twelve months of rows: how often is anything found where nothing changed, and how often a label that is doubled in one month?

    python -m benchmarks.prevalence_changes --run runs/minilm-1 --output changes.json

Rows are drawn from the validation and test rows of a run, whole rows with all their labels; the correction is fitted on a new draw of
validation rows in each repetition. A repetition is one report: all labels and months are tested together. Finished repetitions are kept:
the command resumes.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from emotion.analysis.prevalence.cells import CellCounter, CellKey
from emotion.analysis.prevalence.changes import list_comparisons, measure, sum_cells
from emotion.analysis.prevalence.validation import count_validation
from emotion.errors import exit_on_error
from emotion.evaluation.decision import DecisionRule
from emotion.files import write_json
from emotion.inference.sidecar import read_sidecar
from emotion.tracking.run_folder import RunFolder

MONTHS = [f"2024-{month:02d}" for month in range(1, 13)]
PLANTED_MONTH = 6
MAX_DOUBLED = 0.4
"""Most frequent label that is doubled."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--run", required=True, help="run with predictions of validation and test rows")
    parser.add_argument("--rows", type=int, nargs="+", default=[300, 1_000, 3_000], help="rows of a month (default: 300 1000 3000)")
    parser.add_argument("--repetitions", type=int, default=200, help="years without a change, and years with one (default: 200)")
    parser.add_argument("--output", required=True, metavar="FILE", help="JSON file; finished repetitions in it are kept")
    arguments = parser.parse_args()
    folder = RunFolder(Path(arguments.run))
    rule = read_sidecar(str(folder.model))[1]
    stored = [folder.read_predictions(split) for split in ("validation", "test")]
    labels, probabilities = (np.concatenate([getattr(part, name) for part in stored]) for name in ("labels", "probabilities"))
    names = stored[0].label_set.names
    output = Path(arguments.output)
    results: dict[str, Any] = json.loads(output.read_text()) if output.is_file() else {}
    for repetition in range(arguments.repetitions):
        for num_rows in arguments.rows:
            for planted in (None, repetition % len(names)):
                key = f"{num_rows}/{repetition}/{'none' if planted is None else names[planted]}"
                if key not in results:
                    generator = np.random.default_rng([repetition, num_rows, planted is not None])
                    results[key] = simulate_year(labels, probabilities, rule, num_rows, planted, generator)
                    write_json(output, results)
    for line in summarize(results):
        print(line)
    return 0


def simulate_year(
    labels: np.ndarray, probabilities: np.ndarray, rule: DecisionRule, num_rows: int, planted: int | None, generator: np.random.Generator
) -> dict[str, Any]:
    """Return the changes that are found in a year, and the prevalence of the planted label."""
    started = time.perf_counter()
    drawn = generator.integers(0, len(labels), len(labels) // 2)
    validation = count_validation([], labels[drawn], probabilities[drawn], None, rule)
    counter = CellCounter(labels.shape[1], has_clusters=False)
    for month, name in enumerate(MONTHS):
        weights = np.ones(len(labels))
        if planted is not None and month == PLANTED_MONTH:
            frequency = labels[:, planted].mean()
            doubled = min(2 * frequency, MAX_DOUBLED + frequency)
            weights = np.where(labels[:, planted], doubled / frequency, (1 - doubled) / (1 - frequency))
        rows = generator.choice(len(labels), num_rows, p=weights / weights.sum())
        counter.add([CellKey(name)] * num_rows, probabilities[rows], rule.decide(probabilities[rows]))
    cells = sum_cells(counter.cells)
    found = [change for change in measure(cells, validation, list_comparisons(cells)).changes if change.is_shown]
    is_planted = [change.label == planted and change.second.period == MONTHS[PLANTED_MONTH] for change in found]
    return {
        "frequency": None if planted is None else float(labels[:, planted].mean()),
        "rise found": any(is_planted),
        "others": sum(not is_it for is_it in is_planted),
        "seconds": time.perf_counter() - started,
    }


def summarize(results: dict[str, Any]) -> list[str]:
    """Return the rates in Markdown."""
    import pandas as pd

    frame = pd.DataFrame([{"rows": int(key.split("/")[0]), **result} for key, result in results.items()])
    lines = ["| rows a month | years | with a false alarm |", "| --- | --- | --- |"]
    for rows, part in frame[frame["frequency"].isna()].groupby("rows"):
        lines.append(f"| {rows:,} | {len(part):,} | {(part['others'] > 0).mean():.1%} |")
    planted = frame[frame["frequency"].notna()]
    bands = pd.cut(planted["frequency"].astype(float), [0, 0.005, 0.02, 0.05, 1], labels=["up to 0.5 %", "0.5-2 %", "2-5 %", "over 5 %"])
    lines += ["", "| rows a month | label's frequency | years | rise found |", "| --- | --- | --- | --- |"]
    for (rows, band), part in planted.groupby(["rows", bands], observed=True):  # type: ignore[assignment]
        lines.append(f"| {rows:,} | {band} | {len(part):,} | {part['rise found'].mean():.0%} |")
    return lines


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
