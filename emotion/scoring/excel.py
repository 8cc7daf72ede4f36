"""Write an Excel file from the parts of a scored file, which are JSON lists of cells."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from emotion.data.reading.excel import MAX_DIGITS
from emotion.errors import DataError

MAX_ROWS, MAX_COLUMNS = 2**20, 2**14
"""Of a sheet. Source: Microsoft, "Excel specifications and limits"."""
MAX_CELL_CHARACTERS = 32_767
"""Of a cell, in units of UTF-16. Source: as above."""
CREATED = datetime(2000, 1, 1)
"""Instead of the time, so that the same rows give the same bytes."""


def check_excel_output(output: Path, num_columns: int) -> None:
    """Check that an Excel file can be written.

    Raises: DataError if the package that does it is not installed, or if there are too many columns.
    """
    try:
        import xlsxwriter  # noqa: F401
    except ImportError:
        message = "Excel files need XlsxWriter: pip install -r requirements-excel.txt, or write .csv"
        raise DataError(f"--output {output}: {message}") from None
    if num_columns > MAX_COLUMNS:
        raise DataError(f"--output {output}: has {num_columns:,} columns, and a sheet {MAX_COLUMNS:,} at most; write .csv or .parquet")


def count_cell_characters(text: str) -> int:
    """Return the length of a text as Excel counts it: an emoji is two characters."""
    return len(text) if len(text) * 2 <= MAX_CELL_CHARACTERS else len(text.encode("utf-16-le", "surrogatepass")) // 2


def cut_cell(text: str) -> str:
    """Return the beginning of a text that fits into a cell."""
    if count_cell_characters(text) <= MAX_CELL_CHARACTERS:
        return text
    return text.encode("utf-16-le", "replace")[: 2 * MAX_CELL_CHARACTERS].decode("utf-16-le", "ignore")


def write_excel(columns: list[str], parts: list[Path], target: Path) -> None:
    """Write the rows of all parts below the columns; rows beyond the limit of a sheet go to further sheets.

    Text stays text: `=1+1` is no formula, and an address no link. Memory does not grow with the number of rows.
    """
    import xlsxwriter

    options = {"constant_memory": True, "tmpdir": str(target.parent), "strings_to_formulas": False, "strings_to_urls": False}
    with xlsxwriter.Workbook(str(target), options) as book:
        book.set_properties({"created": CREATED})
        sheet, position = None, MAX_ROWS
        for row in _read_rows(parts):
            if position == MAX_ROWS:
                sheet, position = book.add_worksheet(f"scored {len(book.worksheets()) + 1}"), 0
                position = _write_row(sheet, position, columns)
            position = _write_row(sheet, position, row)


def _read_rows(parts: list[Path]) -> Iterator[list[Any]]:
    for part in parts:
        with part.open(encoding="utf-8", newline="\n") as lines:
            yield from map(json.loads, lines)


def _write_row(sheet: Any, position: int, row: list[Any]) -> int:
    """Write a row, and return the position of the next one."""
    for column, value in enumerate(row):
        if isinstance(value, str):
            sheet.write_string(position, column, value)
        elif isinstance(value, bool):
            sheet.write_boolean(position, column, value)
        elif isinstance(value, int) and len(str(abs(value))) > MAX_DIGITS:
            sheet.write_string(position, column, str(value))
        elif value is not None:
            sheet.write_number(position, column, value)
    return position + 1
