"""Read several files as one stream of rows, for inputs that do not fit into memory."""

import glob
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emotion.config import DataConfig
from emotion.data.reading.gold import Gold, find_gold
from emotion.data.reading.label_formats import DETECTION_ROWS
from emotion.data.reading.layout import find_text_column
from emotion.data.reading.opening import open_rows
from emotion.data.reading.rows import BadRow, Row, Rows
from emotion.data.reading.tables import Table
from emotion.errors import DataError
from emotion.labels import LabelSet
from emotion.paths import expand_path


@dataclass(frozen=True)
class Source:
    """The rows of all files, one file after another, and the columns of their texts and gold labels."""

    columns: list[str]
    text_column: str
    gold: Gold | None
    """How the gold labels are read; None if the files have no labels of this model."""
    gold_notes: list[str]
    """What matched the labels of the model and what did not, for the user."""
    schema: Any
    """Arrow schema of parquet files, otherwise None."""
    entries: Iterator[Row | BadRow]
    notes: list[str]
    """What was detected in the files read so far and is not the default; messages for the user."""
    num_nested: int
    """Number of columns at the end that are values within other columns, and are not written to an output."""
    measure: Callable[[], float]
    """Returns the fraction of all files that has been read, in [0, 1]; 0 if it is unknown."""


@contextmanager
def open_source(paths: Sequence[Path], config: DataConfig, label_set: LabelSet, is_typed: bool = False) -> Iterator[Source]:
    """Open files that have the same columns, and yield their rows; text and label columns are detected in the first rows of the first file.

    `is_typed` requires parquet files to have the same types as well: an output that has the types of the first would change other values.

    Raises: DataError if a file cannot be read, if its columns differ from those of the first file, or if the first file has no rows.
    """
    sizes = [path.stat().st_size if path != Path("-") else 0 for path in paths]
    with ExitStack() as opened:
        first: Rows = opened.enter_context(open_rows(paths[0], config, is_lenient=True))
        head = list(itertools.islice(first.entries, DETECTION_ROWS))
        if not head:
            raise DataError(f"{paths[0]}: has no rows")
        position, current = 0, first
        notes = [f"{paths[0]}: {note}" for note in first.notes]

        def read() -> Iterator[Row | BadRow]:
            nonlocal position, current
            yield from itertools.chain(head, first.entries)
            for path in paths[1:]:
                position += 1
                opened.close()
                current = opened.enter_context(open_rows(path, config, is_lenient=True))
                if not current.columns:  # an empty file, or one of which no row can be read
                    entries = list(current.entries)
                    notes.extend([f"{path}: has no rows"] if not entries else [])
                    yield from entries
                    continue
                if current.columns != first.columns:
                    raise DataError(
                        f"{path}: has the columns {current.columns}, but {paths[0]} has {first.columns}; all files must have the same"
                    )
                if gold is not None and current.class_names != first.class_names:
                    found, expected = current.class_names, first.class_names
                    raise DataError(f"{path}: declares the label names {found}, but {paths[0]} {expected}; score them one by one")
                notes.extend(f"{path}: {note}" for note in current.notes)
                if is_typed and first.schema is not None:
                    check_types(path, current.schema, paths[0], first.schema)
                yield from current.entries

        def measure() -> float:
            read_so_far = sum(sizes[:position]) + sizes[position] * current.measure()
            return read_so_far / sum(sizes) if sum(sizes) else 0.0

        good = [entry.values for entry in head if isinstance(entry, Row)]
        table = Table(str(paths[0]), first.columns, good, has_header=first.has_header, class_names=first.class_names)
        try:
            text_column = find_text_column(table, config)
        except DataError:
            if not good and isinstance(head[0], BadRow):  # the more likely cause
                raise DataError(f"{head[0]}; no other row could be read") from None
            raise
        gold, gold_notes = find_gold(table, config, label_set)
        yield Source(first.columns, text_column, gold, gold_notes, first.schema, read(), notes, first.num_nested, measure)


def check_types(path: Path, schema: Any, first_path: Path, first_schema: Any) -> None:
    """Raise DataError if a file is not parquet or a column has another type than in the first file."""
    if schema is None:
        raise DataError(f"{path}: is not parquet, but {first_path} is; for an output in parquet, give files of one format")
    for field, first in zip(schema, first_schema, strict=True):
        if field.type != first.type:
            raise DataError(
                f"{path}: column {field.name!r} has the type {field.type}, but {first.type} in {first_path}; "
                "for an output in parquet, all files must have the same types"
            )


def expand_patterns(names: list[str]) -> tuple[Path, ...]:
    """Return the files that names and glob patterns match, in the given order; the files of one pattern are sorted.

    Raises: DataError if a name or pattern matches no file, or if stdin is named twice.
    """
    if names.count("-") > 1:
        raise DataError("--input -: stdin can be read only once; name it once")
    paths: list[Path] = []
    for name in names:
        path = expand_path(name)
        found = [path] if name == "-" or path.exists() else sorted(glob.glob(str(path)))  # noqa: PTH207 - the pattern may be absolute
        if not found:
            raise DataError(f"--input {name}: no such file")
        paths += map(Path, found)
    return tuple(paths)
