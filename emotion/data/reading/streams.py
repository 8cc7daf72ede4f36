"""Several files as one stream of rows, for what does not fit into memory."""

import glob
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emotion.config import DataConfig
from emotion.data.reading.layout import GUESS_ROWS, Layout, find_layout, find_text, name_label_columns
from emotion.data.reading.opening import open_rows
from emotion.data.reading.rows import LABEL_WORDS, BadRow, Row, Rows
from emotion.data.reading.tables import Table
from emotion.errors import DataError
from emotion.labels import LabelSet


@dataclass(frozen=True)
class Source:
    """The rows of all files, in turn, and where their text and gold labels stand."""

    columns: list[str]
    text_column: str
    gold: Layout | None
    """None where the files hold no labels of this model."""
    schema: Any
    """Arrow's, of parquet files."""
    entries: Iterator[Row | BadRow]
    measure: Callable[[], float]
    """Returns the share of the files that has been read, in [0, 1]; 0 where it is not known."""


@contextmanager
def open_source(paths: Sequence[Path], config: DataConfig, label_set: LabelSet) -> Iterator[Source]:
    """Give the rows of files that have the same columns; the guesses are made on the head of the first.

    Raises: DataError if a file cannot be read, has no rows, or has other columns than the first.
    """
    named = config.named_columns
    sizes = [path.stat().st_size if path != Path("-") else 0 for path in paths]
    with ExitStack() as opened:
        first: Rows = opened.enter_context(open_rows(paths[0], named, is_lenient=True))
        head = list(itertools.islice(first.entries, GUESS_ROWS))
        if not head:
            raise DataError(f"{paths[0]}: has no rows")
        position, current = 0, first

        def read() -> Iterator[Row | BadRow]:
            nonlocal position, current
            yield from itertools.chain(head, first.entries)
            for path in paths[1:]:
                position += 1
                opened.close()
                current = opened.enter_context(open_rows(path, named, is_lenient=True))
                if current.columns != first.columns:
                    raise DataError(f"{path}: has the columns {current.columns}, {paths[0]} has {first.columns}")
                yield from current.entries

        def measure() -> float:
            read_so_far = sum(sizes[:position]) + sizes[position] * current.measure()
            return read_so_far / sum(sizes) if sum(sizes) else 0.0

        good = [entry.values for entry in head if isinstance(entry, Row)]
        table = Table(str(paths[0]), first.columns, good, has_header=first.has_header)
        gold = find_gold(table, config, label_set)
        yield Source(first.columns, find_text(table, config), gold, first.schema, read(), measure)


def expand_patterns(names: list[str]) -> tuple[Path, ...]:
    """Return the files that names and patterns stand for, in the order given, those of a pattern sorted.

    Raises: DataError for a pattern that no file has.
    """
    paths: list[Path] = []
    for name in names:
        found = [name] if name == "-" or Path(name).exists() else sorted(glob.glob(name))  # noqa: PTH207 - the pattern may be absolute
        if not found:
            raise DataError(f"--input {name}: no such file")
        paths += map(Path, found)
    return tuple(paths)


def find_gold(table: Table, config: DataConfig, label_set: LabelSet) -> Layout | None:
    """Return where the gold labels stand, if the table has any that are of `label_set`.

    Raises: DataError if the config names a column that is not there.
    """
    names = label_set.names
    is_named = bool(config.label_column or config.label_columns)
    try:
        layout = find_layout(table, name_label_columns(table, config, names), names)
    except DataError:
        if is_named:
            raise
        return None
    if is_named:
        return layout
    rows = [dict(zip(table.columns, values, strict=True)) for values in table.rows]
    try:
        found = [[label_set.column(label) for label in layout.read_labels(row)] for row in rows]
    except DataError:
        return None
    column = layout.label_column
    if column is not None and column.lower() not in LABEL_WORDS:  # numbers could be label ids, or anything else
        found = [labels for labels, row in zip(found, rows, strict=True) if not str(row[column]).strip().isdecimal()]
    return layout if any(found) else None
