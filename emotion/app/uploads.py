"""Files that somebody dropped on the page: where they are kept, and what is in them before they are scored."""

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from emotion.config import DataConfig
from emotion.data.reading.opening import open_rows
from emotion.data.reading.rows import BadRow, Row
from emotion.data.reading.streams import open_source
from emotion.errors import DataError, EmotionError
from emotion.files import atomic_write, compute_checksum
from emotion.labels import LabelSet

MAX_UPLOAD_MEGABYTES = 200
PREVIEW_ROWS = 3
KEPT_SECONDS = 86_400
"""A file that nobody has used for a day is removed."""


@dataclass(frozen=True)
class Upload:
    """A file to score."""

    path: Path
    columns: list[str]
    text_column: str | None
    """The guessed column of the texts; None if none of them looks like one."""
    notes: list[str]
    """What was found in the file that the user should know, such as its encoding."""
    num_rows: int
    num_unreadable: int
    rows: list[list[Any]]
    """The first rows that could be read."""


class UploadStore:
    """A folder with a copy of each uploaded file, under its checksum: a file that comes again finds its earlier parts and results."""

    def __init__(self, folder: Path, kept_seconds: float = KEPT_SECONDS) -> None:
        self.folder, self._kept_seconds = folder, kept_seconds

    def add(self, path: Path) -> Path:
        """Return the store's copy of a file, and remove the files and results that are too old.

        Raises: DataError if the file has been removed, as Gradio does with its own copy after a day.
        """
        self._remove_old()
        if not path.is_file():
            raise DataError(f"{path.name}: is no longer here: files are removed after a day; drop it again")
        target = self.folder / compute_checksum(path)[:32] / path.name
        if target.is_file():
            with suppress(FileNotFoundError):
                os.utime(target.parent)  # it is in use
        else:
            with atomic_write(target, is_shared=True) as partial:
                try:
                    os.link(path, partial)
                except OSError:  # another file system
                    shutil.copyfile(path, partial)
        return target

    def _remove_old(self) -> None:
        for folder in self.folder.glob("*/"):
            if time.time() - _find_last_change(folder) > self._kept_seconds:
                shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def hide_paths(self) -> Iterator[None]:
        """Raise errors about the store's files with their names only: the user knows the name, and the folder is the server's."""
        try:
            yield
        except EmotionError as error:
            raise type(error)(*(self.shorten(str(line)) for line in error.args)) from None

    def shorten(self, message: str) -> str:
        """Return a message with the names of the store's files in place of their paths."""
        return re.sub(rf"{re.escape(str(self.folder))}(?:/[0-9a-f]{{32}})*/", "", message)


def _find_last_change(folder: Path) -> float:
    """Return when something in a folder was last written, in seconds since 1970. Scoring adds and removes files meanwhile."""
    newest = 0.0
    for parent, _, names in os.walk(folder):
        for name in (".", *names):
            with suppress(FileNotFoundError):
                newest = max(newest, Path(parent, name).stat().st_mtime)
    return newest


def describe_upload(path: Path, label_set: LabelSet) -> Upload:
    """Return the columns and the number of rows of a file, and the column that the texts are probably in.

    Raises: DataError for a file that is too large, of another format, without rows, or of which no row can be read.
    """
    if (size := path.stat().st_size) > MAX_UPLOAD_MEGABYTES * 2**20:
        limit = f"at most {MAX_UPLOAD_MEGABYTES} MiB can be dropped here"
        raise DataError(f"{path.name}: has {size / 2**20:,.0f} MiB, {limit}; score it with evaluate.py --input, which takes any size")
    text_column, problem = None, ""
    try:
        with open_source([path], DataConfig(), label_set) as source:
            text_column = source.text_column
    except DataError as error:
        problem = str(error)
    with open_rows(path, is_lenient=True) as opened:
        entries = iter(opened.entries)
        head = list(islice(entries, PREVIEW_ROWS))
        num_rows, num_unreadable = len(head), sum(isinstance(entry, BadRow) for entry in head)
        for entry in entries:
            num_rows += 1
            num_unreadable += isinstance(entry, BadRow)
    if num_rows == num_unreadable:
        raise DataError(f"{head[0]}; no other row could be read" if head else problem or f"{path.name}: has no rows")
    return Upload(
        path, opened.columns, text_column, opened.notes, num_rows, num_unreadable, [row.values for row in head if isinstance(row, Row)]
    )
