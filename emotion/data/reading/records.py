"""Lines of a text file, and the records of a csv file, which may extend over several lines.

Time is linear in the size of the file, whatever its quotes are, and memory is bounded: a line or record that is longer than
`data.max_line_length` is not read whole.
"""

import csv
import functools
import io
import re
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from typing import IO

from emotion.data.reading.encodings import UTF_8
from emotion.data.reading.rows import BadRow, Row

MAX_RECORD_LINES = 10_000
"""Maximum number of lines of a quoted csv row; a quote that is open for longer is unbalanced."""
OPEN_QUOTE = "unexpected end of data"
"""Message of the csv module for lines that end within quotes; it has no error class for this."""


def read_lines(stream: IO[bytes], max_length: int, encoding: str = UTF_8, newline: str = "") -> Iterator[str]:
    r"""Yield lines with their line ends, without a byte-order mark; bytes that cannot be decoded become lone surrogates.

    `newline` is that of `open`: "" ends a line at LF, CR LF or CR, and LF at LF only. Of a line that has more than `max_length` characters
    with its line end, the first `max_length + 1` are yielded.
    """
    ends = newline or "\r\n"
    with io.TextIOWrapper(stream, encoding=encoding, errors="surrogateescape", newline=newline) as lines:
        cut = ""  # the piece before, if the line went on after it
        for piece in iter(functools.partial(lines.readline, max_length + 1), ""):
            is_rest = cut and (cut[-1] not in ends or (cut[-1] == "\r" and piece == "\n"))
            if not is_rest:
                yield piece
            cut = piece if len(piece) > max_length else ""


def unescape_quotes(lines: Iterable[str], escape: str) -> Iterator[str]:
    r"""Yield lines in which quotes are doubled, as RFC 4180 has it, instead of escaped: `"a \"b\" c"` becomes `"a ""b"" c"`.

    As Spark writes it, an escape character before an escaped or closing quote is doubled; elsewhere it is an ordinary character.
    """
    escaped = re.compile(f'({re.escape(escape)}+)"')
    for line in lines:
        yield escaped.sub(lambda match: match[1][: len(match[1]) // 2] + '"' * (1 + len(match[1]) % 2), line)


def describe_long_line(path: str, number: int, line: str, max_length: int) -> BadRow:
    """Return the bad row for a line of which `read_lines` yielded the beginning only."""
    return BadRow.describe(path, number, f"line of {_describe_excess(max_length)}", line.rstrip("\r\n"))


def parse_csv(path: str, lines: Iterator[str], separator: str, max_length: int, first_line: int = 1) -> Iterator[Row | BadRow]:
    """Yield the records of an RFC 4180 file; if the quotes of a record are unbalanced, only its first line is a bad row.

    `first_line` is the number of the first of the lines.
    """
    csv.field_size_limit(sys.maxsize)
    reader = _RecordReader(lines, separator, max_length)
    number = first_line
    while (line := reader.pop_line()) is not None:
        num_lines = 1
        if len(line) > max_length:
            yield describe_long_line(path, number, line, max_length)
        else:
            values = _parse_record([line], separator)
            if values == OPEN_QUOTE:
                values, num_lines = reader.complete_record(line)
            if isinstance(values, str):
                hint = '; if its quotes are written \\", set data.escape=\\' if '\\"' in line else ""
                reason = f"unbalanced quote in lines {number}-{number + num_lines - 1} ({values}){hint}"
                yield BadRow.describe(path, number, reason, line.rstrip("\r\n"))
                num_lines = 1
            else:
                yield Row(path, number, values)
        number += num_lines


def has_wrong_quote(line: str, separator: str) -> bool:
    """Return whether text follows a quote that ends a cell, which is so whatever the next lines are."""
    values = _parse_record([line], separator)
    return isinstance(values, str) and values != OPEN_QUOTE


def parse_plain(path: str, lines: Iterable[str], separator: str, max_length: int, first_line: int = 1) -> Iterator[Row | BadRow]:
    """Yield a row for each line, in which a quote is an ordinary character; a row has no cells if the line is empty."""
    for number, line in enumerate(lines, start=first_line):
        if len(line) > max_length:
            yield describe_long_line(path, number, line, max_length)
        else:
            values = line.rstrip("\r\n")
            yield Row(path, number, values.split(separator) if values else [])


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
