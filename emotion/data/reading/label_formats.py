"""Detect the format of the cells of a label column in its rows. Where two readings are possible, both are named and none is chosen."""

import re
from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from emotion.config import DataConfig
from emotion.data.reading.label_values import CellFormat, find_choices, find_number, is_intensity, parse_cell
from emotion.data.reading.soft_labels import describe_missing
from emotion.errors import DataError
from emotion.labels import fold_name
from emotion.text import read_digits

DETECTION_ROWS = 500
"""Number of rows from which formats are detected."""
DELIMITERS = ("|", ";", ",")
"""Separators between labels, in order of preference."""
UNUSUAL_DELIMITERS = (" - ", " and ", " & ", " + ", "\n", "\t", "/", "#", "+", "&", " ")
"""Separators that also occur in names: they count only if all parts of all cells are labels on their own."""
NO_DELIMITER = "none"
"""The value of `data.label_delimiter` for cells that are one name."""
ROWS_PER_NAME = 5
"""From so many rows per cell on, cells whose parts occur nowhere else are names."""
ROWS_PER_ID = 5
"""From so many labels per name on, an id that never occurs is no accident."""
SET_THRESHOLD = "set data.intensity_threshold=T (a text has a label from T on)"
BITS = re.compile("[01]{3,}")


def detect_format(where: str, values: list[Any], config: DataConfig, names: tuple[str, ...], is_declared: bool = False) -> CellFormat:
    """Return the format of the cells of a label column.

    `where` is the file and the column, for messages. `names` are label names known before the rows are read, in the order of their ids;
    `is_declared` if the data declares them, with ids from 0.

    Raises: DataError if two formats are possible, or if vectors have no names.
    """
    parsed = []
    for value in values[:DETECTION_ROWS]:
        try:
            parsed.append(parse_cell(value, config.label_delimiter))
        except DataError:  # reported when the row is read
            continue
    texts: Counter[str] = Counter()
    for value, number in Counter(value for value in values if isinstance(value, str)).items():
        if isinstance(text := _parse_or_none(value), str):
            texts[text] += number
    cells = CellFormat(_find_delimiter(where, texts, config, names), whole=frozenset(names), threshold=config.intensity_threshold)
    known = [value for value in parsed if value is not None]
    if config.label_delimiter not in (None, NO_DELIMITER) and known and not texts and not any(isinstance(value, str) for value in values):
        raise DataError(f"data.label_delimiter={config.label_delimiter!r}: has no effect on {where}, whose cells are no text")
    cells = replace(cells, description=_describe(cells, known, texts))
    if vector := _find_vector(where, known, cells, names):
        return vector
    if config.first_label_id is not None and not (names and _has_ids(known, cells)):
        raise DataError(f"data.first_label_id={config.first_label_id}: has no effect on {where}, which has no ids of known names")
    objects = _list_objects(known)
    intensities = [flag for value in objects for flag in value.values() if is_intensity(flag)]
    if intensities and cells.threshold is None:
        raise DataError(f"{where}: holds values such as {intensities[0]!r} beside 0 and 1; {SET_THRESHOLD}")
    if any(find_number(flag) == 0 or flag is False for value in objects for flag in value.values()):
        everywhere = _list_objects(_parse_or_none(value) for value in values)  # a label may occur in later rows only
        return replace(cells, keys=tuple(dict.fromkeys(str(key).strip() for value in everywhere for key in value)))
    if cells.threshold is not None and not objects:
        if config.soft_labels:
            raise DataError(describe_missing(where))
        raise DataError(f"data.intensity_threshold={cells.threshold:g}: has no effect on {where}, which holds names or ids")
    if is_declared or not (first_id := _find_first_id(where, values, cells, config, names)):
        return cells
    ids = f"ids from {first_id} (1 is {names[0]!r})"
    return replace(cells, first_id=first_id, description=f"{cells.description}, {ids}" if cells.description else ids)


def _list_objects(parsed: Iterable[Any]) -> list[dict[str, Any]]:
    """Return the cells that are objects of label to number."""
    return [value for value in parsed if isinstance(value, dict) and find_choices(value) is None]


def _has_ids(known: list[Any], cells: CellFormat) -> bool:
    for value in known:
        with suppress(DataError):
            if any(find_number(item) is not None for item in cells.split(value)):
                return True
    return False


def _parse_or_none(value: Any) -> Any:
    try:
        return parse_cell(value)
    except DataError:
        return None


def _describe(cells: CellFormat, known: list[Any], texts: Iterable[str]) -> str:
    """Return the format of the cells as a part of a sentence."""
    parts = [f"split at {cells.delimiter!r}"] if cells.delimiter else []
    whole = [text for text in texts if text not in cells.whole and any(delimiter in text for delimiter in DELIMITERS)]
    parts += [f"names such as {whole[0]!r} not split (data.label_delimiter splits them)"] if whole and not parts else []
    parts += ["lists in the cells"] if any(isinstance(value, list) for value in known) else []
    objects = [find_choices(value) is not None for value in known if isinstance(value, dict)]
    parts += ["objects with choices in the cells"] if any(objects) else []
    parts += ["objects of label and 0/1 in the cells"] if not all(objects) else []
    return ", ".join(parts)


def _find_delimiter(where: str, texts: Counter[str], config: DataConfig, names: tuple[str, ...]) -> str | None:
    """Return the separator between labels: that of the config, or the first one that is detected."""
    if config.label_delimiter is not None:
        return None if config.label_delimiter == NO_DELIMITER else config.label_delimiter
    known = {fold_name(name) for name in names}
    cells = {text: number for text, number in texts.items() if fold_name(text) not in known}
    for delimiter in DELIMITERS:
        if _is_common_delimiter(where, delimiter, cells, known):
            return delimiter
    alone = known | {fold_name(text) for text in cells}
    for delimiter in UNUSUAL_DELIMITERS:
        parts = [_split(text, delimiter) for text in cells if delimiter in text]
        if parts and all(len(row) > 1 and all(part.isdecimal() or fold_name(part) in alone for part in row) for row in parts):
            return delimiter
    return None


def _split(text: str, delimiter: str) -> list[str]:
    return [part.strip() for part in text.split(delimiter) if part.strip()]


def _is_common_delimiter(where: str, delimiter: str, cells: dict[str, int], known: Collection[str]) -> bool:
    """Return whether cells are split at a delimiter: not if their parts occur nowhere else, as in a name such as `thanks; gratitude`.

    One at the beginning or the end of a cell is no part of a name: some forms end each answer with it.

    Raises: DataError if that cannot be told from the cells.
    """
    rows = {text: _split(text, delimiter) for text in cells if delimiter in text}
    if not rows:
        return False
    alone = {*known, *(fold_name(text) for text in cells if text not in rows)}
    owners = Counter(part for row in rows.values() for part in {fold_name(part) for part in row})
    is_shared = any(number > 1 or part in alone or part.isdecimal() for part, number in owners.items())
    num_rows = sum(cells[text] for text in rows)
    is_outside = any(text.strip().startswith(delimiter) or text.strip().endswith(delimiter) for text in rows)
    if is_shared or is_outside or len(alone) + len(rows) < 2 or num_rows == len(rows):
        return True
    if num_rows >= ROWS_PER_NAME * len(rows):
        return False
    example = min(rows, key=lambda text: -cells[text])
    raise DataError(
        f"{where}: {example!r} may be one name, or several separated by {delimiter!r}; "
        f"set data.label_delimiter={NO_DELIMITER} or data.label_delimiter='{delimiter}'"
    )


def _find_vector(where: str, known: list[Any], cells: CellFormat, names: tuple[str, ...]) -> CellFormat | None:
    """Return the format of 0/1 vectors, or None if the cells are not vectors.

    A row of ids has no id twice and no fraction, so such a row proves a vector.

    Raises: DataError if the rows may also be ids, if there are no names, or not as many as numbers.
    """
    texts = [value for value in known if isinstance(value, str)]
    is_bits = bool(texts) and len(texts) == len(known) and all(map(BITS.fullmatch, texts))
    is_bits = is_bits and len(set(map(len, texts))) == 1 and any(text.startswith("0") for text in texts)
    if any(isinstance(value, dict) for value in known):
        return None
    items = [list(value) if is_bits or isinstance(value, list) else cells.split(value) for value in known]
    rows = [[_read_number(item) for item in row] for row in items if row]
    size = len(rows[0]) if rows else 0
    if size < 2 or any(number is None for row in rows for number in row):
        return None
    has_repeats = any(len(set(row)) < len(row) for row in rows)
    if any(len(row) != size for row in rows):
        if has_repeats and {number for row in rows for number in row} <= {0, 1}:
            raise DataError(f"{where}: looks like 0/1 vectors, but of different lengths, such as {known[0]!r}; correct the file")
        return None
    numbers = {number for row in rows for number in row if number is not None}
    is_binary, is_fraction = numbers <= {0, 1, -1}, any(not number.is_integer() or number < 0 for number in numbers)
    if not (is_bits or is_fraction or (has_repeats and (is_binary or size == len(names)))):
        if is_binary or has_repeats:
            raise DataError(f"{where}: {known[0]!r} may be a list of ids or a vector of {size} flags; write the labels as names to tell")
        return None
    return _build_vector(where, known[0], size, replace(cells, is_bits=is_bits), is_binary, names)


def _read_number(item: Any) -> float | None:
    """Return an item of a list as a number, -1 for an empty one; None if it is no number."""
    return -1.0 if item is None or item != item else float(item) if isinstance(item, bool) else find_number(item)


def _build_vector(where: str, example: Any, size: int, cells: CellFormat, is_binary: bool, names: tuple[str, ...]) -> CellFormat:
    what = f"{where}: looks like a 0/1 vector of {size}, such as {example!r}"
    if not names:
        raise DataError(f"{what}; set data.label_names to its {size} names, in their order")
    if len(names) != size:
        raise DataError(f"{what}, but there are {len(names)} label names; they must be as many: set data.label_names")
    if not is_binary and cells.threshold is None:
        raise DataError(f"{what}, with other values than 0 and 1; {SET_THRESHOLD}")
    return replace(cells, vector=tuple(names), description=f"0/1 vectors of {size}")


def _find_first_id(where: str, values: list[Any], cells: CellFormat, config: DataConfig, names: tuple[str, ...]) -> int:
    """Return the id of the first label name.

    Raises: DataError if the ids may begin at 0 or at 1.
    """
    if config.first_label_id is not None or not names or any(name.isdecimal() for name in names):
        return config.first_label_id or 0
    scalars = Counter(value for value in values if not isinstance(value, (list, dict)))  # many rows have the same cell
    ids: Counter[int] = Counter()
    for value, number in [*scalars.items(), *((value, 1) for value in values if isinstance(value, list))]:
        with suppress(DataError):
            for label in cells.read(value).labels:
                if (label_id := read_digits(str(label))) is not None:
                    ids[label_id] += number
    last = len(names)
    if not ids or 0 in ids or max(ids) > last:
        return 0
    if max(ids) == last:
        return 1
    if set(ids) == set(range(1, last)) and ids.total() >= ROWS_PER_ID * last:
        raise DataError(
            f"{where}: has the ids 1 to {last - 1} for {last} names: 1 may be {names[0]!r} or {names[1]!r}; "
            "set data.first_label_id=1 or data.first_label_id=0"
        )
    return 0
