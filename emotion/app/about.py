"""What the page tells about a model: its card, the scores of its run, its weakest labels, and the pictures of the report."""

import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emotion.app.models import ServedModel
from emotion.errors import ModelError
from emotion.evaluation.document import replace_section
from emotion.evaluation.summary import FIGURES, SHOWN_SCORES
from emotion.evaluation.verdict import Verdict
from emotion.inference.sidecar import find_model_folder

WEAK_LABELS = 5
COMPARISONS = ("report", "comparison")
"""Names of folders beside a run in which a comparison report is looked for."""


@dataclass(frozen=True)
class Score:
    """A score of the split and its 95% interval, if the report has one."""

    name: str
    value: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class About:
    """What is known about a model."""

    card: str
    """Markdown of the model card, without front matter."""
    split: str
    """Split of the scores; empty without a report."""
    num_rows: int
    scores: list[Score]
    notes: list[str]
    """What the report says about its rows."""
    verdict: Verdict | None
    """None in a report of an earlier version."""
    labels: list[dict[str, str]]
    """Rows of per_label.csv."""
    figures: list[tuple[Path, str]]
    """Pictures with their captions."""
    comparison: Path | None
    """A comparison report that stands beside the run."""

    @property
    def weakest(self) -> list[dict[str, str]]:
        """The labels with the lowest F1, of those with gold rows."""
        measured = [row for row in self.labels if int(row["support"]) > 0 and row["f1"]]
        return sorted(measured, key=lambda row: float(row["f1"]))[:WEAK_LABELS]


def read_about(model: ServedModel) -> About:
    """Return what the model's folder and its run tell; the scores are of the test split, or else of the validation split."""
    card = Path(find_model_folder(model.location)) / "README.md"
    split = next((name for name in ("test", "validation") if (model.run.report(name) / "metrics.json").is_file()), "")
    folder = model.run.report(split)
    metrics = _read_metrics(folder / "metrics.json") if split else {}
    intervals = metrics.get("at_decision_rule_interval_95", {})
    values = metrics.get("at_decision_rule", {})
    scores = [
        Score(title, values[name], tuple(intervals[name]) if None not in intervals.get(name, [None]) else None)
        for name, title in SHOWN_SCORES.items()
        if isinstance(values.get(name), int | float)
    ]
    text = read_card(card) if card.is_file() else ""
    for title in ("Scores", "Labels") if scores else ():  # the page shows them beside the card
        text = replace_section(text, title, None)
    return About(
        text,
        split,
        int(metrics.get("num_rows", 0)),
        scores,
        metrics.get("notes", []),
        Verdict(**metrics["verdict"]) if isinstance(metrics.get("verdict"), dict) else None,
        _read_labels(folder / "per_label.csv") if split else [],
        [(folder / name, caption) for name, caption in FIGURES.items() if (folder / name).is_file()] if split else [],
        find_comparison(model),
    )


def read_card(path: Path) -> str:
    """Return the Markdown of a model card without its front matter."""
    text = path.read_text(encoding="utf-8", errors="replace")
    return re.sub(r"\A---\n.*?\n---\n", "", text, count=1, flags=re.S).strip()


def find_comparison(model: ServedModel) -> Path | None:
    """Return the report of compare.py that stands beside the model's run, or None."""
    candidates = (model.run.path.parent / name / "report.html" for name in COMPARISONS)
    return next((path for path in candidates if path.is_file()), None)


def _read_metrics(path: Path) -> dict[str, Any]:
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path}: is damaged ({error}); evaluate the model again") from None
    return metrics if isinstance(metrics, dict) else {}


def _read_labels(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
