"""Threads, allocator and name of this machine's CPU. Works without torch, but for `prepare_cpu`."""

import ctypes
import os
import platform
import sys
from pathlib import Path

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
"""Numbers of glibc's `mallopt` parameters. Source: malloc.h."""
VNNI_FLAGS = {"avx512_vnni", "avx_vnni"}


def prepare_cpu() -> str | None:
    """Set up threads and allocator for training on a CPU; return a message for the user, or None."""
    disable_malloc_trim()
    return restore_cpu_threads()


def count_cores() -> int:
    """Return how many cores this process may use, where the system says so, otherwise how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def disable_malloc_trim() -> None:
    """Let glibc keep the memory that this process frees; without glibc do nothing.

    Every step allocates the same arrays again. By default glibc returns large ones to the system in between (the gradient of a word
    embedding is 47 MB) and the system clears each page again: a tenth of a step.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_MAX, 0)
        mallopt(TRIM_THRESHOLD, 2**31 - 1)
        mallopt(TOP_PAD, 64 * 2**20)


def restore_cpu_threads() -> str | None:
    """Use all cores in the only process of `accelerate launch`; return a message, or None if there was nothing to change.

    By default the launcher limits a CPU process to one thread. `--cpu`, `--num_cpu_threads_per_process` and OMP_NUM_THREADS are respected.
    """
    import psutil
    import torch

    is_alone = os.environ.get("WORLD_SIZE", "1") == "1"
    if "ACCELERATE_MIXED_PRECISION" not in os.environ or os.environ.get("OMP_NUM_THREADS") != "1" or not is_alone:
        return None
    launcher = read_launcher()
    if launcher is None or "OMP_NUM_THREADS" in launcher[1] or find_option(launcher[0], "--num_cpu_threads_per_process"):
        return None
    num_threads = min(psutil.cpu_count(logical=False) or count_cores(), count_cores())
    if num_threads == 1:
        return None
    torch.set_num_threads(num_threads)
    return f"accelerate launch set one thread by default; using {num_threads} (OMP_NUM_THREADS chooses)"


def read_launcher() -> tuple[list[str], dict[str, str]] | None:
    """Return command line and environment of the process that started this one; None where they cannot be read."""
    import psutil  # Accelerate needs it too

    try:
        parent = psutil.Process().parent()
        return None if parent is None else (parent.cmdline(), parent.environ())
    except psutil.Error:
        return None


def find_option(words: list[str], name: str) -> str | None:
    """Return the value of a command-line option (`--name VALUE` or `--name=VALUE`, dashes as underscores), or None."""
    for position, word in enumerate(words):
        option, _, value = word.replace("-", "_").partition("=")
        if option == name.replace("-", "_"):
            return value or (words[position + 1] if position + 1 < len(words) else None)
    return None


def name_cpu() -> str:
    """Return the CPU's name and, on x86, whether it has VNNI."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = found.get("model name", platform.machine())
    if "flags" not in found:
        return name
    return f"{name}, {'with' if VNNI_FLAGS & set(found['flags'].split()) else 'without'} VNNI"
