"""Splits that were published without gold labels, as the test rows of a competition are."""

from typing import Any

from emotion.data.reading.layout import Layout
from emotion.data.reading.tables import Table

MASKS = ("", "-1", "-1.0", "nan", "None", "NONE", "[]")
"""Cells without a label, as text; -1 is the class of masked rows on the Hub, NONE stands in the test file of SemEval-2018 E-c."""


def find_unlabelled(tables: dict[str, Table], layout: Layout) -> dict[str, str]:
    """Return why a split has no gold labels, for each validation or test split that has none: no such column, or no cell with a label."""
    columns = layout.label_columns or (str(layout.label_column),)
    names = repr(columns[0]) if len(columns) == 1 else f"{columns[0]!r} to {columns[-1]!r}"
    found = {}
    for split, table in tables.items():
        if split == "train" or not table.rows:
            continue
        if not set(columns) & set(table.columns):
            found[split] = f"{table.path} has no gold labels (no column {names})"
        elif set(columns) <= set(table.columns) and all(_is_masked(value) for column in columns for value in table.values(column)):
            found[split] = f"{table.path} has no gold labels (column {names} holds none in its {len(table.rows):,} rows)"
    return found


def _is_masked(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_masked, value))
    return value is None or str(value).strip() in MASKS
