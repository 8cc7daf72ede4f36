"""Bytes -> rows, one at a time: csv, tsv, jsonl and parquet, plain, gzip or zstd, with the line each row came from.

Nothing is converted: `NA`, `null` and a lone `"` stay what they are. A row that cannot be read becomes a `BadRow`, and reading
goes on with the line after the one it began on, so that a stray quote costs its own row and no other.
"""

import csv
import gzip
import io
import itertools
import json
import sys
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from emotion.errors import DataError

TEXT_WORDS = ("text", "tweet", "sentence", "comment", "comment_text", "content", "message", "review", "body", "utterance")
LABEL_WORDS = ("labels", "label", "emotions", "emotion", "categories", "category", "tags", "classes")
ID_WORDS = ("id", "comment_id", "tweet_id", "idx", "uid", "index")
HEADER_WORDS = {*TEXT_WORDS, *LABEL_WORDS, *ID_WORDS}
"""Lower-case column names that mark a first row as a header."""
COMPRESSIONS = (".gz", ".zst")
SEPARATORS = (",", ";", "\t")
"""What may stand between the cells of a csv file."""
MAX_RECORD_LINES = 10_000
"""Lines of the longest quoted csv row; a quote that is open for longer was never closed."""
HEAD_RECORDS = 1_000
"""JSON objects whose keys together are the columns, where keys may be missing."""
PARQUET_ROWS = 4_096


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


@contextmanager
def open_rows(path: Path, named_columns: Set[str] = frozenset(), is_lenient: bool = False) -> Iterator[Rows]:
    """Give the rows of a file (or of stdin: `-`, as csv), its format told by its name.

    `named_columns` are those a config names; a first row that holds one of them is a header. `is_lenient` is for files to be
    scored: a JSON object may lack keys, and an empty line is a (bad) row, so that every line has its place in the answer.

    Raises: DataError if the file is missing, torn or of another format; rows read before that stand.
    """
    reader = READERS[".csv"] if path == Path("-") else READERS.get(find_format(path))
    if reader is None:
        given = find_format(path) or "without an ending"
        raise DataError(f"{path}: unknown format {given!r}; allowed are {', '.join(READERS)}, each also as {' or '.join(COMPRESSIONS)}")
    line = 0

    def count(entries: Iterable[Row | BadRow]) -> Iterator[Row | BadRow]:
        nonlocal line
        for entry in entries:
            line = entry.line
            yield entry

    try:
        with _open_bytes(path) as (stream, measure):
            rows = reader(str(path), stream, set(named_columns), is_lenient)
            yield replace(rows, entries=count(rows.entries), measure=measure)
    except (OSError, EOFError, zlib.error) as error:
        where = f"{path}:{line + 1}" if line else str(path)
        raise DataError(f"{where}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def find_format(path: Path) -> str:
    """Return the ending that tells the format, lower-case, without that of a compression; empty if there is none."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


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


@contextmanager
def _open_bytes(path: Path) -> Iterator[tuple[IO[bytes], Callable[[], float]]]:
    """Give the decompressed bytes of a file, and what measures the share of it that was read."""
    if path == Path("-"):
        yield sys.stdin.buffer, lambda: 0.0
        return
    size = max(path.stat().st_size, 1)
    with path.open("rb") as raw:

        def measure() -> float:
            return 1.0 if raw.closed else raw.tell() / size

        if path.suffix.lower() == ".gz":
            with gzip.GzipFile(fileobj=raw) as stream:
                yield stream, measure  # type: ignore[misc]
        elif path.suffix.lower() == ".zst":
            import pyarrow as pa

            with pa.CompressedInputStream(raw, "zstd") as stream:
                yield io.BufferedReader(stream), measure
        else:
            yield raw, measure


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
