"""Parsers of the supported formats: csv, tsv, jsonl and parquet.

Values are not converted: `NA`, `null` and a single `"` stay as they are. A row that cannot be parsed becomes a `BadRow`, and parsing
continues on the line after its first line, so that an unbalanced quote does not affect other rows.
"""

import csv
import io
import itertools
import json
import sys
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from emotion.data.reading.rows import ID_COLUMN_NAMES, LABEL_COLUMN_NAMES, TEXT_COLUMN_NAMES, BadRow, Row, Rows
from emotion.errors import DataError

HEADER_NAMES = {*TEXT_COLUMN_NAMES, *LABEL_COLUMN_NAMES, *ID_COLUMN_NAMES}
"""Lower-case column names; a first row that contains one of them is a header."""
SEPARATORS = (",", ";", "\t")
"""Separators between the cells of a csv file, in order of preference."""
MAX_RECORD_LINES = 10_000
"""Maximum number of lines of a quoted csv row; a quote that is open for longer is unbalanced."""
HEAD_RECORDS = 1_000
"""Number of JSON objects whose combined keys are the columns, if objects may lack keys."""
PARQUET_ROWS = 4_096
"""Number of rows that are read from a parquet file at a time."""


def _read_lines(path: str, stream: IO[bytes]) -> Iterator[str]:
    """Yield lines with their line ends, without a byte-order mark; bytes that are not UTF-8 become lone surrogates.

    Raises: DataError for UTF-16, which would otherwise be read as text full of NUL characters.
    """
    if stream.peek(2)[:2] in (b"\xff\xfe", b"\xfe\xff"):  # type: ignore[attr-defined]
        raise DataError(f"{path}: is UTF-16; save it as UTF-8, for example with iconv -f UTF-16 -t UTF-8")
    with io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        yield from lines


def _is_header(first: list[str], named_columns: set[str]) -> bool:
    """Return whether the first row is a header: it has a known column name, or at least two cells, all different identifiers."""
    cells = [cell.strip().lower() for cell in first]
    if named_columns & set(first) or HEADER_NAMES & set(cells):
        return True
    return len(set(cells)) == len(cells) > 1 and all(cell.isidentifier() for cell in cells)


def _split_header(path: str, entries: Iterator[Row | BadRow], named_columns: set[str]) -> Rows:
    """Return the columns and the rows below the header; a row with another number of cells is a bad row.

    Without a header, the columns are named by their positions from 0.
    """
    first = next((entry for entry in entries if isinstance(entry, BadRow) or entry.values), None)
    if first is None:
        return Rows([], iter(()))
    if isinstance(first, BadRow):
        raise DataError(f"{path}:{first.line}: the header cannot be read ({first.reason})")
    has_header = _is_header(first.values, named_columns)
    columns = [cell.strip() for cell in first.values] if has_header else [str(position) for position in range(len(first.values))]
    if len(set(columns)) < len(columns):
        raise DataError(f"{path}:{first.line}: the column names {columns} are not unique; rename the duplicates")

    def check() -> Iterator[Row | BadRow]:
        for entry in entries if has_header else itertools.chain([first], entries):
            if isinstance(entry, Row) and len(entry.values) != len(columns):
                reason = f"{len(entry.values)} columns, expected {len(columns)}" if entry.values else "empty line"
                yield BadRow.describe(path, entry.line, reason, entry.values)
            else:
                yield entry

    return Rows(columns, check(), has_header)


def _read_csv(path: str, stream: IO[bytes], named_columns: set[str], is_lenient: bool) -> Rows:
    lines = _read_lines(path, stream)
    first = next(lines, None)
    if first is None:
        return Rows([], iter(()))
    entries = _parse_csv(path, itertools.chain([first], lines), _detect_separator(first, named_columns))
    return _split_header(path, entries if is_lenient else (e for e in entries if isinstance(e, BadRow) or e.values), named_columns)


def _detect_separator(first: str, named_columns: set[str]) -> str:
    """Return the separator that splits the first line into a header, or a comma: `it works; really` is not a header."""
    for separator in SEPARATORS:
        cells = first.rstrip("\r\n").split(separator)
        if len(cells) > 1 and _is_header([cell.strip('"') for cell in cells], named_columns):
            return separator
    return ","


def _parse_csv(path: str, lines: Iterator[str], separator: str) -> Iterator[Row | BadRow]:
    """Yield the records of an RFC 4180 file; if the quotes of a record are unbalanced, only its first line is a bad row."""
    csv.field_size_limit(sys.maxsize)
    pushed_back: deque[str] = deque()
    number = 0

    def read_line() -> str | None:
        return pushed_back.popleft() if pushed_back else next(lines, None)

    while (line := read_line()) is not None:
        number += 1
        record = [line]
        values = _parse_record(record, read_line, separator)
        if isinstance(values, Exception):
            reason = f"unbalanced quote in lines {number}-{number + len(record) - 1} ({values})"
            yield BadRow.describe(path, number, reason, line.rstrip("\r\n"))
            pushed_back.extendleft(reversed(record[1:]))
        else:
            yield Row(path, number, values)
            number += len(record) - 1


def _parse_record(record: list[str], read_line: Callable[[], str | None], separator: str) -> list[str] | Exception:
    """Return the cells of a record, or the error of the csv module; lines are appended to `record` while a quote is open."""
    while True:
        try:
            (values,) = csv.reader(record, strict=True, delimiter=separator)
            return values
        except (csv.Error, ValueError) as error:
            has_open_quote = "unexpected end of data" in str(error)  # the csv module has no error class for this
            if not (has_open_quote and _extend_record(record, read_line)):
                return error


def _extend_record(record: list[str], read_line: Callable[[], str | None]) -> bool:
    """Append lines up to the next one that may close the quote, and return whether there is one."""
    while len(record) < MAX_RECORD_LINES and (line := read_line()) is not None:
        record.append(line)
        if line.count('"') % 2:
            return True
    return False


def _read_tsv(path: str, stream: IO[bytes], named_columns: set[str], is_lenient: bool) -> Rows:
    """Parse tab-separated lines without quoting: a `"` is an ordinary character."""
    cells = ((line, text.rstrip("\r\n").split("\t")) for line, text in enumerate(_read_lines(path, stream), start=1))
    entries = (Row(path, line, values if values != [""] else []) for line, values in cells)
    return _split_header(path, (entry for entry in entries if entry.values or is_lenient), named_columns)


def _read_jsonl(path: str, stream: IO[bytes], named_columns: set[str], is_lenient: bool) -> Rows:
    parsed = _parse_json(path, _read_lines(path, stream), is_lenient)
    head = list(itertools.islice(parsed, HEAD_RECORDS if is_lenient else 1))
    while head and all(isinstance(entry, BadRow) for _, entry in head):
        more = list(itertools.islice(parsed, 1))
        if not more:
            break
        head += more
    columns = list(dict.fromkeys(key for record, _ in head for key in record))

    def check() -> Iterator[Row | BadRow]:
        for record, entry in itertools.chain(head, parsed):
            if isinstance(entry, BadRow):
                yield entry
            elif not set(record) <= set(columns) or (len(record) < len(columns) and not is_lenient):
                yield BadRow.describe(path, entry.line, f"keys {sorted(record)}, expected {sorted(columns)}", entry.values)
            else:
                yield Row(path, entry.line, [record.get(column) for column in columns])

    return Rows(columns, check())


def _parse_json(path: str, lines: Iterator[str], is_lenient: bool) -> Iterator[tuple[dict[str, Any], Row | BadRow]]:
    """Yield for each line its JSON object, or an empty one if it is not an object, and its `Row` of the raw text or `BadRow`."""
    for line, text in enumerate(lines, start=1):
        if not text.strip():
            if is_lenient:
                yield {}, BadRow.describe(path, line, "empty line", "")
            continue
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            yield {}, BadRow.describe(path, line, f"not JSON ({error})", text)
            continue
        if isinstance(record, dict):
            yield record, Row(path, line, [text.rstrip("\r\n")])
        else:
            yield {}, BadRow.describe(path, line, "not a JSON object", text)


def _read_parquet(path: str, stream: IO[bytes], named_columns: set[str], is_lenient: bool) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(stream if stream.seekable() and Path(path).suffix != ".gz" else io.BytesIO(stream.read()))
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: is not a valid parquet file ({error})") from None

    def entries() -> Iterator[Row | BadRow]:
        line = 0
        for batch in file.iter_batches(batch_size=PARQUET_ROWS):
            for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                line += 1
                yield Row(path, line, list(values))

    return Rows(file.schema_arrow.names, entries(), schema=file.schema_arrow)


READERS: dict[str, Callable[[str, IO[bytes], set[str], bool], Rows]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".txt": _read_tsv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".parquet": _read_parquet,
}
"""Parser of each file extension: (path, stream, named_columns, is_lenient) -> rows."""
