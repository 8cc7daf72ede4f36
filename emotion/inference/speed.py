"""Measure how fast a model predicts while a split is evaluated."""

import platform
import time
from typing import Any

import numpy as np
import torch

from emotion.inference.predictor import Predictor
from emotion.inference.text_checks import TextChecks

NUM_SINGLE_TEXTS = 50
"""Texts that are also predicted one at a time, after `NUM_WARM_UP` texts that are not measured."""
NUM_WARM_UP = 5


def predict_timed(predictor: Predictor, texts: list[str], description: str) -> tuple[np.ndarray, TextChecks, dict[str, Any]]:
    """Return probabilities, float32 (n, L), checks, and the contents of speed.json: texts/s in batches, median time of one text."""
    started = time.perf_counter()
    probabilities, checks = predictor.predict_checked(texts, description)
    seconds = time.perf_counter() - started
    single_seconds = []
    for text in texts[: NUM_WARM_UP + NUM_SINGLE_TEXTS]:
        started = time.perf_counter()
        predictor.predict([text])
        single_seconds.append(time.perf_counter() - started)
    is_gpu = predictor.device.type == "cuda"
    measured = {
        "texts": len(texts),
        "seconds": seconds,
        "texts_per_second": len(texts) / seconds,
        "milliseconds_per_text": 1_000 * float(np.median(single_seconds[NUM_WARM_UP:] or single_seconds)),
        "device": torch.cuda.get_device_name() if is_gpu else f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s)",
    }
    return probabilities, checks, measured
