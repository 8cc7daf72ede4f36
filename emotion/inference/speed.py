"""How fast a model answers, measured while a split is scored."""

import platform
import time
from typing import Any

import numpy as np
import torch

from emotion.inference.predictor import Predictor

NUM_SINGLE_TEXTS = 50
"""Texts that are also asked one at a time, behind `NUM_WARM_UP` that do not count."""
NUM_WARM_UP = 5


def predict_timed(predictor: Predictor, texts: list[str], description: str) -> tuple[np.ndarray, dict[str, Any]]:
    """Return probabilities, float32 (n, L), and what speed.json holds: texts a second in batches, milliseconds of one text (median)."""
    started = time.perf_counter()
    probabilities = predictor.predict(texts, description)
    seconds = time.perf_counter() - started
    singles = []
    for text in texts[: NUM_WARM_UP + NUM_SINGLE_TEXTS]:
        started = time.perf_counter()
        predictor.predict([text])
        singles.append(time.perf_counter() - started)
    is_gpu = predictor.device.type == "cuda"
    return probabilities, {
        "texts": len(texts),
        "seconds": seconds,
        "texts_per_second": len(texts) / seconds,
        "milliseconds_per_text": 1_000 * float(np.median(singles[NUM_WARM_UP:] or singles)),
        "device": torch.cuda.get_device_name() if is_gpu else f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s)",
    }
