"""What does each decision rule give on rows that it was not fitted on, by the number of validation rows?

    python -m benchmarks.decision_rule --runs runs/minilm runs/tfidf --output rules.json

Each draw splits the stored validation predictions of a run: the rule is fitted on some rows and judged on all others. The test rows take no
part. Finished cells are kept: the command resumes.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from emotion.config import DecisionConfig
from emotion.errors import exit_on_error
from emotion.evaluation.decision import DecisionRule, compute_logits
from emotion.evaluation.metrics import score_predictions
from emotion.evaluation.thresholds import fit_own_thresholds, fit_thresholds
from emotion.files import write_json
from emotion.tracking.run_folder import RunFolder

SIZES = (115, 300, 890, 2_700)
METRICS = ("macro_f1", "micro_f1", "jaccard_samples", "subset_accuracy")
MAX_FRACTION = 0.7
"""Largest fraction of the rows that a rule is fitted on."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", nargs="+", required=True, metavar="RUN", help="runs with predictions of validation rows")
    parser.add_argument("--draws", type=int, default=20, help="draws of a cell (default: 20)")
    parser.add_argument("--output", required=True, metavar="FILE", help="JSON file; finished cells in it are kept")
    arguments = parser.parse_args()
    output = Path(arguments.output)
    results: dict[str, Any] = json.loads(output.read_text(encoding="utf-8")) if output.is_file() else {}
    for run in arguments.runs:
        rows = RunFolder(Path(run)).read_predictions("validation")
        logits = compute_logits(rows.probabilities)
        for size in (size for size in SIZES if size <= MAX_FRACTION * len(logits)):
            if (key := f"{Path(run).name}, {size} rows") not in results:
                draws = [judge_rules(rows.labels, logits, size, np.random.default_rng([draw, size])) for draw in range(arguments.draws)]
                results[key] = {name: np.mean([draw[name] for draw in draws], axis=0).tolist() for name in draws[0]}
                write_json(output, results)
            print(key, *format_table(results[key]), "", sep="\n", flush=True)
    return 0


def judge_rules(labels: np.ndarray, logits: np.ndarray, size: int, generator: np.random.Generator) -> dict[str, list[float]]:
    """Return the scores of each rule on the rows that it was not fitted on, and by how much its macro-F1 is higher on the others."""
    order = generator.permutation(len(labels))
    fitted, rest = order[:size], order[size:]
    results = {}
    for name, rule in fit_rules(labels[fitted], logits[fitted]).items():
        judged = [score_predictions(labels[part], rule.decide(expit(logits[part]))) for part in (rest, fitted)]
        results[name] = [*(judged[0][metric] for metric in METRICS), judged[1]["macro_f1"] - judged[0]["macro_f1"]]
    return results


def fit_rules(labels: np.ndarray, logits: np.ndarray) -> dict[str, DecisionRule]:
    """Return the rules by name."""
    config = DecisionConfig()
    rules = {
        "0.5 for all": DecisionRule((0.5,) * labels.shape[1]),
        "own thresholds": DecisionRule(tuple(fit_own_thresholds(labels, logits, config.shrinkage))),
    }
    for metric in ("macro_f1", "micro_f1", "jaccard", "subset_accuracy"):
        thresholds = fit_thresholds(labels, logits, DecisionConfig(maximize=metric))
        rules[f"maximize={metric}"] = DecisionRule(thresholds)
        rules[f"maximize={metric} empty_set=top1"] = DecisionRule(thresholds, "top1")
    return rules


def format_table(scores: dict[str, list[float]]) -> list[str]:
    """Return a Markdown table of the rules."""
    lines = ["| rule | macro-F1 | micro-F1 | Jaccard | subset accuracy | optimism |", "|---|---|---|---|---|---|"]
    return lines + [f"| {name} | " + " | ".join(f"{value:.3f}" for value in values) + " |" for name, values in scores.items()]


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
