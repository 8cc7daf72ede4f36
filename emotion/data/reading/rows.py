"""The rows of an open file: `Row` with its values or `BadRow` with the reason, and the column names that are recognized."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass, field
from typing import Any

from emotion.config import DataConfig
from emotion.errors import DataError

TEXT_COLUMN_NAMES = ("text", "tweet", "sentence", "comment", "comment_text", "content", "message", "review", "body", "utterance")
LABEL_COLUMN_NAMES = ("labels", "label", "emotions", "emotion", "categories", "category", "tags", "classes")
ID_COLUMN_NAMES = ("id", "comment_id", "tweet_id", "idx", "uid", "index")


@dataclass(frozen=True)
class Row:
    """A row that was read: its file, its first line (from 1), and one value per column."""

    path: str
    line: int
    values: list[Any]


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used: its file and line, the reason, and its content."""

    path: str
    line: int
    reason: str
    content: str

    @classmethod
    def describe(cls, path: str, line: int, reason: str, values: Any) -> "BadRow":
        """Return a bad row with the given values as its content, truncated to 500 characters that UTF-8 can encode."""
        content = "\t".join(map(str, values)) if isinstance(values, list) else str(values)
        return cls(path, line, reason, content[:500].encode("utf-8", "replace").decode())

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.reason}"


@dataclass(frozen=True)
class Rows:
    """The columns of an open file, and an iterator over its rows."""

    columns: list[str]
    entries: Iterator[Row | BadRow]
    has_header: bool = True
    schema: Any = None
    """Arrow schema of a parquet file, otherwise None."""
    measure: Callable[[], float] = lambda: 0.0
    """Returns the fraction of the file that has been read, in [0, 1]; 0 if the size is unknown."""
    notes: list[str] = field(default_factory=list)
    """What was detected and is not the default, such as the encoding; messages for the user, without the file's name."""
    class_names: dict[str, list[str]] = field(default_factory=dict)
    """Label names that the file declares, by column."""
    num_nested: int = 0
    """Number of columns at the end that are values within other columns, named by a path such as `post.text`."""


@dataclass(frozen=True)
class ReadOptions:
    """How to read a file."""

    config: DataConfig = field(default_factory=DataConfig)
    names: Set[str] = frozenset()
    """Column names that are known beside those that the config names: a first row that contains one of them is a header."""
    is_lenient: bool = False
    """For files to be scored: JSON objects may lack keys, and an empty line is a bad row, so that the output has one row per line."""

    @property
    def header_names(self) -> Set[str]:
        """Names of which one in the first row makes it a header."""
        return self.config.named_columns | self.names


def format_bad_rows(bad_rows: Iterable[BadRow], has_header: bool) -> str:
    """Return bad rows as tab-separated lines: file, line, reason, content. The name of a file that is not UTF-8 has escapes."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter="\t")
    if has_header:
        writer.writerow(["file", "line", "reason", "content"])
    writer.writerows([row.path.encode("utf-8", "backslashreplace").decode(), row.line, row.reason, row.content] for row in bad_rows)
    return stream.getvalue()


def check_unique(where: str, columns: list[str]) -> None:
    """Raise DataError if two columns have the same name."""
    if len(set(columns)) < len(columns):
        raise DataError(f"{where}: the column names {columns} are not unique; rename the duplicates")
