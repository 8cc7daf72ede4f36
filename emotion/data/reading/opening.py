"""A file, plain or compressed, or stdin -> its rows, the format told by its name."""

import gzip
import io
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

from emotion.data.reading.formats import READERS
from emotion.data.reading.rows import BadRow, Row, Rows
from emotion.errors import DataError

COMPRESSIONS = (".gz", ".zst")


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
