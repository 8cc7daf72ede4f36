"""How rows are grouped: the columns named by `--by`, one of which may be a date, cut into periods."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from emotion.errors import ConfigError, DataError

PERIODS = ("day", "week", "month", "quarter", "year")
DATE_TERM = re.compile(rf"({'|'.join(PERIODS)})\((.+)\)")
ISO, UNIX = "ISO 8601", "unix"
SEPARATOR = " / "
"""Between the values of several columns in the name of a group."""
EMPTY = "(empty)"
"""Name of the group of rows with an empty cell."""


@dataclass(frozen=True)
class Grouping:
    """The columns by which rows are grouped."""

    columns: tuple[str, ...]
    """Columns whose values are groups."""
    date_column: str | None = None
    period: str = "month"
    """One of `PERIODS`."""
    date_format: str = ISO
    """ISO 8601, `unix` (seconds since 1970 in UTC), or a format of `strptime`."""

    @property
    def all_columns(self) -> tuple[str, ...]:
        """All columns that the grouping reads."""
        return (*self.columns, *([self.date_column] if self.date_column is not None else []))

    def check_columns(self, where: str, columns: Sequence[str]) -> None:
        """Raise a DataError, with the nearest name, for a column that the file `where` does not have."""
        for column in self.all_columns:
            if column not in columns:
                if re.match(r"\w+\(", column):
                    terms = ", ".join(f"{period}(COLUMN)" for period in PERIODS)
                    raise DataError(f"{where}: has no column {column!r} to group by; a date is one of {terms}")
                near = difflib.get_close_matches(column, columns, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; its columns are {', '.join(map(repr, columns))}"
                raise DataError(f"{where}: has no column {column!r} to group by{hint}")

    def name_group(self, values: Sequence[Any]) -> str:
        """Return the name of the group of a row, from the values of `columns`."""
        return SEPARATOR.join(EMPTY if value is None or value == "" else str(value) for value in values)

    def find_period(self, value: Any) -> str | None:
        """Return the name of the period of a date, which sorts by time; None for an empty cell.

        Raises: ValueError for a value that is no date of the format.
        """
        if value is None or value == "":
            return None
        return name_period(read_date(value, self.date_format), self.period)

    def describe_dates(self, value: Any) -> str:
        """Return a sentence on how dates are read, with the first date as an example."""
        return f"dates in column {self.date_column!r} are read as {self.date_format}: {str(value)!r} is in {self.find_period(value)}"


def parse_grouping(by: str, date_format: str | None = None) -> Grouping:
    """Return the grouping of `--by`, such as `month(date),source`.

    Raises: ConfigError for a term that is empty or named twice, for two dates, and for a date format that is wrong or without a date.
    """
    terms = [term.strip() for term in by.split(",")]
    dates = [match for term in terms if (match := DATE_TERM.fullmatch(term))]
    columns = tuple(term for term in terms if not DATE_TERM.fullmatch(term))
    names = [*columns, *(match[2] for match in dates)]
    where = f"--by {by}"
    if "" in columns or len(set(names)) < len(names):
        raise ConfigError(f"{where}: names an empty column, or a column twice; give columns such as month(date),source")
    if len(dates) > 1:
        raise ConfigError(f"{where}: has {len(dates)} dates; give one of {', '.join(f'{period}(COLUMN)' for period in PERIODS)}")
    if date_format is not None and not dates:
        raise ConfigError(f"--date-format {date_format}: there is no date in {where}; give a term such as month(COLUMN)")
    if not dates:
        return Grouping(columns)
    if date_format is not None:
        _check_date_format(date_format, dates[0][1])
    return Grouping(columns, dates[0][2], dates[0][1], date_format or ISO)


def _check_date_format(date_format: str, period: str) -> None:
    """Check that a format of `--date-format` reads the dates that it writes, as far as the period of `--by` needs them.

    Raises: ConfigError if it does not.
    """
    if date_format == UNIX:
        return
    example = datetime(2023, 8, 17, tzinfo=UTC)  # its year, quarter, month, week and day are not those that a format without them reads
    try:
        found = datetime.strptime(example.strftime(date_format), date_format)
    except (ValueError, re.error) as error:  # re.error: a directive that is there twice
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"--date-format {date_format}: is not a format of dates ({reason}); give one such as %d/%m/%Y, or {UNIX} for seconds"
        ) from None
    if name_period(found, period) != name_period(example, period):
        day, written = name_period(example, "day"), example.strftime(date_format)
        raise ConfigError(
            f"--date-format {date_format}: does not say the {period} of a date: {day} is {written!r}, which is read as "
            f"{name_period(found, period)}; give a format with it, such as %d/%m/%Y, or another period"
        )


def read_date(value: Any, date_format: str) -> date:
    """Return the date of a cell.

    Raises: ValueError for a value that is no date of the format.
    """
    if isinstance(value, date):  # a parquet file has typed dates; a datetime is a date too
        return value
    if date_format == UNIX:
        try:
            return datetime.fromtimestamp(float(value), UTC)
        except (OverflowError, OSError, TypeError):
            raise ValueError(value) from None
    if not isinstance(value, str):
        raise ValueError(value)
    return datetime.fromisoformat(value.strip()) if date_format == ISO else datetime.strptime(value.strip(), date_format)


def name_period(day: date, period: str) -> str:
    """Return the name of the period of a date: 2024-03-05, 2024-W10 (ISO week), 2024-03, 2024-Q1 or 2024."""
    if period == "week":
        year, week, _ = day.isocalendar()
        return f"{year:04d}-W{week:02d}"
    if period == "quarter":
        return f"{day.year:04d}-Q{(day.month + 2) // 3}"
    return day.isoformat()[: {"day": 10, "month": 7, "year": 4}[period]]


def list_periods(first: str, last: str) -> list[str]:
    """Return the names of all periods from one to another, both named by `name_period`, so that those without rows are among them."""
    if "Q" in first:
        period, start = "quarter", date(int(first[:4]), 3 * int(first[-1]) - 2, 1)
    elif "W" in first:
        period, start = "week", date.fromisoformat(f"{first}-1")
    else:
        period, start = {4: "year", 7: "month", 10: "day"}[len(first)], date.fromisoformat(f"{first}-01-01"[:10])
    names = [first]
    for day in range(start.toordinal() + 1, date.max.toordinal() + 1):
        if names[-1] == last:
            break
        name = name_period(date.fromordinal(day), period)
        if name != names[-1]:
            names.append(name)
    return names
