"""Bytes -> rows: csv, tsv, jsonl and parquet, plain or gzip, with the line each row came from.

Nothing is converted: `NA`, `null` and a lone `"` stay what they are. A row that cannot be read becomes a `BadRow`.
"""

import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from emotion.errors import DataError

TEXT_WORDS = ("text", "tweet", "sentence", "comment", "comment_text", "content", "message", "review", "body", "utterance")
LABEL_WORDS = ("labels", "label", "emotions", "emotion", "categories", "category", "tags", "classes")
ID_WORDS = ("id", "comment_id", "tweet_id", "idx", "uid", "index")
HEADER_WORDS = {*TEXT_WORDS, *LABEL_WORDS, *ID_WORDS}
"""Lower-case column names that mark a first row as a header."""


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used: where it stands, why, and what it held."""

    path: str
    line: int
    reason: str
    content: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.reason}"


@dataclass
class Table:
    """Rows of one file: `rows[i]` has one value a column and began on line `lines[i]` (from 1)."""

    path: str
    columns: list[str]
    rows: list[list[Any]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    bad_rows: list[BadRow] = field(default_factory=list)
    has_header: bool = True
    class_names: dict[str, list[str]] = field(default_factory=dict)
    """Label names that the format itself declares, by column (Hub data sets)."""

    def add(self, line: int, values: list[Any]) -> None:
        """Append a row, or a bad row if it has another number of columns or text that is not UTF-8."""
        if len(values) != len(self.columns):
            self.reject(line, f"{len(values)} columns, expected {len(self.columns)}", values)
        elif any(isinstance(value, str) and _has_undecoded_bytes(value) for value in values):
            self.reject(line, "not valid UTF-8", values)
        else:
            self.rows.append(values)
            self.lines.append(line)

    def reject(self, line: int, reason: str, values: Any) -> None:
        content = "\t".join(map(str, values)) if isinstance(values, list) else str(values)
        self.bad_rows.append(BadRow(self.path, line, reason, content.encode("utf-8", "replace").decode()[:500]))

    def values(self, column: str) -> list[Any]:
        """Return one column."""
        position = self.columns.index(column)
        return [row[position] for row in self.rows]


def read_table(path: Path, named_columns: Set[str] = frozenset()) -> Table:
    """Return the rows of a file, its format told by its name.

    `named_columns` are the columns that a config names; a first row that holds one of them is a header.

    Raises: DataError if the file is missing, empty or of another format.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    suffix = suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else (suffixes[-1] if suffixes else "")
    reader = READERS.get(suffix)
    if reader is None:
        raise DataError(f"{path}: unknown format {suffix or 'without an ending'!r}; allowed are {', '.join(READERS)}, each also as .gz")
    try:
        with gzip.open(path, "rb") if suffixes[-1] == ".gz" else path.open("rb") as stream:
            table = reader(path, stream, set(named_columns))  # type: ignore[arg-type]
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if not table.rows and not table.bad_rows:
        raise DataError(f"{path}: has no rows")
    return table


def _has_undecoded_bytes(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def _decode(stream: IO[bytes]) -> io.TextIOWrapper:
    """Return text that keeps line ends, drops a byte-order mark and carries bytes that are not UTF-8 as surrogates."""
    return io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _is_header(first: list[str], named_columns: set[str]) -> bool:
    """Whether the first row names the columns: it holds a name we know, or nothing but short, different words."""
    cells = [cell.strip().lower() for cell in first]
    if named_columns & set(first) or HEADER_WORDS & set(cells):
        return True
    return len(set(cells)) == len(cells) > 1 and all(cell.isidentifier() for cell in cells)


def _start(path: Path, first: list[str], named_columns: set[str]) -> Table:
    if _is_header(first, named_columns):
        return Table(str(path), [cell.strip() for cell in first])
    table = Table(str(path), [str(position) for position in range(len(first))], has_header=False)
    table.add(1, first)
    return table


def _read_csv(path: Path, stream: IO[bytes], named_columns: set[str]) -> Table:
    csv.field_size_limit(sys.maxsize)
    table, line = None, 1
    with _decode(stream) as text:
        reader = csv.reader(text, strict=True)
        while True:
            try:
                values = next(reader)
            except StopIteration:
                return table or Table(str(path), [])
            except csv.Error as error:
                if table is None:
                    raise DataError(f"{path}:{line}: the header cannot be read ({error})") from None
                table.reject(line, f"unbalanced quote in lines {line}-{reader.line_num} ({error})", "")
            else:
                if table is None:
                    table = _start(path, values, named_columns)
                elif values:  # csv gives an empty row for an empty line
                    table.add(line, values)
            line = reader.line_num + 1


def _read_tsv(path: Path, stream: IO[bytes], named_columns: set[str]) -> Table:
    """Read tab-separated lines without quoting: a `"` is a plain character."""
    table = None
    with _decode(stream) as lines:
        for line, text in enumerate(lines, start=1):
            values = text.rstrip("\r\n").split("\t")
            if table is None:
                table = _start(path, values, named_columns)
            elif values != [""]:
                table.add(line, values)
    return table or Table(str(path), [])


def _read_jsonl(path: Path, stream: IO[bytes], named_columns: set[str]) -> Table:
    table = Table(str(path), [])
    with _decode(stream) as lines:
        for line, text in enumerate(lines, start=1):
            if not text.strip():
                continue
            try:
                record = json.loads(text)
            except ValueError as error:
                table.reject(line, f"not JSON ({error})", text)
                continue
            if not isinstance(record, dict):
                table.reject(line, "not a JSON object", text)
                continue
            table.columns = table.columns or list(record)
            if set(record) != set(table.columns):
                table.reject(line, f"keys {sorted(record)}, expected {sorted(table.columns)}", text)
            else:
                table.add(line, [record[column] for column in table.columns])
    return table


def _read_parquet(path: Path, stream: IO[bytes], named_columns: set[str]) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        columns = pq.read_table(io.BytesIO(stream.read())).to_pydict()
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: is not a parquet file ({error})") from None
    return table_from_columns(str(path), columns)


def table_from_columns(name: str, columns: dict[str, list[Any]]) -> Table:
    """Return the table of columns that are in memory; lines count rows from 1."""
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    return Table(name, list(columns), rows, list(range(1, len(rows) + 1)))


READERS: dict[str, Callable[[Path, IO[bytes], set[str]], Table]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".txt": _read_tsv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".parquet": _read_parquet,
}
