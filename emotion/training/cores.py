"""How many cores there are to compute on."""

import os


def count_cores() -> int:
    """Return how many cores this process may use, where the system says so, otherwise how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
