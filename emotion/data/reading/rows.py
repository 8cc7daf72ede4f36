"""What reading a file gives, row by row: `Row` with its values, or `BadRow` with the reason; and the column names we know."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

TEXT_WORDS = ("text", "tweet", "sentence", "comment", "comment_text", "content", "message", "review", "body", "utterance")
LABEL_WORDS = ("labels", "label", "emotions", "emotion", "categories", "category", "tags", "classes")
ID_WORDS = ("id", "comment_id", "tweet_id", "idx", "uid", "index")


@dataclass(frozen=True)
class Row:
    """A row that could be read: its file, the line it began on (from 1), and one value a column."""

    path: str
    line: int
    values: list[Any]


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used: where it stands, why, and what it held."""

    path: str
    line: int
    reason: str
    content: str

    @classmethod
    def describe(cls, path: str, line: int, reason: str, values: Any) -> "BadRow":
        """Return the bad row of some values, their text cut to 500 characters that can be written anywhere."""
        content = "\t".join(map(str, values)) if isinstance(values, list) else str(values)
        return cls(path, line, reason, content[:500].encode("utf-8", "replace").decode())

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.reason}"


@dataclass(frozen=True)
class Rows:
    """The columns of an open file and its rows, to be read once."""

    columns: list[str]
    entries: Iterator[Row | BadRow]
    has_header: bool = True
    schema: Any = None
    """Arrow's, of a parquet file."""
    measure: Callable[[], float] = lambda: 0.0
    """Returns the share of the file that has been read, in [0, 1]; 0 where its size is not known."""


def format_bad_rows(bad_rows: Iterable[BadRow], has_header: bool) -> str:
    """Return bad rows as lines of tsv: file, line, reason, content."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter="\t")
    if has_header:
        writer.writerow(["file", "line", "reason", "content"])
    writer.writerows([row.path, row.line, row.reason, row.content] for row in bad_rows)
    return stream.getvalue()


def is_writable_text(value: Any) -> bool:
    """Whether a value is no text, or text that UTF-8 can hold: bytes that are not UTF-8 were read as lone surrogates."""
    return not isinstance(value, str) or value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)
