"""Score an uploaded file in the background: options, progress and stopping. `emotion.scoring` does the work."""

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from emotion.app.models import ServedModel
from emotion.app.results import Progress, ScoredFile, describe_job_notes, find_notes, summarize_output
from emotion.app.thresholds import move_thresholds
from emotion.app.uploads import Upload
from emotion.config import DataConfig
from emotion.errors import ConfigError, DataError
from emotion.evaluation.decision import DecisionRule
from emotion.files import write_json
from emotion.inference.text_checks import TextChecks
from emotion.scoring.formats import FORMATS
from emotion.scoring.manifest import ScoringJob, describe_job
from emotion.scoring.scoring import score_files

if TYPE_CHECKING:
    from emotion.inference.predictor import Predictor

OUTPUT_FORMATS = tuple(suffix for suffix in (".csv", ".xlsx", ".parquet", ".jsonl") if suffix in FORMATS)
PROBABILITIES = ("none", "3", "all")
PART_ROWS = 512
"""Rows between two looks at the stop button: a few seconds on a CPU."""
POLL_SECONDS = 0.25


@dataclass(frozen=True)
class ScoringOptions:
    """What the user chose for a file."""

    text_column: str | None = None
    """Guessed if None."""
    output_format: str = ".csv"
    probabilities: str = "none"
    is_excel_safe: bool = False
    sensitivity: float = 0.0

    def check(self) -> None:
        """Raise a ConfigError for an option that is not allowed."""
        if self.output_format not in OUTPUT_FORMATS:
            raise ConfigError(f"output format {self.output_format!r}: must be one of {', '.join(OUTPUT_FORMATS)}")
        if self.probabilities not in PROBABILITIES:
            raise ConfigError(f"probabilities={self.probabilities!r}: must be one of {', '.join(PROBABILITIES)}")


class StoppedError(Exception):
    """The user stopped the job."""


class FileScorer:
    """Scores uploaded files, one at a time; parts that are done stay, and scoring the file again continues from them."""

    def __init__(self) -> None:
        self._lock = Lock()
        """Held by the job that scores: one that was stopped is still at its last part."""

    def score(
        self, model: ServedModel, upload: Upload, options: ScoringOptions, stop: Event | None = None
    ) -> Iterator[Progress | ScoredFile]:
        """Yield the progress several times a second, and last the result; without a result if `stop` was set.

        A job whose progress nobody reads any more is stopped, too.

        Raises: ConfigError or DataError as `score_files`; ConfigError for options that are not allowed.
        """
        options.check()
        if options.text_column is not None and options.text_column not in upload.columns:
            raise DataError(f"{upload.path.name}: has no column {options.text_column!r}; its columns are {', '.join(upload.columns)}")
        stop = stop or Event()
        yield Progress(0, upload.num_rows, 0, 0.0, is_loading=True)
        predictor, rule, job = prepare_job(model, upload, options)
        progress = Progress(0, upload.num_rows, 0, 0.0)
        if not job.output.exists():
            for progress in self._run(predictor, rule, job, upload.num_rows, stop):
                yield progress
            if not job.output.exists():
                return
        yield summarize_output(job, upload, predictor.label_set, progress)

    def _run(self, predictor: Any, rule: DecisionRule, job: ScoringJob, num_rows: int, stop: Event) -> Iterator[Progress]:
        errors, notes = cast(list[BaseException], []), cast(list[str], [])

        def work() -> None:
            try:
                with self._lock:
                    if job.output.exists():  # by now: a job before this one was at its last part
                        return
                    tally = score_files(cast("Predictor", StoppablePredictor(predictor, stop)), rule, job, notes.append)
                    assert tally is not None  # only a second process gets None
                    write_json(find_notes(job), describe_job_notes(notes, tally))
            except StoppedError:
                pass
            except BaseException as error:
                errors.append(error)

        started, num_resumed = time.monotonic(), count_done(job)
        worker = Thread(target=work, daemon=True)
        worker.start()
        try:
            while worker.is_alive():
                worker.join(POLL_SECONDS)
                num_done = num_rows if job.output.exists() else min(count_done(job), num_rows)
                yield Progress(num_done, num_rows, num_resumed, time.monotonic() - started)
        finally:
            stop.set()  # also where the page was closed
        if errors:
            raise errors[0]


class StoppablePredictor:
    """A predictor that raises `StoppedError` in place of the next prediction once `stop` is set."""

    def __init__(self, predictor: Any, stop: Event) -> None:
        self._predictor, self._stop = predictor, stop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._predictor, name)

    def predict_checked(self, texts: list[str]) -> tuple[np.ndarray, TextChecks]:
        """Return what the predictor returns."""
        if self._stop.is_set():
            raise StoppedError
        return self._predictor.predict_checked(texts)


def prepare_job(model: ServedModel, upload: Upload, options: ScoringOptions) -> tuple[Any, DecisionRule, ScoringJob]:
    """Return the predictor, the rule and the job for a file; equal files, models and options have the same output."""
    predictor = model.load_file_predictor()
    rule = move_thresholds(predictor.rule, options.sensitivity)
    columns = DataConfig(text_column=options.text_column or upload.text_column)
    is_excel_safe = options.is_excel_safe and options.output_format == ".csv"
    output = upload.path.with_name(f"{upload.path.stem}-emotions{options.output_format}")
    job = ScoringJob((upload.path,), output, columns, options.probabilities, PART_ROWS, 0, 1, model.location, is_excel_safe)
    key = hashlib.sha256(json.dumps([describe_job(predictor, rule, job), options.output_format], sort_keys=True).encode()).hexdigest()[:32]
    return predictor, rule, replace(job, output=output.parent / key / output.name)


def count_done(job: ScoringJob) -> int:
    """Return the rows of the parts that are complete; the last part may have fewer."""
    return job.part_rows * sum(1 for _ in job.folder.glob("part-*.json"))
