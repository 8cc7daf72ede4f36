"""The contract with the ecosystem: a standard Hugging Face folder plus one sidecar of ours, `emotion.json`."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from emotion.errors import ModelError
from emotion.evaluation.decision import DecisionRule
from emotion.files import write_json, written_beside
from emotion.labels import LabelSet
from emotion.modeling.backbones import explain_loading
from emotion.modeling.factory import divided_head

SIDECAR = "emotion.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Sidecar:
    """What `emotion.json` holds beside the decision rule."""

    backbone: str
    max_length: int
    """Tokens kept of a text."""
    precision: str
    """`fp32`, `bf16` or `fp16`: the autocast type it was trained and its rule was fitted in."""
    validation: dict[str, float]
    """Scores on the validation split at the time it was saved."""


def save_model(folder: Path, model: Any, tokenizer: Any, rule: DecisionRule, sidecar: Sidecar, card: str) -> None:
    """Write the whole folder beside its place and rename it; the rule's temperature goes into the saved head."""
    with written_beside(folder) as partial, divided_head(model, rule.temperature):
        partial.mkdir()
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        write_json(partial / SIDECAR, {"format_version": FORMAT_VERSION, **asdict(sidecar), "decision": rule.to_dict()})
        (partial / "README.md").write_text(card, encoding="utf-8")


def read_sidecar(location: str, num_labels: int, revision: str | None = None) -> tuple[Sidecar, DecisionRule]:
    """Return the sidecar and rule of a folder or Hub id.

    Raises: ModelError if it is missing, of a newer format, or damaged.
    """
    path = _find_sidecar(location, revision)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        version = values["format_version"]
        if version != FORMAT_VERSION:
            raise ModelError(f"{path}: format_version is {version}, this version of the project reads {FORMAT_VERSION}: update it")
        sidecar = Sidecar(**{field.name: values[field.name] for field in fields(Sidecar)})
        decision = dict(values["decision"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: cannot be read ({type(error).__name__}: {error}): save the model again") from None
    return sidecar, DecisionRule.from_dict(decision, num_labels, str(path))


def read_label_set(model: Any) -> LabelSet:
    """Return the labels that a model's config names."""
    id2label = model.config.id2label
    return LabelSet(tuple(id2label[column] for column in range(len(id2label))))


def _find_sidecar(location: str, revision: str | None) -> Path:
    if Path(location).is_dir():
        path = Path(location) / SIDECAR
        if not path.is_file():
            raise ModelError(f"{location}: has no {SIDECAR}, so it was not saved by this project; train one with train.py")
        return path
    from huggingface_hub import hf_hub_download

    with explain_loading(location):
        return Path(hf_hub_download(location, SIDECAR, revision=revision))
