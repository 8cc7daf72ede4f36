"""Read the splits of a data source, and split off those that are missing."""

import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from emotion.config import DataConfig
from emotion.data import splitting
from emotion.data.reading.corrections import FindSplit, apply_corrections
from emotion.data.reading.examples import Dataset, Examples
from emotion.data.reading.finding import find_tables, read_label_names
from emotion.data.reading.gold import LabelReader, find_gold_layout
from emotion.data.reading.layout import Layout, find_label_set, find_layout
from emotion.data.reading.raters import MAJORITY, find_repeated_ratings, merge_examples
from emotion.data.reading.rows import BadRow
from emotion.data.reading.soft_labels import check_rater_column, check_raters, check_soft_labels, read_rater
from emotion.data.reading.tables import Table, read_table
from emotion.data.reading.unlabelled import find_unlabelled
from emotion.errors import DataError
from emotion.labels import LabelSet
from emotion.text import format_count

MAX_BAD_ROWS_SHOWN = 20
RARE_LABEL_ROWS = 10
"""Labels with fewer training rows are reported: they are typing errors, or too rare to learn."""


def read_dataset(config: DataConfig, find_split: FindSplit | None = None) -> Dataset:
    """Read the splits of a source, and split off those that are missing as the config defines.

    With `find_split`, the rows stay in the splits that the source has: `train` has all rows of a single file. It tells the split in which a
    run has a row, and so whether a correction of it is applied.

    Raises: DataError if a source, column or label is missing, for a label with the name of another column of the files of predictions, and
    for bad rows unless `on_bad_row` is `skip`.
    """
    tables = find_tables(config)
    check_rater_column(list(tables.values()), config)
    names_beside_data = read_label_names(tables["train"].path)
    try:
        layout = find_layout(tables["train"], config, names_beside_data)
        label_set, label_messages = find_label_set(tables["train"], layout, config, names_beside_data)
    except DataError as error:  # rows that could not be parsed are the more likely cause: report them first
        _check_bad_rows([row for table in tables.values() for row in table.bad_rows], config)
        notes = "; ".join(tables["train"].notes)
        raise DataError(f"{error}; how it was read: {notes}" if notes else str(error)) from None
    label_set.check_columns()
    dataset = Dataset({}, label_set, unlabelled=find_unlabelled(tables, layout))
    for split, table in tables.items():
        if split in dataset.unlabelled:
            continue
        reader = LabelReader(layout.adapt(table, config), label_set)
        dataset.splits[split], rows_messages = _read_rows(table, reader, dataset.bad_rows)
        label_messages += [f"{split}: {message}" for message in rows_messages]
    _check_bad_rows(dataset.bad_rows, config)
    dataset.messages.append(f"{tables['train'].path}: {layout.describe()}; {len(label_set)} labels")
    dataset.messages += [note for table in tables.values() for note in table.notes]
    dataset.messages += [*layout.notes, *label_messages]
    dataset.messages += [f"{split}: {reason}; it cannot be judged" for split, reason in dataset.unlabelled.items()]
    _check_labels_occur(dataset, tables["train"].path)
    check_raters(list(dataset.splits.values()), tables["train"].path, config)
    check_soft_labels(dataset["train"], tables["train"].path, config)
    if find_split is not None:
        if config.corrections is not None:
            apply_corrections(dataset, config, find_split)
        return dataset
    _split_off(dataset, config, is_one_file=len(tables) == 1 and not config.train)
    if config.train_fraction < 1:
        rows, fraction = dataset["train"], 1 - config.train_fraction
        remedy = f"take another data.train_fraction than {config.train_fraction}, or 1 for all rows"
        kept, left_out = _split(dataset, fraction, config, remedy)
        dataset.splits["train"], dataset.unused = rows.take(kept), rows.take(left_out)
        dataset.messages.append(f"train: {len(kept):,} rows kept (data.train_fraction={config.train_fraction})")
    if config.corrections is not None:  # last, so that the decisions do not change which rows are in a split
        apply_corrections(dataset, config)
    _check_splits_have_labels(dataset)
    dataset.messages += [*_describe_rows(dataset.splits), *_describe_shared_texts(dataset.splits), *_describe_rare_labels(dataset)]
    return dataset


def read_examples(path: Path, config: DataConfig, label_set: LabelSet) -> tuple[Examples, list[str], list[BadRow]]:
    """Return the rows of one labelled file, messages for the user, and the bad rows; `label_set` is that of the model.

    Raises: DataError for the same reasons as `read_dataset`.
    """
    table = read_table(path, config, set(label_set.names))
    check_rater_column([table], config)
    layout = find_gold_layout(table, config, label_set)
    reader = LabelReader(layout, label_set, is_of_model=True)
    bad_rows: list[BadRow] = []
    examples, messages = _read_rows(table, reader, bad_rows)
    _check_bad_rows(bad_rows, config)
    reader.check(str(path))
    check_raters([examples], str(path), config)
    check_soft_labels(examples, str(path), config)
    return examples, [f"{path}: {layout.describe()}", *table.notes, *layout.notes, *reader.describe(), *messages], bad_rows


def _read_rows(table: Table, reader: LabelReader, bad_rows: list[BadRow]) -> tuple[Examples, list[str]]:
    """Return the valid rows of a table, with messages about their labels, and add the others to `bad_rows`."""
    layout = reader.layout
    needed = {layout.text_column, *layout.label_columns, *([layout.label_column] if layout.label_column else [])}
    if not needed <= set(table.columns):
        missing = sorted(needed - set(table.columns))
        raise DataError(f"{table.path}: lacks the columns {missing} of the training rows; it has {table.columns}")
    ids, texts, raters, lines, found, fractions = [], [], [], [], [], []
    for line, values in zip(table.lines, table.rows, strict=True):
        row = dict(zip(table.columns, values, strict=True))
        text = row[layout.text_column]
        try:
            if not isinstance(text, str) or not text.strip():
                raise DataError("empty text" if text is None or isinstance(text, str) else f"text is {text!r}, not a string")
            label_columns, row_fractions = reader.read(row), reader.read_fractions(row) if layout.has_fractions else None
        except DataError as error:
            table.reject(line, str(error), values)
            continue
        found.append(label_columns)
        fractions.append(row_fractions)
        texts.append(text)
        lines.append(line)
        ids.append(str(row[layout.id_column]) if layout.id_column in row else str(line))
        raters.append(read_rater(row, layout.rater_column))
    labels = reader.label_set.encode_columns([columns for columns, _ in found])
    is_judged = ~reader.label_set.encode_columns([columns for _, columns in found])
    is_judged[:, reader.missing] = False
    labels &= is_judged
    targets = np.array(fractions, dtype=np.float32).reshape(labels.shape) * is_judged if layout.has_fractions else None
    examples, messages = Examples(ids, texts, labels, is_judged, targets), []
    if reader.num_unclear:
        messages.append(f"{reader.num_unclear:,} rows are marked as unclear by their rater, and not counted")
    if layout.rater_column in table.columns and len(set(texts)) < len(texts):
        examples, rater_messages = _merge_raters(table, examples, raters, lines, layout)
        messages += rater_messages
    bad_rows += sorted(table.bad_rows, key=lambda bad: bad.line)
    return _drop_unjudged(examples, messages, reader)


def _merge_raters(table: Table, examples: Examples, raters: list[str], lines: list[int], layout: Layout) -> tuple[Examples, list[str]]:
    """Return the rows of several raters as one per text, and messages on that.

    With `data.soft_labels`, a row in which a rater labelled a text again is a bad row of the table.
    """
    messages = []
    if repeated := find_repeated_ratings(examples.texts, examples.ids, raters):
        if layout.is_soft:
            for row, earlier in repeated.items():
                where = "{}:{}".format(*table.locate(lines[earlier]))
                table.reject(lines[row], f"rater {raters[row]!r} labelled this text before, in {where}", [examples.texts[row]])
            kept = np.array([row for row in range(len(raters)) if row not in repeated])
            examples, raters = examples.take(kept), [raters[row] for row in kept]
        else:
            messages.append(f"{format_count(len(repeated), 'row')} of a rater who labelled the same text before; each row is counted")
    merged = merge_examples(examples, raters, layout.is_soft)
    rows = f"{len(examples):,} rows of several raters (column {layout.rater_column!r}) are {len(merged):,} texts"
    return merged, [*messages, f"{rows}, with {MAJORITY}"]


def _drop_unjudged(examples: Examples, messages: list[str], reader: LabelReader) -> tuple[Examples, list[str]]:
    """Return the rows of which at least one label was judged, and messages with the number of the others and of labels not judged."""
    if examples.is_judged is None or examples.is_judged.all():
        return replace(examples, is_judged=None), messages
    is_used = examples.is_judged.any(axis=1)
    if not is_used.all() and is_used.any():
        messages = [*messages, f"{(~is_used).sum():,} rows without a judged label are left out"]
        examples = examples.take(np.flatnonzero(is_used))
    assert examples.is_judged is not None
    counts = dict(zip(reader.label_set.names, (~examples.is_judged).sum(axis=0).tolist(), strict=True))
    absent = {reader.label_set.names[column] for column in reader.missing}
    if partly := [f"{name} in {number:,}" for name, number in counts.items() if number and name not in absent]:
        shown = ", ".join(partly[:10]) + (" and more" if len(partly) > 10 else "")
        messages = [*messages, f"labels not judged (empty or -1) in some of {len(examples):,} rows: {shown}"]
    return examples, messages


def _check_bad_rows(bad_rows: list[BadRow], config: DataConfig) -> None:
    if bad_rows and config.on_bad_row == "stop":
        shown = [f"  {row}" for row in bad_rows[:MAX_BAD_ROWS_SHOWN]]
        more = [f"  and {len(bad_rows) - MAX_BAD_ROWS_SHOWN} more"] if len(bad_rows) > MAX_BAD_ROWS_SHOWN else []
        raise DataError(
            f"{format_count(len(bad_rows), 'bad row')}:", *shown, *more, "correct them, or set data.on_bad_row=skip to ignore them"
        )


def _check_labels_occur(dataset: Dataset, path: str) -> None:
    labels, names = dataset["train"].labels, dataset.label_set.names
    if len(labels) and not labels.any():
        shown = ", ".join(names[:5]) + (", ..." if names[5:] else "")
        raise DataError(
            f"{path}: none of its {len(labels):,} rows has one of the {len(names)} labels ({shown}), "
            "so there is nothing to learn; check data.label_columns or data.label_column"
        )


def _check_splits_have_labels(dataset: Dataset) -> None:
    """Check the splits that training needs: of few labels, a split that was drawn may have none."""
    for split in ("train", "validation"):
        if len(dataset[split]) and not dataset[split].labels.any():
            remedy = f"add rows with labels, or give the split with data.{split}=FILE"
            raise DataError(f"{split}: none of its {len(dataset[split]):,} rows has a label, which training needs; {remedy}")


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
        kept, taken = _split(dataset, fraction / rest, config, f"label more rows, merge rare labels, or set data.{split}=FILE")
        dataset.splits["train"], dataset.splits[split] = examples.take(kept), examples.take(taken)
        dataset.messages.append(f"{split}: {len(taken):,} rows split off, stratified by label (seed {config.split_seed})")
        rest -= fraction
    used = {f"{split}_fraction" for split in fractions} | ({"split_seed"} if fractions or config.train_fraction < 1 else set())
    for name in ("validation_fraction", "test_fraction", "split_seed"):
        value = getattr(config, name)
        if name not in used and value != getattr(DataConfig, name):
            dataset.messages.append(f"data.{name}={value} has no effect: these rows are not split off")


def _split(dataset: Dataset, fraction: float, config: DataConfig, remedy: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the training rows that stay and a fraction that leaves them; an error says how the rows were read, and the remedy."""
    rows = dataset["train"]
    try:
        return splitting.split_rows(rows.texts, rows.labels, fraction, config.split_seed, remedy)
    except DataError as error:
        raise DataError(f"{dataset.messages[0]}: {error}") from None


def _describe_rows(splits: dict[str, Examples]) -> list[str]:
    """Return messages about the number of rows, rows without labels, and texts that are in two splits."""
    messages = [", ".join(f"{split} {len(examples):,}" for split, examples in splits.items()) + " rows"]
    for split, examples in splits.items():
        if len(examples) == 0:
            raise DataError(f"{split}: has no valid rows")
        if num_unlabelled := int((~examples.labels.any(axis=1)).sum()):
            messages.append(f"{split}: {format_count(num_unlabelled, 'row')} without a label")
    return messages


def _describe_rare_labels(dataset: Dataset) -> Iterable[str]:
    counts = dict(zip(dataset.label_set.names, dataset["train"].labels.sum(axis=0), strict=True))
    if rare := [f"{name} ({count})" for name, count in counts.items() if count < RARE_LABEL_ROWS]:
        yield f"labels with fewer than {RARE_LABEL_ROWS} training rows: {', '.join(rare[:10])}{' and more' if len(rare) > 10 else ''}"


def _describe_shared_texts(splits: dict[str, Examples]) -> Iterable[str]:
    counts = {split: Counter(map(splitting.normalize_text, examples.texts)) for split, examples in splits.items()}
    for first, second in itertools.combinations(counts, 2):
        if num_shared := sum(counts[second][text] for text in counts[first].keys() & counts[second].keys()):
            yield f"{format_count(num_shared, 'row')} of {second} with a text that is also in {first}"
