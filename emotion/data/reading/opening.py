"""Open a file, plain or compressed, or stdin, and parse its rows in the format that its name implies."""

import gzip
import io
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import IO

from emotion.config import DataConfig
from emotion.data.reading.encodings import HEAD_BYTES
from emotion.data.reading.formats import READERS, check_settings
from emotion.data.reading.nested import add_nested_columns
from emotion.data.reading.rows import BadRow, ReadOptions, Row, Rows
from emotion.errors import DataError

COMPRESSIONS = (".gz", ".zst")
ARCHIVE = ".zip"
READING_ERRORS = (OSError, EOFError, zlib.error, zipfile.BadZipFile, UnicodeError)
"""What a missing or damaged file raises: the system, gzip, zlib, an archive, the decoding of text."""
RESOURCE_FORKS = "__MACOSX/"
"""Folder that macOS adds to an archive."""


@contextmanager
def open_rows(path: Path, config: DataConfig | None = None, names: Set[str] = frozenset(), is_lenient: bool = False) -> Iterator[Rows]:
    """Open a file and yield its rows; its name determines the format. The path `-` is stdin, read as csv.

    `names` and `is_lenient` are those of `ReadOptions`. A line of more than `data.max_line_length` characters is a bad row.

    Raises: DataError if the file is missing or damaged, or if the format is unknown. Rows read before the damage are valid.
    """
    options = ReadOptions(config or DataConfig(), names, is_lenient)
    line = 0

    @contextmanager
    def translate_errors() -> Iterator[None]:
        try:
            yield
        except READING_ERRORS as error:
            position = f"{path}:{line + 1}" if line else str(path)
            reason = " ".join(str(getattr(error, "strerror", None) or error).split())
            hint = "; set data.encoding" if isinstance(error, UnicodeError) else ""
            raise DataError(f"{position}: cannot be read ({reason}){hint}") from None

    def track_line(entries: Iterable[Row | BadRow]) -> Iterator[Row | BadRow]:
        nonlocal line
        with translate_errors():
            for entry in entries:
                line = entry.line
                yield entry

    with ExitStack() as opened:
        with translate_errors():  # around the reading only: an error of the caller's block is about another file
            suffix, stream, measure = opened.enter_context(_open_bytes(path))
            check_settings(str(path), suffix, options)
            rows = add_nested_columns(str(path), READERS[suffix](str(path), stream, options), options.config)
        yield replace(rows, entries=track_line(rows.entries), measure=measure)


def find_format(path: Path) -> str:
    """Return the lower-case file extension before any compression extension, or an empty string."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


@contextmanager
def _open_bytes(path: Path) -> Iterator[tuple[str, IO[bytes], Callable[[], float]]]:
    """Yield the format of a file, its decompressed bytes, and a function that returns the fraction of the file that has been read.

    Raises: DataError for a folder, if the format is unknown, or if an archive does not hold exactly one file of a known format.
    """
    if path.is_dir():
        found = next((suffix for file in sorted(path.iterdir()) if (suffix := find_format(file)) in READERS), ".csv")
        raise DataError(f"{path}: is a folder; give its files, such as '{path / f'*{found}'}'")
    suffix = ".csv" if path == Path("-") else find_format(path)
    if suffix not in (*READERS, ARCHIVE) or (suffix == ARCHIVE and path.suffix.lower() != ARCHIVE):
        named = repr(suffix) if suffix else "(no file extension)"
        allowed = f"{', '.join(READERS)}, each also compressed as {' or '.join(COMPRESSIONS)}, or as the only file of a {ARCHIVE}"
        raise DataError(f"{path}: unknown format {named}; allowed are {allowed}")
    if path == Path("-"):
        yield suffix, sys.stdin.buffer, lambda: 0.0
        return
    size = max(path.stat().st_size, 1)
    with path.open("rb", buffering=HEAD_BYTES) as raw:

        def measure() -> float:
            return 1.0 if raw.closed else raw.tell() / size

        if suffix == ARCHIVE:
            with zipfile.ZipFile(raw) as archive:
                member = _find_member(path, archive)
                with _open_member(path, archive, member) as compressed:
                    yield find_format(Path(member.filename)), io.BufferedReader(compressed, HEAD_BYTES), measure  # type: ignore[type-var]
        elif path.suffix.lower() == ".gz":
            with gzip.GzipFile(fileobj=raw) as zipped:
                yield suffix, io.BufferedReader(zipped, HEAD_BYTES), measure
        elif path.suffix.lower() == ".zst":
            import pyarrow as pa

            with pa.CompressedInputStream(raw, "zstd") as compressed:
                yield suffix, io.BufferedReader(compressed, HEAD_BYTES), measure
        else:
            yield suffix, raw, measure


def _find_member(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """Return the only file in an archive.

    Raises: DataError if there are others, if its format is unknown, or if it needs a password.
    """
    files = [info for info in archive.infolist() if not info.is_dir()]
    members = [info for info in files if "/." not in f"/{info.filename}" and not info.filename.startswith(RESOURCE_FORKS)]
    if len(members) != 1:
        names = ", ".join(info.filename for info in members[:5]) or "nothing"
        raise DataError(f"{path}: must hold exactly one file, but holds {len(members):,} ({names}); unpack it, and name the files")
    (member,) = members
    if member.flag_bits & 1:
        raise DataError(f"{path}: is protected by a password; unpack it first")
    if find_format(Path(PurePosixPath(member.filename).name)) not in READERS:
        raise DataError(f"{path}: holds {member.filename}, whose format is unknown; allowed are {', '.join(READERS)}")
    return member


def _open_member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> IO[bytes]:
    """Open a file in an archive.

    Raises: DataError for a compression or an encryption that Python does not have.
    """
    try:
        return archive.open(member)
    except NotImplementedError as error:
        raise DataError(f"{path}: cannot be read ({error}); unpack it first") from None
