"""The public Python API: load a trained model, predict, explain an answer, score a file. Its names are in the package `emotion`.

n is the number of texts, L the number of labels, and column i of every array belongs to `label_names[i]`.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from emotion.config import DataConfig
from emotion.errors import ConfigError, DataError, EmotionError
from emotion.evaluation.decision import DecisionRule, rank_labels
from emotion.inference.explanation import Explanation, explain
from emotion.inference.loading import load_predictor
from emotion.paths import expand_path
from emotion.text import is_writable_text

if TYPE_CHECKING:
    from emotion.inference.predictor import Predictor
    from emotion.inference.torch_free import TorchFreePredictor
    from emotion.scoring.parts import Tally

Backend = Literal["auto", "torch", "onnx", "numpy"]
EmptySet = Literal["none", "top1"]
ARGUMENTS = {
    "--model": "location",
    "--backbone": "backbone",
    "--input": "inputs",
    "--output": "output",
    "--overwrite": "overwrite=True",
    "--probabilities": "probabilities",
    "data.text_column": "text_column",
    "data.label_column": "label_column",
}
"""The options of the scripts that are arguments here."""
logger = logging.getLogger("emotion")


def load(location: str | Path, backend: Backend = "auto", backbone: str | Path | None = None) -> "Model":
    """Return the trained model of a run folder, a model folder or a Hub id.

    `backend`:

    - `auto`: the ONNX variant in fp32 if the folder contains one and onnxruntime is installed, else torch;
    - `torch`: any model, on a GPU if there is one;
    - `onnx`: the ONNX variant (fp32 or int8) that `export.py --onnx` wrote, without importing torch;
    - `numpy`: full BERT and DistilBERT models in float32, without importing torch; best for a few texts.

    `backbone` is the folder or Hub id of an adapter's backbone, if it is no longer where it was in training.

    Raises: ModelError if it is not a model of this project or the backend does not support it; ConfigError for another backend; TypeError
        for what is no path.
    """
    _check_choice("backend", backend, get_args(Backend))
    name = _check_path("location", location)
    with _name_arguments():
        predictor = load_predictor(name, backend, backbone=None if backbone is None else _check_path("backbone", backbone))
    return Model(predictor, name)


class Model:
    """A trained model; `load` returns it."""

    def __init__(self, predictor: "Predictor | TorchFreePredictor", location: str) -> None:
        self._predictor, self._location = predictor, location

    def __repr__(self) -> str:
        return f"<emotion.Model {self._location!r}: {len(self.label_names)} labels, {self.backend_name}>"

    @property
    def label_names(self) -> tuple[str, ...]:
        """The L label names, in column order."""
        return self._predictor.label_set.names

    @property
    def thresholds(self) -> dict[str, float]:
        """The probability from which each label is predicted, fitted on the validation split."""
        return dict(zip(self.label_names, self._predictor.rule.thresholds, strict=True))

    @property
    def backend_name(self) -> str:
        """Backend and device, e.g. `torch on cpu`."""
        return self._predictor.backend_name

    def predict(self, texts: Iterable[str]) -> np.ndarray:
        """Return calibrated probabilities, float32 (n, L), in [0, 1], in the order of `texts`.

        Raises: TypeError for a single string or a table; DataError for a text that is empty or not a string.
        """
        return self._predictor.predict(_check_texts(texts))

    def predict_labels(self, texts: Iterable[str], *, threshold: float | None = None, empty_set: EmptySet | None = None) -> list[list[str]]:
        """Return the predicted label names of each text, most probable first.

        The stored decision rule decides. `threshold`, in (0, 1), replaces the thresholds of all labels; `empty_set` replaces what a text
        without a label above its threshold gets: `none` (no label) or `top1` (its most probable label).

        Raises: as `predict`; ConfigError for a threshold or an empty set that is not allowed.
        """
        rule = self._build_rule(threshold, empty_set)
        probabilities = self.predict(texts)
        return [
            [self.label_names[column] for column in rank_labels(row) if is_predicted[column]]
            for row, is_predicted in zip(probabilities, rule.decide(probabilities), strict=True)
        ]

    def explain(self, text: str) -> Explanation:
        """Return what each word contributes to each label: how much the label's logit falls when the word is left out.

        `words` are the W words, `spans` their positions in the text, and `contributions` is float32 (W, L) in logits.

        Raises: DataError for a text that is empty or not a string.
        """
        return explain(self._predictor, _check_texts([text])[0])

    def score_file(
        self,
        inputs: str | Path | Iterable[str | Path],
        output: str | Path,
        probabilities: int | Literal["none", "all"] = "none",
        *,
        text_column: str | None = None,
        label_column: str | None = None,
        threshold: float | None = None,
        empty_set: EmptySet | None = None,
        overwrite: bool = False,
    ) -> "Tally":
        """Score files of any size in constant memory, write one file with their rows in order, and return the counts.

        `inputs` is a file of any format of `docs/data.md`; a pattern such as `comments-*.csv`; or several of them. `output` ends in .csv,
        .jsonl (both also .gz or .zst), .parquet or .xlsx, and gets the input's columns and `predicted_labels`. `probabilities` adds
        those of no label, of `all`, or of the K most probable labels. The columns are guessed if not given. `threshold` and `empty_set`
        are as in `predict_labels`. An output that exists is kept, unless `overwrite` is set. After an interruption, the same call resumes.

        The counts have `num_rows`, `num_bad` (rows that cannot be scored; they are listed in `OUTPUT.quarantine.tsv`) and `scores`, a
        dict of metrics if the input has gold labels, else None.

        Raises: DataError for an input that cannot be read or an output of another format; ConfigError for an output that exists, or an
        argument that is not allowed; TypeError for what is no path.
        """
        from emotion.data.reading.streams import expand_patterns
        from emotion.scoring.manifest import ScoringJob
        from emotion.scoring.options import is_probabilities
        from emotion.scoring.scoring import score_files

        rule = self._build_rule(threshold, empty_set)
        if not is_probabilities(probabilities):
            raise ConfigError(f"probabilities={probabilities!r}: must be 'none', 'all' or a number of labels, at least 1")
        for name, column in (("text_column", text_column), ("label_column", label_column)):
            if column is not None and not (isinstance(column, str) and column):
                raise ConfigError(f"{name}={column!r}: must be the name of a column")
        if not isinstance(overwrite, bool):
            raise ConfigError(f"overwrite={overwrite!r}: must be True or False")
        paths = list(inputs) if isinstance(inputs, Iterable) and not isinstance(inputs, str) else [inputs]
        if not paths:
            raise DataError("inputs: is an empty list; give at least one file or pattern")
        names = [_check_path("inputs", path) for path in paths]
        columns = DataConfig(text_column=text_column, label_column=label_column)
        with _name_arguments():
            target = expand_path(_check_path("output", output))
            job = ScoringJob(expand_patterns(names), target, columns, str(probabilities), model=self._location, is_overwriting=overwrite)
            tally = score_files(self._predictor, rule, job, logger.info)
        assert tally is not None  # only a second process gets None
        return tally

    def _build_rule(self, threshold: float | None, empty_set: EmptySet | None) -> DecisionRule:
        if threshold is not None and not (isinstance(threshold, Real) and 0 < threshold < 1):
            raise ConfigError(f"threshold={threshold!r}: must be a number in (0, 1)")
        if empty_set is not None:
            _check_choice("empty_set", empty_set, get_args(EmptySet))
        return self._predictor.rule.with_overrides(threshold, empty_set)


@contextmanager
def _name_arguments() -> Iterator[None]:
    """Let errors name the arguments of this API where they name options of the scripts, but not in a command between backticks."""
    try:
        yield
    except EmotionError as error:
        # Whole words: a file may be called like an option.
        pattern = rf"`[^`]*`|(?<!\S)({'|'.join(map(re.escape, ARGUMENTS))})(?=[\s,:=]|$)"
        error.args = tuple(re.sub(pattern, lambda found: ARGUMENTS.get(found[0], found[0]), str(line)) for line in error.args)
        raise


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{name}={value!r}: must be one of {', '.join(choices)}")


def _check_path(name: str, path: object) -> str:
    """Return a path as a string; raise a TypeError if it is something else, or a DataError if it is empty."""
    if not isinstance(path, str | Path):
        raise TypeError(f"{name}: got {type(path).__name__}, need a string or a Path")
    if path == "":
        raise DataError(f"{name}: is empty; name a file or a folder")
    return str(path)


def _check_texts(texts: Iterable[str]) -> list[str]:
    """Return the texts as a list.

    Raises: TypeError for a single string, a table or what cannot be iterated over; DataError naming the first text that is empty, not a
        string or not valid UTF-8.
    """
    if isinstance(texts, str | bytes):
        raise TypeError("texts: got one string, need a list of strings; write [text]")
    if isinstance(texts, Mapping) or getattr(texts, "ndim", 1) != 1:  # iterating over a table gives the names of its columns
        raise TypeError(f"texts: got {type(texts).__name__}, need a list of strings; give the texts of one column")
    if not isinstance(texts, Iterable):
        raise TypeError(f"texts: got {type(texts).__name__}, need a list of strings")
    texts = list(texts)
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"texts[{number}]: is {text!r}, not a string; convert it or leave it out")
        if not text.strip():
            raise DataError(f"texts[{number}]: is empty; leave it out")
        if not is_writable_text(text):
            raise DataError(f"texts[{number}]: is not valid UTF-8; leave it out")
    return texts
