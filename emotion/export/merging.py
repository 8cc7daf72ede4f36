"""Merge an adapter into its backbone: a full model without PEFT."""

from dataclasses import replace
from pathlib import Path

import torch

from emotion.cpu import fast_path
from emotion.errors import ModelError
from emotion.export.model_card import complete_card, find_location, write_card
from emotion.inference.model_folder import save_model
from emotion.inference.predictor import Predictor
from emotion.inference.sidecar import find_model_folder
from emotion.modeling.build import load_merged
from emotion.tracking.run_folder import RunFolder


def merge_model(predictor: Predictor, location: str) -> Predictor:
    """Return the predictor of an adapter that is merged into its (dequantized) backbone, on the CPU in float32.

    Raises: ModelError if the model is not an adapter.
    """
    if not predictor.sidecar.is_adapter:
        raise ModelError(f"--merge: {location} is a full model, so there is nothing to merge")
    device = torch.device("cpu")
    model = load_merged(find_model_folder(location), predictor.sidecar.model, predictor.label_set)
    return replace(predictor, model=fast_path.optimize_encoder(model.to(device), device), device=device)


def write_merged(predictor: Predictor, location: str, run: RunFolder, folder: Path) -> None:
    """Merge the adapter of a run and write it as a full model folder.

    Raises: ModelError if the model is not an adapter.
    """
    merged = merge_model(predictor, location)
    card = write_card(run.read_config(), predictor.label_set, predictor.sidecar.validation, run.path.name, is_merged=True)
    save_model(folder, merged.model, merged.tokenizer, merged.rule, merged.sidecar, card)
    complete_card(run, folder, find_location(folder))
