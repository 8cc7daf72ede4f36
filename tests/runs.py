"""What tests do with runs: start one, stop it at a moment of its own, compare what two have left behind."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from emotion.tracking.run_folder import RunFolder
from tests.conftest import Script, start_script

TIMES = {"seconds", "peak_memory", "examples_per_second", "tokens_per_second"}
"""Keys of a row of metrics.jsonl that differ from one run to the next."""
ROUNDING = 1e-6


def train_arguments(backbone: object, folder: object, name: str, *settings: str) -> list[str]:
    """Return the command line of a run of train.py, for `run_script`."""
    common = [f"model.backbone={backbone}", f"run.folder={folder}", f"run.name={name}"]
    return ["train.py", "--config", "configs/quickstart.yaml", *common, *settings]


def wait_until(script: Script, is_due: Callable[[], Any]) -> None:
    """Wait until `is_due()` is true, the script ends, or two minutes are over."""
    deadline = time.monotonic() + 120
    while script.poll() is None and time.monotonic() < deadline and not is_due():
        time.sleep(0.002)


def kill_when(arguments: list[str], is_due: Callable[[], Any], number: int = signal.SIGKILL) -> int:
    """Start a script, send it a signal as soon as `is_due()` is true, and return its exit status."""
    script = start_script(*arguments)
    wait_until(script, is_due)
    script.send_signal(number)
    return script.wait(120)


def read_results(folder: Path) -> tuple[list, dict[str, bytes], pd.DataFrame, str]:
    """Return all of a run that does not depend on whether it was interrupted."""
    run = RunFolder(folder)
    rows = [{key: value for key, value in row.items() if key not in TIMES} for row in run.read_metrics()]
    weights = {path.name: path.read_bytes() for path in run.model.glob("*.safetensors")}
    return rows, weights, pd.read_parquet(run.predictions("validation")), (run.model / "emotion.json").read_text()


def assert_same_run(first: Path, second: Path) -> None:
    """Check that two runs are equal bit by bit: metrics, weights, probabilities, decision rule."""
    for one, other in zip(read_results(first), read_results(second), strict=True):
        if isinstance(one, pd.DataFrame):
            pd.testing.assert_frame_equal(one, other, check_exact=True)
        else:
            assert one == other and len(one) > 0


def assert_equal_to_rounding(first: Path, second: Path, data: Path) -> None:
    """Check that two runs on a data folder are equal but for the order of sums, and have each validation row once.

    In another order, float32 sums differ by about 1e-7 of their value; a row lost, counted twice or divided by another number of rows moves
    a loss by 1e-3 or more. F1 and average precision are steps in the probabilities: one decision or rank that rounding turns moves the
    macro average over six labels by up to 1 / (6 * 10), for ten positives.
    """
    rows, others = (RunFolder(path).read_metrics() for path in (first, second))
    assert [row["kind"] for row in rows].count("validation") >= 1 and len(rows) == len(others) > 3
    for row, other in zip(rows, others, strict=True):
        assert row.keys() == other.keys()
        for key in ("kind", "step", "examples_seen"):
            assert row.get(key) == other.get(key)
        assert other["loss"] == pytest.approx(row["loss"], abs=ROUNDING)
    scores = {key for key in rows[-1] if "_f1" in key or "precision" in key}
    assert len(scores) >= 4
    for key in scores:
        assert others[-1][key] == pytest.approx(rows[-1][key], abs=1 / 60), key
    assert_equal_probabilities(first, second, data)


def assert_equal_probabilities(first: Path, second: Path, data: Path) -> None:
    """Check that two runs on a data folder have the same probabilities but for rounding, and each validation row once."""
    frames = [pd.read_parquet(RunFolder(path).predictions("validation")) for path in (first, second)]
    ids = pd.read_csv(data / "validation.csv").id.tolist()
    assert len(set(ids)) == len(ids) > 50
    assert all(frame.id.tolist() == ids for frame in frames)
    probabilities = [frame[[name for name in frame if f"gold:{name}" in frame]].to_numpy() for frame in frames]
    assert probabilities[0].shape[1] > 1 and probabilities[0].std() > 100 * ROUNDING
    np.testing.assert_allclose(probabilities[1], probabilities[0], rtol=0, atol=ROUNDING)
