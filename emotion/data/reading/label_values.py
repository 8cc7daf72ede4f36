"""What a cell says about labels: a flag of a 0/1 column, or the cell of a label column in one of the formats of `CellFormat`.

A cell of text may hold a list or an object: JSON, a literal of Python, numpy's `['joy' 'anger']`, or a bare `[joy, anger]`. Which format a
column has is detected in `label_formats`.
"""

import ast
import json
import math
import re
import warnings
from dataclasses import dataclass, field
from typing import Any

from emotion.errors import DataError
from emotion.text import read_digits

YES = ("1", "true", "yes", "y", "t")
NO = ("0", "false", "no", "n", "f")
EMPTY = ("", "nan", "na", "n/a", "null", "-1")
"""Values of a flag that say that nobody judged the label."""
FLAGS: dict[Any, bool | None] = {
    **dict.fromkeys((*YES, 1), True),
    **dict.fromkeys((*NO, 0), False),
    **dict.fromkeys((*EMPTY, -1, None)),
}
"""The meaning of a flag, None if nobody judged the label; as keys, 1.0 and True equal 1."""
MAX_LITERAL = 10_000
"""Maximum number of characters of a literal of Python; JSON may be longer."""
CLOSING = {"[": "]", "{": "}", "(": ")", '"': '"', "'": "'"}
ADJACENT = re.compile(r"""(['"])\s+(?=['"])""")
"""Two strings without a comma, as numpy prints them; Python would join them to one."""
INTEGER = re.compile(r"(\d+)(?:\.0*)?")
PUBLISHED_WITHOUT_LABELS = "this file was published without labels; use the file with gold labels"


@dataclass
class RowLabels:
    """The labels of a row, by name or id, and those that nobody judged; `is_judged` is False if this is true of all."""

    labels: list[str | int]
    not_judged: list[str | int] = field(default_factory=list)
    is_judged: bool = True


@dataclass(frozen=True)
class CellFormat:
    """How the cells of a label column are read."""

    delimiter: str | None = None
    """Separator between labels in a cell of text."""
    vector: tuple[str, ...] = ()
    """Names of the positions of a 0/1 vector; empty if the cells are not vectors."""
    is_bits: bool = False
    """Whether a vector is written without separators: `001000`."""
    keys: tuple[str, ...] = ()
    """Labels that objects have as keys, if a missing key means that nobody judged the label."""
    whole: frozenset[str] = frozenset()
    """Cells that are one name although they contain the delimiter."""
    names_of_ids: tuple[str, ...] = ()
    """What the file itself calls its ids, in their order; empty if they are those of the label set."""
    first_id: int = 0
    """The id of the first label: 0, or 1 where ids begin at 1."""
    threshold: float | None = None
    """Lowest intensity with which a text has a label; None if there are only 0 and 1."""
    description: str = ""
    """Part of the sentence for the user."""

    def read(self, value: Any) -> RowLabels:
        """Return the labels of a cell.

        Raises: DataError with the reason if they cannot be read.
        """
        value = parse_cell(value, self.delimiter)
        if is_unjudged(value):
            return RowLabels([], is_judged=False)
        if self.vector:
            return self._read_flags(dict(zip(self.vector, self.read_vector(value), strict=True))) if value is not None else RowLabels([])
        if isinstance(value, dict) and find_choices(value) is None:
            flags = self._read_flags(value)
            flags.not_judged += [key for key in self.keys if key not in value]
            return flags
        return RowLabels([self._read_label(label) for label in self.split(value)])

    def read_vector(self, value: Any) -> list[Any]:
        """Return the numbers of a 0/1 vector, one for each label."""
        numbers = list(value) if self.is_bits or isinstance(value, list) else self.split(value)
        if len(numbers) != len(self.vector):
            raise DataError(f"a vector of {len(numbers)} numbers, expected {len(self.vector)}")
        return numbers

    def read_values(self, value: Any) -> dict[str, Any]:
        """Return the number of each label of a vector or an object; empty for cells of another format."""
        value = parse_cell(value, self.delimiter)
        if self.vector and value is not None and not is_unjudged(value):
            return dict(zip(self.vector, self.read_vector(value), strict=True))
        return value if isinstance(value, dict) and find_choices(value) is None else {}

    def split(self, value: Any) -> list[Any]:
        """Return the labels of a parsed cell as they are written."""
        if value is None:
            return []
        if isinstance(value, dict):
            return self.split(find_choices(value) or [])
        if isinstance(value, list):
            return [label for item in value if item is not None for label in self._split_item(item)]
        if not isinstance(value, str) or value in self.whole:
            return [value]
        parts = value.split(self.delimiter) if self.delimiter else [value]
        return [part.strip() for part in parts if part.strip()]

    def _split_item(self, item: Any) -> list[Any]:
        """Return the labels of one item of a list."""
        if isinstance(item, dict) and find_choices(item) is not None:
            return self.split(item)
        if isinstance(item, (dict, list)):
            raise DataError(f"{str(item)[:60]!r} in a list of labels, must be a name or an id")
        return [item] if not isinstance(item, str) else [item.strip()] if item.strip() else []

    def _read_label(self, label: Any) -> str | int:
        """Return a label as a name, or as an id of the label set, which counts from 0."""
        if isinstance(label, bool):
            return str(label)
        if isinstance(label, float) and label.is_integer():
            label = int(label)
        if isinstance(label, str) and (match := INTEGER.fullmatch(label)) and label.isascii():
            label = match[1]
        number = read_digits(str(label)) if self.first_id or self.names_of_ids else None
        if number is None:
            return label if isinstance(label, int) else str(label)
        if number < self.first_id:
            raise DataError(f"label id {label}, but ids begin at {self.first_id}")
        if not self.names_of_ids:
            return number - self.first_id
        if number - self.first_id >= len(self.names_of_ids):
            raise DataError(f"label id {label}, but there are {len(self.names_of_ids)} label names")
        return self.names_of_ids[number - self.first_id]

    def _read_flags(self, flags: dict[str, Any]) -> RowLabels:
        read = {str(name).strip(): read_flag(name, value, self.threshold) for name, value in flags.items()}
        return RowLabels([name for name, flag in read.items() if flag], [name for name, flag in read.items() if flag is None])


def parse_cell(value: Any, delimiter: str | None = None) -> Any:
    """Return a cell as a list, an object (dict), a number or a stripped text, and None for an empty one.

    `delimiter` separates the labels of a bare list such as `[joy; anger]`; a comma if None.

    Raises: DataError for brackets that contain something else.
    """
    if isinstance(value, str):
        text = value.strip()
        return _parse_literal(text, delimiter) if len(text) > 1 and CLOSING.get(text[0]) == text[-1] else text or None
    if isinstance(value, (tuple, set, frozenset)):
        return list(value)
    return None if isinstance(value, float) and math.isnan(value) else value


def read_flag(name: str, value: Any, threshold: float | None) -> bool | None:
    """Return whether a flag or intensity says yes; None if it is empty or -1: nobody judged the label.

    Raises: DataError if the value is no flag, and no number that can be compared with `threshold`.
    """
    if threshold is not None and (number := find_number(value)) is not None and number != -1:
        return number >= threshold
    try:
        return find_flag(value)
    except ValueError:
        pass
    if str(value).strip() == "NONE":  # the test file of SemEval-2018 E-c as released during the competition
        raise DataError(f"column {name!r} is 'NONE': {PUBLISHED_WITHOUT_LABELS}")
    remedy = "" if find_number(value) is None else "; set data.intensity_threshold if it is an intensity"
    raise DataError(f"column {name!r} is {value!r}, must be 0 or 1{remedy}")


def read_fraction(name: str, value: Any) -> float:
    """Return the fraction of raters who gave a label, in [0, 1]; nan if the value is empty or -1: nobody judged the label.

    Raises: DataError if the value is no such number.
    """
    number = find_number(value)
    if number is not None and 0 <= number <= 1:
        return number
    try:
        flag = find_flag(value)
    except ValueError:
        raise DataError(f"column {name!r} is {value!r}, must be a fraction of raters in [0, 1] (data.soft_labels)") from None
    return math.nan if flag is None else float(flag)


def find_flag(value: Any) -> bool | None:
    """Return the meaning of a flag: True, False, or None if it is empty or -1.

    Raises: ValueError if the value is no flag.
    """
    key = value if value in ("0", "1") or not isinstance(value, str) else value.strip().lower()  # the usual values first: rows are many
    try:
        return FLAGS[key]
    except (KeyError, TypeError):
        number = find_number(key)
    if number not in (0, 1, -1) and key == key:  # nan differs from itself
        raise ValueError(value)
    return FLAGS[number]


def is_flag(value: Any) -> bool:
    """Return whether a value is a flag that says yes or no."""
    try:
        return find_flag(value) is not None
    except ValueError:
        return False


def is_empty_flag(value: Any) -> bool:
    """Return whether a value says that nobody judged the label."""
    try:
        return find_flag(value) is None
    except ValueError:
        return False


def find_number(value: Any) -> float | None:
    """Return a value as a finite number; None if it is none, or True or False."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def is_intensity(value: Any) -> bool:
    """Return whether a value is a number other than 0, 1 and -1."""
    return find_number(value) not in (None, 0, 1, -1)


def find_choices(value: dict[str, Any]) -> Any:
    """Return the labels of an object of Label Studio, `{"choices": ...}` or `{"value": {"choices": ...}}`, or None."""
    inner = value.get("value")
    return value.get("choices", inner.get("choices") if isinstance(inner, dict) else None)


def is_unjudged(value: Any) -> bool:
    """Return whether a parsed cell is -1, which says that nobody judged the row."""
    return value == -1 if isinstance(value, (int, float)) else value in ("-1", "-1.0") if isinstance(value, str) else False


def _parse_literal(text: str, delimiter: str | None) -> Any:
    """Return the list, object or string that a cell of text holds."""
    try:
        return _parse_again(json.loads(text), delimiter)
    except (ValueError, RecursionError):
        pass
    if len(text) <= MAX_LITERAL:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about backslashes in strings
                return _parse_again(ast.literal_eval(ADJACENT.sub(r"\1, ", text)), delimiter)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            pass
    if text[0] in "(\"'":  # a name such as (tired), or a quoted word in a text
        return text
    inner = text[1:-1]
    if set("[]{}:") & set(inner):
        raise DataError(f"{text[:60]!r} is neither a list nor an object in JSON or Python")
    separator = delimiter or ("," if "," in inner else None)
    if separator is None and not all(find_number(part) is not None for part in inner.split()):
        return [inner.strip()]
    return [part.strip().strip("\"'") for part in inner.split(separator)]


def _parse_again(value: Any, delimiter: str | None) -> Any:
    """Return a parsed value; a string within a string, as of a cell that was encoded twice, is parsed too."""
    return parse_cell(value, delimiter) if isinstance(value, (str, tuple, set)) else value
