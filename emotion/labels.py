"""`LabelSet`: label names, their columns, and the conversion to and from multi-hot arrays."""

import difflib
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from emotion.errors import DataError, ModelError
from emotion.text import is_writable_text, read_digits

INVISIBLE = dict.fromkeys([0x200B, 0x2060, 0xFE0E, 0xFE0F, 0xFEFF])
"""Characters without a shape of their own: zero-width space and joiner, variation selectors, byte order mark."""

ID, GOLD = "id", "gold:"
"""Columns of a file of predictions: the ids of the rows, and the prefix of the gold labels; probabilities have the names of the labels."""
PREDICTED, LABEL_SEPARATOR = "predicted_labels", "|"
"""The column of the predicted labels in a scored file, and what is between the names in a cell of text."""


def fold_name(name: str) -> str:
    """Return the key of a label name; names that differ in case, blanks, Unicode form or invisible characters only have the same."""
    name = unicodedata.normalize("NFC", name.translate(INVISIBLE)).casefold()
    return " ".join(unicodedata.normalize("NFC", name).split())


def find_lookalikes(names: Iterable[str]) -> tuple[str, str] | None:
    """Return two different names that `fold_name` makes equal, or None."""
    first: dict[str, str] = {}
    for name in names:
        if (other := first.setdefault(fold_name(name), name)) != name:
            return other, name
    return None


@dataclass(frozen=True)
class LabelSet:
    """The ordered label names of a dataset; column `i` of every label array belongs to `names[i]`."""

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.names) < 2:
            raise DataError(f"labels: found {list(self.names)}, need at least 2: check data.label_column or data.label_columns")
        if len(set(self.names)) != len(self.names) or "" in self.names:
            raise DataError(f"labels: names must be unique and not empty, got {list(self.names)}")
        if unwritable := [name for name in self.names if not is_writable_text(name)]:
            raise DataError(f"labels: names must be valid UTF-8, got {unwritable[0]!r}; save the data as UTF-8")

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def columns(self) -> dict[str, int]:
        """Column of each label name."""
        return {name: column for column, name in enumerate(self.names)}

    @cached_property
    def _folded_columns(self) -> dict[str, int]:
        """Column of each folded name that only one label has."""
        keys = [fold_name(name) for name in self.names]
        counts = Counter(keys)
        return {key: column for column, key in enumerate(keys) if counts[key] == 1}

    @cached_property
    def _has_ids(self) -> bool:
        """Whether a number can be the id of a label: not if names are numbers, because 3 may then be the label of this name."""
        return not any(name.isdecimal() for name in self.names)

    @cached_property
    def is_separable(self) -> bool:
        """Whether no name holds the separator; otherwise a cell of text is a JSON list."""
        return not any(LABEL_SEPARATOR in name for name in self.names)

    def split_cell(self, cell: Any) -> list[Any]:
        """Return the names in a cell of predicted labels, a list or a text; in a text for spreadsheets, a `'` may stand before a name.

        Raises: ValueError if the text should be a JSON list, but is none.
        """
        if not self.is_separable and isinstance(cell, str) and cell.startswith("["):
            cell = json.loads(cell)
        names = cell if isinstance(cell, list) else str(cell).split(LABEL_SEPARATOR) if cell else []
        return [name if name in self.columns else str(name).removeprefix("'") for name in names]

    @property
    def id2label(self) -> dict[int, str]:
        """The mapping from column to name that a Hugging Face config stores."""
        return dict(enumerate(self.names))

    def column(self, label: str | int) -> int:
        """Return the column of a label, given by name, by id, or by an id written as digits.

        A name matches exactly, or else as `fold_name` compares names. If names are numbers, a number is a name and not an id.

        Raises: DataError if the label is not in the set.
        """
        name = label if isinstance(label, str) and label in self.columns else str(label).strip()
        if name in self.columns:
            return self.columns[name]
        if (column := self._folded_columns.get(fold_name(name))) is not None:
            return column
        if (number := read_digits(name)) is not None:
            if str(number) in self.columns:
                return self.columns[str(number)]
            if self._has_ids and number < len(self):
                return number
        near = difflib.get_close_matches(name, self.names, n=1)
        raise DataError(f"unknown label {label!r}" + (f", did you mean {near[0]!r}?" if near else ""))

    def check_outputs(self, num_outputs: int, location: str) -> None:
        """Check that the model at `location` has one output for each label.

        Raises: ModelError if it has more or fewer.
        """
        if num_outputs != len(self):
            raise ModelError(
                f"{location}: its head has {num_outputs} labels, its emotion.json {len(self)}; "
                "restore the files that belong together or save the model again"
            )

    def check_logits(self, logits: np.ndarray) -> None:
        """Check that a model's logits, float (n, L), are numbers.

        Raises: ModelError if one is nan or infinite.
        """
        is_number = np.isfinite(logits)
        if not is_number.all():
            row, label = np.argwhere(~is_number)[0]
            raise ModelError(
                f"the model's logit of {self.names[label]!r} is {logits[row, label]}: its weights are damaged, or too large for its dtype; "
                "restore them, or save the model again"
            )

    def check_columns(self) -> None:
        """Check that each label has two columns of its own in a file of predictions, its name and `gold:` before it, beside `id`.

        Raises: DataError if a label has the name of another column.
        """
        if taken := [name for name in self.names if name == ID or name.startswith(GOLD)]:
            columns = f"files of predictions have a column {ID}, and {GOLD}NAME for the gold labels"
            raise DataError(f"labels: {taken[0]!r} cannot be the name of a label: {columns}; rename it in the data")

    def encode(self, rows: Sequence[Iterable[str | int]]) -> np.ndarray:
        """Return the multi-hot array, bool (n, L), of rows of label names or ids."""
        return self.encode_columns([[self.column(label) for label in labels] for labels in rows])

    def encode_columns(self, rows: Sequence[list[int]]) -> np.ndarray:
        """Return the array, bool (n, L), that is True in the given columns of each row."""
        encoded = np.zeros((len(rows), len(self)), dtype=bool)
        for row, columns in enumerate(rows):
            encoded[row, columns] = True
        return encoded

    def decode(self, row: np.ndarray) -> list[str]:
        """Return the label names at the true positions of a bool (L,) row."""
        return [name for name, is_on in zip(self.names, row, strict=True) if is_on]
