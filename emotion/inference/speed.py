"""Measure how fast a model predicts while a split is evaluated."""

import platform
import time
from typing import Any

import numpy as np
import torch

from emotion.inference.predictor import Predictor

NUM_SINGLE_TEXTS = 50
"""Texts that are also predicted one at a time, after `NUM_WARM_UP` texts that are not measured."""
NUM_WARM_UP = 5


def predict_timed(predictor: Predictor, texts: list[str], description: str) -> tuple[np.ndarray, dict[str, Any]]:
    """Return probabilities, float32 (n, L), and the contents of speed.json: texts per second in batches, median time of one text."""
    started = time.perf_counter()
    probabilities = predictor.predict(texts, description)
    seconds = time.perf_counter() - started
    single_seconds = []
    for text in texts[: NUM_WARM_UP + NUM_SINGLE_TEXTS]:
        started = time.perf_counter()
        predictor.predict([text])
        single_seconds.append(time.perf_counter() - started)
    is_gpu = predictor.device.type == "cuda"
    return probabilities, {
        "texts": len(texts),
        "seconds": seconds,
        "texts_per_second": len(texts) / seconds,
        "milliseconds_per_text": 1_000 * float(np.median(single_seconds[NUM_WARM_UP:] or single_seconds)),
        "device": torch.cuda.get_device_name() if is_gpu else f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s)",
    }
