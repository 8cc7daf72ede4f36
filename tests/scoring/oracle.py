"""A predictor whose answers are known, and what tests of scoring do with it."""

import csv
import hashlib

import numpy as np
import pytest

from emotion.config import DataConfig, ModelConfig
from emotion.evaluation.decision import default_rule
from emotion.inference.sidecar import Sidecar
from emotion.inference.text_checks import TextChecks
from emotion.labels import LabelSet
from emotion.scoring.manifest import ScoringJob
from emotion.scoring.scoring import score_files

NAMES = ("anger", "joy", "fear")


class Oracle:
    """A predictor whose probabilities are a function of the text."""

    label_set, rule, backend_name = LabelSet(NAMES), default_rule(3), "oracle"
    sidecar = Sidecar(NAMES, ModelConfig(), 64, "fp32", {})

    def __init__(self):
        self.texts = []

    def predict(self, texts):
        self.texts += texts
        return np.array([hash_text(text) for text in texts])

    def predict_checked(self, texts):
        return self.predict(texts), TextChecks.build_empty(len(texts))


def hash_text(text):
    """Return three probabilities."""
    return [byte / 255 for byte in hashlib.sha256(text.encode()).digest()[:3]]


def predict_labels(text):
    return "|".join(name for name, value in zip(NAMES, hash_text(text), strict=True) if value >= 0.5)


def score(*inputs, output, predictor=None, columns=None, log=lambda message: None, **options):
    predictor = predictor or Oracle()
    job = ScoringJob(tuple(inputs), output, columns or DataConfig(), **options)
    return score_files(predictor, predictor.rule, job, log)


def read_output(path):
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        return list(csv.DictReader(stream))


class StopError(Exception):
    pass


def start_and_fail(path, output, num_parts=0, **options):
    """Score `num_parts` parts of 10 rows, and fail in the next one."""
    oracle = Oracle()

    def predict(texts):
        if len(oracle.texts) >= 10 * num_parts:
            raise StopError
        return Oracle.predict(oracle, texts)

    oracle.predict = predict
    with pytest.raises(StopError):
        score(path, output=output, predictor=oracle, part_rows=10, **options)


def make_texts(path, num_rows=95):
    path.write_text("text,id\n" + "".join(f"{'word ' * (i % 9 + 1)}{i % 40},{i}\n" for i in range(num_rows)) + ",empty\n")
