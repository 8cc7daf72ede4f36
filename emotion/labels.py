"""`LabelSet`: label names, their columns, and the conversion to and from multi-hot arrays."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from emotion.errors import DataError, ModelError
from emotion.text import is_writable_text


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

    @property
    def id2label(self) -> dict[int, str]:
        """The mapping from column to name that a Hugging Face config stores."""
        return dict(enumerate(self.names))

    def column(self, label: str | int) -> int:
        """Return the column of a label, given by name, by id, or by an id written as digits.

        Raises: DataError if the label is not in the set.
        """
        if isinstance(label, str):
            name = label.strip()
            if name in self.columns:
                return self.columns[name]
            if name.isdecimal():
                label = int(name)
        if isinstance(label, int) and 0 <= label < len(self):
            return label
        near = difflib.get_close_matches(str(label), self.names, n=1)
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

    def encode(self, rows: Sequence[Iterable[str | int]]) -> np.ndarray:
        """Return the multi-hot array, bool (n, L), of rows of label names or ids."""
        encoded = np.zeros((len(rows), len(self)), dtype=bool)
        for row, labels in enumerate(rows):
            encoded[row, [self.column(label) for label in labels]] = True
        return encoded

    def decode(self, row: np.ndarray) -> list[str]:
        """Return the label names at the true positions of a bool (L,) row."""
        return [name for name, is_on in zip(self.names, row, strict=True) if is_on]
