"""Files are written beside their place and renamed, so that a name always holds a whole file or nothing."""

import errno
import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from emotion.errors import StorageError

FULL = {
    errno.ENOSPC: "no space left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "larger than a file may be here (ulimit -f)",
}
"""What an error number says about want of space."""
FULL_WORDS = {"No space left on device": errno.ENOSPC, "quota exceeded": errno.EDQUOT, "File too large": errno.EFBIG}
"""The same in the words of the system, which is all that safetensors passes on."""


@contextmanager
def atomic_write(path: Path, num_bytes: int | None = None) -> Iterator[Path]:
    """Yield a path beside `path` to write a file or make a folder at; it takes the name when the block ends well.

    A folder that has the name already is replaced. `num_bytes`, where the caller knows it, is how much there will be to write.

    Raises: StorageError if the device is full; what had the name before is intact.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(partial)
        yield partial
        if path.is_dir():  # a folder cannot be renamed over: keep the old one until the new one has its name
            old = path.with_name(f".{path.name}.old")
            _remove(old)
            path.rename(old)
            partial.rename(path)
            _remove(old)
        else:
            partial.replace(path)
    except (PermissionError, NotADirectoryError, FileExistsError, FileNotFoundError) as error:
        if isinstance(error, FileNotFoundError) and path.parent.is_dir():  # a file that the block itself missed
            raise
        raise StorageError(f"{path}: cannot be written ({error.strerror}); give another place") from None
    except Exception as error:
        if (reason := _find_full_reason(error)) is None:
            raise
        _remove(partial)
        raise StorageError(_describe_full(path, reason, num_bytes)) from None
    finally:
        with suppress(OSError):
            _remove(partial)


def append_line(path: Path, line: str) -> None:
    """Append a line to a file.

    Raises: StorageError if the device is full.
    """
    try:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
    except OSError as error:
        if (reason := _find_full_reason(error)) is None:
            raise
        raise StorageError(_describe_full(path, reason, len(line) + 1)) from None


def write_json(path: Path, values: Any) -> None:
    """Write JSON with `null` for nan, as JSON has no nan."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(without_nan(values), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def without_nan(values: Any) -> Any:
    """Return the same values with None for every nan and infinity."""
    if isinstance(values, dict):
        return {key: without_nan(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [without_nan(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def is_full(error: Exception) -> bool:
    """Whether an error says that there is no room for what is to be written."""
    return _find_full_reason(error) is not None


def _find_full_reason(error: Exception) -> str | None:
    number = getattr(error, "errno", None) or next((number for words, number in FULL_WORDS.items() if words in str(error)), None)
    return FULL.get(number) if number is not None else None


def _describe_full(path: Path, reason: str, num_bytes: int | None) -> str:
    needed = "" if num_bytes is None else f"needed are {num_bytes / 2**20:,.2f} MiB, "
    free = shutil.disk_usage(path.parent).free
    return f"{path}: {reason} ({needed}{free / 2**20:,.2f} MiB free without it): make room and start again"


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
