"""Lines of a text file, and the records of a csv file, which may extend over several lines.

Time is linear in the size of the file, whatever its quotes are, and memory is bounded: a line or record that is longer than
`data.max_line_length` is not read whole.
"""

import csv
import functools
import io
import sys
from collections import deque
from collections.abc import Iterator
from typing import IO

from emotion.data.reading.rows import BadRow, Row
from emotion.errors import DataError

MAX_RECORD_LINES = 10_000
"""Maximum number of lines of a quoted csv row; a quote that is open for longer is unbalanced."""
OPEN_QUOTE = "unexpected end of data"
"""Message of the csv module for lines that end within quotes; it has no error class for this."""


def read_lines(path: str, stream: IO[bytes], max_length: int) -> Iterator[str]:
    """Yield lines with their line ends, without a byte-order mark; bytes that are not UTF-8 become lone surrogates.

    Of a line that has more than `max_length` characters with its line end, the first `max_length + 1` are yielded.

    Raises: DataError for UTF-16, which would otherwise be read as text full of NUL characters.
    """
    if stream.peek(2)[:2] in (b"\xff\xfe", b"\xfe\xff"):  # type: ignore[attr-defined]
        raise DataError(f"{path}: is UTF-16; save it as UTF-8, for example with iconv -f UTF-16 -t UTF-8")
    with io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        cut = ""  # the piece before, if the line went on after it
        for piece in iter(functools.partial(lines.readline, max_length + 1), ""):
            is_rest = cut and (cut[-1] not in "\r\n" or (cut[-1] == "\r" and piece == "\n"))
            if not is_rest:
                yield piece
            cut = piece if len(piece) > max_length else ""


def describe_long_line(path: str, number: int, line: str, max_length: int) -> BadRow:
    """Return the bad row for a line of which `read_lines` yielded the beginning only."""
    return BadRow.describe(path, number, f"line of {_describe_excess(max_length)}", line.rstrip("\r\n"))


def parse_csv(path: str, lines: Iterator[str], separator: str, max_length: int) -> Iterator[Row | BadRow]:
    """Yield the records of an RFC 4180 file; if the quotes of a record are unbalanced, only its first line is a bad row."""
    csv.field_size_limit(sys.maxsize)
    reader = _RecordReader(lines, separator, max_length)
    number = 1
    while (line := reader.pop_line()) is not None:
        num_lines = 1
        if len(line) > max_length:
            yield describe_long_line(path, number, line, max_length)
        else:
            values = _parse_record([line], separator)
            if values == OPEN_QUOTE:
                values, num_lines = reader.complete_record(line)
            if isinstance(values, str):
                reason = f"unbalanced quote in lines {number}-{number + num_lines - 1} ({values})"
                yield BadRow.describe(path, number, reason, line.rstrip("\r\n"))
                num_lines = 1
            else:
                yield Row(path, number, values)
        number += num_lines


class _RecordReader:
    """Reads ahead to the end of a quote.

    Whether a quote that is open before a line is still open after it does not depend on what precedes it, so each line is tested once,
    however many records fail because of it.
    """

    def __init__(self, lines: Iterator[str], separator: str, max_length: int) -> None:
        self._lines, self._separator, self._max_length = lines, separator, max_length
        self._ahead: deque[str] = deque()
        """Lines that were read ahead; a quote that is open before them is open before the last one."""
        self._num_characters = 0
        self._values: list[str] | str = OPEN_QUOTE
        """The last of these lines, parsed within quotes: its cells if it completes the record, otherwise an error message."""

    def pop_line(self) -> str | None:
        """Return the next line; None at the end."""
        if not self._ahead:
            return next(self._lines, None)
        line = self._ahead.popleft()
        self._num_characters -= len(line)
        if not self._ahead:
            self._values = OPEN_QUOTE
        return line

    def complete_record(self, first: str) -> tuple[list[str] | str, int]:
        """Return the cells of the record that begins with the line `first`, or an error message, and its number of lines.

        The lines after the first are consumed only if there is no error.
        """
        error = ""
        while self._values == OPEN_QUOTE and not (error := self._find_excess(first)):
            if (line := next(self._lines, None)) is None:
                error = OPEN_QUOTE
                break
            self._ahead.append(line)
            self._num_characters += len(line)
            if '"' in line:
                self._values = _parse_record(['"' + line], self._separator)
        num_lines = 1 + len(self._ahead)
        if error := error or (self._values if isinstance(self._values, str) else self._find_excess(first)):
            return error, num_lines
        record = [first, *self._ahead]
        self._ahead.clear()
        self._num_characters, self._values = 0, OPEN_QUOTE
        return _parse_record(record, self._separator), num_lines

    def _find_excess(self, first: str) -> str:
        """Return why the record is too long, or an empty string."""
        if len(first) + self._num_characters > self._max_length:
            return _describe_excess(self._max_length)
        return f"more than {MAX_RECORD_LINES:,} lines" if len(self._ahead) >= MAX_RECORD_LINES else ""


def _parse_record(record: list[str], separator: str) -> list[str] | str:
    """Return the cells of a record, or the message of the csv module if it is not valid."""
    try:
        (values,) = csv.reader(record, strict=True, delimiter=separator)
    except csv.Error as error:
        return str(error)
    return values


def _describe_excess(max_length: int) -> str:
    return f"more than {max_length:,} characters, the limit data.max_line_length"
