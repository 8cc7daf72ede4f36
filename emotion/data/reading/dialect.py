"""Decide how a table of text is divided into cells, and whether its first row is a header.

The settings decide. What they leave out is detected in the first lines, and noted for the user if it is not the default.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from typing import Any, TypeVar

from emotion.data.reading.records import has_wrong_quote, unescape_quotes
from emotion.data.reading.rows import ID_COLUMN_NAMES, LABEL_COLUMN_NAMES, TEXT_COLUMN_NAMES

HEADER_NAMES = {*TEXT_COLUMN_NAMES, *LABEL_COLUMN_NAMES, *ID_COLUMN_NAMES}
"""Lower-case column names; a first row that contains one of them is a header."""
CSV_SEPARATORS = (",", ";", "\t", "|")
"""Separators of csv files, in order of preference; the first is the default."""
TSV_SEPARATORS = ("\t", ";", "|")
"""Those of tsv and txt files. Without a comma: lines of text hold commas."""
SEPARATOR_NAMES = {"tab": "\t", "\\t": "\t"}
"""Values of `data.separator` that stand for a character that is hard to type."""
EXCEL_SEPARATOR = re.compile(r'"?sep=(.)"?[\r\n]*', re.IGNORECASE)
"""A first line that tells Excel the separator."""
HEAD_ROWS, HEAD_CHARACTERS = 200, 2**16
"""The lines and rows in which separator, escape and header are detected."""
MIN_ROWS = 5
"""Fewer rows show neither a separator nor a header."""
MIN_CONSISTENT = 0.95
"""Fraction of rows with the same number of cells, at least 2, that shows a separator."""

T = TypeVar("T")
Parser = Callable[[Iterable[str], str], list[list[str]]]
"""Returns the cells of lines at a separator; none for a line that cannot be parsed."""


def take_head(items: Iterator[T], measure: Callable[[T], int]) -> list[T]:
    """Consume and return the first items, up to `HEAD_ROWS` and about `HEAD_CHARACTERS` by `measure`."""
    head: list[T] = []
    size = 0
    while len(head) < HEAD_ROWS and size < HEAD_CHARACTERS and (item := next(items, None)) is not None:
        head.append(item)
        size += measure(item)
    return head


def find_separator(
    head: list[str], setting: str | None, names: Set[str], separators: Sequence[str], parse: Parser
) -> tuple[str, list[str]]:
    """Return the separator between cells, and a note if it was detected and is not the first of `separators`.

    `setting` is `data.separator`, and `names` are column names that make a first row a header. It is found by the first line, if that is a
    header then: `it works; really` is not one. Otherwise by lines that all have the same number of cells.
    """
    if setting is not None:
        return SEPARATOR_NAMES.get(setting, setting), []
    rows = {separator: [row for row in parse(head, separator) if row] for separator in separators}
    firsts = {separator: [cell.strip().strip('"') for cell in head[0].split(separator)] if head else [] for separator in separators}
    found = [separator for separator in separators if len(firsts[separator]) > 1 and is_known_header(firsts[separator], names)]
    if "," in separators:  # otherwise the lines may be texts
        found += [s for s in separators if _is_list_of_names(firsts[s]) and _has_same_length(rows[s], len(firsts[s]), 0.5)]
    regular = [s for s in separators if len(rows[s]) >= MIN_ROWS and _has_same_length(rows[s], _find_usual_length(rows[s]), MIN_CONSISTENT)]
    found += sorted(regular, key=lambda separator: not _has_recurring_values(rows[separator]))  # each text may hold one comma
    separator = found[0] if found else separators[0]
    is_default = separator == separators[0]
    return separator, [] if is_default else [f"cells are separated by {separator!r}, as detected; data.separator sets another"]


def find_escape(setting: str | None, head: list[str], separator: str, parse: Parser) -> tuple[str | None, list[str]]:
    r"""Return the character that escapes quotes in csv, or None, and a note if it was detected.

    `setting` is `data.escape`. It is `\` if more rows have the same number of cells then.
    """
    if setting is not None:
        return (None if setting == "none" else setting), []
    if any('\\"' in line for line in head):
        counts = []
        for escape in (None, "\\"):
            rows = parse(unescape_quotes(head, escape) if escape else head, separator)
            counts.append(sum(len(row) == _find_usual_length(rows) for row in rows) / max(len(rows), 1))
        if counts[1] > counts[0]:
            return "\\", [r"quotes are escaped as \", as detected; data.escape=none treats the \ as a character"]
    return None, []


def find_quoting(lines: list[str], setting: bool | None, separator: str, parse: Parser) -> tuple[bool, list[str]]:
    """Return whether a quote at the beginning of a cell encloses it, and a note if lines show that it does not.

    They do if all lines have the same number of cells when quotes are ordinary characters, and if quotes that cannot enclose a cell, as in
    `"well" done,joy`, are more than others. `parse` returns the cells of quoted lines.
    """
    if setting is not None:
        return setting, []
    plain = [line.rstrip("\r\n").split(separator) for line in lines]
    if len(plain) < MIN_ROWS or not _has_same_length(plain, len(plain[0]), 1):
        return True, []
    quoted = [(line, cells) for line, cells in zip(lines, plain, strict=True) if '"' in line]
    num_wrong = sum(has_wrong_quote(line, separator) for line, _ in quoted)
    num_right = sum(parse([line], separator) != [cells] for line, cells in quoted) - num_wrong
    if num_wrong <= num_right or not num_wrong:
        return True, []
    return False, ["quotes are ordinary characters, as detected; data.quoting=true makes them enclose cells"]


def find_header(first: list[Any], rows: list[list[Any]], setting: bool | None, names: Set[str]) -> tuple[bool, list[str]]:
    """Return whether the first row is a header, and a note if that is not certain.

    It is one if it has a known name. Otherwise the rows below show it: a header has no numbers, and none of its cells recurs below as the
    labels of a row do. With too few rows, it is one if its cells are identifiers.
    """
    if setting is not None:
        return setting, []
    cells = ["" if cell is None else str(cell).strip() for cell in first]
    if is_known_header(cells, names):
        return True, []
    is_header = len(set(cells)) == len(cells) > 1 and all(cells[1:]) and not any(map(_is_number, cells))
    if is_header:
        shown = _compare_with_rows(cells, [row for row in rows if len(row) == len(cells)])
        is_header = _is_list_of_names(cells) if shown is None else shown
    if is_header:
        return True, [f"the first row, {cells}, is taken for the names of the columns; data.has_header=false makes it a row"]
    columns = "the column is named 0" if len(cells) == 1 else "columns are named by their positions from 0"
    return False, [f"the first row is not a header, so {columns}; data.has_header=true makes it one"]


def is_known_header(cells: list[str], names: Set[str]) -> bool:
    """Return whether a cell is one of `names`, or a known column name in any case.

    A number in `names` is the position of a column of a file without a header, unless the first row counts the columns, as pandas does.
    """
    is_counting = cells == [str(position) for position in range(len(cells))]
    named = {name for name in names if is_counting or not name.isdecimal()}
    return bool(named & set(cells)) or bool(HEADER_NAMES & {cell.lower() for cell in cells})


def _is_list_of_names(cells: list[str]) -> bool:
    return len(set(cells)) == len(cells) > 1 and all(cell.isidentifier() for cell in cells)


def _compare_with_rows(cells: list[str], rows: list[list[Any]]) -> bool | None:
    """Return whether the cells are names of columns, judged by the values below them; None if these do not show it."""
    if len(rows) < MIN_ROWS:
        return None
    is_header = None
    for cell, column in zip(cells, zip(*rows, strict=True), strict=True):
        values = ["" if value is None else str(value).strip() for value in column]
        if cell and cell in values:
            return False
        if _is_recurring(values) or all(map(_is_number, values)):  # the first row would have such a value too
            is_header = True
    return is_header


def _has_recurring_values(rows: list[list[str]]) -> bool:
    """Return whether a column of the rows of the usual length has few values, as labels do."""
    length = _find_usual_length(rows)
    return any(map(_is_recurring, zip(*(row for row in rows if len(row) == length), strict=True)))


def _is_recurring(values: Sequence[str]) -> bool:
    return len(set(values)) <= len(values) / 2


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _find_usual_length(rows: list[list[str]]) -> int:
    lengths = [len(row) for row in rows]
    return max(set(lengths), key=lengths.count, default=0)


def _has_same_length(rows: list[list[str]], length: int, fraction: float) -> bool:
    return length > 1 and sum(len(row) == length for row in rows) >= fraction * len(rows)
