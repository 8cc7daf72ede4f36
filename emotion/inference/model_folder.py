"""The contract with the ecosystem: a standard Hugging Face folder plus one sidecar of ours, `emotion.json`."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from emotion.errors import ModelError
from emotion.evaluation.decision import DecisionRule
from emotion.files import atomic_write, write_json
from emotion.inference.sidecar import FORMAT_VERSION, SIDECAR, Sidecar
from emotion.modeling.build import divided_head, fingerprint_backbone
from emotion.modeling.lora import is_adapted


def save_model(
    folder: Path, model: Any, tokenizer: Any, rule: DecisionRule, sidecar: Sidecar, card: str, is_calibrated: bool = False
) -> None:
    """Write the whole folder beside its place and rename it; the rule's temperature goes into the saved head.

    `is_calibrated` says that it is in there already: the model was loaded from such a folder.

    Of an adapted model only adapters and head are written, without a `config.json`: a local folder that has one is
    taken for full weights.
    """
    options: dict[str, Any] = {}
    if is_adapted(model):
        sidecar = replace(sidecar, fingerprint=fingerprint_backbone(model))
        options["save_embedding_layers"] = False  # otherwise peft asks the Hub whether the vocabulary has grown
    else:
        sidecar = replace(sidecar, fingerprint=None)
    saved = [value for value in model.parameters() if value.requires_grad or not sidecar.is_adapter]
    with (
        atomic_write(folder, sum(value.nbytes for value in saved)) as partial,
        divided_head(model, 1.0 if is_calibrated else rule.temperature),
    ):
        partial.mkdir()
        model.save_pretrained(partial, **options)
        tokenizer.save_pretrained(partial)
        write_sidecar(partial, sidecar, rule)
        (partial / "README.md").write_text(card, encoding="utf-8")


def write_sidecar(folder: Path, sidecar: Sidecar, rule: DecisionRule) -> None:
    """Write `emotion.json`."""
    write_json(folder / SIDECAR, {"format_version": FORMAT_VERSION, **asdict(sidecar), "decision": rule.to_dict()})


def check_fingerprint(model: Any, sidecar: Sidecar, location: str) -> None:
    """Hold the backbone below an adapter to be the one it was trained on.

    Raises: ModelError if it is another.
    """
    if sidecar.is_adapter and sidecar.model.random_weights:
        raise ModelError(f"{location}: its backbone was random (model.random_weights=true) and is gone: such a run is for measuring only")
    if sidecar.is_adapter and fingerprint_backbone(model) != sidecar.fingerprint:
        raise ModelError(
            f"{location}: its adapter was trained on another backbone than what {sidecar.model.backbone!r} is now; "
            "give back those weights, or train again"
        )
