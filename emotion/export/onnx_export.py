"""Export a model to ONNX, in float32 or int8, if its answers on validation rows stay the same."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emotion.config import BASELINE
from emotion.errors import ModelError
from emotion.export.verification import MAX_LOGIT_DIFFERENCE, Agreement, compare_logits
from emotion.files import atomic_write, write_json
from emotion.inference.numpy_predictor import NumpyPredictor, is_numpy_supported
from emotion.inference.onnx_predictor import CHECK_TEXTS, ONNX_ABOUT, ONNX_FILE, ONNX_FOLDER, OnnxPredictor, make_self_check
from emotion.inference.predictor import Predictor
from emotion.inference.sidecar import find_model_folder, fingerprint_weights, read_sidecar
from emotion.inference.torch_free import check_tokenizer

MAX_F1_DIFFERENCE = 0.003
"""Largest allowed change of macro-F1 on validation."""
MAX_DYNAMIC_BATCH = 65_536
"""Largest batch that the graph of torch's exporter accepts."""


def export_onnx(predictor: Predictor, location: str, is_int8: bool, texts: list[str], labels: np.ndarray) -> Agreement:
    """Write the ONNX graph of a model into its folder, in float32 or with int8 weights and activations, and return its agreement.

    Full BERT and DistilBERT models are written by `onnx_graph.py`. Other models go through torch's exporter and, for int8, through ONNX
    Runtime's dynamic quantization with one scale per output channel. `texts` and `labels`, bool (n, L), are validation rows.

    Raises: ModelError if a package is missing, if the model is not a full transformer or cannot be exported, or if its answers
        differ too much. Nothing is written then.
    """
    folder = find_exportable_folder(location)
    # Where the graph is made and compared. On a GPU, torch would answer in the precision of training, such as bf16.
    predictor = replace(predictor, model=predictor.model.to("cpu"), device=torch.device("cpu"))
    precision = "int8" if is_int8 else "fp32"
    reference = predictor.predict_logits(texts, description="torch")
    with atomic_write(folder / ONNX_FOLDER) as partial:
        partial.mkdir()
        if is_numpy_supported(folder):
            _write_encoder(location, partial / ONNX_FILE, texts if is_int8 else None)
        else:
            _write_with_torch(predictor, partial / ONNX_FILE, is_int8)
        about = {"precision": precision, "pad_token_id": predictor.tokenizer.pad_token_id}
        write_json(partial / ONNX_ABOUT, about)
        exported = OnnxPredictor.open(folder, partial)
        bound = float("inf") if is_int8 else MAX_LOGIT_DIFFERENCE["fp32"]
        logits = exported.predict_logits(texts, "ONNX")
        agreement = compare_logits(f"ONNX {precision}", predictor.rule, labels, reference, logits, bound)
        _check_agreement(agreement, is_int8)
        about |= {
            "num_rows": len(texts),
            "num_flipped": agreement.num_flipped,
            "logit_difference": agreement.logit_difference,
            "macro_f1_difference": agreement.macro_f1_difference,
            "weights": fingerprint_weights(location),
            "self_check": make_self_check(exported, predictor.predict_logits(list(CHECK_TEXTS)), None if is_int8 else bound),
        }
        write_json(partial / ONNX_ABOUT, about)
    return agreement


def find_exportable_folder(location: str) -> Path:
    """Return the local folder of a full transformer model with a tokenizer that works without transformers.

    Raises: ModelError for any other model.
    """
    folder = Path(find_model_folder(location))
    if not folder.is_dir():
        raise ModelError(f"--onnx: {location} is not a local folder; download it first")
    sidecar, _ = read_sidecar(str(folder))
    if sidecar.is_adapter:
        raise ModelError(f"--onnx: {location} is an adapter; write a full model with --merge FOLDER and export that")
    if sidecar.model.backbone == BASELINE:
        raise ModelError(f"--onnx: {location} is the {BASELINE} baseline, which has no ONNX export; use it as it is")
    check_tokenizer(folder)
    return folder


def _check_agreement(agreement: Agreement, is_int8: bool) -> None:
    """Raise a ModelError if an exported model differs too much from the original."""
    if agreement.is_within and agreement.macro_f1_difference <= MAX_F1_DIFFERENCE:
        return
    raise ModelError(
        f"--onnx: refused, on {agreement.num_rows:,} rows macro-F1 changes by {agreement.macro_f1_difference:.4f} (at most "
        f"{MAX_F1_DIFFERENCE}) and a logit by {agreement.logit_difference:.4f}"
        + ("; export without --int8" if is_int8 else f" (at most {agreement.bound:g}); use the model with torch")
    )


def _write_encoder(location: str, path: Path, texts: list[str] | None) -> None:
    from emotion.export.onnx_graph import write_encoder_graph

    try:
        write_encoder_graph(NumpyPredictor.load(location), path, texts)
    except ImportError as error:
        raise _missing_package_error(error) from None


def _missing_package_error(error: ImportError) -> ModelError:
    return ModelError(f"--onnx: {error.name} is not installed: pip install -r requirements-onnx.txt")


def _write_with_torch(predictor: Predictor, path: Path, is_int8: bool) -> None:
    try:
        import onnxscript  # noqa: F401 - torch's exporter needs it
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise _missing_package_error(error) from None
    with _silence_exporters(), torch.no_grad():
        _export_with_torch(predictor).save(path, external_data=False)
        if is_int8:
            fp32_path = path.with_name("fp32.onnx")
            path.rename(fp32_path)
            # Unsigned: signed weights saturate on x86 CPUs without VNNI, see `onnx_graph.py`.
            quantize_dynamic(fp32_path, path, per_channel=True, weight_type=QuantType.QUInt8)
            fp32_path.unlink()


def _export_with_torch(predictor: Predictor) -> Any:
    """Return the ONNX program of a model, from `input_ids` and `attention_mask` to `logits`.

    Raises: ModelError if torch cannot export the model.
    """
    input_ids = torch.full((2, 8), predictor.tokenizer.pad_token_id)
    attention_mask = torch.ones_like(input_ids)
    batch = torch.export.Dim("batch", min=1, max=MAX_DYNAMIC_BATCH)
    tokens = torch.export.Dim("tokens", min=2, max=predictor.sidecar.max_length)
    try:
        program = torch.onnx.export(
            _LogitsModel(predictor.model.float()),
            (input_ids, attention_mask),
            dynamo=True,
            dynamic_shapes=({0: batch, 1: tokens}, {0: batch, 1: tokens}),
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            verbose=False,
        )
    except Exception as error:  # the exporter raises many different types
        cause = error.__cause__ or error  # the exporter's own message says how to report a fault of torch
        reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        raise ModelError(f"--onnx: torch cannot export this backbone ({reason[:200]}); use the model with torch") from None
    assert program is not None
    return program


@contextmanager
def _silence_exporters() -> Iterator[None]:
    """Silence warnings of the exporters that a user can do nothing about: deprecations, optional packages, preprocessing."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


class _LogitsModel(torch.nn.Module):
    """A classifier that returns its logits as a tensor."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits
