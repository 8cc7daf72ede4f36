"""`BatchScorer` adds the columns of a scored file to an Arrow table: the adapter for engines that pass batches to a function.

It has what Ray Data (`map_batches`), `datasets` (`map`) and Spark (`mapInArrow`) ask for: it is small, can be pickled, and loads the model
when the first batch comes, once in each process. The weights stay where they are: each machine reads them from the same folder or Hub id.
"""

import threading
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from emotion.data.reading.parquet import convert_column
from emotion.errors import ConfigError, DataError, ModelError
from emotion.evaluation.decision import DecisionRule
from emotion.evaluation.parents import ParentModel
from emotion.inference.loading import load_predictor
from emotion.inference.sidecar import find_model_folder, fingerprint_weights, read_sidecar
from emotion.labels import LabelSet
from emotion.paths import expand_path
from emotion.scoring.formats import DIGITS, build_schema, format_scores, name_columns
from emotion.scoring.options import is_probabilities
from emotion.scoring.parts import Tally
from emotion.scoring.texts import find_fault, predict_texts

if TYPE_CHECKING:
    from emotion.inference.predictor import Predictor
    from emotion.inference.torch_free import TorchFreePredictor

PARQUET = Path("batch.parquet")
"""Names the format whose values a batch gets: labels are lists."""
LOADING = threading.Lock()


@dataclass(frozen=True)
class BatchOptions:
    """What a `BatchScorer` reads and adds.

    Raises: ConfigError for a value that is not allowed.
    """

    text_column: str = "text"
    probabilities: int | str = "none"
    """Probabilities to add: `none`, `all`, or those of the K most probable labels."""
    threshold: float | None = None
    """One threshold in (0, 1) for all labels in place of those of the rule."""
    empty_set: Literal["none", "top1"] | None = None
    """Labels of a text without a label above its threshold, in place of what the rule says."""
    digits: int | None = DIGITS
    """Decimals of a probability, as in a scored file; None keeps all."""
    backend: Literal["auto", "torch", "onnx", "numpy"] = "auto"
    backbone: str | None = None
    """Folder or Hub id of an adapter's backbone, if it is no longer where it was in training."""
    parents: ParentModel | None = None
    """Parents of a taxonomy, which are predicted in place of the labels of the model."""

    def __post_init__(self) -> None:
        if not is_probabilities(self.probabilities):
            raise ConfigError(f"probabilities={self.probabilities!r}: must be 'none', 'all' or a number of labels, at least 1")
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise ConfigError(f"threshold={self.threshold}: must be in (0, 1)")
        if self.empty_set not in (None, "none", "top1"):
            raise ConfigError(f"empty_set={self.empty_set!r}: must be one of none, top1")
        if self.backend not in ("auto", "torch", "onnx", "numpy"):
            raise ConfigError(f"backend={self.backend!r}: must be one of auto, torch, onnx, numpy")


class BatchScorer:
    """Adds `predicted_labels`, and probabilities if asked for, to Arrow tables with a column of texts.

    A row whose text cannot be scored stays, with nulls in the added columns: null, unlike an empty list, is not an answer.
    """

    def __init__(self, model: str | Path, rule: DecisionRule | None = None, options: BatchOptions | None = None) -> None:
        """Read the labels and the rule of a run folder, model folder or Hub id, but not its weights.

        `rule` is the stored one if it is None.

        Raises: ModelError if it is not a model of this project; ConfigError for more probabilities than it has labels.
        """
        folder = find_model_folder(str(model))
        options = options or BatchOptions()
        self.model = _make_absolute(folder)  # workers of an engine run in other folders
        self.options = replace(options, backbone=options.backbone and _make_absolute(options.backbone))
        sidecar, stored = read_sidecar(self.model)
        parents = self.options.parents
        self.model_label_set = LabelSet(sidecar.labels)
        self.label_set = self.model_label_set if parents is None else parents.label_set
        rule = rule or (stored if parents is None else parents.rule)
        self.rule = rule.with_overrides(self.options.threshold, self.options.empty_set)
        self.version = fingerprint_weights(self.model)
        """Of the weights: `datasets` then does not take other weights in the same folder for these, and no machine of a cluster does."""
        name_columns(str(self.options.probabilities), self.label_set, [], "")

    def __repr__(self) -> str:
        return f"<emotion.BatchScorer {self.model!r}: {len(self.label_set)} labels, text from column {self.options.text_column!r}>"

    def __call__(self, batch: Any) -> Any:
        """Return an Arrow table or record batch with the added columns; its rows and other columns are unchanged.

        Raises: DataError without the text column, or with a column that would be added; ModelError if the model cannot be loaded here, or
        is not the one of the constructor.
        """
        return self.score(batch)[0]

    def extend_schema(self, schema: Any) -> Any:
        """Return the Arrow schema of what `__call__` returns for a batch with this schema.

        Raises: DataError for a schema with a column that would be added.
        """
        import pyarrow as pa

        return pa.schema([*schema, *self._build_fields(schema)], schema.metadata)

    def score(self, batch: Any) -> tuple[Any, dict[int, str], Tally]:
        """Return what `__call__` returns, the reasons of the rows that cannot be scored by position, and the counts."""
        import pyarrow as pa

        fields, options = self._build_fields(batch.schema), self.options
        column = batch.schema.get_field_index(options.text_column)
        if column < 0:
            raise DataError(f"text_column={options.text_column!r}: is not exactly one of the columns {batch.schema.names}")
        faults: dict[int, str] = {}
        values = convert_column(options.text_column, batch.column(column), faults)
        if faults:  # bytes that are not UTF-8 would stop the reader of the output
            batch = batch.set_column(column, batch.schema.field(column), pa.array(values, batch.schema.types[column]))
        found = {row: find_fault(value) for row, value in enumerate(values)}
        faults = {row: reason for row, fault in found.items() if (reason := faults.get(row) or fault) is not None}
        texts = [value for row, value in enumerate(values) if row not in faults]
        unique = {text: position for position, text in enumerate(dict.fromkeys(texts))}
        probabilities, checks = predict_texts(self._load(), options.parents, list(unique))
        added = [
            format_scores(row, predicted, str(options.probabilities), PARQUET, self.label_set, options.digits)
            for row, predicted in zip(probabilities, self.rule.decide(probabilities), strict=True)
        ]
        empty = [None] * len(fields)
        rows = [empty if row in faults else added[unique[value]] for row, value in enumerate(values)]
        for position, field in enumerate(fields):
            batch = batch.append_column(field, pa.array([row[position] for row in rows], field.type))
        tally = Tally(len(values), len(faults), len(texts) - len(unique))
        tally.count_checks(checks, [unique[text] for text in texts])
        return batch, faults, tally

    def _build_fields(self, schema: Any) -> Any:
        """Return the Arrow fields that are added."""
        return build_schema(name_columns(str(self.options.probabilities), self.label_set, schema.names, "the batch"), [], None)

    def _load(self) -> "Predictor | TorchFreePredictor":
        with LOADING:
            return _load_once(self.model, self.options.backend, self.options.backbone, self.version)


def _make_absolute(location: str) -> str:
    """Return the absolute path of a folder or file; a Hub id is returned as it is."""
    path = expand_path(location)
    return str(path.resolve()) if path.exists() else location


@lru_cache(maxsize=2)
def _load_once(model: str, backend: str, backbone: str | None, version: str | None) -> "Predictor | TorchFreePredictor":
    """Return the model that all scorers of this process share; each of them may be a copy that was unpickled for one batch.

    Raises: ModelError if the weights in the folder are not those of `version`.
    """
    predictor = load_predictor(model, backend, backbone=backbone)
    if fingerprint_weights(model) != version:
        raise ModelError(f"{model}: its weights are not those with which the scoring began; copy the same model to every machine")
    return predictor
