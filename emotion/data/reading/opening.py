"""Open a file, plain or compressed, or stdin, and parse its rows in the format that its name implies."""

import gzip
import io
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

from emotion.config import DataConfig
from emotion.data.reading.formats import READERS
from emotion.data.reading.rows import BadRow, Row, Rows
from emotion.errors import DataError

COMPRESSIONS = (".gz", ".zst")


@contextmanager
def open_rows(
    path: Path, named_columns: Set[str] = frozenset(), is_lenient: bool = False, max_length: int = DataConfig.max_line_length
) -> Iterator[Rows]:
    """Open a file and yield its rows; its name determines the format. The path `-` is stdin, read as csv.

    `named_columns` are the columns that the config names: a first row that contains one of them is a header. `is_lenient` is for files to
    be scored: JSON objects may lack keys, and an empty line is a bad row instead of being ignored, so that the output has one row per line.
    A line of more than `max_length` characters is a bad row.

    Raises: DataError if the file is missing or damaged, or if the format is unknown. Rows read before the damage are valid.
    """
    reader = READERS[".csv"] if path == Path("-") else READERS.get(find_format(path))
    if reader is None:
        suffix = repr(find_format(path)) if find_format(path) else "(no file extension)"
        allowed = f"{', '.join(READERS)}, each also compressed as {' or '.join(COMPRESSIONS)}"
        raise DataError(f"{path}: unknown format {suffix}; allowed are {allowed}")
    line = 0

    @contextmanager
    def translate_errors() -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError, zlib.error) as error:
            position = f"{path}:{line + 1}" if line else str(path)
            raise DataError(f"{position}: cannot be read ({' '.join(str(getattr(error, 'strerror', None) or error).split())})") from None

    def track_line(entries: Iterable[Row | BadRow]) -> Iterator[Row | BadRow]:
        nonlocal line
        with translate_errors():
            for entry in entries:
                line = entry.line
                yield entry

    with ExitStack() as opened:
        with translate_errors():  # around the reading only: an error of the caller's block is about another file
            stream, measure = opened.enter_context(_open_bytes(path))
            rows = reader(str(path), stream, set(named_columns), is_lenient, max_length)
        yield replace(rows, entries=track_line(rows.entries), measure=measure)


def find_format(path: Path) -> str:
    """Return the lower-case file extension before any compression extension, or an empty string."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


@contextmanager
def _open_bytes(path: Path) -> Iterator[tuple[IO[bytes], Callable[[], float]]]:
    """Yield the decompressed bytes of a file, and a function that returns the fraction of the file that has been read."""
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
