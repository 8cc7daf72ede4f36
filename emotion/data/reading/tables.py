"""`Table`: one file, or several with the same columns, in memory, as training data is read."""

from bisect import bisect
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emotion.config import DataConfig
from emotion.data.reading.encodings import NOT_UTF_8
from emotion.data.reading.opening import open_rows
from emotion.data.reading.rows import BadRow
from emotion.errors import DataError
from emotion.text import is_writable_text


@dataclass
class Table:
    """Rows of one file or of several: `rows[i]` has one value per column and starts on line `lines[i]` (from 1).

    Lines of several files are counted on from one file to the next, so that each row has another line.
    """

    path: str
    columns: list[str]
    rows: list[list[Any]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    bad_rows: list[BadRow] = field(default_factory=list)
    has_header: bool = True
    class_names: dict[str, list[str]] = field(default_factory=dict)
    """Label names that a parquet file or a Hub dataset declares, by column."""
    notes: list[str] = field(default_factory=list)
    """What was detected and is not the default, such as the encoding; messages for the user."""
    parts: list[tuple[int, str]] = field(default_factory=list)
    """Of several files, the number of lines before each, and its path."""

    def locate(self, line: int) -> tuple[str, int]:
        """Return the path of the file that has a line, and the line's number there."""
        before, path = self.parts[bisect([start for start, _ in self.parts], line - 1) - 1] if self.parts else (0, self.path)
        return path, line - before

    def reject(self, line: int, reason: str, values: list[Any]) -> None:
        """Add a row to `bad_rows`."""
        self.bad_rows.append(BadRow.describe(*self.locate(line), reason, values))

    def values(self, column: str) -> list[Any]:
        """Return the values of one column."""
        position = self.columns.index(column)
        return [row[position] for row in self.rows]


def read_table(path: Path, config: DataConfig | None = None, names: Set[str] = frozenset()) -> Table:
    """Read a file into memory; its name determines the format, and `names` are as in `open_rows`.

    Raises: DataError if the file is missing, empty or damaged, or if the format is unknown.
    """
    config = config or DataConfig()
    with open_rows(path, config, names) as opened:
        notes = [f"{path}: {'; '.join(opened.notes)}"] if opened.notes else []
        table = Table(str(path), opened.columns, has_header=opened.has_header, class_names=opened.class_names, notes=notes)
        for entry in opened.entries:
            if isinstance(entry, BadRow):
                table.bad_rows.append(entry)
            elif all(map(is_writable_text, entry.values)):
                table.rows.append(entry.values)
                table.lines.append(entry.line)
            else:
                wrong = f"not valid {config.encoding}" if config.encoding else NOT_UTF_8
                table.reject(entry.line, wrong, entry.values)
    if not table.rows and not table.bad_rows:
        raise DataError(f"{path}: has no rows")
    return table


def read_tables(paths: Sequence[Path], config: DataConfig) -> Table:
    """Read files that have the same columns as one table, in the given order.

    Raises: DataError if their columns differ, or as `read_table` does.
    """
    tables = [read_table(path, config) for path in paths]
    first = tables[0]
    if len(tables) == 1:
        return first
    whole = Table(f"{first.path} and {len(tables) - 1} more", first.columns, has_header=first.has_header, class_names=first.class_names)
    num_lines = 0
    for table in tables:
        if table.columns != first.columns or table.class_names != first.class_names:
            what = "columns" if table.columns != first.columns else "label names"
            found, expected = (table.columns, first.columns) if what == "columns" else (table.class_names, first.class_names)
            raise DataError(f"{table.path}: has the {what} {found}, but {first.path} has {expected}; files of one split must have the same")
        whole.parts.append((num_lines, table.path))
        whole.rows += table.rows
        whole.lines += [num_lines + line for line in table.lines]
        whole.bad_rows += table.bad_rows
        whole.notes += table.notes
        num_lines += max([*table.lines, *(bad.line for bad in table.bad_rows)])
    return whole


def table_from_columns(name: str, columns: dict[str, list[Any]]) -> Table:
    """Return a table of columns that are in memory; line numbers count the rows from 1."""
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    return Table(name, list(columns), rows, list(range(1, len(rows) + 1)))
