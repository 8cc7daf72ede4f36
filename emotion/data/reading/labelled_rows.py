"""The labelled rows on which a trained model is scored: a split of its run's data, or a file."""

from collections.abc import Sequence
from pathlib import Path

from emotion.config import load_config
from emotion.data.reading.sources import Examples, read_dataset, read_examples
from emotion.errors import DataError
from emotion.labels import LabelSet


def read_labelled_rows(
    run_config: Path | None, split: str, file: str | None, overrides: Sequence[str], label_set: LabelSet
) -> tuple[Examples, list[str]]:
    """Return the rows of `file`, or of a split of the data of the run with the config `run_config`, and messages for the user.

    `overrides` are settings such as `data.text_column=body`. The columns of a file are found without the run's settings: a file does not
    need to look like the training data.

    Raises: DataError if there is neither a run nor a file, if the labels are not those of `label_set`, or as `read_dataset` does.
    """
    if file is not None:
        examples, messages, bad_rows = read_examples(Path(file), load_config(None, overrides).data, label_set)
    elif run_config is None:
        raise DataError("--model: is not in a run folder, so its data is not known; give labelled rows with --input FILE")
    else:
        config = load_config(run_config, overrides, is_of_run=True).data
        dataset = read_dataset(config)
        if dataset.label_set != label_set:
            raise DataError(f"{config.name}: has the labels {dataset.label_set.names}, the model has {label_set.names}; give matching data")
        examples, messages, bad_rows = dataset[split], dataset.messages, dataset.bad_rows
    if bad_rows:
        messages = [*messages, f"{len(bad_rows):,} bad rows left out, the first: {bad_rows[0]}"]
    return examples, messages
