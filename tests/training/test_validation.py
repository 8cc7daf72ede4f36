"""The validation of the loop in train.py."""

import runpy
from types import SimpleNamespace

import numpy as np

from emotion.config import Config
from emotion.data.batching import TokenizedTexts
from emotion.data.reading import Examples
from emotion.evaluation.selection import score_checkpoint
from tests.conftest import ROOT


def test_labels_that_were_not_annotated_do_not_count():
    """The kept checkpoint is scored, and its rule fitted, as after a resumption: without them."""
    generator = np.random.default_rng(0)
    gold = generator.random((300, 4)) < 0.3
    is_judged = generator.random(gold.shape) < 0.5
    logits = (2.0 * gold - 1 + generator.normal(size=gold.shape)).astype(np.float32)
    rows = Examples([str(number) for number in range(300)], [""] * 300, gold & is_judged, is_judged)
    kept = []
    run = SimpleNamespace(config=Config(), best=None, has_bias=True, predict=lambda tokens: logits, log_validation=lambda *_: None)
    run.save_best = lambda candidate, tokenizer: kept.append(candidate)
    validate = runpy.run_path(str(ROOT / "train.py"))["validate_and_keep_best"]
    validate(run, None, TokenizedTexts([[1]] * 300, 0), rows)
    expected, others = (score_checkpoint(rows.labels, logits, Config(), mask) for mask in (is_judged, None))
    assert kept[0].rule == expected.rule != others.rule and kept[0].scores == expected.scores
