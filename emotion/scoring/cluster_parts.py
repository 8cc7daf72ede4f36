"""The parts of a job on a cluster: ranges of rows of parquet files. Files of other formats are converted to such parts first.

A part that was converted has the text and, for a bad row, what is known of it, in two columns that are not written to the output.
"""

import io
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, islice, pairwise
from pathlib import Path
from typing import Any

from emotion.config import DataConfig
from emotion.data.reading.label_formats import DETECTION_ROWS
from emotion.data.reading.layout import find_text_column
from emotion.data.reading.opening import find_format
from emotion.data.reading.parquet import BATCH_ROWS, convert_rows, read_parquet
from emotion.data.reading.rows import BadRow, ReadOptions, Row, check_unique
from emotion.data.reading.streams import check_types, open_source
from emotion.data.reading.tables import Table
from emotion.errors import DataError
from emotion.labels import LabelSet
from emotion.scoring.formats import build_schema, format_part
from emotion.scoring.parts import cut_parts
from emotion.scoring.remote_files import Folder, InputFile, open_filesystem
from emotion.scoring.texts import select_texts
from emotion.text import describe_error

CONVERTED = "_converted"
"""Folder of converted parts below the output."""
TEXT, BAD = "__emotion_text__", "__emotion_bad__"
"""Columns of a converted part: the text, null in a bad row, and file, line, reason and content of a bad row as JSON."""
NUM_READERS = 16
"""Footers that are read at the same time: in the cloud each takes a while."""


@dataclass(frozen=True)
class FilePart:
    """Some rows of a parquet file."""

    number: int
    name: str
    first_row: int
    num_rows: int

    @property
    def output(self) -> str:
        """Name of the file of the scored rows."""
        return f"part-{self.number:06d}.parquet"


@dataclass(frozen=True)
class Plan:
    """What is scored: the parts, the columns of the input, and the column of the text."""

    parts: list[FilePart]
    columns: list[str]
    text_column: str


def check_formats(files: list[InputFile]) -> str:
    """Return the suffix of the format that all files have.

    Raises: DataError for several formats, and for files in the cloud that are not parquet.
    """
    formats: dict[str, str] = {}
    for file in files:
        formats.setdefault(find_format(Path(file.name)), file.name)
    if len(formats) > 1:
        (first, name), (second, other), *_ = formats.items()
        raise DataError(f"--input: {name} is {first}, but {other} is {second}; give files of one format")
    (suffix,) = formats
    for file in files:
        if suffix == ".parquet" and Path(file.name).suffix.lower() != suffix:
            raise DataError(f"--input {file.name}: parquet in another compression cannot be read in parts; unpack it first")
        if suffix != ".parquet" and "://" in file.name:
            raise DataError(f"--input {file.name}: only parquet is read from the cloud; copy it to a local disk first, or convert it")
    return suffix


def cut_files(files: list[InputFile], columns: DataConfig, part_rows: int) -> Plan:
    """Return the parts of parquet files.

    Raises: DataError for a file that cannot be read or has other columns than the first, for files without rows, and without a text column.
    """
    with ThreadPoolExecutor(NUM_READERS) as pool:
        footers = list(pool.map(_read_footer, (file.name for file in files)))
    first = footers[0][0]
    check_unique(files[0].name, first.names)
    for file, (schema, _) in zip(files, footers, strict=True):
        if schema.names != first.names:
            raise DataError(
                f"{file.name}: has the columns {schema.names}, but {files[0].name} has {first.names}; all files must have the same"
            )
        check_types(Path(file.name), schema, Path(files[0].name), first)
    ranges = [
        (file.name, start, min(part_rows, num_rows - start))
        for file, (_, num_rows) in zip(files, footers, strict=True)
        for start in range(0, num_rows, part_rows)
    ]
    if not ranges:
        raise DataError(f"{files[0].name}: has no rows")
    with _open_parquet(ranges[0][0]) as (stream, _):
        rows = read_parquet(ranges[0][0], stream, ReadOptions(columns))
        head = [entry.values for entry in islice(rows.entries, DETECTION_ROWS) if isinstance(entry, Row)]
    text_column = find_text_column(Table(ranges[0][0], first.names, head), columns)
    return Plan([FilePart(number, *values) for number, values in enumerate(ranges)], first.names, text_column)


def convert_files(
    files: list[InputFile], columns: DataConfig, part_rows: int, label_set: LabelSet, folder: Folder, log: Callable[[str], Any]
) -> Plan:
    """Write files of other formats as parquet parts below the output, and return these.

    Raises: DataError for a file that cannot be read.
    """
    parts: list[FilePart] = []
    with open_source([Path(file.name) for file in files], columns, label_set) as source:
        names = source.columns[: len(source.columns) - source.num_nested]
        schema, num_notes = build_schema([*names, TEXT, BAD], [*names, TEXT, BAD], None), 0
        for number, entries in enumerate(cut_parts(source.entries, part_rows)):
            texts, bad_rows = select_texts(entries, source, Path("x.parquet"))
            remaining = iter(bad_rows)
            rows = []
            for position, entry in enumerate(entries):
                values = entry.values[: len(names)] if isinstance(entry, Row) else [None] * len(names)
                bad = None if position in texts else json.dumps(list(vars(next(remaining)).values()))
                rows.append([*values, texts.get(position), bad])
            name = f"{CONVERTED}/part-{number:06d}.parquet"
            folder.write(name, format_part([*names, TEXT, BAD], rows, Path(name), schema, entries))
            parts.append(FilePart(number, f"{folder.name}/{name}", 0, len(rows)))
            for note in source.notes[num_notes:]:
                log(f"data: {note}")
            num_notes = len(source.notes)
    return Plan(parts, names, source.text_column)


def read_part(part: FilePart) -> Any:
    """Return the rows of a part as an Arrow table; only the row groups that hold them are read.

    Raises: DataError if the file cannot be read.
    """
    import pyarrow as pa

    batches, position, end = [], part.first_row, part.first_row + part.num_rows
    with _open_parquet(part.name) as (_, file):
        bounds = list(accumulate((file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)), initial=0))
        groups = [group for group, (start, stop) in enumerate(pairwise(bounds)) if start < end and stop > part.first_row]
        position = bounds[groups[0]] if groups else 0
        for batch in file.iter_batches(BATCH_ROWS, row_groups=groups):
            first, last = max(part.first_row - position, 0), min(end - position, batch.num_rows)
            position += batch.num_rows
            if first < last:
                batches.append(batch.slice(first, last - first))
        table = pa.Table.from_batches(batches, file.schema_arrow).replace_schema_metadata(None)
    if table.num_rows != part.num_rows:
        raise DataError(f"{part.name}: has changed since the job began; start it again with another --output")
    return table


def format_table(table: Any) -> bytes:
    """Return an Arrow table as a parquet file."""
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def describe_bad_row(part: FilePart, table: Any, row: int, reason: str) -> BadRow:
    """Return a row of a part that cannot be scored, with its file and line."""
    if BAD in table.column_names:
        return BadRow(*json.loads(table.column(BAD)[row].as_py()))
    line = part.first_row + row
    (entry,) = convert_rows(part.name, line, table.column_names, table.slice(row, 1))
    return entry if isinstance(entry, BadRow) else BadRow.describe(part.name, line + 1, reason, entry.values)


def _read_footer(name: str) -> tuple[Any, int]:
    with _open_parquet(name) as (_, file):
        return file.schema_arrow, file.metadata.num_rows


@contextmanager
def _open_parquet(name: str) -> Iterator[tuple[Any, Any]]:
    """Yield the stream and the `ParquetFile` of a name.

    Raises: DataError if it cannot be read, in the block too.
    """
    import pyarrow.parquet as pq

    filesystem, path = open_filesystem(name)
    try:
        with filesystem.open_input_file(path) as stream:
            yield stream, pq.ParquetFile(stream, page_checksum_verification=True)
    except DataError:
        raise
    except Exception as error:  # the library raises many types
        raise DataError(f"{name}: cannot be read as parquet ({describe_error(error)})") from None
