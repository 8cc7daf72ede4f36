"""Parsers of the supported formats: csv and tsv here, the others in `json_rows`, `excel` and `parquet`.

Values are not converted: `NA`, `null` and a single `"` stay as they are. A row that cannot be parsed becomes a `BadRow`, and parsing
continues on the line after its first line, so that an unbalanced quote does not affect other rows.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import IO, Any

from emotion.data.reading.dialect import (
    CSV_SEPARATORS,
    EXCEL_SEPARATOR,
    TSV_SEPARATORS,
    find_escape,
    find_header,
    find_quoting,
    find_separator,
    take_head,
)
from emotion.data.reading.encodings import find_encoding, peek_head
from emotion.data.reading.excel import read_excel
from emotion.data.reading.json_rows import read_json
from emotion.data.reading.parquet import read_parquet
from emotion.data.reading.records import parse_csv, parse_plain, read_lines, unescape_quotes
from emotion.data.reading.rows import BadRow, ReadOptions, Row, Rows, check_unique
from emotion.errors import DataError


def split_header(path: str, entries: Iterator[Row | BadRow], options: ReadOptions) -> Rows:
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
    head = take_head(entries, lambda entry: sum(len(str(value)) for value in entry.values) if isinstance(entry, Row) else 500)
    rows = [entry.values for entry in head if isinstance(entry, Row)]
    has_header, notes = find_header(first.values, rows, options.config.has_header, options.header_names)
    columns = _name_columns(first.values) if has_header else [str(position) for position in range(len(first.values))]
    check_unique(f"{path}:{first.line}", columns)
    below = itertools.chain(head, entries)
    if not has_header:
        blank = (Row(path, line, []) for line in range(first.line - num_blank, first.line))
        below = itertools.chain(blank, [first], below)

    def check() -> Iterator[Row | BadRow]:
        for entry in below:
            if isinstance(entry, Row) and len(entry.values) != len(columns):
                reason = f"{len(entry.values)} columns, expected {len(columns)}" if entry.values else "empty line"
                yield BadRow.describe(path, entry.line, reason, entry.values)
            else:
                yield entry

    return Rows(columns, check(), has_header, notes=notes)


def _name_columns(cells: list[Any]) -> list[str]:
    """Return the names in a header; of several columns without a name, each is named by its position from 1."""
    names = ["" if cell is None else str(cell).strip() for cell in cells]
    if names.count("") < 2:
        return names
    return [name or f"column {position}" for position, name in enumerate(names, start=1)]


def _read_csv(path: str, stream: IO[bytes], options: ReadOptions) -> Rows:
    config, max_length = options.config, options.config.max_line_length
    encoding, notes = find_encoding(path, peek_head(stream), config.encoding)
    lines = read_lines(stream, max_length, encoding)
    num_blank, first_line, setting = 0, 1, config.separator
    while (first := next(lines, "")) and not first.strip("\r\n"):
        num_blank += 1
    if not num_blank and (match := EXCEL_SEPARATOR.fullmatch(first)):
        first_line, setting, first = 2, setting or match[1], next(lines, "")
        notes.append(f"the first line, {match[0].strip()}, is for Excel and no row")
    lines = itertools.chain([first] if first else [], lines)
    head = take_head(lines, len)

    def parse(some_lines: Iterable[str], separator: str) -> list[list[str]]:
        return [entry.values if isinstance(entry, Row) else [] for entry in parse_csv(path, iter(some_lines), separator, max_length)]

    separator, separator_notes = find_separator(head, setting, options.header_names, CSV_SEPARATORS, parse)
    escape, escape_notes = find_escape(config.escape, head, separator, parse)
    is_quoted, quoting_notes = (True, []) if escape else find_quoting(head, config.quoting, separator, parse)
    lines = itertools.chain(itertools.repeat("\n", num_blank), head, lines)
    if is_quoted:
        entries = parse_csv(path, unescape_quotes(lines, escape) if escape else lines, separator, max_length, first_line)
    else:
        entries = parse_plain(path, lines, separator, max_length, first_line)
    rows = split_header(path, entries if options.is_lenient else (e for e in entries if isinstance(e, BadRow) or e.values), options)
    rows.notes[:0] = [*notes, *separator_notes, *escape_notes, *quoting_notes]
    return rows


def _read_tsv(path: str, stream: IO[bytes], options: ReadOptions) -> Rows:
    """Parse lines of tab-separated cells without quoting: a `"` is an ordinary character, and so is a CR in a file that has LF."""
    config, max_length = options.config, options.config.max_line_length
    head_bytes = peek_head(stream)
    encoding, notes = find_encoding(path, head_bytes, config.encoding)
    lines = read_lines(stream, max_length, encoding, "\n" if b"\n" in head_bytes else "")
    head = take_head(lines, len)

    def split(some_lines: Iterable[str], separator: str) -> list[list[str]]:
        return [line.rstrip("\r\n").split(separator) for line in some_lines if line.strip("\r\n")]

    filled = [line for line in head if line.strip("\r\n")]
    separator, separator_notes = find_separator(filled, config.separator, options.header_names, TSV_SEPARATORS, split)

    entries = parse_plain(path, itertools.chain(head, lines), separator, max_length)
    rows = split_header(path, entries if options.is_lenient else (e for e in entries if isinstance(e, BadRow) or e.values), options)
    rows.notes[:0] = [*notes, *separator_notes]
    return rows


def _read_excel(path: str, stream: IO[bytes], options: ReadOptions) -> Rows:
    entries, notes = read_excel(path, stream, options)
    rows = split_header(path, entries, options)
    rows.notes[:0] = notes
    return rows


Reader = Callable[[str, IO[bytes], ReadOptions], Rows]
READERS: dict[str, Reader] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".txt": _read_tsv,
    ".json": read_json,
    ".jsonl": partial(read_json, is_lines=True),
    ".ndjson": partial(read_json, is_lines=True),
    ".parquet": read_parquet,
    ".xlsx": _read_excel,
    ".xls": _read_excel,
}
"""Parser of each file extension."""
SETTINGS = {
    "encoding": (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson"),
    "separator": (".csv", ".tsv", ".txt"),
    "escape": (".csv",),
    "quoting": (".csv",),
    "has_header": (".csv", ".tsv", ".txt", ".xlsx", ".xls"),
    "sheet": (".xlsx", ".xls"),
}
"""The extensions for which a setting has an effect; for the other settings these are all."""


def check_settings(path: str, suffix: str, options: ReadOptions) -> None:
    """Raise DataError for a setting that has no effect on a file of this extension."""
    for name, suffixes in SETTINGS.items():
        if getattr(options.config, name) is not None and suffix not in suffixes:
            raise DataError(f"{path}: data.{name} has no effect on it, only on {', '.join(suffixes)}; leave it out")
