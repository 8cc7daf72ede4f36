"""Rows of a JSON file: one object per line, an array of objects, or an object that holds such an array."""

import io
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import IO, Any

from emotion.data.reading.encodings import find_encoding, peek_head
from emotion.data.reading.records import describe_long_line, read_lines
from emotion.data.reading.rows import BadRow, ReadOptions, Row, Rows
from emotion.errors import DataError

HEAD_RECORDS = 1_000
"""Number of JSON objects whose combined keys are the columns, if objects may lack keys."""
MAX_JSON_DEPTH = 100
"""Maximum number of objects and lists around a value of a JSON object."""
CHUNK_CHARACTERS = 2**16
"""Characters of an array that are read at a time."""
ARRAY_START = re.compile(r"[\ufeff\s]*\[\s*([{\]]|$)")
"""The beginning of an array of objects."""
SEPARATOR = re.compile(r"[\s,]*")

Records = Iterator[tuple[dict[str, Any], Row | BadRow]]
"""Each object, or an empty one if there is none, and its `Row` of the raw text or `BadRow`."""


def read_json(path: str, stream: IO[bytes], options: ReadOptions, is_lines: bool = False) -> Rows:
    """Return the columns and rows of a JSON file; in an array, a row's line is its number from 1.

    `is_lines` is for files whose ending promises an object per line: an array is read there too, but not an object that holds one.
    """
    head_bytes = peek_head(stream)
    encoding, notes = find_encoding(path, head_bytes, options.config.encoding)
    head = head_bytes.decode(encoding, "ignore")
    max_length = options.config.max_line_length
    if ARRAY_START.match(head):
        parsed = _parse_array(path, io.TextIOWrapper(stream, encoding=encoding, errors="surrogateescape", newline=""), max_length)
    elif not is_lines and not _has_object_per_line(head):
        parsed, key = _parse_object(path, stream.read().decode(encoding, "surrogateescape"))
        notes.append(f"rows are the objects of {key!r}")
    else:
        lines = read_lines(stream, max_length, encoding, "\n" if "\n" in head else "")
        parsed = _parse_lines(path, lines, options.is_lenient, max_length)
    rows = _align_keys(path, parsed, options.is_lenient)
    rows.notes[:0] = notes
    return rows


def _align_keys(path: str, parsed: Records, is_lenient: bool) -> Rows:
    """Return rows that have a value for each key of the first objects."""
    head = list(itertools.islice(parsed, HEAD_RECORDS if is_lenient else 1))
    if all(isinstance(entry, BadRow) for _, entry in head):
        for record, entry in parsed:
            head.append((record, entry))
            if isinstance(entry, Row):
                break
    columns = list(dict.fromkeys(key for record, _ in head for key in record))

    def check() -> Iterator[Row | BadRow]:
        for record, entry in itertools.chain(head, parsed):
            if isinstance(entry, BadRow):
                yield entry
            elif not set(record) <= set(columns) or (len(record) < len(columns) and not is_lenient):
                yield BadRow.describe(path, entry.line, f"keys {sorted(record)}, expected {sorted(columns)}", entry.values)
            else:
                yield Row(path, entry.line, [record.get(column) for column in columns])

    return Rows(columns, check())


def _parse_lines(path: str, lines: Iterator[str], is_lenient: bool, max_length: int) -> Records:
    for line, text in enumerate(lines, start=1):
        if len(text) > max_length:
            yield {}, describe_long_line(path, line, text, max_length)
            continue
        if not text.strip():
            if is_lenient:
                yield {}, BadRow.describe(path, line, "empty line", "")
            continue
        try:
            record = DECODER.decode(text)
        except DataError as error:
            yield {}, BadRow.describe(path, line, str(error), text)
        except (ValueError, RecursionError) as error:
            yield {}, BadRow.describe(path, line, f"not JSON ({error})", text)
        else:
            yield _check_record(path, line, record, text)


def _parse_array(path: str, stream: io.TextIOWrapper, max_length: int) -> Records:
    """Yield the objects of an array, in constant memory.

    Raises: DataError for an array that ends early, or is not JSON: where the next object begins is then unknown.
    """
    with stream:
        yield from _parse_elements(path, stream, max_length)


def _parse_elements(path: str, stream: io.TextIOWrapper, max_length: int) -> Records:
    text = stream.read(CHUNK_CHARACTERS)
    position, number, is_end = text.index("[") + 1, 1, False
    faults: list[str] = []
    decoder = _make_decoder(faults)
    while True:
        position = SEPARATOR.match(text, position).end()  # type: ignore[union-attr]
        faults.clear()
        try:
            if text.startswith("]", position):
                return
            record, end = decoder.raw_decode(text, position)
            is_cut = end == len(text) and not is_end
        except (ValueError, RecursionError) as error:
            is_cut = not is_end and len(text) - position <= max_length and not isinstance(error, RecursionError)
            if not is_cut:
                reason = "the array has no end" if position >= len(text) else " ".join(str(error).split())
                raise DataError(f"{path}: object {number:,} of the array is not JSON ({reason})") from None
        if is_cut:  # as much again as there is, so that a long object is not parsed often
            more = stream.read(max(CHUNK_CHARACTERS, len(text) - position))
            text, position, is_end = text[position:] + more, 0, not more
            continue
        content = text[position:end]
        yield ({}, BadRow.describe(path, number, faults[0], content)) if faults else _check_record(path, number, record, content)
        position, number = end, number + 1


def _parse_object(path: str, text: str) -> tuple[Records, str]:
    """Return the rows of the only list of objects in a JSON object, and its key."""
    try:
        values = DECODER.decode(text.lstrip("\ufeff"))
    except (DataError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON ({' '.join(str(error).split())})") from None
    lists = [key for key, value in values.items() if _is_list_of_objects(value)] if isinstance(values, dict) else []
    if len(lists) != 1:
        found = f"an object with {len(lists)} lists of objects" if isinstance(values, dict) else f"a {type(values).__name__}"
        raise DataError(f"{path}: is {found}; needed is an array of objects, an object that holds one array, or one object per line")
    records = values[lists[0]]
    return (_check_record(path, number, record, str(record)) for number, record in enumerate(records, start=1)), lists[0]


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _has_object_per_line(head: str) -> bool:
    """Return whether the first line is an object, and another one follows."""
    first, *others = [line for line in head.lstrip("\ufeff").splitlines() if line.strip()][:2] or [""]
    try:
        return isinstance(json.loads(first), dict) and bool(others) and others[0].lstrip().startswith("{")
    except (ValueError, RecursionError):
        return False


def _check_record(path: str, line: int, record: Any, text: str) -> tuple[dict[str, Any], Row | BadRow]:
    if not isinstance(record, dict):
        return {}, BadRow.describe(path, line, "not a JSON object", text)
    if text.count("[") + text.count("{") > MAX_JSON_DEPTH and _is_too_deep(record):
        return {}, BadRow.describe(path, line, f"nested deeper than {MAX_JSON_DEPTH} levels", text)
    return record, Row(path, line, [text.rstrip("\r\n")])


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object.

    Raises: DataError for a key that occurs twice, because a dict would keep only one of its values.
    """
    values = dict(pairs)
    if len(values) < len(pairs):
        (key, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise DataError(f"key {key[:50]!r} occurs twice")
    return values


def _is_too_deep(record: Any) -> bool:
    """Return whether an object is nested so deeply that writing it may exceed the interpreter's stack."""
    level = [record]
    for _ in range(MAX_JSON_DEPTH):
        level = [
            child for value in level if isinstance(value, (dict, list)) for child in (value.values() if isinstance(value, dict) else value)
        ]
    return any(isinstance(value, (dict, list)) for value in level)


def _parse_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise DataError(f"{text[:50]} is beyond the range of a 64-bit float")
    return value


DECODER = json.JSONDecoder(object_pairs_hook=_build_object, parse_float=_parse_float)


def _make_decoder(faults: list[str]) -> json.JSONDecoder:
    """Return a decoder that lists its faults instead of raising, so that the end of the object is found."""

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        try:
            return _build_object(pairs)
        except DataError as error:
            faults.append(str(error))
            return dict(pairs)

    def parse_float(text: str) -> float:
        try:
            return _parse_float(text)
        except DataError as error:
            faults.append(str(error))
            return math.inf

    return json.JSONDecoder(object_pairs_hook=build, parse_float=parse_float)
