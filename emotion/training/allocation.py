"""Memory that a training step has used is kept for the next one."""

import ctypes
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
"""Names of glibc's `mallopt` parameters. Source: malloc.h."""


def keep_freed_memory() -> None:
    """Let glibc keep what this process frees, where there is glibc; elsewhere do nothing.

    Every step allocates the same arrays anew. glibc gives large ones back to the system in between (the gradient of a word
    embedding is 47 MB), and the system clears each page again: a tenth of a step.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_MAX, 0)
        mallopt(TRIM_THRESHOLD, 2**31 - 1)
        mallopt(TOP_PAD, 64 * 2**20)
