"""Find and read the splits of a data source: `Dataset` contains `Examples` per split, bad rows, and messages for the user."""

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from emotion.config import DataConfig
from emotion.data import splitting
from emotion.data.reading.formats import READERS
from emotion.data.reading.layout import Layout, find_label_set, find_layout, name_label_columns
from emotion.data.reading.opening import COMPRESSIONS
from emotion.data.reading.rows import BadRow, format_bad_rows
from emotion.data.reading.tables import Table, read_table, table_from_columns
from emotion.errors import DataError
from emotion.files import atomic_write
from emotion.labels import LabelSet

SAMPLE = Path(__file__).parents[1] / "sample"
"""Folder of the bundled corpus."""
SPLIT_FILES = {"train": ("train",), "validation": ("validation", "dev", "valid", "val"), "test": ("test",)}
"""Names of each split in file names and on the Hub, in order of preference."""
LABEL_FILES = ("labels.txt", "emotions.txt")
"""Files with one label name per line, in the order of the ids; `emotions.txt` is the one of the GoEmotions release."""
MAX_BAD_ROWS_SHOWN = 20
RARE_LABEL_ROWS = 10
"""Labels with fewer training rows are reported: they are typing errors, or too rare to learn."""


@dataclass(frozen=True)
class Examples:
    """The rows of one split; `labels` is bool (n, L)."""

    ids: list[str]
    texts: list[str]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: np.ndarray) -> "Examples":
        """Return the given rows, in the given order."""
        return Examples([self.ids[i] for i in rows], [self.texts[i] for i in rows], self.labels[rows])


@dataclass
class Dataset:
    """The splits of a source by name (`train`, `validation`, `test`), with messages for the user and the bad rows."""

    splits: dict[str, Examples]
    label_set: LabelSet
    messages: list[str] = field(default_factory=list)
    bad_rows: list[BadRow] = field(default_factory=list)

    def __getitem__(self, split: str) -> Examples:
        if split not in self.splits:
            raise DataError(f"split {split!r}: not in the data, which has {', '.join(self.splits)}; set data.{split}=FILE")
        return self.splits[split]

    def write_quarantine(self, path: Path) -> None:
        """Write the bad rows as tab-separated lines: file, line, reason, content."""
        with atomic_write(path) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
            stream.write(format_bad_rows(self.bad_rows, has_header=True))


def read_dataset(config: DataConfig) -> Dataset:
    """Read the splits of a source, and split off those that are missing as the config defines.

    Raises: DataError if a source, column or label is missing, and for bad rows unless `on_bad_row` is `skip`.
    """
    tables = _find_tables(config)
    names_beside_data = _read_label_names(tables["train"].path)
    known_names = config.label_names or names_beside_data
    try:
        layout = find_layout(tables["train"], config, known_names)
        label_set = find_label_set(tables["train"], layout, config, names_beside_data)
    except DataError:  # rows that could not be parsed are the more likely cause: report them first
        _check_bad_rows([row for table in tables.values() for row in table.bad_rows], config)
        raise
    dataset = Dataset({}, label_set)
    for split, table in tables.items():
        dataset.splits[split] = _read_rows(table, layout, label_set, dataset.bad_rows)
    _check_bad_rows(dataset.bad_rows, config)
    dataset.messages.append(f"{tables['train'].path}: {layout.describe()}; {len(label_set)} labels")
    _split_off(dataset, config, is_one_file=len(tables) == 1 and not config.train)
    if config.train_fraction < 1:
        kept, _ = splitting.split_rows(dataset["train"].texts, dataset["train"].labels, 1 - config.train_fraction, config.split_seed)
        dataset.splits["train"] = dataset["train"].take(kept)
        dataset.messages.append(f"train: {len(kept):,} rows kept (data.train_fraction={config.train_fraction})")
    dataset.messages += [*_describe_rows(dataset.splits), *_describe_shared_texts(dataset.splits), *_describe_rare_labels(dataset)]
    return dataset


def read_examples(path: Path, config: DataConfig, label_set: LabelSet) -> tuple[Examples, list[str], list[BadRow]]:
    """Return the rows of one labelled file, messages for the user, and the bad rows; `label_set` is that of the model.

    Raises: DataError for the same reasons as `read_dataset`.
    """
    names = label_set.names
    table = read_table(path, config.named_columns | set(names), config.max_line_length)
    layout = find_layout(table, name_label_columns(table, replace(config, label_names=names), names), names)
    bad_rows: list[BadRow] = []
    examples = _read_rows(table, layout, label_set, bad_rows)
    _check_bad_rows(bad_rows, config)
    return examples, [f"{path}: {layout.describe()}"], bad_rows


def _find_tables(config: DataConfig) -> dict[str, Table]:
    """Return one table per split; `train` is always one of them."""
    named = {split: getattr(config, split) for split in SPLIT_FILES if getattr(config, split)}
    read = partial(read_table, named_columns=config.named_columns, max_length=config.max_line_length)
    if config.train:
        return {split: read(Path(path)) for split, path in named.items()}
    if named:
        tables = _find_tables(replace(config, validation=None, test=None))
        return tables | {split: read(Path(path)) for split, path in named.items()}
    path = SAMPLE if config.source == "sample" else Path(config.source).expanduser()
    if path.is_dir():
        return _find_split_files(path, read)
    if path.is_file():
        return {"train": read(path)}
    if config.source.count("/") == 1 and not config.source.startswith((".", "/", "~")) and path.suffix not in (*READERS, *COMPRESSIONS):
        return _load_from_hub(config)
    raise DataError(f"data.source={config.source!r}: no such file or folder, and not the id of a Hub dataset (USER/NAME)")


def _find_split_files(folder: Path, read: Callable[[Path], Table]) -> dict[str, Table]:
    tables = {}
    for split, stems in SPLIT_FILES.items():
        files = [f for f in sorted(folder.iterdir()) if f.name.split(".")[0].lower() in stems and READERS.keys() & set(f.suffixes)]
        if len(files) > 1:
            raise DataError(f"{folder}: several files for {split}: {[f.name for f in files]}; choose one with data.{split}=FILE")
        if files:
            tables[split] = read(files[0])
    if "train" not in tables:
        raise DataError(f"{folder}: has no train.csv, .tsv, .jsonl or .parquet; set data.train=FILE")
    return tables


def _load_from_hub(config: DataConfig) -> dict[str, Table]:
    import datasets

    try:
        loaded = datasets.load_dataset(config.source, config.hub_config)
    except Exception as error:  # the library raises many types, from an unknown name to a broken connection
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise DataError(
            f"data.source={config.source!r}: not a local file or folder, and cannot be loaded from the Hub{offline} ({reason}); "
            "check the name, data.hub_config and the network, or set data.source=FOLDER to a local copy"
        ) from None
    tables = {}
    for split, names in SPLIT_FILES.items():
        name = next((name for name in names if name in loaded), None)
        if name is not None:
            tables[split] = table_from_columns(f"{config.source}/{name}", loaded[name].to_dict())
            tables[split].class_names = _read_class_names(loaded[name].features)
    if "train" not in tables:
        raise DataError(
            f"data.source={config.source!r}: has no split `train`, only {', '.join(loaded)}; choose another dataset or data.hub_config"
        )
    return tables


def _read_class_names(features: dict[str, Any]) -> dict[str, list[str]]:
    """Return the label names of each column of class labels or of lists of class labels."""
    found = {}
    for column, feature in features.items():
        names = getattr(getattr(feature, "feature", feature), "names", None)
        if names:
            found[column] = list(names)
    return found


def _read_label_names(train_path: str) -> tuple[str, ...] | None:
    for name in LABEL_FILES:
        path = Path(train_path).parent / name
        if path.is_file():
            try:
                return tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
            except (OSError, UnicodeDecodeError) as error:
                raise DataError(f"{path}: cannot be read as a UTF-8 list of label names ({error})") from None
    return None


def _read_rows(table: Table, layout: Layout, label_set: LabelSet, bad_rows: list[BadRow]) -> Examples:
    """Return the valid rows of a table, and add the others to `bad_rows`."""
    needed = {layout.text_column, *layout.label_columns, *([layout.label_column] if layout.label_column else [])}
    if not needed <= set(table.columns):
        missing = sorted(needed - set(table.columns))
        raise DataError(f"{table.path}: lacks the columns {missing} of the training rows; it has {table.columns}")
    ids, texts, columns = [], [], []
    for line, values in zip(table.lines, table.rows, strict=True):
        row = dict(zip(table.columns, values, strict=True))
        text = row[layout.text_column]
        try:
            if not isinstance(text, str) or not text.strip():
                raise DataError("empty text" if text is None or isinstance(text, str) else f"text is {text!r}, not a string")
            columns.append([label_set.column(label) for label in layout.read_labels(row)])
        except DataError as error:
            table.reject(line, str(error), values)
            continue
        texts.append(text)
        ids.append(str(row[layout.id_column]) if layout.id_column in row else str(line))
    bad_rows += sorted(table.bad_rows, key=lambda bad: bad.line)
    return Examples(ids, texts, label_set.encode(columns))


def _check_bad_rows(bad_rows: list[BadRow], config: DataConfig) -> None:
    if bad_rows and config.on_bad_row == "stop":
        shown = [f"  {row}" for row in bad_rows[:MAX_BAD_ROWS_SHOWN]]
        more = [f"  and {len(bad_rows) - MAX_BAD_ROWS_SHOWN} more"] if len(bad_rows) > MAX_BAD_ROWS_SHOWN else []
        raise DataError(f"{len(bad_rows)} bad rows:", *shown, *more, "correct them, or set data.on_bad_row=skip to ignore them")


def _split_off(dataset: Dataset, config: DataConfig, is_one_file: bool) -> None:
    """Split validation rows off the training rows if there are none, and test rows if the source is a single file."""
    fractions = {}
    if is_one_file and "test" not in dataset.splits and config.test_fraction > 0:
        fractions["test"] = config.test_fraction
    if "validation" not in dataset.splits:
        fractions["validation"] = config.validation_fraction
    rest = 1.0
    for split, fraction in fractions.items():
        examples = dataset.splits["train"]
        kept, taken = splitting.split_rows(examples.texts, examples.labels, fraction / rest, config.split_seed)
        dataset.splits["train"], dataset.splits[split] = examples.take(kept), examples.take(taken)
        dataset.messages.append(f"{split}: {len(taken):,} rows split off, stratified by label (seed {config.split_seed})")
        rest -= fraction


def _describe_rows(splits: dict[str, Examples]) -> list[str]:
    """Return messages about the number of rows, rows without labels, and texts that are in two splits."""
    messages = [", ".join(f"{split} {len(examples):,}" for split, examples in splits.items()) + " rows"]
    for split, examples in splits.items():
        if len(examples) == 0:
            raise DataError(f"{split}: has no valid rows")
        if num_unlabelled := int((~examples.labels.any(axis=1)).sum()):
            messages.append(f"{split}: {num_unlabelled:,} rows have no label")
    return messages


def _describe_rare_labels(dataset: Dataset) -> Iterable[str]:
    counts = dict(zip(dataset.label_set.names, dataset["train"].labels.sum(axis=0), strict=True))
    if rare := [f"{name} ({count})" for name, count in counts.items() if count < RARE_LABEL_ROWS]:
        yield f"labels with fewer than {RARE_LABEL_ROWS} training rows: {', '.join(rare[:10])}{' and more' if len(rare) > 10 else ''}"


def _describe_shared_texts(splits: dict[str, Examples]) -> Iterable[str]:
    counts = {split: Counter(map(splitting.normalize_text, examples.texts)) for split, examples in splits.items()}
    for first, second in itertools.combinations(counts, 2):
        if num_shared := sum(counts[second][text] for text in counts[first].keys() & counts[second].keys()):
            yield f"{num_shared:,} rows of {second} have a text that is also in {first}"
