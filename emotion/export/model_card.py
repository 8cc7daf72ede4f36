"""The model card."""

import json
from pathlib import Path

import yaml

from emotion.config import BASELINE, Config, DistillationConfig
from emotion.files import atomic_write
from emotion.labels import LabelSet
from emotion.modeling.backbones import official_name
from emotion.tracking.run_folder import RunFolder

CARD = """---
{front_matter}---

# {name}

Multi-label emotion detection: {num_labels} labels, any number of them for a text.
`{backbone}` fine-tuned with binary cross-entropy on `{source}`{teachers}.

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

TEST_TITLE = "## Test scores"
INDEXED = ("macro_f1", "micro_f1", "subset_accuracy", "jaccard_samples", "macro_precision", "macro_recall")
"""Scores that the model index holds."""
VERIFICATION_TITLE = "## Verified"


USAGE = """from transformers import pipeline

classify = pipeline("text-classification", model="PATH_OR_ID", top_k=None, truncation=True, max_length={max_length})"""
ADAPTER_USAGE = """from emotion.inference.predictor import Predictor  # of this project; the adapter's backbone is {backbone}

probabilities = Predictor.load("PATH_OR_ID").predict(["a text"])

# or by PEFT alone:
import torch
from peft import AutoPeftModelForSequenceClassification
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("PATH_OR_ID")
model = AutoPeftModelForSequenceClassification.from_pretrained("PATH_OR_ID", num_labels={num_labels}, pad_token_id=tokenizer.pad_token_id)
batch = tokenizer(["a text"], padding=True, padding_side="right", truncation=True, max_length={max_length}, return_tensors="pt")
probabilities = model.eval()(**batch).logits.sigmoid().tolist()"""
OWN_USAGE = """from emotion.inference.predictor import Predictor  # of this project: TF-IDF is no transformer

probabilities = Predictor.load("PATH_OR_ID").predict(["a text"])"""


def add_verification(card: Path, table: str) -> None:
    """Put the table of how far the model's forms agree at the end of its card, in place of an earlier one."""
    text = card.read_text(encoding="utf-8").partition(f"\n{VERIFICATION_TITLE}\n")[0]
    with atomic_write(card) as partial:
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
        teachers=_describe_teachers(config.distillation),
        usage=usage.format(backbone=official_name(config.model), max_length=config.data.max_length, num_labels=len(label_set)),
        scores="\n".join(f"| {key} | {value:.4f} |" for key, value in scores.items()),
        labels=", ".join(label_set.names),
    )


def complete_card(run: RunFolder, name: str) -> None:
    """Put the run's test scores, what it cost and the Hub's name into the model card; the scores as model index too.

    Without an opened test split the validation scores stay alone.
    """
    from huggingface_hub import EvalResult, ModelCard

    path = run.model / "README.md"
    config = run.read_config()
    card = ModelCard(path.read_text(encoding="utf-8"), ignore_metadata_errors=True)
    before, _, after = card.text.replace("PATH_OR_ID", name).partition("\n## Labels\n")
    text = before.partition(f"\n{TEST_TITLE}\n")[0]
    report_path = run.report("test") / "metrics.json"
    if report_path.is_file():
        report = json.loads(report_path.read_text(encoding="utf-8"))
        scores, intervals = report["at_decision_rule"], report["at_decision_rule_interval_95"]
        task = {"task_type": "text-classification", "task_name": "Multi-label emotion detection"}
        data = {"dataset_type": config.data.name, "dataset_name": Path(config.data.name).name, "dataset_split": "test"}
        card.data.model_name = name.rpartition("/")[2]
        shown = {key: scores[key] for key in INDEXED if key in scores} | {"map": report["probabilities"]["macro_average_precision"]}
        card.data.eval_results = [EvalResult(**task, **data, metric_type=key, metric_value=value) for key, value in shown.items()]
        between = {key: "{:.4f} to {:.4f}".format(*bounds) for key, bounds in intervals.items()}
        rows = [f"| {key} | {value:.4f} | {between.get(key, '')} |" for key, value in scores.items()]
        rule = report["decision"]
        text += f"\n{TEST_TITLE}\n\n" + "\n".join(
            [
                f"{report['num_rows']:,} rows that nothing was fitted on, at the decision rule (fitted on {rule['fitted_on']}).",
                "",
                "| metric | value | 95 % interval over test rows |",
                "|---|---|---|",
                *rows,
                "",
                "Thresholds: " + ", ".join(f"{value:.2f}" for value in rule["thresholds"]) + ", in the order of the labels.",
                "",
                *_describe_cost(run),
            ]
        )
    with atomic_write(path) as partial:
        partial.write_text(f"---\n{card.data.to_yaml()}\n---\n{text}\n## Labels\n{after}", encoding="utf-8")


def _describe_teachers(config: DistillationConfig) -> str:
    if not config.teachers:
        return ""
    return f", its labels drawn to the mean probabilities of {len(config.teachers)} trained model(s) by a weight of {config.weight:g}"


def _describe_cost(run: RunFolder) -> list[str]:
    efficiency = json.loads(run.efficiency.read_text(encoding="utf-8"))
    line = (
        f"Parameters {efficiency['parameters']:,}, of which {efficiency['trainable_parameters']:,} were trained, "
        f"in {efficiency['total_seconds']:,.0f} s at {efficiency['examples_per_second']:,.0f} examples/s."
    )
    if run.speed("test").is_file():
        speed = json.loads(run.speed("test").read_text(encoding="utf-8"))
        line += f" Answers {speed['texts_per_second']:,.0f} texts/s in batches, "
        line += f"{speed['milliseconds_per_text']:.0f} ms for one ({speed['device']})."
    return [line, ""]
