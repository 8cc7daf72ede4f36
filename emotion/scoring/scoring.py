"""Score files of any size: in order, in constant memory, resumable.

The rows of all inputs are cut into parts; each is predicted as a whole (longest texts first, a text that occurs twice once) and
written to a folder beside the output. What a part holds depends on the inputs alone, so any number of processes that share
the parts out, killed and started again as often as may be, leaves the same bytes.
"""

import json
import os
import shutil
from collections.abc import Iterator
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
from emotion.scoring.manifest import ScoringJob, describe_job, enter_folder, wait_for

if TYPE_CHECKING:
    from emotion.inference.predictor import Predictor

PART_CHARACTERS = 2**25
"""What the texts of a part hold at most, about: the memory that rows take."""


@dataclass
class Tally:
    """What parts counted; they add up."""

    num_rows: int = 0
    num_bad: int = 0
    num_repeats: int = 0
    num_judged: int = 0
    """Rows whose gold labels could be read."""
    num_exact: int = 0
    counts: list[list[int]] | None = None
    """True positives, false positives, false negatives of each label, (3, L)."""

    def add(self, other: "Tally") -> None:
        for name in ("num_rows", "num_bad", "num_repeats", "num_judged", "num_exact"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        if other.counts is not None:
            self.counts = (np.array(other.counts) + (0 if self.counts is None else np.array(self.counts))).tolist()

    @property
    def scores(self) -> dict[str, float] | None:
        """Scores against the gold labels; None without any."""
        return None if not self.num_judged else score_counts(np.array(self.counts), self.num_exact, self.num_judged)


def score_files(predictor: "Predictor | TorchFreePredictor", rule: DecisionRule, job: ScoringJob, say: Any = print) -> Tally | None:
    """Score the inputs into the output, going on from parts that are there; None on all processes but the first.

    Raises: ConfigError if output or parts are in the way; DataError for an input that cannot be read.
    """
    is_main = job.process == 0
    enter_folder(job, describe_job(predictor, rule, job))
    tally, num_parts = Tally(), 0
    with open_source(job.inputs, job.columns, predictor.label_set) as source:
        if is_main:
            gold = f"; {source.gold.describe().split(', ')[1]}, scored against them" if source.gold else ""
            say(f"data: text from column {source.text_column!r}{gold}")
        columns = source.columns + name_columns(job.probabilities, predictor.label_set, source.columns, str(job.inputs[0]))
        schema = build_schema(columns, source.columns, source.schema) if check_format(job.output) == ".parquet" else None
        done = sum(1 for _ in job.folder.glob("part-*.json"))
        if done and is_main:
            say(f"{job.output}: goes on, {done:,} parts of {job.part_rows:,} rows are done")
        with tqdm(desc="score", unit="row", unit_scale=True, disable=not is_main, leave=False, smoothing=0.1) as progress:
            for number, part in enumerate(cut_parts(source.entries, job.part_rows)):
                num_parts = number + 1
                path = job.folder / f"part-{number:06d}"
                is_done = path.with_suffix(".json").is_file()
                if not is_done and number % job.num_processes == job.process:
                    write_part(path, part, source, columns, schema, predictor, rule, job)
                share = source.measure()
                progress.total = max(round((progress.n + len(part)) / share), 1) if share else None
                if is_done and is_main:
                    progress.initial += len(part)  # it took no time: not part of the rate
                progress.update(len(part))
    if not is_main:
        return None
    markers = [job.folder / f"part-{number:06d}.json" for number in range(num_parts)]
    wait_for(markers)  # what other processes still work at; the launcher ends this one if they die
    for marker in markers:
        tally.add(Tally(**json.loads(marker.read_text(encoding="utf-8"))))
    finish(job, [marker.with_suffix("") for marker in markers], columns, schema, tally)
    return tally


def cut_parts(entries: Iterator[Row | BadRow], part_rows: int) -> Iterator[list[Row | BadRow]]:
    """Yield the rows in parts of at most `part_rows` and about `PART_CHARACTERS`."""
    part: list[Row | BadRow] = []
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


def write_part(
    path: Path,
    part: list[Row | BadRow],
    source: Source,
    columns: list[str],
    schema: Any,
    predictor: "Predictor | TorchFreePredictor",
    rule: DecisionRule,
    job: ScoringJob,
) -> None:
    """Predict a part, write its bytes and its bad rows, and last the marker that says it is whole."""
    position = source.columns.index(source.text_column)
    bad_rows: list[BadRow] = []
    texts: dict[int, str] = {}
    for number, entry in enumerate(part):
        if isinstance(entry, BadRow):
            bad_rows.append(entry)
        elif reason := find_fault(entry.values[position]):
            bad_rows.append(BadRow.describe(entry.path, entry.line, reason, entry.values))
        else:
            texts[number] = entry.values[position]
    unique = {text: column for column, text in enumerate(dict.fromkeys(texts.values()))}
    probabilities = predictor.predict(list(unique)) if unique else np.zeros((0, len(predictor.label_set)), np.float32)
    predictions = rule.decide(probabilities)
    tally = Tally(len(part), len(bad_rows), len(texts) - len(unique))
    added = [
        format_scores(scores, is_on, job.probabilities, job.output, predictor.label_set)
        for scores, is_on in zip(probabilities, predictions, strict=True)
    ]
    empty: list[Any] = [None] * (len(columns) - len(source.columns))
    rows = []
    for number, entry in enumerate(part):
        values = entry.values if isinstance(entry, Row) else [None] * len(source.columns)
        rows.append([*values, *(added[unique[texts[number]]] if number in texts else empty)])
    if source.gold is not None:
        gold = [(read_gold(part[n], source, predictor.label_set), unique[text]) for n, text in texts.items()]
        judged = [(labels, row) for labels, row in gold if labels is not None]
        labels = predictor.label_set.encode([columns for columns, _ in judged])
        count_agreement(tally, labels, predictions[[row for _, row in judged]])
    with atomic_write(path) as partial:
        partial.write_bytes(format_part(columns, rows, job.output, schema))
    with atomic_write(path.with_suffix(".bad")) as partial:
        partial.write_bytes(format_bad_rows(bad_rows, has_header=False).encode())
    write_json(path.with_suffix(".json"), asdict(tally))


def find_fault(text: Any) -> str | None:
    """Return why a text cannot be scored, or None."""
    if text is None or (isinstance(text, str) and not text.strip()):
        return "empty text"
    if not isinstance(text, str):
        return f"text is {text!r}, not text"
    return None if is_writable_text(text) else "not valid UTF-8"


def read_gold(entry: Row | BadRow, source: Source, label_set: LabelSet) -> list[int] | None:
    """Return the columns of a row's gold labels, or None where they cannot be read: such a row is not judged."""
    assert isinstance(entry, Row) and source.gold is not None
    try:
        return [label_set.column(label) for label in source.gold.read_labels(dict(zip(source.columns, entry.values, strict=True)))]
    except DataError:
        return None


def count_agreement(tally: Tally, labels: np.ndarray, predictions: np.ndarray) -> None:
    """Count hits, false alarms and misses of rows whose gold labels are known."""
    tally.num_judged, tally.num_exact = len(labels), int((labels == predictions).all(axis=1).sum())
    pairs = (labels & predictions, ~labels & predictions, labels & ~predictions)
    tally.counts = [pair.sum(axis=0).tolist() for pair in pairs]


def finish(job: ScoringJob, parts: list[Path], columns: list[str], schema: Any, tally: Tally) -> None:
    """Join the parts into the output, last of all, and remove them."""
    if tally.num_bad:
        with atomic_write(job.quarantine) as partial:
            join_bytes([part.with_suffix(".bad") for part in parts], format_bad_rows([], has_header=True).encode(), partial)
    else:
        job.quarantine.unlink(missing_ok=True)
    if tally.scores is not None:
        write_json(job.metrics, {"num_rows": tally.num_judged, **tally.scores})
    with atomic_write(job.output) as partial:
        join_parts(parts, format_header(columns, job.output), job.output, partial)
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
    shutil.rmtree(job.folder, ignore_errors=True)
