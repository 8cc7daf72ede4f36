"""Locks: one process at a time works on a run or on a scored file.

The system releases a lock when its process ends, however it ends, so a lock never has to be removed by hand. On a shared folder, a lock
holds between machines if the file system passes `flock` on, as NFS 4 does; where it does not, it holds on each machine only.
"""

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from emotion.errors import StorageError

SECONDS_TO_ACQUIRE = 1.0
"""How long a lock is tried for: `is_locked` holds it for a moment too."""


class LockHeldError(StorageError):
    """A lock that another process holds."""


@contextmanager
def hold_lock(path: Path, work: str, remedy: str, timeout: float = SECONDS_TO_ACQUIRE) -> Iterator[None]:
    """Hold the lock file `path` inside the block, after waiting for at most `timeout` seconds. The file stays and describes the holder.

    Raises: LockHeldError if another process holds it: "`work` by process 4711 on HOST since TIME; `remedy`".
    """
    lock = FileLock(path, timeout=timeout)
    try:
        try:
            lock.acquire()
        except FileNotFoundError:  # the process before has just removed the folder
            lock.acquire()
    except Timeout:
        raise LockHeldError(f"{work} by {describe_holder(path)}; {remedy}") from None
    except OSError as error:
        raise StorageError(f"{path}: cannot be locked ({error.strerror})") from None
    try:
        holder = {"process": os.getpid(), "machine": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        with suppress(OSError):  # the description is for a message only
            path.write_text(json.dumps(holder) + "\n", encoding="utf-8")
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock file `path`."""
    if not path.exists():
        return False
    lock = FileLock(path, blocking=False)
    try:
        lock.acquire()
    except (Timeout, OSError):
        return True
    lock.release()
    return False


def describe_holder(path: Path) -> str:
    """Return the holder of a lock, such as `process 4711 on HOST since 2026-01-31 12:00:00`."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f"process {int(holder['process'])} on {holder['machine']} since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
