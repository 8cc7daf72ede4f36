"""The rows that a run was trained and validated on: written by training, read where its model is used. Works without torch."""

from collections.abc import Sequence

import numpy as np

from emotion.config import load_config
from emotion.data.reading import Dataset
from emotion.data.reading.labelled_rows import LabelledRows, read_labelled_rows
from emotion.data.remembered import RememberedRows
from emotion.errors import DataError
from emotion.evaluation.rows import ScoredRows
from emotion.labels import LabelSet
from emotion.paths import expand_path
from emotion.tracking.locating import find_run_of_model
from emotion.tracking.run_folder import RunFolder, translate_damage

MAX_KNOWN_FRACTION = 0.05
"""Fraction of training texts from which rows are not a test. Data sets that people use have some: short texts such as "Thanks!" repeat."""


def write_rows(run: RunFolder, dataset: Dataset, is_resumed: bool = False) -> None:
    """Write the rows of a run; a resumed run, whose data may have changed, also keeps the rows that it was trained on before."""
    rows = RememberedRows.compute(dataset)
    earlier = read_rows(run) if is_resumed else None
    (rows if earlier is None else rows.add_earlier(earlier)).write(run.rows)


def read_rows(run: RunFolder | None) -> RememberedRows | None:
    """Return the rows of a run; None without a run, or for one of an earlier version.

    Raises: DataError if the file is damaged.
    """
    if run is None or not run.rows.is_file():
        return None
    with translate_damage(run.rows, "restore it; or remove it, and the splits are drawn anew from the data as it is now"):
        return RememberedRows.read(run.rows)


def read_rows_to_score(run: RunFolder | None, split: str, file: str | None, overrides: Sequence[str], label_set: LabelSet) -> LabelledRows:
    """Return the labelled rows of a file, or of a split of a run's data, with notes on how far they are those of the run.

    Raises: DataError as `read_labelled_rows`.
    """
    remembered = read_rows(run)
    config = None
    if run is not None and file is None:
        given = [override.partition("=")[0].strip() for override in overrides]
        config = run.resolve_data(load_config(run.config, overrides, is_of_run=True), given)
    rows = read_labelled_rows(config, split, file, overrides, label_set, remembered)
    if run is not None and config is not None and remembered is None and _is_changed(run, rows, label_set):
        rows.notes.append(
            f"{config.data.name}: its validation rows are not those of the training, so the data has changed; {split} rows, which are "
            "drawn anew, may be rows that the model was trained on: restore the data, or train again"
        )
    return rows


def read_validation(location: str, label_set: LabelSet, purpose: str) -> ScoredRows:
    """Return the stored validation predictions of a model: those of its run, or those in the model folder itself.

    `location` is a run folder, or a model folder. `purpose`, such as `parents are`, says in an error what is fitted on them.

    Raises: DataError if there are none, or they have other labels than the model, or the file is damaged.
    """
    run = find_run_of_model(location) or RunFolder(expand_path(location))
    path = run.predictions("validation")
    if not path.is_file():
        remedy = "give the run folder, or copy predictions/validation.parquet of the run into the model folder"
        raise DataError(f"{purpose} fitted on validation rows, and {path} does not exist; {remedy}")
    rows = run.read_predictions("validation")
    if rows.label_set != label_set:
        raise DataError(f"{purpose} fitted on validation rows, and {path} has other labels than the model; restore the file")
    return rows


def read_trained(run: RunFolder, rows: LabelledRows, label_set: LabelSet) -> np.ndarray | None:
    """Return the probabilities, float32 (n, L), that training saved for these validation rows; None if there are none of them."""
    remembered = read_rows(run)
    if remembered is None or rows.kept is None:
        return run.read_probabilities("validation", rows.examples.ids, label_set)
    probabilities = run.read_probabilities("validation", remembered.splits["validation"].ids, label_set)
    return None if probabilities is None else probabilities[rows.kept]


def count_known_texts(run: RunFolder | None, texts: list[str], split: str | None) -> tuple[dict[str, int], str | None]:
    """Return how many texts are in the training and validation rows of a run, and a sentence if there are any.

    `split` is that of the run which the texts are; None for other texts. The counts are empty if the rows are not known.
    """
    remembered = read_rows(run)
    if remembered is None:
        return {}, None
    known = remembered.count_known(texts, ("train",) if split == "validation" else ("train", "validation"))
    return known, describe_known(known, len(texts))


def describe_known(known: dict[str, int], num_texts: int) -> str | None:
    """Return a sentence on texts that are in the training or validation rows; None if there are none."""
    in_train, in_validation = known.get("train", 0), known.get("validation", 0)
    if in_train:
        ending = ": this is not a test" if not is_test(known, num_texts) else "; their scores are not those of new texts"
        return f"{in_train:,} of {num_texts:,} texts were in this model's training data{ending}"
    if in_validation:
        return f"{in_validation:,} of {num_texts:,} texts were in this model's validation data, on which its thresholds were fitted"
    return None


def is_test(known: dict[str, int], num_texts: int) -> bool:
    """Return whether so few texts are in the training rows that scores are those of new texts."""
    return known.get("train", 0) <= MAX_KNOWN_FRACTION * num_texts


def _is_changed(run: RunFolder, rows: LabelledRows, label_set: LabelSet) -> bool:
    """Return whether a run of an earlier version was validated on other rows than its data has now."""
    is_known = run.predictions("validation").is_file() and "validation" in rows.splits
    return is_known and run.read_probabilities("validation", rows.splits["validation"].ids, label_set) is None
