"""The labelled rows on which a trained model is scored: a split of its run's data, or a file."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from emotion.config import Config, load_config
from emotion.data.reading.examples import Dataset, Examples
from emotion.data.reading.sources import read_dataset, read_examples
from emotion.data.remembered import RememberedRows, RestoredSplit
from emotion.errors import ConfigError, DataError
from emotion.labels import LabelSet
from emotion.text import format_count

SPLITTING_KEYS = ("data.split_seed", "data.validation_fraction", "data.test_fraction")
"""Settings that say which rows are in a split, where the data does not."""


@dataclass(frozen=True)
class LabelledRows:
    """Rows to score a model on."""

    examples: Examples
    messages: list[str]
    """For the user: how the rows were read."""
    notes: list[str] = field(default_factory=list)
    """For the user and the report: in what the rows are not those of the run."""
    splits: dict[str, Examples] = field(default_factory=dict)
    """The splits of the run's data; empty for a file."""
    kept: np.ndarray | None = None
    """Positions of the rows in the split as the run remembers it; None where it does not."""


def read_labelled_rows(
    config: Config | None, split: str, file: str | None, overrides: Sequence[str], label_set: LabelSet, remembered: RememberedRows | None
) -> LabelledRows:
    """Return the rows of `file`, or of a split of the data of the run with `config`, to which `overrides` were applied.

    A run that has `remembered` its rows gets these again. The columns of a file are found without the run's settings, by `overrides` such
    as `data.text_column=body` alone: a file does not need to look like the training data.

    Raises: DataError if there is neither a run nor a file, if the labels are not those of `label_set`, or as `read_dataset` does.
    """
    if file is not None:
        examples, messages, bad_rows = read_examples(Path(file), load_config(None, overrides).data, label_set)
        rows = LabelledRows(examples, messages)
    elif config is None:
        raise DataError("--model: is not in a run folder, so its data is not known; give labelled rows with --input FILE")
    else:
        dataset = read_dataset(config.data, None if remembered is None else remembered.find_split)
        bad_rows = dataset.bad_rows
        if remembered is not None:
            rows = _hold_to(remembered, split, dataset, config.data.name, overrides, label_set)
        elif dataset.label_set != label_set:
            names = dataset.label_set.names
            raise DataError(f"{config.data.name}: has the labels {names}, the model has {label_set.names}; give matching data")
        else:
            rows = LabelledRows(dataset[split], dataset.messages, splits=dataset.splits)
    if bad_rows:
        rows.messages.append(f"{format_count(len(bad_rows), 'bad row')} left out, the first: {bad_rows[0]}")
    return rows


def _hold_to(
    remembered: RememberedRows, split: str, dataset: Dataset, name: str, overrides: Sequence[str], label_set: LabelSet
) -> LabelledRows:
    """Return the rows of a split that the run remembers; `name` is that of the data."""
    if given := [word for word in overrides if word.partition("=")[0].strip() in SPLITTING_KEYS]:
        raise ConfigError(f"{given[0]}: has no effect here: the run remembers the rows of its splits; leave it out")
    if not set(dataset.label_set.names) & set(label_set.names):
        raise DataError(f"{name}: has the labels {dataset.label_set.names}, the model has {label_set.names}; give matching data")
    restored, num_new = remembered.restore(dataset)
    splits = {key: _align_labels(value.examples, dataset.label_set, label_set) for key, value in restored.items()}
    if split not in restored:  # the run had no such split: it is named now
        return LabelledRows(_align_labels(dataset[split], dataset.label_set, label_set), dataset.messages, splits=splits)
    rows = restored[split]
    if len(rows.examples) == 0:
        remedy = "give the data that it was trained on with data.source=..., or other labelled rows with --input FILE --output FOLDER"
        raise DataError(f"{name}: has none of the {rows.num_missing:,} {split} rows that the run remembers; {remedy}")
    messages = [*dataset.messages, f"{split} {len(rows.examples):,} rows, as the run remembers them"]
    return LabelledRows(splits[split], messages, _describe_changes(rows, split, num_new, name), splits, rows.kept)


def _describe_changes(rows: RestoredSplit, split: str, num_new: int, name: str) -> list[str]:
    """Return sentences on rows that are gone, have other labels, or are new."""
    num_left = len(rows.examples)
    notes = []
    if rows.num_missing:
        left = f"the scores are of the {num_left:,} that are left"
        total = num_left + rows.num_missing
        notes.append(f"{rows.num_missing:,} of {total:,} {split} rows are no longer in {name}, or their text has changed: {left}")
    if rows.num_relabelled:
        relabelled = f"{rows.num_relabelled:,} of {num_left:,} {split} rows"
        notes.append(f"{relabelled} have other labels than in training: scored against the new ones")
    if num_new:
        remedy = "to score them, put them in a file of their own and give it with --input FILE --output FOLDER"
        notes.append(f"new since training and in no split: {format_count(num_new, 'row')} of {name}; {remedy}")
    return notes


def _align_labels(examples: Examples, found: LabelSet, wanted: LabelSet) -> Examples:
    """Return the rows with the labels of the model; those that the data no longer has are not judged, those that are new are left out."""
    if found == wanted:
        return examples
    names = [name for name in wanted.names if name in found.columns]
    sources, targets = [found.columns[name] for name in names], [wanted.columns[name] for name in names]

    def align(values: np.ndarray) -> np.ndarray:
        aligned = np.zeros((len(values), len(wanted)), dtype=values.dtype)
        aligned[:, targets] = values[:, sources]
        return aligned

    is_judged = align(np.ones_like(examples.labels) if examples.is_judged is None else examples.is_judged)
    return replace(
        examples,
        labels=align(examples.labels),
        is_judged=None if is_judged.all() else is_judged,
        fractions=None if examples.fractions is None else align(examples.fractions),
        ratings=None if examples.ratings is None else examples.ratings.convert(lambda *arrays: (align(arrays[0]), align(arrays[1]))),
    )
