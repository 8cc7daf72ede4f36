"""The model card."""

import yaml

from emotion.config import Config
from emotion.labels import LabelSet

CARD = """---
{front_matter}---

# {name}

Multi-label emotion detection: {num_labels} labels, any number of them for a text.
`{backbone}` fine-tuned with binary cross-entropy on `{source}`.

## Use

```python
from transformers import pipeline

classify = pipeline("text-classification", model="PATH_OR_ID", top_k=None, truncation=True, max_length={max_length})
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


def write_card(config: Config, label_set: LabelSet, scores: dict[str, float], name: str) -> str:
    """Return README.md of a model folder, with the front matter that the Hub reads."""
    front_matter = {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["emotion", "multi-label"],
    }
    if not config.model.backbone.startswith((".", "/", "~", "bundled:")):
        front_matter["base_model"] = config.model.backbone
    return CARD.format(
        front_matter=yaml.safe_dump(front_matter, sort_keys=False),
        name=name,
        num_labels=len(label_set),
        backbone=config.model.backbone,
        source=config.data.source,
        max_length=config.data.max_length,
        scores="\n".join(f"| {key} | {value:.4f} |" for key, value in scores.items()),
        labels=", ".join(label_set.names),
    )
