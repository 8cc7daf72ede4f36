"""Fractions of raters as training targets: where a source has them, and what is refused."""

from typing import Any

from emotion.config import DataConfig
from emotion.data.reading.examples import Examples
from emotion.data.reading.tables import Table
from emotion.errors import DataError

HALF = 0.5
"""Fraction of raters from which a text has a label."""


def check_rater_column(tables: list[Table], config: DataConfig) -> None:
    """Check that a file has the column `data.rater_column`.

    Raises: DataError otherwise.
    """
    column = config.rater_column
    if column is not None and not any(column in table.columns for table in tables):
        raise DataError(f"{tables[0].path}: data.rater_column={column!r} is not among its columns {tables[0].columns}")


def check_raters(splits: list[Examples], path: str, config: DataConfig) -> None:
    """Check that a split has texts with several rows if `data.rater_column` is set.

    Raises: DataError otherwise.
    """
    if config.rater_column is not None and all(examples.ratings is None for examples in splits):
        raise DataError(f"{path}: data.rater_column={config.rater_column!r}: has no effect: no text has several rows; leave it out")


def check_soft_labels(train: Examples, path: str, config: DataConfig) -> None:
    """Check that training rows have fractions if `data.soft_labels` is set.

    Raises: DataError if there are none.
    """
    if config.soft_labels and train.ratings is None and (train.fractions is None or not has_fraction(train)):
        raise DataError(describe_missing(path))


def has_fraction(rows: Examples) -> bool:
    """Return whether a label has a value between 0 and 1."""
    return rows.fractions is not None and bool(((rows.fractions > 0) & (rows.fractions < 1)).any())


def describe_missing(where: str) -> str:
    """Return the message on data without fractions."""
    return (
        f"{where}: data.soft_labels=true needs label columns with values between 0 and 1, or several raters for a text "
        "(data.rater_column names their column), and there are neither; leave data.soft_labels out"
    )


def read_rater(row: dict[str, Any], column: str | None) -> str:
    """Return the name of a row's rater; an empty text if it does not say."""
    value = row.get(column) if column is not None else None
    return "" if value is None else str(value).strip()
