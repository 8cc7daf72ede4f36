"""Score files of any size: in order, in constant memory, resumable.

The rows of all inputs are cut into parts. Each part is predicted as a whole (longest texts first, repeated texts once) and written to a
folder beside the output. A part depends on the inputs alone, so the number of processes and interruptions does not change the output's
bytes.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from emotion.data.reading.rows import BadRow, Row, format_bad_rows
from emotion.data.reading.streams import Source, open_source
from emotion.errors import StorageError
from emotion.evaluation.decision import DecisionRule
from emotion.inference.text_checks import TextChecks
from emotion.inference.torch_free import TorchFreePredictor
from emotion.labels import LabelSet
from emotion.scoring.excel import check_excel_output
from emotion.scoring.formats import (
    build_schema,
    check_format,
    count_non_finite,
    escape_formulas,
    format_part,
    format_scores,
    name_columns,
)
from emotion.scoring.joining import begin_shard, finish_shard
from emotion.scoring.manifest import ScoringJob, describe_job
from emotion.scoring.output import write_output
from emotion.scoring.parts import Part, Tally, cut_parts, find_bad_rows, find_marker, find_part, read_marker, write_durably, write_marker
from emotion.scoring.processes import WAIT_SECONDS, PartnerWatch, enter_folder, remove_left_over
from emotion.scoring.shards import RowDigest
from emotion.scoring.texts import predict_texts, select_texts
from emotion.text import is_quiet
from emotion.tracking.locating import find_run_of_model
from emotion.tracking.run_rows import read_rows

if TYPE_CHECKING:
    from emotion.inference.predictor import Predictor


def score_files(
    predictor: "Predictor | TorchFreePredictor", rule: DecisionRule, job: ScoringJob, log: Callable[[str], Any] = print
) -> Tally | None:
    """Score the inputs into the output, reusing the parts that exist, and return the counts; None except in the first process.

    A shard of the job (`job.shard`) writes its parts only, and returns their counts.

    Raises: ConfigError if the output exists or the parts belong to another job; LockHeldError if another process scores into this output;
    DataError for an input that cannot be read.
    """
    is_main, description, rows = job.process == 0, describe_job(predictor, rule, job), RowDigest()
    is_typed = check_format(job.output) == ".parquet"
    if job.is_finished() and not is_main:
        return None  # the first process had nobody to wait for
    if is_main or job.is_overwriting:
        remove_left_over(job)
        job.check_output()
    gold_labels = find_gold_labels(predictor, job)
    with ExitStack() as stack:
        source = stack.enter_context(open_source(job.inputs, job.columns, gold_labels, is_typed))
        scorer, num_notes = PartScorer(predictor, rule, job, source), len(source.notes)  # checks the columns before anything is replaced
        if not stack.enter_context(enter_folder(job, description)):
            return None
        if is_main:
            gold = f"; {source.gold.reader.layout.describe_labels()}, scored against them" if source.gold else ""
            for message in (f"text from column {source.text_column!r}{gold}", *source.notes, *source.gold_notes):
                log(f"data: {message}")
        if job.shard:
            begin_shard(job)
            source = replace(source, entries=rows.follow(source.entries))
        num_done = sum(1 for _ in job.folder.glob("part-*.json"))
        if num_done and is_main:
            log(f"{job.title}: resuming; {num_done:,} parts of {job.part_rows:,} rows are done")
        parts = score_parts(scorer, source, log, job.is_own)
        if not is_main:
            return None
        for note in source.notes[num_notes:]:  # of the other files
            log(f"data: {note}")
        if job.shard:
            return finish_shard(job, scorer.columns, parts, rows.compute())
        tally = collect_parts(scorer, parts, log)
        write_output(job, scorer.columns, parts, tally)
    return tally


def find_gold_labels(predictor: "Predictor | TorchFreePredictor", job: ScoringJob) -> LabelSet:
    """Return the names that gold labels of the inputs may have."""
    return predictor.label_set if job.parents is None else job.parents.level.gold_labels


class PartScorer:
    """Predicts the rows of a part, and formats them for the output."""

    def __init__(self, predictor: "Predictor | TorchFreePredictor", rule: DecisionRule, job: ScoringJob, source: Source) -> None:
        self.job, self._predictor, self._rule, self._source = job, predictor, rule, source
        self.gold_labels = find_gold_labels(predictor, job)
        self._label_set = predictor.label_set if job.parents is None else job.parents.label_set
        self._input_columns = source.columns[: len(source.columns) - source.num_nested]
        self._added_columns = name_columns(job.probabilities, self._label_set, source.columns, str(job.inputs[0]))
        self.columns = self._input_columns + self._added_columns
        """Columns of the output."""
        if check_format(job.output) == ".xlsx":
            check_excel_output(job.output, len(self.columns))
        is_parquet = check_format(job.output) == ".parquet"
        self._schema = build_schema(self.columns, self._input_columns, source.schema) if is_parquet else None
        run = find_run_of_model(job.model) if source.gold is not None and job.model is not None else None
        self._remembered = read_rows(run)

    def write(self, path: Path, part: Part) -> None:
        """Write a part's rows to `path`, its bad rows beside it, and last the marker that both are complete."""
        texts, bad_rows = select_texts(part, self._source, self.job.output)
        unique = {text: position for position, text in enumerate(dict.fromkeys(texts.values()))}
        positions = {number: unique[text] for number, text in texts.items()}
        probabilities, predictions, checks = self._predict(list(unique))
        tally = Tally(len(part), len(bad_rows), len(texts) - len(unique))
        tally.count_checks(checks, list(positions.values()))
        if self._source.gold is not None:
            self._count_agreement(part, positions, predictions, tally)
        if self._remembered is not None:
            tally.num_trained = self._remembered.count_known(list(texts.values()), ("train",))["train"]
        rows = self._build_rows(part, positions, probabilities, predictions)
        if check_format(self.job.output) in (".jsonl", ".xlsx"):
            tally.num_non_finite = count_non_finite(rows)
        if self.job.is_excel_safe:
            rows = [escape_formulas(row) for row in rows]
        find_marker(path).unlink(missing_ok=True)
        write_durably(path, format_part(self.columns, rows, self.job.output, self._schema, part))
        write_durably(find_bad_rows(path), format_bad_rows(bad_rows, has_header=False).encode())
        write_marker(path, tally)

    def _predict(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray, TextChecks]:
        """Return probabilities, float32 (n, L), predictions, bool (n, L), and what was found in the texts."""
        probabilities, checks = predict_texts(self._predictor, self.job.parents, texts)
        return probabilities, self._rule.decide(probabilities), checks

    def _build_rows(self, part: Part, positions: dict[int, int], probabilities: np.ndarray, predictions: np.ndarray) -> list[list[Any]]:
        """Return the output's rows; `positions` maps a row of the part to its prediction, and rows without one get empty cells."""
        output, label_set = self.job.output, self._label_set
        added = [
            format_scores(scores, predicted, self.job.probabilities, output, label_set)
            for scores, predicted in zip(probabilities, predictions, strict=True)
        ]
        empty: list[Any] = [None] * len(self._added_columns)
        rows = []
        for number, entry in enumerate(part):
            num_columns = len(self._input_columns)
            values = entry.values[:num_columns] if isinstance(entry, Row) else [None] * num_columns
            rows.append([*values, *(added[positions[number]] if number in positions else empty)])
        return rows

    def _count_agreement(self, part: Part, positions: dict[int, int], predictions: np.ndarray, tally: Tally) -> None:
        """Compare predictions with the gold labels of the rows where these can be read."""
        label_set, parents = self.gold_labels, self.job.parents
        gold = [(read_gold(part[number], self._source), position) for number, position in positions.items()]
        known = [(columns, position) for columns, position in gold if columns is not None]
        labels = label_set.encode_columns([columns for (columns, _), _ in known])
        is_judged = ~label_set.encode_columns([not_judged for (_, not_judged), _ in known])
        if parents is not None:
            labels, judged = parents.level.merge_labels(labels & is_judged, is_judged)
            is_judged = np.ones_like(labels) if judged is None else judged
        labels, predicted = labels & is_judged, predictions[[position for _, position in known]] & is_judged
        tally.num_judged, tally.num_exact = len(labels), int((labels == predicted).all(axis=1).sum())
        tally.counts = [pair.sum(axis=0).tolist() for pair in (labels & predicted, ~labels & predicted, labels & ~predicted)]


def score_parts(scorer: PartScorer, source: Source, log: Callable[[str], Any], is_own: Callable[[int], bool]) -> list[Path]:
    """Write this process's parts that are not complete yet, and return the paths of the parts of all processes, in order."""
    job, is_main = scorer.job, scorer.job.process == 0
    paths: list[Path] = []
    with tqdm(desc="score", unit="row", unit_scale=True, disable=not is_main or is_quiet(), leave=False, smoothing=0.1) as progress:
        for number, part in enumerate(cut_parts(source.entries, job.part_rows)):
            path = find_part(job.folder, number)
            paths.append(path)
            has_marker = find_marker(path).is_file()
            is_done = has_marker and (not is_own(number) or read_marker(path) is not None)
            if not is_done and not is_main and job.is_finished():
                break  # the first process had all parts, and has removed them
            if not is_done and is_own(number):
                if has_marker:
                    log(f"{path}: is damaged, or of an older version; it is scored again")
                try:
                    scorer.write(path, part)
                except (OSError, StorageError):
                    if not is_main and job.is_finished():
                        break  # the folder was removed meanwhile
                    raise
            fraction = source.measure()
            progress.total = max(round((progress.n + len(part)) / fraction), 1) if fraction else None
            if is_done and is_main and not progress.disable:  # a bar that is turned off has no `initial`
                progress.initial += len(part)  # not scored now, so not part of the rate
            progress.update(len(part))
    return paths


def collect_parts(scorer: PartScorer, parts: list[Path], log: Callable[[str], Any]) -> Tally:
    """Wait for the parts of other processes, score those of processes that have ended or never started, and return all counts.

    Raises: StorageError for a part that is damaged although it has just been written.
    """
    job = scorer.job
    tallies: dict[int, Tally] = {}
    scored_here: set[int] = set()
    partners = PartnerWatch(job, log)
    while len(tallies) < len(parts):
        new = {number: tally for number in range(len(parts)) if number not in tallies and (tally := read_marker(parts[number]))}
        tallies |= new
        missing = {number for number in range(len(parts)) if number not in tallies}
        abandoned = partners.find_abandoned(missing, has_progress=bool(new))
        if damaged := sorted(abandoned & scored_here):
            raise StorageError(f"{parts[damaged[0]]}: does not hold what was written to it; check the disk, then repeat the command")
        if abandoned:
            log(f"{job.output}: {len(abandoned):,} parts of other processes, which have ended or are late, are scored here")
            with open_source(job.inputs, job.columns, scorer.gold_labels, check_format(job.output) == ".parquet") as source:
                score_parts(scorer, source, log, abandoned.__contains__)
            scored_here |= abandoned
        elif missing:
            time.sleep(WAIT_SECONDS)
    total = Tally()
    for number in range(len(parts)):
        total.add(tallies[number])
    return total


def read_gold(entry: Row | BadRow, source: Source) -> tuple[list[int], list[int]] | None:
    """Return the columns of a row's gold labels and of labels that nobody judged; None for a row that is scored but not judged."""
    assert isinstance(entry, Row) and source.gold is not None
    return source.gold.read(dict(zip(source.columns, entry.values, strict=True)))
