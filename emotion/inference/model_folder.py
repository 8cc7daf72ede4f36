"""Write model folders: a standard Hugging Face folder plus one sidecar, `emotion.json`."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from emotion.errors import ModelError
from emotion.evaluation.calibration import Calibration
from emotion.evaluation.decision import DecisionRule
from emotion.files import atomic_write, write_json
from emotion.inference.sidecar import SIDECAR, Sidecar
from emotion.modeling.backbones import hide_folders, resolve_backbone
from emotion.modeling.heads import calibrated_head
from emotion.modeling.lora import fingerprint_backbone, is_adapted


def save_model(
    folder: Path, model: Any, tokenizer: Any, rule: DecisionRule, sidecar: Sidecar, card: str, calibration: Calibration | None = None
) -> None:
    """Write a model folder; it takes its name only when it is complete. The saved head includes the calibration.

    Without one the head is saved as it is: that of a model that was loaded from such a folder is calibrated already.

    An adapted model is saved as adapters and head, without a `config.json`: transformers takes a local folder with one for a full model.
    """
    options: dict[str, Any] = {}
    if is_adapted(model):
        backbone = replace(sidecar.model, backbone=resolve_backbone(sidecar.model.backbone))
        sidecar = replace(sidecar, model=backbone, fingerprint=fingerprint_backbone(model))
        options["save_embedding_layers"] = False  # otherwise peft asks the Hub whether the vocabulary was extended
    else:
        sidecar = replace(sidecar, fingerprint=None)
    saved = [value for value in model.parameters() if value.requires_grad or not sidecar.is_adapter]
    with (
        atomic_write(folder, sum(value.nbytes for value in saved)) as partial,
        nullcontext() if calibration is None else calibrated_head(model, calibration),
    ):
        partial.mkdir()
        with without_progress_bar():
            model.save_pretrained(partial, **options)
        tokenizer.save_pretrained(partial)
        write_sidecar(partial, sidecar, rule)
        (partial / "README.md").write_text(card, encoding="utf-8")


@contextmanager
def without_progress_bar() -> Iterator[None]:
    """Let transformers draw no progress bar: it would remain above that of the training."""
    from transformers.utils import logging

    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()


def write_sidecar(folder: Path, sidecar: Sidecar, rule: DecisionRule) -> None:
    """Write `emotion.json`; that of a full model, which needs no backbone, names no folder of this machine."""
    if not sidecar.is_adapter:
        sidecar = replace(sidecar, model=replace(sidecar.model, backbone=hide_folders(sidecar.model.backbone)))
    write_json(folder / SIDECAR, {"format_version": sidecar.format_version, **asdict(sidecar), "decision": rule.to_dict()})


def check_fingerprint(model: Any, sidecar: Sidecar, location: str) -> None:
    """Check that an adapter's backbone is the one it was trained on.

    Raises: ModelError if it is another one, or had random weights.
    """
    if not sidecar.is_adapter:
        return
    if sidecar.model.random_weights:
        raise ModelError(
            f"{location}: was trained on random weights (model.random_weights=true), which are not saved; such runs are for measuring only"
        )
    if fingerprint_backbone(model) != sidecar.fingerprint:
        raise ModelError(
            f"{location}: its adapter was trained on other weights than those of {sidecar.model.backbone!r} now; "
            "name the folder of the weights that it was trained on with --backbone PATH, or train again"
        )
