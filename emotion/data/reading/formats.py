"""The formats that rows are read from: csv, tsv, jsonl and parquet.

Nothing is converted: `NA`, `null` and a lone `"` stay what they are. A row that cannot be read becomes a `BadRow`, and reading
goes on with the line after the one it began on, so that a stray quote costs its own row and no other.
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

from emotion.data.reading.rows import ID_WORDS, LABEL_WORDS, TEXT_WORDS, BadRow, Row, Rows
from emotion.errors import DataError

HEADER_WORDS = {*TEXT_WORDS, *LABEL_WORDS, *ID_WORDS}
"""Lower-case column names that mark a first row as a header."""
SEPARATORS = (",", ";", "\t")
"""What may stand between the cells of a csv file."""
MAX_RECORD_LINES = 10_000
"""Lines of the longest quoted csv row; a quote that is open for longer was never closed."""
HEAD_RECORDS = 1_000
"""JSON objects whose keys together are the columns, where keys may be missing."""
PARQUET_ROWS = 4_096


def _read_lines(path: str, stream: IO[bytes]) -> Iterator[str]:
    """Yield lines with their ends; a byte-order mark is dropped, and bytes that are not UTF-8 come as surrogates.

    Raises: DataError for UTF-16, which would read as text full of NULs.
    """
    if stream.peek(2)[:2] in (b"\xff\xfe", b"\xfe\xff"):  # type: ignore[attr-defined]
        raise DataError(f"{path}: is UTF-16; save it as UTF-8, for example with iconv -f UTF-16 -t UTF-8")
    with io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        yield from lines


def _is_header(first: list[str], named_columns: set[str]) -> bool:
    """Whether the first row names the columns: it holds a name we know, or nothing but short, different words."""
    cells = [cell.strip().lower() for cell in first]
    if named_columns & set(first) or HEADER_WORDS & set(cells):
        return True
    return len(set(cells)) == len(cells) > 1 and all(cell.isidentifier() for cell in cells)


def _with_header(path: str, entries: Iterator[Row | BadRow], named_columns: set[str]) -> Rows:
    """Return the rows below a header, or all rows with numbers for column names if there is none; lengths are held to it."""
    first = next((entry for entry in entries if isinstance(entry, BadRow) or entry.values), None)
    if first is None:
        return Rows([], iter(()))
    if isinstance(first, BadRow):
        raise DataError(f"{path}:{first.line}: the header cannot be read ({first.reason})")
    has_header = _is_header(first.values, named_columns)
    columns = [cell.strip() for cell in first.values] if has_header else [str(position) for position in range(len(first.values))]
    if len(set(columns)) < len(columns):
        raise DataError(f"{path}:{first.line}: two columns have one name among {columns}: rename one")

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
    entries = _parse_csv(path, itertools.chain([first], lines), _guess_separator(first, named_columns))
    return _with_header(path, entries if is_lenient else (e for e in entries if isinstance(e, BadRow) or e.values), named_columns)


def _guess_separator(first: str, named_columns: set[str]) -> str:
    """Return a comma, unless only another separator makes a header of the first line: `it works; really` is one cell."""
    for separator in SEPARATORS:
        cells = first.rstrip("\r\n").split(separator)
        if len(cells) > 1 and _is_header([cell.strip('"') for cell in cells], named_columns):
            return separator
    return ","


def _parse_csv(path: str, lines: Iterator[str], separator: str) -> Iterator[Row | BadRow]:
    """Yield the records of RFC 4180; a record whose quotes do not fit costs its first line only."""
    csv.field_size_limit(sys.maxsize)
    waiting: deque[str] = deque()
    number = 0

    def pull() -> str | None:
        return waiting.popleft() if waiting else next(lines, None)

    def parse(record: list[str]) -> list[str]:
        (values,) = csv.reader(record, strict=True, delimiter=separator)
        return values

    while (line := pull()) is not None:
        number += 1
        record, values = [line], None
        while values is None:
            try:
                values = parse(record)
            except (csv.Error, ValueError) as error:
                if _is_open(error) and _extend(record, pull):
                    continue
                reason = f"unbalanced quote in lines {number}-{number + len(record) - 1} ({error})"
                yield BadRow.describe(path, number, reason, record[0].rstrip("\r\n"))
                waiting.extendleft(reversed(record[1:]))
                break
        else:
            yield Row(path, number, values)
            number += len(record) - 1


def _is_open(error: Exception) -> bool:
    """Whether a record ended within quotes; the csv module says it in words only."""
    return "unexpected end of data" in str(error)


def _extend(record: list[str], pull: Callable[[], str | None]) -> bool:
    """Append lines up to one that may close the quotes, and return whether there is one."""
    while len(record) < MAX_RECORD_LINES and (line := pull()) is not None:
        record.append(line)
        if line.count('"') % 2:
            return True
    return False


def _read_tsv(path: str, stream: IO[bytes], named_columns: set[str], is_lenient: bool) -> Rows:
    """Read tab-separated lines without quoting: a `"` is a plain character."""
    cells = ((line, text.rstrip("\r\n").split("\t")) for line, text in enumerate(_read_lines(path, stream), start=1))
    entries = (Row(path, line, values if values != [""] else []) for line, values in cells)
    return _with_header(path, (entry for entry in entries if entry.values or is_lenient), named_columns)


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
    """Yield the object of each line, empty if it is none, and the line as it is."""
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
        raise DataError(f"{path}: is not a parquet file ({error})") from None

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
