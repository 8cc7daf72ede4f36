"""The contract with the ecosystem: a standard Hugging Face folder plus one sidecar of ours, `emotion.json`."""

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from emotion.config import ModelConfig
from emotion.errors import ModelError
from emotion.evaluation.decision import DecisionRule
from emotion.files import write_json, written_beside
from emotion.modeling.backbones import explain_loading
from emotion.modeling.factory import divided_head, fingerprint_backbone
from emotion.modeling.lora import is_adapted

SIDECAR = "emotion.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Sidecar:
    """What `emotion.json` holds beside the decision rule: all that a loader needs and `config.json` lacks."""

    labels: tuple[str, ...]
    model: ModelConfig
    """What the backbone was loaded from and how: an adapter needs it again."""
    max_length: int
    """Tokens kept of a text."""
    precision: str
    """`fp32`, `bf16` or `fp16`: the autocast type it was trained and its rule was fitted in."""
    validation: dict[str, float]
    """Scores on the validation split at the time it was saved."""
    fingerprint: str | None = None
    """Of the backbone that an adapter belongs to; None for a full model."""

    @property
    def is_adapter(self) -> bool:
        return self.fingerprint is not None


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
        written_beside(folder, sum(value.nbytes for value in saved)) as partial,
        divided_head(model, 1.0 if is_calibrated else rule.temperature),
    ):
        partial.mkdir()
        model.save_pretrained(partial, **options)
        tokenizer.save_pretrained(partial)
        write_json(partial / SIDECAR, {"format_version": FORMAT_VERSION, **asdict(sidecar), "decision": rule.to_dict()})
        (partial / "README.md").write_text(card, encoding="utf-8")


def read_sidecar(location: str, revision: str | None = None) -> tuple[Sidecar, DecisionRule]:
    """Return the sidecar and rule of a folder or Hub id.

    Raises: ModelError if it is missing, of a newer format, or damaged.
    """
    path = _find_sidecar(location, revision)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        version = values["format_version"]
        if version != FORMAT_VERSION:
            raise ModelError(f"{path}: format_version is {version}, this version of the project reads {FORMAT_VERSION}: update it")
        kept = {field.name: values[field.name] for field in fields(Sidecar)}
        sidecar = Sidecar(**kept | {"labels": tuple(kept["labels"]), "model": ModelConfig(**kept["model"])})
        decision = dict(values["decision"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: cannot be read ({type(error).__name__}: {error}): save the model again") from None
    return sidecar, DecisionRule.from_dict(decision, len(sidecar.labels), str(path))


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


def _find_sidecar(location: str, revision: str | None) -> Path:
    if Path(location).is_dir():
        path = Path(location) / SIDECAR
        if not path.is_file():
            raise ModelError(f"{location}: has no {SIDECAR}, so it was not saved by this project; train one with train.py")
        return path
    from huggingface_hub import hf_hub_download

    with explain_loading(location):
        return Path(hf_hub_download(location, SIDECAR, revision=revision))
