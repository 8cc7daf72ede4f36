"""`Table`: one file in memory, as training data is read."""

from collections.abc import Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emotion.config import DataConfig
from emotion.data.reading.opening import open_rows
from emotion.data.reading.rows import BadRow
from emotion.errors import DataError
from emotion.text import is_writable_text


@dataclass
class Table:
    """Rows of one file: `rows[i]` has one value per column and starts on line `lines[i]` (from 1)."""

    path: str
    columns: list[str]
    rows: list[list[Any]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    bad_rows: list[BadRow] = field(default_factory=list)
    has_header: bool = True
    class_names: dict[str, list[str]] = field(default_factory=dict)
    """Label names that a Hub dataset declares, by column."""

    def reject(self, line: int, reason: str, values: list[Any]) -> None:
        """Add a row to `bad_rows`."""
        self.bad_rows.append(BadRow.describe(self.path, line, reason, values))

    def values(self, column: str) -> list[Any]:
        """Return the values of one column."""
        position = self.columns.index(column)
        return [row[position] for row in self.rows]


def read_table(path: Path, named_columns: Set[str] = frozenset(), max_length: int = DataConfig.max_line_length) -> Table:
    """Read a file into memory; its name determines the format, and `named_columns` and `max_length` are as in `open_rows`.

    Raises: DataError if the file is missing, empty or damaged, or if the format is unknown.
    """
    with open_rows(path, named_columns, max_length=max_length) as opened:
        table = Table(str(path), opened.columns, has_header=opened.has_header)
        for entry in opened.entries:
            if isinstance(entry, BadRow):
                table.bad_rows.append(entry)
            elif all(map(is_writable_text, entry.values)):
                table.rows.append(entry.values)
                table.lines.append(entry.line)
            else:
                table.reject(entry.line, "not valid UTF-8", entry.values)
    if not table.rows and not table.bad_rows:
        raise DataError(f"{path}: has no rows")
    return table


def table_from_columns(name: str, columns: dict[str, list[Any]]) -> Table:
    """Return a table of columns that are in memory; line numbers count the rows from 1."""
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    return Table(name, list(columns), rows, list(range(1, len(rows) + 1)))
