"""The result of scoring an uploaded file, read from what scoring wrote: counts, shares with intervals, notes and the first rows."""

import csv
import json
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from emotion.app.uploads import Upload
from emotion.data.reading.opening import open_rows
from emotion.data.reading.rows import Row
from emotion.evaluation.uncertainty import compute_wilson_interval
from emotion.inference.text_checks import describe_counts
from emotion.labels import PREDICTED, LabelSet
from emotion.scoring.manifest import ScoringJob
from emotion.scoring.parts import Tally
from emotion.tracking.run_rows import describe_known

SHOWN_ROWS = 20


@dataclass(frozen=True)
class Progress:
    """How far a job is."""

    num_done: int
    num_rows: int
    num_resumed: int
    """Rows of `num_done` that were scored earlier."""
    seconds: float
    is_loading: bool = False
    """The model for files is being loaded."""

    @property
    def rows_per_second(self) -> float:
        return (self.num_done - self.num_resumed) / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class LabelFrequency:
    """How many of the scored rows have a label."""

    name: str
    count: int
    fraction: float
    interval: tuple[float, float]
    """95% interval of the fraction, for rows that are a random sample."""


@dataclass(frozen=True)
class ScoredFile:
    """The result of a job."""

    output: Path
    quarantine: Path | None
    """The rows that could not be scored."""
    num_rows: int
    num_bad: int
    frequencies: list[LabelFrequency]
    rows: list[tuple[str, list[str] | None]]
    """Text and predicted labels of the first rows; None for a row without text, which is not scored."""
    scores: dict[str, float | None] | None
    """Scores against gold labels, if the file has some; None for one that could not be measured."""
    notes: list[str]
    """What was found in the file and its texts, for the user."""
    progress: Progress

    @property
    def files(self) -> list[Path]:
        return [self.output, *([self.quarantine] if self.quarantine is not None else [])]


def summarize_output(job: ScoringJob, upload: Upload, label_set: LabelSet, progress: Progress) -> ScoredFile:
    """Return the counts of a scored file, which is read row by row, and its first rows."""
    counts: Counter[str] = Counter()
    shown: list[tuple[str, list[str] | None]] = []
    with open_rows(job.output, names={PREDICTED}, is_lenient=True) as scored:
        predicted = scored.columns.index(PREDICTED)
        text_column = scored.columns.index(job.columns.text_column) if job.columns.text_column in scored.columns else None
        for entry in scored.entries:
            if isinstance(entry, Row):
                labels = [name for name in label_set.split_cell(entry.values[predicted]) if name in label_set.columns]
                counts.update(labels)
                if len(shown) < SHOWN_ROWS:
                    text = "" if text_column is None else str(entry.values[text_column] or "")
                    shown.append((text, labels if text_column is None or text.strip() else None))
    num_rows, num_bad = upload.num_rows, count_quarantined(job.quarantine)  # Excel does not tell empty rows from none
    num_scored = num_rows - num_bad
    frequencies = [
        LabelFrequency(name, counts[name], counts[name] / max(num_scored, 1), compute_wilson_interval(counts[name], num_scored))
        for name in sorted(label_set.names, key=lambda name: -counts[name])
    ]
    scores = json.loads(job.metrics.read_text(encoding="utf-8")) if job.metrics.is_file() else None
    notes = json.loads(find_notes(job).read_text(encoding="utf-8")) if find_notes(job).is_file() else []
    return ScoredFile(job.output, job.quarantine if num_bad else None, num_rows, num_bad, frequencies, shown, scores, notes, progress)


def find_notes(job: ScoringJob) -> Path:
    """Return the file of the notes on a scored file."""
    return job.output.with_name(f"{job.output.name}.notes.json")


def describe_job_notes(messages: list[str], tally: Tally) -> list[str]:
    """Return what the user should know: messages about the data but for the column of the texts, and counts of texts."""
    found = [message.removeprefix("data: ") for message in messages if message.startswith("data: ") and "text from column" not in message]
    known = describe_known(tally.known_texts, tally.num_scored)
    return [*found, *([known] if known is not None else []), *describe_counts(tally.text_checks, tally.num_scored)]


def count_quarantined(path: Path) -> int:
    """Return the number of rows in a quarantine file."""
    if not path.is_file():
        return 0
    with path.open(encoding="utf-8", newline="") as stream:
        return sum(1 for _ in islice(csv.reader(stream, delimiter="\t"), 1, None))
