"""Atomic writes: data is written to a temporary path and then renamed, so a path always holds a complete file or folder, or none."""

import csv
import errno
import fnmatch
import hashlib
import json
import math
import os
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeGuard

from emotion.errors import StorageError

DISK_FULL_REASONS = {
    errno.ENOSPC: "no space left on the device",
    errno.EDQUOT: "the disk quota is exceeded",
    errno.EFBIG: "the file exceeds the size limit (ulimit -f)",
}
"""Error numbers that mean there is not enough space, with the text for the user."""
DISK_FULL_MESSAGES = {"No space left on device": errno.ENOSPC, "quota exceeded": errno.EDQUOT, "File too large": errno.EFBIG}
"""The operating system's messages for the same errors: safetensors passes on the message, not the number."""
SECONDS_TO_RENAME = 2.0 if os.name == "nt" else 0.0
"""How long a rename is tried: on Windows, virus scanners and indexers hold a new file open for a moment."""
TEMPORARY = (".*.partial", ".*.old")
"""Patterns of the names that `atomic_write` gives for a while; a kill may leave such a file or folder."""
NUM_SAMPLES, SAMPLE_BYTES = 64, 16_384
"""Samples of a large file that its fingerprint covers."""
MAX_NAME_BYTES = 240
"""Longest name that still has room for the dots and the ending of a temporary one: file systems allow 255 bytes."""


@contextmanager
def atomic_write(path: Path, num_bytes: int | None = None, is_shared: bool = False) -> Iterator[Path]:
    """Yield a temporary path for a new file or folder, and rename it to `path` when the block ends without an error.

    A file or folder at `path` is replaced, but no folder by a file. `num_bytes` is the size of the new data, if the caller knows it; an
    error message reports it.
    Where others may write the same at the same time (`is_shared`), each has a temporary path of its own, and the last one stays.

    Raises: StorageError if the path is not writable or the device is full; the previous file or folder is then unchanged.
    """
    owner = f"{os.getpid()}-{threading.get_ident()}." if is_shared else ""
    partial, old = _name_beside(path, f"{owner}partial"), _name_beside(path, "old")
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise StorageError(f"{path}: is neither a file nor a folder; choose another path")  # a rename would replace a device
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(partial)
        yield partial
        if partial.is_dir():
            _share_permissions(partial)
        if partial.is_file() and path.is_dir() and not path.is_symlink():
            raise StorageError(f"{path}: is a folder; give the name of a file")
        if path.is_dir():  # a rename cannot replace a folder: keep the old one until the new one has its name
            _remove(old)
            _rename(path, old)
            _rename(partial, path)
            _remove(old)
        else:
            _rename(partial, path)
    except Exception as error:
        if (reason := _find_disk_full_reason(error)) is not None:
            _remove(partial)
            raise StorageError(_describe_disk_full(path, reason, num_bytes)) from None
        if not _is_refusal(error, path, partial):
            raise
        raise StorageError(f"{path}: cannot be written ({error.strerror}); choose another path") from None
    finally:
        with suppress(OSError):
            _remove(partial)


def is_temporary(name: str) -> bool:
    """Return whether a file or folder has a name of `TEMPORARY`."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in TEMPORARY)


def restore_name(path: Path) -> None:
    """Give a folder its name back if a kill came between the two renames of `atomic_write`."""
    old = _name_beside(path, "old")
    if old.is_dir() and not path.exists():
        _rename(old, path)


def copy_folder(source: Path, target: Path, ignored: Sequence[str] = TEMPORARY) -> None:
    """Copy a folder, but nothing with a name of the patterns `ignored`.

    Permissions are not copied: the copy of a read-only folder can be changed.
    """
    target.mkdir(parents=True)
    for path in source.iterdir():
        if any(fnmatch.fnmatchcase(path.name, pattern) for pattern in ignored):
            continue
        if path.is_dir():
            copy_folder(path, target / path.name, ignored)
        else:
            shutil.copyfile(path, target / path.name)


def append_line(path: Path, line: str) -> None:
    """Append a line to a file.

    Raises: StorageError if the file is not writable or the device is full.
    """
    try:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
    except OSError as error:
        if (reason := _find_disk_full_reason(error)) is None:
            raise StorageError(f"{path}: cannot be written ({error.strerror})") from None
        raise StorageError(_describe_disk_full(path, reason, len(line) + 1)) from None


def write_csv(path: Path, rows: Iterable[Sequence[Any]], errors: str = "backslashreplace") -> None:
    """Write rows as CSV in UTF-8; `errors` says what becomes of what UTF-8 lacks, such as bytes in the names of folders."""
    with atomic_write(path) as partial, partial.open("w", encoding="utf-8", errors=errors, newline="") as stream:
        csv.writer(stream).writerows(rows)


def write_json(path: Path, values: Any) -> None:
    """Write values as JSON; nan and infinity become `null`, because JSON cannot represent them."""
    text = json.dumps(replace_nan(values), indent=2, ensure_ascii=False) + "\n"
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")  # what UTF-8 lacks is then a JSON escape


def compute_checksum(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_samples(digest: Any, path: Path) -> None:
    """Add samples of a file to a digest of hashlib: milliseconds for any size; two trainings of weights differ everywhere."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        for start in sorted({size * number // NUM_SAMPLES for number in range(NUM_SAMPLES)}):
            stream.seek(start)
            digest.update(stream.read(SAMPLE_BYTES))


def replace_nan(values: Any) -> Any:
    """Return a copy of nested dicts and lists with every nan and infinity replaced by None."""
    if isinstance(values, dict):
        return {key: replace_nan(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [replace_nan(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def is_disk_full(error: Exception) -> bool:
    """Return whether an error means that there is not enough disk space."""
    return _find_disk_full_reason(error) is not None


def _find_disk_full_reason(error: Exception) -> str | None:
    number = getattr(error, "errno", None) or next((code for text, code in DISK_FULL_MESSAGES.items() if text in str(error)), None)
    return DISK_FULL_REASONS.get(number) if number is not None else None


def _describe_disk_full(path: Path, reason: str, num_bytes: int | None) -> str:
    sizes = [] if num_bytes is None else [f"{num_bytes / 2**20:,.2f} MiB needed"]
    remedy = "raise the limit"
    if reason != DISK_FULL_REASONS[errno.EFBIG]:
        sizes.append(f"{shutil.disk_usage(path.parent).free / 2**20:,.2f} MiB free")
        remedy = "free some space"
    shown = f" ({', '.join(sizes)})" if sizes else ""
    return f"{path}: {reason}{shown}; {remedy} and start again"


def _name_beside(path: Path, ending: str) -> Path:
    """Return the hidden file `.NAME.ending` in the folder of a path."""
    name = os.fsencode(path.name)
    return path.with_name(f".{path.name if len(name) <= MAX_NAME_BYTES else hashlib.sha256(name).hexdigest()}.{ending}")


def _share_permissions(folder: Path) -> None:
    """Give the files of a folder the permissions that the umask gave the folder: safetensors lets only the owner read its files."""
    permissions = folder.stat().st_mode & 0o666
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_mode & 0o666 != permissions:
            path.chmod(permissions)


def _is_refusal(error: Exception, path: Path, partial: Path) -> TypeGuard[OSError]:
    """Return whether the system refused to write `path`; the error may also be about another file that the caller reads."""
    if not isinstance(error, OSError) or error.strerror is None:
        return False
    if isinstance(error, FileNotFoundError) and path.parent.is_dir():  # the caller has written nothing
        return False
    target = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else partial
    return target == path or partial.is_relative_to(target) or target.is_relative_to(partial)


def _rename(source: Path, target: Path) -> None:
    """Rename a file or folder, and replace a file that has the name. Windows refuses this while another program has one of them open."""
    deadline = time.monotonic() + SECONDS_TO_RENAME
    while True:
        try:
            source.replace(target)
            return
        except PermissionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
