"""`build_model`: load -> head. Reads as a recipe; quantisation and adapters join between the two."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from emotion.config import ModelConfig
from emotion.errors import ModelError
from emotion.labels import LabelSet
from emotion.modeling.backbones import explain_loading, load_tokenizer, locate_backbone

MIN_FREQUENCY = 1e-3
"""Label frequencies are kept this far from 0 and 1, so that the head's bias stays within +-6.9."""


def build_model(config: ModelConfig, label_set: LabelSet, label_frequencies: np.ndarray) -> tuple[Any, Any]:
    """Return (model, tokenizer) with a fresh native multi-label head; `label_frequencies` is (L,), in [0, 1].

    Raises: ModelError if the backbone cannot be had.
    """
    location = locate_backbone(config)
    tokenizer = load_tokenizer(location, config.revision)
    model = load_with_head(location, label_set, tokenizer.pad_token_id, config.revision)
    set_head_bias(model, label_frequencies)
    return model, tokenizer


def load_with_head(location: str, label_set: LabelSet, pad_token_id: int, revision: str | None = None) -> Any:
    """Return the backbone in fp32 under its own sequence-classification head, newly initialised."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    with explain_loading(location):
        config = AutoConfig.from_pretrained(
            location,
            revision=revision or "main",
            num_labels=len(label_set),
            id2label=label_set.id2label,
            label2id=label_set.columns,
            problem_type="multi_label_classification",
            pad_token_id=pad_token_id,
        )
        # A checkpoint with a head of another size would otherwise stop here; ours is new in any case.
        model = AutoModelForSequenceClassification.from_pretrained(
            location, config=config, revision=revision or "main", dtype=torch.float32, ignore_mismatched_sizes=True
        )
    head = find_head(model)
    nn.init.normal_(head.weight, std=getattr(config, "initializer_range", 0.02))
    if head.bias is not None:
        nn.init.zeros_(head.bias)
    return model


def load_trained(folder: str, revision: str | None = None) -> tuple[Any, Any]:
    """Return (model in evaluation mode, tokenizer) of a folder or Hub id that a run has saved.

    Raises: ModelError if it cannot be loaded or its head is missing.
    """
    from transformers import AutoModelForSequenceClassification

    with explain_loading(folder):
        model, report = AutoModelForSequenceClassification.from_pretrained(
            folder, revision=revision or "main", dtype=torch.float32, output_loading_info=True
        )
    if report["missing_keys"]:
        raise ModelError(f"{folder}: weights are missing for {sorted(report['missing_keys'])}: this is not a trained classifier")
    return model.eval(), load_tokenizer(folder, revision)


def find_head(model: Any) -> nn.Linear:
    """Return the last linear layer: hidden size -> labels."""
    num_labels = model.config.num_labels
    heads = [module for module in model.modules() if isinstance(module, nn.Linear) and module.out_features == num_labels]
    if not heads:
        raise ModelError(f"{type(model).__name__}: has no linear layer with {num_labels} outputs to serve as its head")
    return heads[-1]


def list_head_parameters(model: Any) -> set[str]:
    """Return the names of the parameters outside the backbone, those that start untrained."""
    backbone = model.base_model_prefix + "."
    return {name for name, _ in model.named_parameters() if not name.startswith(backbone)}


def set_head_bias(model: Any, label_frequencies: np.ndarray) -> None:
    """Set the head's bias, where it has one, to the log-odds of each label's frequency.

    Training then starts from the base rates instead of p = .5 for all. Source: Lin et al. 2017, RetinaNet, section 4.1.
    """
    head = find_head(model)
    if head.bias is None:
        return
    frequencies = np.clip(label_frequencies, MIN_FREQUENCY, 1 - MIN_FREQUENCY)
    with torch.no_grad():
        head.bias.copy_(torch.from_numpy(np.log(frequencies / (1 - frequencies))))


@contextmanager
def divided_head(model: Any, temperature: float) -> Iterator[None]:
    """Divide the logits by a temperature inside the block, by way of the head's weights; afterwards they are as before.

    What is saved inside gives calibrated probabilities to every consumer, `transformers.pipeline` included.
    """
    parameters = list(find_head(model).parameters())
    kept = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        for parameter in parameters:
            parameter.div_(temperature)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, kept, strict=True):
                parameter.copy_(value)
