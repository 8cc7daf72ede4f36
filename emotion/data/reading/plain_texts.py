"""Texts without labels, which teachers label for their student: added to the training rows as rows of which nothing was judged."""

from dataclasses import replace

import numpy as np

from emotion.config import DataConfig
from emotion.data.reading.examples import Dataset, Examples
from emotion.data.reading.finding import read_named
from emotion.data.reading.layout import find_text_column
from emotion.data.splitting import normalize_text
from emotion.errors import DataError
from emotion.text import format_count, is_writable_text

SETTING = "distillation.texts"


def add_texts(dataset: Dataset, name: str, config: DataConfig) -> str:
    """Add the texts of a file, or of several, to the training rows of a data set, and return a message on them and on how they were read.

    Their labels are not judged. A text that is in a split, or twice in the files, is left out: a student must not learn from texts that
    judge it.

    Raises: DataError if the files cannot be read, or hold no other text.
    """
    table = read_named(name, config)
    named = config.text_column if config.text_column in table.columns else None
    column = table.columns.index(find_text_column(table, replace(config, text_column=named)))
    known = {normalize_text(text) for examples in dataset.splits.values() for text in examples.texts}
    ids, texts, num_known = [], [], 0
    for line, values in zip(table.lines, table.rows, strict=True):
        text = values[column]
        if not isinstance(text, str) or not text.strip() or not is_writable_text(text):
            table.reject(line, "empty text" if isinstance(text, str) and not text.strip() else "not a text", values)
        elif (key := normalize_text(text)) in known:
            num_known += 1
        else:
            known.add(key)
            path, number = table.locate(line)
            ids.append(f"{path}:{number}")
            texts.append(text)
    left_out = f"{num_known:,} that occur twice or are in a split, {len(table.bad_rows):,} that cannot be read"
    if table.bad_rows:
        left_out += f" (first: {table.bad_rows[0]})"
    if not texts:
        raise DataError(f"{SETTING}={name}: has no text that is new: {left_out}; correct them, or name other files")
    nothing = np.zeros((len(texts), len(dataset.label_set)), dtype=bool)
    dataset.splits["train"] = Examples.join([dataset["train"], Examples(ids, texts, nothing, nothing)])
    message = f"{name}: {format_count(len(texts), 'text')} without labels, from column {table.columns[column]!r}"
    if num_known or table.bad_rows:
        message += f"; left out: {left_out}"
    return "; ".join([message, *table.notes])
