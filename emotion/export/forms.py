"""Other forms of a trained model (merged, ONNX, int8), and the check that all its forms agree."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import expit, logit
from sklearn.metrics import f1_score

from emotion.config import BASELINE
from emotion.cpu import fast_path
from emotion.errors import ModelError
from emotion.evaluation.decision import DecisionRule
from emotion.files import atomic_write, write_json
from emotion.inference.model_folder import save_model
from emotion.inference.numpy_predictor import NumpyPredictor, has_numpy
from emotion.inference.onnx_predictor import CHECK_TEXTS, ONNX_ABOUT, ONNX_FILE, ONNX_FOLDER, OnnxPredictor, has_onnx, make_self_check
from emotion.inference.predictor import Predictor
from emotion.inference.sidecar import find_model_folder
from emotion.modeling.build import load_merged

NUM_CLOSE_ROWS = 64
"""Rows predicted one at a time and padded; more would take long and show no more."""
MAX_LOGIT_DIFFERENCE = {"fp32": 1e-3, "fp16": 0.05, "bf16": 0.3}
"""Largest difference of a logit that a form may show, by precision: bf16 has 8 bits of mantissa, and logits reach 8."""

MAX_F1_DIFFERENCE = 0.003
"""Most that an exported form may move macro-F1 on validation."""
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
    device = torch.device("cpu")
    return replace(predictor, model=fast_path.optimize_encoder(model.to(device), device), device=device)


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
        return _compare(predictor.rule, labels[rows], reference[rows], logits, form, bound)

    agreements = []
    if trained is not None:
        agreements.append(compare("as trained, before saving", logit(trained.astype(np.float64))))
    agreements.append(compare("one text at a time", predictor.predict_logits(close_texts, is_alone=True), close))
    agreements.append(
        compare(f"padded to {predictor.sidecar.max_length} tokens", predictor.predict_logits(close_texts, is_padded=True), close)
    )
    if predictor.sidecar.is_adapter:
        merged = Predictor.load(merged_folder) if merged_folder is not None else merge_model(predictor, location)
        agreements.append(compare("merged into the backbone", merged.predict_logits(texts, description="merged")))
    folder = Path(find_model_folder(location))
    if has_onnx(folder):
        onnx = OnnxPredictor.load(location)
        agreement = compare(onnx.form, onnx.predict_logits(texts, onnx.form))
        # int8 moves logits by design: it was held to macro-F1 when it was made, and is shown here.
        agreements.append(agreement if has_onnx(folder, "fp32") else replace(agreement, bound=float("inf")))
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


def _compare(rule: DecisionRule, gold: np.ndarray, reference: np.ndarray, logits: np.ndarray, form: str, bound: float) -> Agreement:
    ours, theirs = rule.decide(expit(reference)), rule.decide(expit(logits))
    f1 = [f1_score(gold, predictions, average="macro", zero_division=0) for predictions in (ours, theirs)]
    kept = np.clip(logits, -MAX_LOGIT, MAX_LOGIT) - np.clip(reference, -MAX_LOGIT, MAX_LOGIT)
    return Agreement(form, len(gold), float(np.abs(kept).max()), int((ours != theirs).sum()), abs(f1[1] - f1[0]), bound)


def export_onnx(predictor: Predictor, location: str, is_int8: bool, texts: list[str], labels: np.ndarray) -> Agreement:
    """Write the ONNX form of a model into its folder, in float32 or with int8 weights and activations, if it answers alike.

    Full BERT and DistilBERT models have a graph of their own (`encoder_graph.py`), all others torch's exporter and, for int8, ONNX
    Runtime's dynamic quantisation, weights scaled per output channel. `texts` and `labels` are validation rows.

    Raises: ModelError if the packages are missing, the model is no transformer or cannot be exported, or the answers are too far
        off; nothing is written then.
    """
    folder = Path(find_model_folder(location))
    if not folder.is_dir():
        raise ModelError(f"--export onnx: {location} is not a local folder; download it first")
    if predictor.sidecar.is_adapter:
        raise ModelError(f"--export onnx: {location} holds an adapter; write a full model with --merge FOLDER and export that")
    if predictor.sidecar.model.backbone == BASELINE:
        raise ModelError(f"--export onnx: {location} is the {BASELINE} baseline, which has no ONNX form; it is fast as it is")
    form = "int8" if is_int8 else "fp32"
    reference = predictor.predict_logits(texts, description="torch")
    with atomic_write(folder / ONNX_FOLDER) as partial:
        partial.mkdir()
        if has_numpy(folder):
            _write_encoder(location, partial / ONNX_FILE, texts if is_int8 else None)
        else:
            _write_onnx(predictor, partial / ONNX_FILE, is_int8)
        about = {"form": form, "pad_token_id": predictor.tokenizer.pad_token_id}
        write_json(partial / ONNX_ABOUT, about)
        exported = OnnxPredictor.open(folder, partial)
        found = exported.predict_logits(texts, "ONNX")
        bound = float("inf") if is_int8 else MAX_LOGIT_DIFFERENCE["fp32"]
        agreement = _compare(predictor.rule, labels, reference, found, f"ONNX {form}", bound)
        if not agreement.is_within or agreement.macro_f1_difference > MAX_F1_DIFFERENCE:
            raise ModelError(
                f"--export onnx: refused, on {len(texts):,} validation rows macro-F1 moves by {agreement.macro_f1_difference:.4f} (at most "
                f"{MAX_F1_DIFFERENCE}) and a logit by {agreement.logit_difference:.4f}" + ("; export without --int8" if is_int8 else "")
            )
        check = make_self_check(exported, predictor.predict_logits(list(CHECK_TEXTS)), None if is_int8 else bound)
        moved = {"logit_difference": agreement.logit_difference, "macro_f1_difference": agreement.macro_f1_difference}
        write_json(
            partial / ONNX_ABOUT, about | {"num_rows": len(texts), "num_flipped": agreement.num_flipped, **moved, "self_check": check}
        )
    return agreement


def _write_encoder(location: str, path: Path, texts: list[str] | None) -> None:
    from emotion.export.onnx_graph import write_encoder_graph

    try:
        write_encoder_graph(NumpyPredictor.load(location), path, texts)
    except ImportError as error:
        raise _missing_package_error(error) from None


def _missing_package_error(error: ImportError) -> ModelError:
    return ModelError(f"--export onnx: {error.name} is not installed: pip install -r requirements-onnx.txt")


def _write_onnx(predictor: Predictor, path: Path, is_int8: bool) -> None:
    try:
        import onnxscript  # noqa: F401 - torch's exporter needs it
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise _missing_package_error(error) from None
    model = _LogitsOnly(predictor.model.float().to("cpu"))
    input_ids = torch.full((2, 8), predictor.tokenizer.pad_token_id)
    attention_mask = torch.ones_like(input_ids)
    batch, tokens = torch.export.Dim("batch", min=1, max=65_536), torch.export.Dim("tokens", min=2, max=predictor.sidecar.max_length)
    shapes = ({0: batch, 1: tokens}, {0: batch, 1: tokens})
    with _silenced(), torch.no_grad():
        try:
            program = torch.onnx.export(
                model,
                (input_ids, attention_mask),
                dynamo=True,
                dynamic_shapes=shapes,
                input_names=["input_ids", "attention_mask"],
                output_names=["logits"],
                verbose=False,
            )
        except Exception as error:  # the exporter raises a dozen kinds
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ModelError(f"--export onnx: this backbone cannot be exported ({reason[:200]})") from None
        assert program is not None
        program.save(path, external_data=False)
        if is_int8:
            whole = path.with_name("fp32.onnx")
            path.rename(whole)
            # Unsigned: signed weights saturate on x86 CPUs without VNNI, see `encoder_graph.py`.
            quantize_dynamic(whole, path, per_channel=True, weight_type=QuantType.QUInt8)
            whole.unlink()


@contextmanager
def _silenced() -> Iterator[None]:
    """Silence what the exporters have to say of names that will change, packages not needed here, and a preprocessing of no use."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


class _LogitsOnly(torch.nn.Module):
    """A classifier whose answer is a plain tensor."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits
