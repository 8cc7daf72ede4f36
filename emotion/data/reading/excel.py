"""Rows of an Excel file, xlsx or xls.

A cell keeps its type, with three exceptions. Dates and times become ISO text. A whole number of more than 15 digits becomes text, because
Excel has no such number: it is an id. In a column that holds text, every cell is text: a comment may be `5`.
"""

import io
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import IO, Any

from emotion.data.reading.rows import BadRow, ReadOptions, Row
from emotion.errors import DataError
from emotion.text import describe_error

MAX_DIGITS = 15
"""Number of decimal digits that a cell with a number holds exactly. Source: Microsoft, "Excel specifications and limits"."""
HEAD_ROWS = 1_000
"""Number of rows in which a column is found to hold text."""


def read_excel(path: str, stream: IO[bytes], options: ReadOptions) -> tuple[Iterator[Row | BadRow], list[str]]:
    """Return the rows of a sheet, the header among them, and notes; a row's line is its number in Excel.

    The file is read into memory, as its format requires: a sheet has about a million rows at most.

    Raises: DataError if the file is damaged or has no such sheet, or if the package that reads it is not installed.
    """
    try:
        from python_calamine import CalamineWorkbook
    except ImportError:
        raise DataError(f"{path}: Excel files need python-calamine: pip install -r requirements-excel.txt, or save it as .csv") from None
    try:
        book = CalamineWorkbook.from_filelike(io.BytesIO(stream.read()))
        names = book.sheet_names
        sheet, notes = _choose_sheet(path, book, names, options.config.sheet)
        rows = [] if sheet is None else list(sheet.iter_rows())
    except DataError:
        raise
    except Exception as error:  # the library raises several types
        raise DataError(f"{path}: is not a valid Excel file ({describe_error(error)})") from None
    return _convert_rows(path, rows, options.is_lenient), notes


def _choose_sheet(path: str, book: Any, names: list[str], setting: str | None) -> tuple[Any, list[str]]:
    """Return the sheet that `data.sheet` names, or the first that is not empty, and a note if there are others."""
    if setting is not None:
        if setting not in names:
            raise DataError(f"{path}: data.sheet={setting!r} is not among its sheets {names}")
        return book.get_sheet_by_name(setting), []
    hidden = [data.name for data in book.sheets_metadata if not str(data.visible).endswith("Visible") or "Very" in str(data.visible)]
    for name in sorted(names, key=hidden.__contains__):
        sheet = book.get_sheet_by_name(name)
        if sheet.start is not None:
            return sheet, [f"sheet {name!r} of {names}; data.sheet sets another"] if len(names) > 1 else []
    return None, []


def _convert_rows(path: str, rows: list[list[Any]], is_lenient: bool) -> Iterator[Row | BadRow]:
    """Yield the rows that have a value, and a row without cells for each empty row before another one if `is_lenient`."""
    filled = [row for row in rows[: HEAD_ROWS + 1] if any(value != "" for value in row)]
    is_text = [any(isinstance(value, str) and value for value in column) for column in zip(*filled[1:], strict=True)]
    is_text = is_text or [True] * len(rows[0] if rows else [])
    num_empty = 0
    for line, row in enumerate(rows, start=1):
        if all(value == "" for value in row):
            num_empty += 1
            continue
        if is_lenient:
            yield from (Row(path, empty, []) for empty in range(line - num_empty, line))
        num_empty = 0
        yield Row(path, line, [_convert(value, in_text) for value, in_text in zip(row, is_text, strict=True)])


def _convert(value: Any, is_text: bool) -> Any:
    if value == "":
        return None
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        minutes, seconds = divmod(round(value.total_seconds()), 60)
        return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
    if isinstance(value, bool):
        return str(value).upper() if is_text else value
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        value = int(value)
    return str(value) if is_text or (isinstance(value, int) and len(str(abs(value))) > MAX_DIGITS) else value
