"""What this machine has for a planned run: its memory, and how fast it multiplies matrices."""

import os
import time
from pathlib import Path

import psutil
import torch

LIBRARY_BYTES = 1.2 * 2**30
"""Main memory that Python, torch, transformers and scikit-learn take in a training process. Source: docs/log/, 26 November 2026."""
MIN_SECONDS, MAX_PRODUCTS = 0.3, 200
"""How long matrix products are timed, and how many at most."""
MAX_CPU_TOKENS, MAX_CPU_WIDTH = 128, 1_024
"""Size of these products on a CPU: larger ones are as fast, and in bf16, which some CPUs only emulate, they would take minutes."""
MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Files with the limit of a container, of cgroup version 2 and 1."""


def measure_free_memory(device: torch.device) -> tuple[float, str]:
    """Return the bytes of memory that are free on a GPU or, for a CPU, in this machine or container, and where that is."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0]), f"free on {torch.cuda.get_device_name(device)}"
    memory = psutil.virtual_memory()
    limits = [int(text) for path in MEMORY_LIMITS if (text := _read_text(path)).isdecimal()]
    # What this process has by now is among the libraries.
    free = memory.available + psutil.Process().memory_info().rss
    return float(min([free, *limits])), "free in this machine"


def measure_speed(device: torch.device, precision: str, num_tokens: int, width: int) -> float:
    """Return the floating-point operations per second of products (num_tokens, width) x (width, 4 width), the largest of a layer."""
    if device.type == "cpu":
        num_tokens, width = min(num_tokens, MAX_CPU_TOKENS), min(width, MAX_CPU_WIDTH)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    left, right = (torch.ones(shape, dtype=dtype, device=device) for shape in ((num_tokens, width), (width, 4 * width)))
    (left @ right).sum().item()  # the first is slow: threads and kernels start
    started, num_products = time.perf_counter(), 0
    while num_products < MAX_PRODUCTS and time.perf_counter() - started < MIN_SECONDS:
        product = left @ right
        num_products += 1
    product[0, 0].item()  # waits for a GPU
    return num_products * 2 * num_tokens * width * 4 * width / (time.perf_counter() - started)


def count_local_processes(num_processes: int) -> int:
    """Return how many processes of the run share the memory of this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", num_processes))


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""
