"""Other forms of a trained model, and the check that all its forms agree."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.special import expit, logit
from sklearn.metrics import f1_score

from emotion.errors import ModelError
from emotion.inference.model_folder import save_model
from emotion.inference.predictor import Predictor, find_model_folder
from emotion.modeling.factory import load_merged

NUM_CLOSE_ROWS = 64
"""Rows predicted one at a time and padded; more would take long and show no more."""
MAX_LOGIT_DIFFERENCE = {"fp32": 1e-3, "fp16": 0.05, "bf16": 0.3}
"""Largest difference of a logit that a form may show, by precision: bf16 has 8 bits of mantissa, and logits reach 8."""

MAX_LOGIT = 9.0
"""Logits are compared up to here: what a run saves are float32 probabilities, which give a logit of 9 to 1e-4 and one of 12 to 1e-2."""


@dataclass(frozen=True)
class Agreement:
    """How far one form of a model is from another, on the same texts."""

    form: str
    num_rows: int
    logit_difference: float
    """Largest absolute difference."""
    num_flipped: int
    """Decisions (row and label) that come out otherwise."""
    macro_f1_difference: float
    bound: float

    @property
    def is_within(self) -> bool:
        return self.logit_difference <= self.bound


def merge_model(predictor: Predictor, location: str) -> Predictor:
    """Return the predictor of an adapter whose weights are merged into its (dequantised) backbone, on the CPU in float32.

    Raises: ModelError if the model is no adapter.
    """
    if not predictor.sidecar.is_adapter:
        raise ModelError(f"--model {location}: is a full model, there is nothing to merge")
    model = load_merged(find_model_folder(location), predictor.sidecar.model, predictor.label_set)
    return replace(predictor, model=model.to("cpu"), device=torch.device("cpu"))


def write_merged(merged: Predictor, folder: Path, card: str) -> None:
    """Write a merged model as a full model folder."""
    save_model(folder, merged.model, merged.tokenizer, merged.rule, merged.sidecar, card, is_calibrated=True)


def verify(
    predictor: Predictor, location: str, texts: list[str], labels: np.ndarray, trained: np.ndarray | None, merged_folder: str | None
) -> list[Agreement]:
    """Return how far each form of the model at `location` is from `predictor`, which was loaded from there, over labelled texts.

    `trained` are the probabilities (n, L) that the training process saved for the same texts, if they are known;
    `merged_folder` is where its merged form was written, otherwise it is merged in memory.
    """
    bound = MAX_LOGIT_DIFFERENCE[predictor.sidecar.precision]
    reference = predictor.predict_logits(texts, description="reloaded")
    close = np.arange(min(NUM_CLOSE_ROWS, len(texts)))
    close_texts = [texts[row] for row in close]

    def compare(form: str, logits: np.ndarray, rows: np.ndarray | slice = slice(None)) -> Agreement:
        decide = predictor.rule.decide
        ours, theirs, gold = decide(expit(reference[rows])), decide(expit(logits)), labels[rows]
        f1 = [f1_score(gold, predictions, average="macro", zero_division=0) for predictions in (ours, theirs)]
        kept = np.clip(logits, -MAX_LOGIT, MAX_LOGIT) - np.clip(reference[rows], -MAX_LOGIT, MAX_LOGIT)
        difference = float(np.abs(kept).max())
        return Agreement(form, len(gold), difference, int((ours != theirs).sum()), abs(f1[1] - f1[0]), bound)

    agreements = []
    if trained is not None:
        agreements.append(compare("as trained, before saving", logit(trained.astype(np.float64))))
    agreements.append(compare("one text at a time", predictor.predict_logits(close_texts, batch_size=1), close))
    agreements.append(
        compare(f"padded to {predictor.sidecar.max_length} tokens", predictor.predict_logits(close_texts, is_padded=True), close)
    )
    if predictor.sidecar.is_adapter:
        merged = Predictor.load(merged_folder) if merged_folder is not None else merge_model(predictor, location)
        agreements.append(compare("merged into the backbone", merged.predict_logits(texts, description="merged")))
    return agreements


def format_agreements(agreements: list[Agreement]) -> str:
    """Return the table as Markdown, which reads well on a terminal too."""
    lines = [
        f"| {'form, against the reloaded model':<32} | rows | largest logit difference | bound | flipped decisions | macro-F1 difference |",
        "|---|---|---|---|---|---|",
    ]
    for row in agreements:
        mark = "" if row.is_within else " EXCEEDED"
        lines.append(
            f"| {row.form:<32} | {row.num_rows} | {row.logit_difference:.1e} | {row.bound:g}{mark} | "
            f"{row.num_flipped} | {row.macro_f1_difference:.4f} |"
        )
    return "\n".join(lines)
