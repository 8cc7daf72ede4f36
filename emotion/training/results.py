"""What a run leaves beside its model: the report of the validation rows and the curves, and what it prints at its end."""

import shlex
import sys
from typing import Any

from emotion.config import Config
from emotion.data.reading import Dataset
from emotion.data.reading.labelled_rows import LabelledRows
from emotion.evaluation.drawing import save_light_figure
from emotion.evaluation.plots import plot_training
from emotion.evaluation.reporting import write_report
from emotion.evaluation.rows import ScoredRows
from emotion.evaluation.selection import Candidate
from emotion.evaluation.summary import summarize
from emotion.text import print_message
from emotion.tracking.findings import collect_findings, format_findings
from emotion.tracking.run_folder import RunFolder


def write_validation_report(
    folder: RunFolder, config: Config, dataset: Dataset, best: Candidate, checks: dict[str, int]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write the report of the best checkpoint and the curves of the run; return the content of metrics.json and the findings.

    `checks` counts validation texts, as `TextChecks.counts` does.
    """
    rows = dataset["validation"]
    predictions = best.rule.decide(best.probabilities)
    findings = collect_findings(LabelledRows(rows, [], splits=dataset.splits), "validation", predictions, checks, folder, config)
    texts = rows.texts if config.run.quote_texts else None
    scored = ScoredRows(rows.ids, dataset.label_set, rows.labels, best.probabilities, rows.is_judged, texts, rows.ratings)
    report = write_report(folder.report("validation"), scored, best.rule, "validation", findings)
    save_light_figure(folder.path / "report" / "training.png", plot_training(folder.read_metrics()))
    return report, findings


def print_results(folder: RunFolder, report: dict[str, Any], efficiency: dict[str, Any], findings: dict[str, Any], has_test: bool) -> None:
    """Print the scores in sentences, cost, what to do next, and last the verdict; `has_test` says whether there is a test split."""
    rows = "--split test" if has_test else "--input FILE --output FOLDER"
    speed = f"{efficiency['examples_per_second']:.0f} examples/s, {efficiency['total_seconds']:.0f} s in all"
    lines = [
        *summarize(report),
        f"{folder.path}: {speed}, peak memory {efficiency['peak_memory'] / 2**30:.1f} GiB",
        "The thresholds were fitted on these rows, so F1 is optimistic here. For rows that nothing was fitted on:",
        f"  python evaluate.py --model {shlex.quote(str(folder.path))} {rows}",
        *format_findings(findings),
    ]
    for line in lines:
        print_message(line, sys.stdout)
