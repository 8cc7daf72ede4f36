"""What a run costs is measured on every system."""

import sys

import numpy as np
import psutil

from emotion.tracking.efficiency import measure_peak_memory


def test_peak_memory_with_and_without_the_module_that_windows_lacks(monkeypatch):
    """An array that is held and written counts; both ways count in bytes."""
    held = np.ones(25_000_000)  # 200 MB
    size = psutil.Process().memory_info().rss
    assert size > held.nbytes
    assert held.nbytes < measure_peak_memory() < 2**40
    monkeypatch.setitem(sys.modules, "resource", None)
    assert held.nbytes < measure_peak_memory() < 2**40
