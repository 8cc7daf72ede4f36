"""Score files of any size: in order, in constant memory, resumable.

The rows of all inputs are cut into parts. Each part is predicted as a whole (longest texts first, repeated texts once) and written to a
folder beside the output. A part depends on the inputs alone, so the number of processes and interruptions does not change the output's
bytes.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from emotion.data.reading.rows import BadRow, Row, format_bad_rows, is_writable_text
from emotion.data.reading.streams import Source, open_source
from emotion.errors import DataError
from emotion.evaluation.decision import DecisionRule
from emotion.evaluation.metrics import score_counts
from emotion.files import atomic_write, write_json
from emotion.inference.torch_free import TorchFreePredictor
from emotion.labels import LabelSet
from emotion.scoring.formats import (
    build_schema,
    check_format,
    format_header,
    format_part,
    format_scores,
    join_bytes,
    join_parts,
    name_columns,
)
from emotion.scoring.manifest import WAIT_SECONDS, ScoringJob, describe_job, enter_folder

if TYPE_CHECKING:
    from emotion.inference.predictor import Predictor

PART_CHARACTERS = 2**25
"""A part ends at about this many characters of text, which bounds the memory of its rows."""

Part = list[Row | BadRow]


@dataclass
class Tally:
    """Counts of one or several parts."""

    num_rows: int = 0
    num_bad: int = 0
    num_repeats: int = 0
    num_judged: int = 0
    """Rows whose gold labels could be read."""
    num_exact: int = 0
    """Rows whose predicted labels are exactly the gold labels."""
    counts: list[list[int]] | None = None
    """True positives, false positives and false negatives of each label, (3, L)."""

    def add(self, other: "Tally") -> None:
        """Add the counts of another tally to this one."""
        for name in ("num_rows", "num_bad", "num_repeats", "num_judged", "num_exact"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        if other.counts is not None:
            self.counts = (np.array(other.counts) + (0 if self.counts is None else np.array(self.counts))).tolist()

    @property
    def scores(self) -> dict[str, float] | None:
        """Scores against the gold labels; None if there are none."""
        return None if not self.num_judged else score_counts(np.array(self.counts), self.num_exact, self.num_judged)


def score_files(
    predictor: "Predictor | TorchFreePredictor", rule: DecisionRule, job: ScoringJob, log: Callable[[str], Any] = print
) -> Tally | None:
    """Score the inputs into the output, reusing the parts that exist, and return the counts; None except in the first process.

    Raises: ConfigError if the output exists or the parts belong to another job; DataError for an input that cannot be read.
    """
    is_main = job.process == 0
    if not enter_folder(job, describe_job(predictor, rule, job)):
        return None
    with open_source(job.inputs, job.columns, predictor.label_set) as source:
        if is_main:
            gold = f"; {source.gold.describe_labels()}, scored against them" if source.gold else ""
            log(f"data: text from column {source.text_column!r}{gold}")
        scorer = PartScorer(predictor, rule, job, source)
        num_done = sum(1 for _ in job.folder.glob("part-*.json"))
        if num_done and is_main:
            log(f"{job.output}: resuming; {num_done:,} parts of {job.part_rows:,} rows are done")
        parts = score_parts(scorer, job, source, log)
    if not is_main:
        return None
    tally = Tally()
    for part in parts:
        while (counts := read_marker(part)) is None:  # another process is still writing it; if one dies, the launcher ends this one
            time.sleep(WAIT_SECONDS)
        tally.add(counts)
    write_output(scorer, parts, tally)
    return tally


class PartScorer:
    """Predicts the rows of a part, and formats them for the output."""

    def __init__(self, predictor: "Predictor | TorchFreePredictor", rule: DecisionRule, job: ScoringJob, source: Source) -> None:
        self.job, self._predictor, self._rule, self._source = job, predictor, rule, source
        self._added_columns = name_columns(job.probabilities, predictor.label_set, source.columns, str(job.inputs[0]))
        self.columns = source.columns + self._added_columns
        """Columns of the output."""
        is_parquet = check_format(job.output) == ".parquet"
        self._schema = build_schema(self.columns, source.columns, source.schema) if is_parquet else None

    def write(self, path: Path, part: Part) -> None:
        """Write a part's rows to `path`, its bad rows beside it, and last the marker that both are complete."""
        texts, bad_rows = self._select_texts(part)
        unique = {text: position for position, text in enumerate(dict.fromkeys(texts.values()))}
        positions = {number: unique[text] for number, text in texts.items()}
        probabilities, predictions = self._predict(list(unique))
        tally = Tally(len(part), len(bad_rows), len(texts) - len(unique))
        if self._source.gold is not None:
            self._count_agreement(part, positions, predictions, tally)
        rows = self._build_rows(part, positions, probabilities, predictions)
        find_marker(path).unlink(missing_ok=True)
        write_durably(path, format_part(self.columns, rows, self.job.output, self._schema))
        write_durably(find_bad_rows(path), format_bad_rows(bad_rows, has_header=False).encode())
        checksums = {file.name: compute_checksum(file) for file in (path, find_bad_rows(path))}
        write_json(find_marker(path), {"tally": asdict(tally), "checksums": checksums})

    def _select_texts(self, part: Part) -> tuple[dict[int, str], list[BadRow]]:
        """Return the texts that can be scored, by their position in the part, and the rows that cannot."""
        column = self._source.columns.index(self._source.text_column)
        texts: dict[int, str] = {}
        bad_rows: list[BadRow] = []
        for number, entry in enumerate(part):
            if isinstance(entry, BadRow):
                bad_rows.append(entry)
            elif reason := find_fault(entry.values[column]):
                bad_rows.append(BadRow.describe(entry.path, entry.line, reason, entry.values))
            else:
                texts[number] = entry.values[column]
        return texts, bad_rows

    def _predict(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return probabilities, float32 (n, L), and predictions, bool (n, L)."""
        probabilities = self._predictor.predict(texts) if texts else np.zeros((0, len(self._predictor.label_set)), np.float32)
        return probabilities, self._rule.decide(probabilities)

    def _build_rows(self, part: Part, positions: dict[int, int], probabilities: np.ndarray, predictions: np.ndarray) -> list[list[Any]]:
        """Return the output's rows; `positions` maps a row of the part to its prediction, and rows without one get empty cells."""
        output, label_set = self.job.output, self._predictor.label_set
        added = [
            format_scores(scores, predicted, self.job.probabilities, output, label_set)
            for scores, predicted in zip(probabilities, predictions, strict=True)
        ]
        empty: list[Any] = [None] * len(self._added_columns)
        rows = []
        for number, entry in enumerate(part):
            values = entry.values if isinstance(entry, Row) else [None] * len(self._source.columns)
            rows.append([*values, *(added[positions[number]] if number in positions else empty)])
        return rows

    def _count_agreement(self, part: Part, positions: dict[int, int], predictions: np.ndarray, tally: Tally) -> None:
        """Compare predictions with the gold labels of the rows where these can be read."""
        label_set = self._predictor.label_set
        gold = [(read_gold(part[number], self._source, label_set), position) for number, position in positions.items()]
        known = [(columns, position) for columns, position in gold if columns is not None]
        labels = label_set.encode([columns for columns, _ in known])
        predicted = predictions[[position for _, position in known]]
        tally.num_judged, tally.num_exact = len(labels), int((labels == predicted).all(axis=1).sum())
        tally.counts = [pair.sum(axis=0).tolist() for pair in (labels & predicted, ~labels & predicted, labels & ~predicted)]


def score_parts(scorer: PartScorer, job: ScoringJob, source: Source, log: Callable[[str], Any]) -> list[Path]:
    """Write this process's parts that are not complete yet, and return the paths of the parts of all processes, in order."""
    is_main = job.process == 0
    paths: list[Path] = []
    with tqdm(desc="score", unit="row", unit_scale=True, disable=not is_main, leave=False, smoothing=0.1) as progress:
        for number, part in enumerate(cut_parts(source.entries, job.part_rows)):
            path = job.folder / f"part-{number:06d}"
            paths.append(path)
            is_own, has_marker = number % job.num_processes == job.process, find_marker(path).is_file()
            is_done = has_marker and (not is_own or read_marker(path) is not None)
            if not is_done and job.output.exists():
                break  # the first process had all parts, and has removed them
            if not is_done and is_own:
                if has_marker:
                    log(f"{path}: is damaged, or of an older version; it is scored again")
                scorer.write(path, part)
            fraction = source.measure()
            progress.total = max(round((progress.n + len(part)) / fraction), 1) if fraction else None
            if is_done and is_main:
                progress.initial += len(part)  # not scored now, so not part of the rate
            progress.update(len(part))
    return paths


def cut_parts(entries: Iterable[Row | BadRow], part_rows: int) -> Iterator[Part]:
    """Yield the rows in parts of at most `part_rows` rows and about `PART_CHARACTERS` characters."""
    part: Part = []
    size = 0
    for entry in entries:
        part.append(entry)
        if isinstance(entry, Row):
            size += sum(len(value) for value in entry.values if isinstance(value, str))
        if len(part) == part_rows or size >= PART_CHARACTERS:
            yield part
            part, size = [], 0
    if part:
        yield part


def find_marker(part: Path) -> Path:
    """Return the file that exists when a part is complete; it contains the part's `Tally` and the checksums of its files."""
    return part.with_suffix(".json")


def read_marker(part: Path) -> Tally | None:
    """Return the counts of a part, or None if it is not complete, or not what was written."""
    try:
        marker = json.loads(find_marker(part).read_text(encoding="utf-8"))
        tally, checksums = Tally(**marker["tally"]), dict(marker["checksums"])
        is_whole = all(compute_checksum(file) == checksums[file.name] for file in (part, find_bad_rows(part)))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return tally if is_whole else None


def compute_checksum(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_durably(path: Path, content: bytes) -> None:
    """Write a file atomically, and have it on the disk before it gets its name."""
    with atomic_write(path, len(content)) as partial, partial.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def find_bad_rows(part: Path) -> Path:
    """Return the file of a part's bad rows."""
    return part.with_suffix(".bad")


def find_fault(text: Any) -> str | None:
    """Return why a text cannot be scored, or None."""
    if text is None or (isinstance(text, str) and not text.strip()):
        return "empty text"
    if not isinstance(text, str):
        return f"text is {text!r}, not a string"
    return None if is_writable_text(text) else "not valid UTF-8"


def read_gold(entry: Row | BadRow, source: Source, label_set: LabelSet) -> list[int] | None:
    """Return the columns of a row's gold labels, or None if they cannot be read; such a row is scored but not counted as judged."""
    assert isinstance(entry, Row) and source.gold is not None
    try:
        return [label_set.column(label) for label in source.gold.read_labels(dict(zip(source.columns, entry.values, strict=True)))]
    except DataError:
        return None


def write_output(scorer: PartScorer, parts: list[Path], tally: Tally) -> None:
    """Write quarantine and metrics, then the output from the parts, and remove the parts."""
    job = scorer.job
    if tally.num_bad:
        with atomic_write(job.quarantine) as partial:
            join_bytes([find_bad_rows(part) for part in parts], format_bad_rows([], has_header=True).encode(), partial)
    else:
        job.quarantine.unlink(missing_ok=True)
    if tally.scores is not None:
        write_json(job.metrics, {"num_rows": tally.num_judged, **tally.scores})
    with atomic_write(job.output) as partial:
        join_parts(parts, format_header(scorer.columns, job.output), job.output, partial)
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
    shutil.rmtree(job.folder, ignore_errors=True)
