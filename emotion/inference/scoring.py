"""Score files of any size: in order, in constant memory, resumable.

The rows of all inputs are cut into parts; each is predicted as a whole (longest texts first, a text that occurs twice once) and
written to a folder beside the output. What a part holds depends on the inputs alone, so any number of processes that share
the parts out, killed and started again as often as may be, leaves the same bytes.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from emotion.config import DataConfig
from emotion.data.reading.rows import BadRow, Row, format_bad_rows, is_writable_text
from emotion.data.reading.streams import Source, open_source
from emotion.errors import ConfigError, DataError
from emotion.evaluation.decision import DecisionRule
from emotion.evaluation.metrics import score_counts
from emotion.files import write_json, written_beside
from emotion.inference.onnx_predictor import OnnxPredictor
from emotion.inference.scored_formats import check_format, format_header, format_part, join_bytes, join_parts
from emotion.labels import LabelSet

if TYPE_CHECKING:
    from emotion.inference.predictor import Predictor

PART_ROWS = 16_384
PART_CHARACTERS = 2**25
"""What a part holds at most: the work that a kill can cost, and the memory that rows take."""
PREDICTED = "predicted_labels"
DIGITS = 4
"""Decimals of a probability."""
LABEL_SEPARATOR = "|"
WAIT_SECONDS = 0.2


@dataclass(frozen=True)
class ScoringJob:
    """What is to be scored, and how. `probabilities` is `none`, `all`, or the number of likeliest labels to give, as text."""

    inputs: tuple[Path, ...]
    output: Path
    columns: DataConfig
    probabilities: str = "none"
    part_rows: int = PART_ROWS
    process: int = 0
    num_processes: int = 1

    @property
    def folder(self) -> Path:
        """Where parts lie until all are there."""
        return self.output.with_name(f".{self.output.name}.parts")

    @property
    def quarantine(self) -> Path:
        return self.output.with_name(f"{self.output.name}.quarantine.tsv")

    @property
    def metrics(self) -> Path:
        return self.output.with_name(f"{self.output.name}.metrics.json")


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


def score_files(predictor: "Predictor | OnnxPredictor", rule: DecisionRule, job: ScoringJob, say: Any = print) -> Tally | None:
    """Score the inputs into the output, going on from parts that are there; None on all processes but the first.

    Raises: ConfigError if output or parts are in the way; DataError for an input that cannot be read.
    """
    is_main = job.process == 0
    if is_main:
        prepare_folder(job, describe_job(predictor, rule, job))
    wait_for([job.folder / "ledger.json"])
    tally, num_parts = Tally(), 0
    with open_source(job.inputs, job.columns, predictor.label_set) as source:
        if is_main:
            gold = f"; {source.gold.describe().split(', ')[1]}, scored against them" if source.gold else ""
            say(f"data: text from column {source.text_column!r}{gold}")
        columns = source.columns + name_columns(job, predictor.label_set, source.columns)
        schema = build_schema(source, columns) if check_format(job.output) == ".parquet" else None
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


def describe_job(predictor: "Predictor | OnnxPredictor", rule: DecisionRule, job: ScoringJob) -> dict[str, Any]:
    """Return all that the output's bytes depend on, as JSON holds it; parts of another description are not gone on from."""
    model = json.dumps([asdict(predictor.sidecar), rule.to_dict(), predictor.form], sort_keys=True, default=list)
    return {
        "inputs": [describe_input(path) for path in job.inputs],
        "model and rule": hashlib.sha256(model.encode()).hexdigest()[:16],
        "columns": json.loads(json.dumps(asdict(job.columns))),
        "probabilities": job.probabilities,
        "rows of a part": job.part_rows,
    }


def describe_input(path: Path) -> str:
    """Return name, size and time of change of an input.

    Raises: DataError if it is not there.
    """
    if path == Path("-"):
        return f"stdin at {time.time()}"  # what it held is gone: nothing to go on from
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"--input {path}: cannot be read ({error.strerror})") from None
    return f"{path} ({status.st_size:,} bytes, changed {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(status.st_mtime))})"


def prepare_folder(job: ScoringJob, description: dict[str, Any]) -> None:
    """Make the folder of the parts, or hold the one that is there to be of the same job.

    Raises: ConfigError if it is of another, or the output is there already.
    """
    check_format(job.output)
    if job.output.exists():
        raise ConfigError(f"--output {job.output}: exists already; choose another name, or remove it")
    ledger = job.folder / "ledger.json"
    if ledger.is_file():
        before = json.loads(ledger.read_text(encoding="utf-8"))
        if changed := [key for key in description if description[key] != before.get(key)]:
            raise ConfigError(
                f"{job.folder}: holds parts of another job ({'; '.join(f'{k}: {before.get(k)} -> {description[k]}' for k in changed)}): "
                "give the old input, model and options to go on, or remove that folder to start anew"
            )
        return
    write_json(ledger, description)


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
    predictor: "Predictor | OnnxPredictor",
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
    added = [format_scores(p, d, job, predictor.label_set) for p, d in zip(probabilities, predictions, strict=True)]
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
    with written_beside(path) as partial:
        partial.write_bytes(format_part(columns, rows, job.output, schema))
    with written_beside(path.with_suffix(".bad")) as partial:
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


def name_columns(job: ScoringJob, label_set: LabelSet, taken: list[str]) -> list[str]:
    """Return the columns that scoring adds.

    Raises: ConfigError for more labels than there are; DataError if the input has a column of that name.
    """
    names = [PREDICTED]
    if job.probabilities.isdecimal() and int(job.probabilities) > len(label_set):
        raise ConfigError(f"--probabilities {job.probabilities}: at most {len(label_set)}, the model has no more labels")
    if job.probabilities == "all":
        names += [f"probability_{name}" for name in label_set.names]
    elif job.probabilities != "none":
        names += [name for rank in range(1, int(job.probabilities) + 1) for name in (f"top_{rank}", f"top_{rank}_probability")]
    if both := sorted(set(names) & set(taken)):
        raise DataError(f"{job.inputs[0]}: has a column {both[0]!r} already, which scoring adds: rename it")
    return names


def format_scores(probabilities: np.ndarray, predictions: np.ndarray, job: ScoringJob, label_set: LabelSet) -> list[Any]:
    """Return the values of the added columns of one row."""
    labels = label_set.decode(predictions)
    values: list[Any] = [LABEL_SEPARATOR.join(labels) if check_format(job.output) == ".csv" else labels]
    if job.probabilities == "all":
        values += [round(float(value), DIGITS) for value in probabilities]
    elif job.probabilities != "none":
        for column in np.argsort(-probabilities, kind="stable")[: int(job.probabilities)]:
            values += [label_set.names[column], round(float(probabilities[column]), DIGITS)]
    return values


def build_schema(source: Source, columns: list[str]) -> Any:
    """Return Arrow's schema: the input's own if it is parquet, otherwise text; then labels and probabilities."""
    import pyarrow as pa

    fields = []
    for column in columns:
        if column in source.columns:
            fields.append(source.schema.field(column) if source.schema is not None else pa.field(column, pa.string()))
        elif column == PREDICTED:
            fields.append(pa.field(column, pa.list_(pa.string())))
        else:
            fields.append(pa.field(column, pa.float64() if "probability" in column else pa.string()))
    return pa.schema([field.with_nullable(True) for field in fields])


def finish(job: ScoringJob, parts: list[Path], columns: list[str], schema: Any, tally: Tally) -> None:
    """Join the parts into the output, last of all, and remove them."""
    if tally.num_bad:
        with written_beside(job.quarantine) as partial:
            join_bytes([part.with_suffix(".bad") for part in parts], format_bad_rows([], has_header=True).encode(), partial)
    else:
        job.quarantine.unlink(missing_ok=True)
    if tally.scores is not None:
        write_json(job.metrics, {"num_rows": tally.num_judged, **tally.scores})
    with written_beside(job.output) as partial:
        join_parts(parts, format_header(columns, job.output), job.output, partial)
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
    shutil.rmtree(job.folder, ignore_errors=True)


def wait_for(paths: list[Path]) -> None:
    """Return when all paths are there."""
    for path in paths:
        while not path.exists():
            time.sleep(WAIT_SECONDS)
