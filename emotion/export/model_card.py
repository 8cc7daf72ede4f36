"""The model card: README.md of a model folder, with the front matter that the Hub reads."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from emotion.config import BASELINE, Config, DistillationConfig
from emotion.evaluation.comparison.document import escape_markdown
from emotion.files import atomic_write
from emotion.labels import LabelSet
from emotion.modeling.backbones import get_base_model_name
from emotion.modeling.packaged import find_packaged
from emotion.text import escape_controls
from emotion.tracking.run_folder import RunFolder

CARD = """---
{front_matter}---

# {name}

Multi-label emotion detection: a text gets any number of {num_labels} labels.
{backbone} fine-tuned with binary cross-entropy on {source}{teachers}.{origin}

## Use

```python
{usage}
```

The probabilities are calibrated: the logits are divided by a temperature that was fitted on the validation split. `emotion.json`
contains the decision rule, one threshold per label, fitted on the same split; `python infer.py --model PATH_OR_ID --text "..."` applies it.

## Validation scores

The thresholds were fitted on these rows, so F1 is optimistic here. The scores of the test split are in the run's report.

| metric | value |
|---|---|
{scores}

## Labels

{labels}

## Limits

Labels are readers' impressions of short English texts, not what the writer felt. Rare labels are predicted poorly: look at the
per-label scores before you rely on one. Do not use the model to make decisions about people.
"""

TEST_TITLE = "## Test scores"
INDEX_METRICS = ("macro_f1", "micro_f1", "subset_accuracy", "jaccard_samples", "macro_precision", "macro_recall")
"""Scores in the model index of the front matter."""
VERIFICATION_TITLE = "## Verified"

USAGE = """from transformers import pipeline

classify = pipeline("text-classification", model="PATH_OR_ID", top_k=None, truncation=True, max_length={max_length})"""
ADAPTER_USAGE = """import emotion  # this project; it loads the adapter's backbone, {backbone}, too

model = emotion.load("PATH_OR_ID")
print(model.predict(["a text"]))

# or with PEFT alone:
import torch
from peft import AutoPeftModelForSequenceClassification
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("PATH_OR_ID")
model = AutoPeftModelForSequenceClassification.from_pretrained("PATH_OR_ID", num_labels={num_labels}, pad_token_id=tokenizer.pad_token_id)
batch = tokenizer(["a text"], padding=True, padding_side="right", truncation=True, max_length={max_length}, return_tensors="pt")
probabilities = model.eval()(**batch).logits.sigmoid().tolist()"""
BASELINE_USAGE = """import emotion  # this project; TF-IDF is not a transformers model

model = emotion.load("PATH_OR_ID")
print(model.predict(["a text"]))"""


def add_verification(card: Path, table: str) -> None:
    """Write the table of agreements at the end of a model card, in place of an earlier table."""
    text = card.read_text(encoding="utf-8").partition(f"\n{VERIFICATION_TITLE}\n")[0]
    with atomic_write(card) as partial:
        partial.write_text(f"{text}\n{VERIFICATION_TITLE}\n\n{table}\n", encoding="utf-8")


def write_card(config: Config, label_set: LabelSet, scores: dict[str, float], name: str, is_merged: bool = False) -> str:
    """Return the model card of a run; `is_merged` says that the adapter has been merged into the backbone."""
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
    elif not config.model.backbone.startswith((".", "/", "~")) and not config.model.backbone.endswith(".gguf"):
        front_matter["base_model"] = get_base_model_name(config.model)
    if (packaged := find_packaged(config.model.backbone)) is not None:
        front_matter["license"] = packaged.license
    usage = ADAPTER_USAGE if is_adapter else BASELINE_USAGE if is_baseline else USAGE
    return CARD.format(
        front_matter=yaml.safe_dump(front_matter, sort_keys=False),
        name=escape_markdown(name),
        num_labels=len(label_set),
        backbone=format_code(config.model.backbone),
        source=format_code(config.data.name),
        teachers=_describe_teachers(config.distillation),
        origin=f"\n{packaged.note}. The backbone's license is {packaged.license}." if packaged is not None and packaged.note else "",
        usage=usage.format(
            backbone=escape_controls(get_base_model_name(config.model)), max_length=config.data.max_length, num_labels=len(label_set)
        ),
        scores="\n".join(f"| {key} | {value:.4f} |" for key, value in scores.items()),
        labels=", ".join(map(format_code, label_set.names)),
    )


def format_code(text: str) -> str:
    """Return Markdown that shows a text as code: between more backticks than the text has in a row."""
    shown = escape_controls(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    return f"{fence} {shown} {fence}" if shown.startswith("`") or shown.endswith("`") else f"{fence}{shown}{fence}"


def complete_card(run: RunFolder, name: str) -> None:
    """Write the run's test scores, its cost and its name on the Hub into the model card, and the scores into the model index.

    Without a report of the test split, only the name is written.
    """
    from huggingface_hub import ModelCard

    path = run.model / "README.md"
    config = run.read_config()
    card = ModelCard(path.read_text(encoding="utf-8"), ignore_metadata_errors=True)
    before, _, after = card.text.partition("\n## Labels\n")  # a label may be named as the place of the model is
    text = before.replace("PATH_OR_ID", name).partition(f"\n{TEST_TITLE}\n")[0]
    report_path = run.report("test") / "metrics.json"
    if report_path.is_file():
        report = json.loads(report_path.read_text(encoding="utf-8"))
        card.data.model_name = name.rpartition("/")[2]
        card.data.eval_results = _list_index_entries(report, config)
        text += f"\n{TEST_TITLE}\n\n{_format_test_scores(report)}\n{_describe_cost(run)}\n"
    with atomic_write(path) as partial:
        partial.write_text(f"---\n{card.data.to_yaml()}\n---\n{text}\n## Labels\n{after}", encoding="utf-8")


def _list_index_entries(report: dict[str, Any], config: Config) -> list[Any]:
    """Return the entries of the model index for a report of the test split."""
    from huggingface_hub import EvalResult

    task = {"task_type": "text-classification", "task_name": "Multi-label emotion detection"}
    data = {"dataset_type": config.data.name, "dataset_name": Path(config.data.name).name, "dataset_split": "test"}
    scores = {key: report["at_decision_rule"][key] for key in INDEX_METRICS if key in report["at_decision_rule"]}
    scores["map"] = report["probabilities"]["macro_average_precision"]
    return [EvalResult(**task, **data, metric_type=key, metric_value=value) for key, value in scores.items()]


def _format_test_scores(report: dict[str, Any]) -> str:
    """Return the test scores as Markdown."""
    rule = report["decision"]
    intervals = {key: "{:.4f} to {:.4f}".format(*bounds) for key, bounds in report["at_decision_rule_interval_95"].items()}
    lines = [
        f"{report['num_rows']:,} rows that nothing was fitted on, at the decision rule (fitted on {escape_markdown(rule['fitted_on'])}).",
        "",
        "| metric | value | 95 % interval over test rows |",
        "|---|---|---|",
        *(f"| {key} | {value:.4f} | {intervals.get(key, '')} |" for key, value in report["at_decision_rule"].items()),
        "",
        "Thresholds, in the order of the labels: " + ", ".join(f"{value:.2f}" for value in rule["thresholds"]) + ".",
    ]
    return "\n".join([*lines, ""])


def _describe_teachers(config: DistillationConfig) -> str:
    if not config.teachers:
        return ""
    return f"; the targets are mixed with the mean probabilities of {len(config.teachers)} trained model(s), with weight {config.weight:g}"


def _describe_cost(run: RunFolder) -> str:
    efficiency = json.loads(run.efficiency.read_text(encoding="utf-8"))
    text = (
        f"{efficiency['parameters']:,} parameters, of which {efficiency['trainable_parameters']:,} were trained, "
        f"in {efficiency['total_seconds']:,.0f} s at {efficiency['examples_per_second']:,.0f} examples/s."
    )
    if run.speed("test").is_file():
        speed = json.loads(run.speed("test").read_text(encoding="utf-8"))
        text += f" Inference: {speed['texts_per_second']:,.0f} texts/s in batches, "
        text += f"{speed['milliseconds_per_text']:.0f} ms for one text ({speed['device']})."
    return text
