"""Parsers of the supported formats: csv, tsv and jsonl here, parquet in `parquet`.

Values are not converted: `NA`, `null` and a single `"` stay as they are. A row that cannot be parsed becomes a `BadRow`, and parsing
continues on the line after its first line, so that an unbalanced quote does not affect other rows.
"""

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import IO, Any

from emotion.data.reading.parquet import read_parquet
from emotion.data.reading.records import describe_long_line, parse_csv, read_lines
from emotion.data.reading.rows import ID_COLUMN_NAMES, LABEL_COLUMN_NAMES, TEXT_COLUMN_NAMES, BadRow, Row, Rows, check_unique
from emotion.errors import DataError

HEADER_NAMES = {*TEXT_COLUMN_NAMES, *LABEL_COLUMN_NAMES, *ID_COLUMN_NAMES}
"""Lower-case column names; a first row that contains one of them is a header."""
SEPARATORS = (",", ";", "\t")
"""Separators between the cells of a csv file, in order of preference."""
HEAD_RECORDS = 1_000
"""Number of JSON objects whose combined keys are the columns, if objects may lack keys."""
MAX_JSON_DEPTH = 100
"""Maximum number of objects and lists around a value of a JSON object."""


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
    num_blank = 0
    while (first := next(entries, None)) is not None and isinstance(first, Row) and not first.values:
        num_blank += 1
    if first is None:
        return Rows([], iter(()))
    if isinstance(first, BadRow):
        raise DataError(f"{path}:{first.line}: the header cannot be read ({first.reason})")
    has_header = _is_header(first.values, named_columns)
    columns = [cell.strip() for cell in first.values] if has_header else [str(position) for position in range(len(first.values))]
    check_unique(f"{path}:{first.line}", columns)

    blank = (Row(path, line, []) for line in range(1, num_blank + 1))

    def check() -> Iterator[Row | BadRow]:
        for entry in entries if has_header else itertools.chain(blank, [first], entries):
            if isinstance(entry, Row) and len(entry.values) != len(columns):
                reason = f"{len(entry.values)} columns, expected {len(columns)}" if entry.values else "empty line"
                yield BadRow.describe(path, entry.line, reason, entry.values)
            else:
                yield entry

    return Rows(columns, check(), has_header)


def _read_csv(path: str, stream: IO[bytes], named_columns: set[str], is_lenient: bool, max_length: int) -> Rows:
    lines = read_lines(path, stream, max_length)
    num_blank = 0
    while (first := next(lines, "")) and not first.strip("\r\n"):
        num_blank += 1
    lines = itertools.chain(itertools.repeat("\n", num_blank), [first] if first else [], lines)
    entries = parse_csv(path, lines, _detect_separator(first, named_columns), max_length)
    return _split_header(path, entries if is_lenient else (e for e in entries if isinstance(e, BadRow) or e.values), named_columns)


def _detect_separator(first: str, named_columns: set[str]) -> str:
    """Return the separator that splits the first line into a header, or a comma: `it works; really` is not a header."""
    for separator in SEPARATORS:
        cells = first.rstrip("\r\n").split(separator)
        if len(cells) > 1 and _is_header([cell.strip('"') for cell in cells], named_columns):
            return separator
    return ","


def _read_tsv(path: str, stream: IO[bytes], named_columns: set[str], is_lenient: bool, max_length: int) -> Rows:
    """Parse tab-separated lines without quoting: a `"` is an ordinary character."""

    def parse() -> Iterator[Row | BadRow]:
        for number, line in enumerate(read_lines(path, stream, max_length), start=1):
            if len(line) > max_length:
                yield describe_long_line(path, number, line, max_length)
            elif values := line.rstrip("\r\n"):
                yield Row(path, number, values.split("\t"))
            elif is_lenient:
                yield Row(path, number, [])

    return _split_header(path, parse(), named_columns)


def _read_jsonl(path: str, stream: IO[bytes], named_columns: set[str], is_lenient: bool, max_length: int) -> Rows:
    parsed = _parse_json(path, read_lines(path, stream, max_length), is_lenient, max_length)
    head = list(itertools.islice(parsed, HEAD_RECORDS if is_lenient else 1))
    if all(isinstance(entry, BadRow) for _, entry in head):
        for record, entry in parsed:
            head.append((record, entry))
            if isinstance(entry, Row):
                break
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


def _parse_json(path: str, lines: Iterator[str], is_lenient: bool, max_length: int) -> Iterator[tuple[dict[str, Any], Row | BadRow]]:
    """Yield for each line its JSON object, or an empty one if it is not an object, and its `Row` of the raw text or `BadRow`."""
    decoder = json.JSONDecoder(object_pairs_hook=_build_object, parse_float=_parse_float)
    for line, text in enumerate(lines, start=1):
        if len(text) > max_length:
            yield {}, describe_long_line(path, line, text, max_length)
            continue
        if not text.strip():
            if is_lenient:
                yield {}, BadRow.describe(path, line, "empty line", "")
            continue
        try:
            record = decoder.decode(text)
            _check_depth(record, text)
        except DataError as error:
            yield {}, BadRow.describe(path, line, str(error), text)
            continue
        except (ValueError, RecursionError) as error:
            yield {}, BadRow.describe(path, line, f"not JSON ({error})", text)
            continue
        if isinstance(record, dict):
            yield record, Row(path, line, [text.rstrip("\r\n")])
        else:
            yield {}, BadRow.describe(path, line, "not a JSON object", text)


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object.

    Raises: DataError for a key that occurs twice, because a dict would keep only one of its values.
    """
    values = dict(pairs)
    if len(values) < len(pairs):
        (key, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise DataError(f"key {key[:50]!r} occurs twice")
    return values


def _check_depth(record: Any, text: str) -> None:
    """Raise DataError for an object that is nested so deeply that writing it may exceed the interpreter's stack."""
    if text.count("[") + text.count("{") <= MAX_JSON_DEPTH:
        return
    level = [record]
    for _ in range(MAX_JSON_DEPTH):
        level = [
            child for value in level if isinstance(value, (dict, list)) for child in (value.values() if isinstance(value, dict) else value)
        ]
    if any(isinstance(value, (dict, list)) for value in level):
        raise DataError(f"nested deeper than {MAX_JSON_DEPTH} levels")


def _parse_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise DataError(f"{text[:50]} is beyond the range of a 64-bit float")
    return value


READERS: dict[str, Callable[[str, IO[bytes], set[str], bool, int], Rows]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".txt": _read_tsv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".parquet": read_parquet,
}
"""Parser of each file extension: (path, stream, named_columns, is_lenient, max_length of a line) -> rows."""
