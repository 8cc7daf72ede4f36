"""Check that all variants of a model give the same answers.

The reference is the model as `Predictor.load` reads it. Compared with it are: the probabilities that training saved, other batch shapes,
the model as transformers computes it without `emotion.cpu`, the merged adapter, and the ONNX graph.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.special import expit, logit
from tqdm import tqdm

from emotion.config import BASELINE
from emotion.evaluation.decision import DecisionRule
from emotion.evaluation.uncertainty import score_rows
from emotion.export.merging import merge_model
from emotion.inference.onnx_predictor import OnnxPredictor, has_onnx
from emotion.inference.predictor import AUTOCAST, Predictor
from emotion.inference.sidecar import find_model_folder
from emotion.modeling.backbones import NO_REMOTE_CODE, translate_loading_errors
from emotion.modeling.build import load_trained
from emotion.text import is_quiet

NUM_SHAPE_ROWS = 64
"""Rows that are predicted one at a time, padded, or on the CPU beside a GPU. More rows take long and show nothing new."""
TRANSFORMERS_BATCH_SIZE = 32
MAX_LOGIT_DIFFERENCE = {"fp32": 1e-3, "fp16": 0.05, "bf16": 0.3}
"""Largest allowed difference of a logit, by precision: bf16 has 8 bits of mantissa, and logits reach 8."""
MAX_LOGIT = 9.0
"""Logits are clipped to this before they are compared: float32 probabilities, which a run saves, give 9 to 1e-4 but 12 only to 1e-2."""


@dataclass(frozen=True)
class Agreement:
    """How closely a variant of a model agrees with the reference on the same texts."""

    variant: str
    num_rows: int
    logit_difference: float
    """Largest absolute difference."""
    num_flipped: int
    """Decisions (row and label) that differ."""
    macro_f1_difference: float
    bound: float
    """Largest allowed `logit_difference`."""

    @property
    def is_within(self) -> bool:
        return self.logit_difference <= self.bound

    def describe(self, rows_name: str) -> str:
        """Return the agreement on the rows of this name as a sentence."""
        changes = f"macro-F1 changes by {self.macro_f1_difference:.4f}, a logit by at most {self.logit_difference:.4f}"
        return f"on {self.num_rows:,} rows ({rows_name}) {changes}, {self.num_flipped:,} decisions flip"


def verify_model(
    predictor: Predictor, location: str, texts: list[str], labels: np.ndarray, trained: np.ndarray | None, merged_folder: str | None
) -> list[Agreement]:
    """Return how closely each variant of the model at `location` agrees with `predictor`, which was loaded from there.

    `labels` are the gold labels of `texts`, bool (n, L). `trained` are the probabilities (n, L) that training saved for the same texts, if
    they are known. `merged_folder` holds the merged model; without it an adapter is merged in memory.
    """
    sidecar = predictor.sidecar
    bound = MAX_LOGIT_DIFFERENCE[sidecar.precision]
    reference = predictor.predict_logits(texts, description="reloaded")
    shape_rows = np.arange(min(NUM_SHAPE_ROWS, len(texts)))
    shape_texts = [texts[row] for row in shape_rows]
    agreements = []

    def compare(variant: str, logits: np.ndarray, bound: float = bound, rows: np.ndarray | slice = slice(None)) -> None:
        agreements.append(compare_logits(variant, predictor.rule, labels[rows], reference[rows], logits, bound))

    if trained is not None:
        compare("as trained, before saving", logit(trained.astype(np.float64)))
    compare("one text at a time", predictor.predict_logits(shape_texts, is_alone=True), rows=shape_rows)
    compare(f"padded to {sidecar.max_length} tokens", predictor.predict_logits(shape_texts, is_padded=True), rows=shape_rows)
    if sidecar.model.backbone != BASELINE:
        precision = sidecar.precision if predictor.device.type == "cuda" else "fp32"
        whole = np.flatnonzero(predictor.count_segments(texts) == 1)  # transformers cuts the others
        if len(whole):
            logits = predict_with_transformers(predictor, location, [texts[row] for row in whole])
            compare("plain transformers model", logits, MAX_LOGIT_DIFFERENCE[precision], whole)
    if sidecar.is_adapter:
        merged = Predictor.load(merged_folder) if merged_folder is not None else merge_model(predictor, location)
        # One that was merged in memory is on the CPU, where all rows would take hours beside a GPU.
        rows = np.arange(len(texts)) if merged.device.type == predictor.device.type else shape_rows
        compare("merged into the backbone", merged.predict_logits([texts[row] for row in rows], description="merged"), rows=rows)
    folder = Path(find_model_folder(location))
    if has_onnx(folder):
        onnx = OnnxPredictor.load(location)
        # int8 changes logits by design. Its macro-F1 was checked when it was exported, so here it is only reported.
        onnx_bound = bound if has_onnx(folder, "fp32") else float("inf")
        compare(onnx.backend_name, onnx.predict_logits(texts, onnx.backend_name), onnx_bound)
    return agreements


def predict_with_transformers(predictor: Predictor, location: str, texts: list[str]) -> np.ndarray:
    """Return calibrated logits, float32 (n, L), as transformers computes them, in batches padded on the right.

    A full model and its tokenizer are loaded from the folder as any user of transformers loads them. An adapter is loaded again without
    the layers of `emotion.cpu`; on a GPU, where these layers are never used, the loaded model serves, so that memory holds one copy.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder, sidecar, device = find_model_folder(location), predictor.sidecar, predictor.device
    with translate_loading_errors(folder):
        tokenizer = AutoTokenizer.from_pretrained(folder, **NO_REMOTE_CODE)
        if not sidecar.is_adapter:
            model = AutoModelForSequenceClassification.from_pretrained(folder, use_safetensors=True, **NO_REMOTE_CODE)
        elif device.type == "cpu":
            model, _ = load_trained(folder, sidecar.model, predictor.label_set, "fp32", is_adapter=True)
        else:
            model = predictor.model
    model = model.to(device).eval()
    logits = np.zeros((len(texts), len(predictor.label_set)), dtype=np.float32)
    by_length = sorted(range(len(texts)), key=lambda row: len(texts[row]))  # little padding
    is_autocast = device.type == "cuda" and sidecar.precision in AUTOCAST
    with torch.inference_mode(), torch.autocast(device.type, AUTOCAST.get(sidecar.precision), enabled=is_autocast):
        for start in tqdm(
            range(0, len(texts), TRANSFORMERS_BATCH_SIZE), desc="transformers", unit="batch", leave=False, disable=is_quiet()
        ):
            rows = by_length[start : start + TRANSFORMERS_BATCH_SIZE]
            inputs = tokenizer(
                [texts[row] for row in rows],
                padding=True,
                padding_side="right",
                truncation=True,
                max_length=sidecar.max_length,
                return_token_type_ids=False,  # all are 0, which is the default of the models that have them
                return_tensors="pt",
            )
            logits[rows] = model(**inputs.to(device)).logits.float().cpu().numpy()
    return logits


def compare_logits(
    variant: str, rule: DecisionRule, labels: np.ndarray, reference: np.ndarray, logits: np.ndarray, bound: float
) -> Agreement:
    """Return how closely a variant's calibrated logits, float (n, L), agree with those of the reference, over gold labels, bool (n, L)."""
    expected, predictions = rule.decide(expit(reference)), rule.decide(expit(logits))
    expected_f1, f1 = (float(score_rows(labels, rows)["macro_f1"]) for rows in (expected, predictions))
    differences = np.clip(logits, -MAX_LOGIT, MAX_LOGIT) - np.clip(reference, -MAX_LOGIT, MAX_LOGIT)
    num_flipped = int((expected != predictions).sum())
    return Agreement(variant, len(labels), float(np.abs(differences).max()), num_flipped, abs(f1 - expected_f1), bound)


def format_agreements(agreements: list[Agreement]) -> str:
    """Return the agreements as a Markdown table that is also readable on a terminal."""
    lines = [
        f"| {'compared with the reloaded model':<32} | rows | largest logit difference | bound | flipped decisions | macro-F1 difference |",
        "|---|---|---|---|---|---|",
    ]
    for row in agreements:
        mark = "" if row.is_within else " EXCEEDED"
        lines.append(
            f"| {row.variant:<32} | {row.num_rows} | {row.logit_difference:.1e} | {row.bound:g}{mark} | "
            f"{row.num_flipped} | {row.macro_f1_difference:.4f} |"
        )
    return "\n".join(lines)
