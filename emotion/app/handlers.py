"""What the page and the API do: one method for each event, on plain values. Errors of users and models become one line."""

import sys
import traceback
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from threading import Event
from typing import Any

from emotion.app.about import read_about
from emotion.app.answers import answer_text, explain_text
from emotion.app.html_answers import (
    CHOOSE_LABEL,
    EMPTY,
    format_answers,
    format_explanation,
    format_label_points,
    format_notice,
    format_point,
)
from emotion.app.html_files import (
    format_comparison,
    format_figures,
    format_labels,
    format_progress,
    format_result,
    format_scores,
    format_stopped,
    format_upload,
)
from emotion.app.models import ServedModel
from emotion.app.results import Progress, ScoredFile
from emotion.app.scored_files import FileScorer, ScoringOptions
from emotion.app.thresholds import move_thresholds
from emotion.app.uploads import Upload, UploadStore, describe_upload
from emotion.errors import ConfigError, DataError, EmotionError
from emotion.labels import LabelSet
from emotion.text import describe_error

NO_FILE = "no file: drop one first"


class Handlers:
    """The served models, and where uploaded files are kept."""

    def __init__(self, models: dict[str, ServedModel], store: UploadStore) -> None:
        self.models, self.store, self._scorer = models, store, FileScorer()

    def find_model(self, name: str | None) -> ServedModel:
        """Return the model of a name; the first one without a name.

        Raises: ConfigError for an unknown name.
        """
        if name and name not in self.models:
            raise ConfigError(f"model {name!r}: is not served here; choose one of {', '.join(self.models)}")
        return self.models[name] if name else next(iter(self.models.values()))

    def show_answers(self, text: str, sensitivity: float, first: str | None, second: str | None) -> tuple[str, str, str]:
        """Return the answers of one or two models, and what the thresholds of the first give on validation, in all and by label."""
        try:
            model = self.find_model(first)
            rows = model.validation
            point = rows.measure(move_thresholds(model.predictor.rule, sensitivity)) if rows else None
            fitted = rows.measure(model.predictor.rule) if rows else None
            measured = format_point(point, fitted, sensitivity), format_label_points(point)
            if not text or not text.strip():
                return EMPTY, *measured
            chosen = [model, *([self.find_model(second)] if second and second != model.name else [])]
            return format_answers([answer_text(one, text, sensitivity) for one in chosen]), *measured
        except Exception as error:
            return format_notice(describe_failure(error)), "", ""

    def show_words(self, text: str, name: str, label: str) -> str:
        """Return the text with the words colored that speak for and against a label."""
        try:
            model = self.find_model(name)
            column = find_column(model, label)
            if not text or not text.strip():
                return CHOOSE_LABEL
            return format_explanation(explain_text(model, text), answer_text(model, text), column)
        except Exception as error:
            return format_notice(describe_failure(error))

    def show_upload(self, path: str | None, name: str | None) -> tuple[str, list[str], str | None]:
        """Return a description of a dropped file, its columns, and the one of the texts."""
        if path is None:
            return "", [], None
        try:
            upload = self.describe(path, self.find_model(name))
        except Exception as error:
            return format_notice(self.store.shorten(describe_failure(error))), [], None
        return format_upload(upload), upload.columns, upload.text_column

    def score_upload(
        self, path: str | None, options: ScoringOptions, name: str | None, stop: Event | None = None
    ) -> Iterator[tuple[str, list[str]]]:
        """Yield progress, and last the result and the files to download; setting `stop` stops the job at the end of its present part."""
        progress = Progress(0, 0, 0, 0.0)
        try:
            for state in self.run_job(path, options, name, stop):
                if isinstance(state, ScoredFile):
                    yield format_result(state), [str(file) for file in state.files]
                    return
                progress = state
                yield format_progress(progress), []
            yield format_stopped(progress), []
        except Exception as error:
            yield format_notice(self.store.shorten(describe_failure(error))), []

    def run_job(
        self, path: str | None, options: ScoringOptions, name: str | None, stop: Event | None = None
    ) -> Iterator[Progress | ScoredFile]:
        """Yield the progress of scoring a file, and last its result, unless `stop` was set.

        Raises: EmotionError for a file or an option that cannot be used.
        """
        if path is None:
            raise DataError(NO_FILE)
        model = self.find_model(name)
        with self.store.hide_paths():
            for state in self._scorer.score(model, self.describe(path, model), options, stop):
                if isinstance(state, ScoredFile):
                    state = replace(state, notes=list(map(self.store.shorten, state.notes)))
                yield state

    def show_model(self, name: str | None) -> tuple[str, str, str, str, str]:
        """Return a model's card as Markdown, and as HTML its scores, those of each label, its pictures and the comparison report."""
        try:
            about = read_about(self.find_model(name))
            return about.card, format_scores(about), format_labels(about), format_figures(about), format_comparison(about)
        except Exception as error:
            return "", format_notice(describe_failure(error)), "", "", ""

    def describe(self, path: str, model: ServedModel) -> Upload:
        """Return what is in a file.

        Raises: DataError for one that cannot be scored.
        """
        with self.store.hide_paths():
            return describe_once(self.store.add(Path(path)), model.predictor.label_set)

    def predict(self, text: str, sensitivity: float, name: str | None) -> dict[str, Any]:
        """Return a text's labels, probabilities and thresholds."""
        return answer_text(self.find_model(name), text, sensitivity).to_record()

    def explain(self, text: str, label: str, name: str | None) -> dict[str, Any]:
        """Return what each word adds to a label's logit; without a label, to the most probable one's."""
        model = self.find_model(name)
        answer = answer_text(model, text)
        column = find_column(model, label) if label else answer.order[0]
        explanation = explain_text(model, text)
        values = explanation.contributions[:, column].tolist()
        words = [{"word": word, "contribution": round(value, 4)} for word, value in zip(explanation.words, values, strict=True)]
        return {"label": model.predictor.label_set.names[column], "method": "leave-one-out", "words": words}


@lru_cache(64)
def describe_once(path: Path, label_set: LabelSet) -> Upload:
    """Return the description of a file of the store, whose files do not change."""
    return describe_upload(path, label_set)


def find_column(model: ServedModel, label: str) -> int:
    """Return the column of a label.

    Raises: ConfigError if the model does not have it.
    """
    names = model.predictor.label_set.names
    if label not in names:
        raise ConfigError(f"label {label!r}: {model.name} does not have it; its labels are {', '.join(names)}")
    return names.index(label)


def describe_failure(error: Exception) -> str:
    """Return an error as one line; the traceback of one that no user can cause goes to stderr."""
    if isinstance(error, EmotionError):
        return " ".join(str(error).split())
    traceback.print_exception(error, file=sys.stderr)
    return f"The model failed: {type(error).__name__}: {describe_error(error)}"
