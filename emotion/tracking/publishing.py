"""The model card."""

from pathlib import Path

import yaml

from emotion.config import Config
from emotion.files import written_beside
from emotion.labels import LabelSet
from emotion.modeling.backbones import official_name
from emotion.modeling.baseline import BASELINE

CARD = """---
{front_matter}---

# {name}

Multi-label emotion detection: {num_labels} labels, any number of them for a text.
`{backbone}` fine-tuned with binary cross-entropy on `{source}`.

## Use

```python
{usage}
```

The probabilities are calibrated by a temperature fitted on validation. `emotion.json` holds the decision rule
(one threshold a label, fitted on validation); `python infer.py --model PATH_OR_ID --text "..."` applies it.

## Validation scores

The thresholds were fitted on these rows, so F1 is optimistic here; the score of an unseen split is in the run's report.

| metric | value |
|---|---|
{scores}

## Labels

{labels}

## Limits

Labels are readers' impressions of short English texts, not what the writer felt. Rare labels are weak: see the per-label
scores before relying on one. Do not decide about people by it.
"""

VERIFICATION_TITLE = "## Verified"


USAGE = """from transformers import pipeline

classify = pipeline("text-classification", model="PATH_OR_ID", top_k=None, truncation=True, max_length={max_length})"""
ADAPTER_USAGE = """from emotion.inference.predictor import Predictor  # of this project; the adapter's backbone is {backbone}

probabilities = Predictor.load("PATH_OR_ID").predict(["a text"])"""
OWN_USAGE = """from emotion.inference.predictor import Predictor  # of this project: TF-IDF is no transformer

probabilities = Predictor.load("PATH_OR_ID").predict(["a text"])"""


def add_verification(card: Path, table: str) -> None:
    """Put the table of how far the model's forms agree at the end of its card, in place of an earlier one."""
    text = card.read_text(encoding="utf-8").partition(f"\n{VERIFICATION_TITLE}\n")[0]
    with written_beside(card) as partial:
        partial.write_text(f"{text}\n{VERIFICATION_TITLE}\n\n{table}\n", encoding="utf-8")


def write_card(config: Config, label_set: LabelSet, scores: dict[str, float], name: str, is_merged: bool = False) -> str:
    """Return README.md of a model folder, with the front matter that the Hub reads; `is_merged`: its adapter is in its weights."""
    is_adapter = config.lora.r > 0 and not is_merged
    is_baseline = config.model.backbone == BASELINE
    front_matter = {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["emotion", "multi-label"],
    }
    if is_adapter:
        front_matter["library_name"] = "peft"
    if is_baseline:
        front_matter["library_name"] = "scikit-learn"
    elif not config.model.backbone.startswith((".", "/", "~")):
        front_matter["base_model"] = official_name(config.model)
    usage = ADAPTER_USAGE if is_adapter else OWN_USAGE if is_baseline else USAGE
    return CARD.format(
        front_matter=yaml.safe_dump(front_matter, sort_keys=False),
        name=name,
        num_labels=len(label_set),
        backbone=config.model.backbone,
        source=config.data.name,
        usage=usage.format(backbone=official_name(config.model), max_length=config.data.max_length),
        scores="\n".join(f"| {key} | {value:.4f} |" for key, value in scores.items()),
        labels=", ".join(label_set.names),
    )
