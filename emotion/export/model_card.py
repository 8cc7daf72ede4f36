"""The model card: README.md of a model folder, with the front matter that the Hub reads.

`write_card` writes a new one. `complete_card` adds what is known later, section by section, and leaves what people have added.
"""

import re
from pathlib import Path

import yaml

from emotion.config import BASELINE, Config
from emotion.evaluation.behaviour.pages import format_card_section
from emotion.evaluation.behaviour.results import FILE_NAME, has_rule, read_results
from emotion.evaluation.document import escape_markdown, replace_section
from emotion.export.card_sections import (
    OPEN_TEST,
    OPTIMISTIC,
    find_report,
    format_labels,
    format_scores,
    format_training,
    list_index_entries,
)
from emotion.export.origins import find_origin
from emotion.files import atomic_write
from emotion.inference.sidecar import read_sidecar
from emotion.labels import LabelSet
from emotion.modeling.packaged import find_packaged
from emotion.text import escape_controls, format_count
from emotion.tracking.run_folder import RunFolder

CARD = """---
{front_matter}---

# {name}

Multi-label emotion detection: a text gets any number of {num_labels} labels.
{backbone} fine-tuned with {loss} on {source}{teachers}.{origin}

## Use

{usage}{long_texts}

{calibration} `emotion.json`
contains the decision rule, one threshold per label, fitted on the validation split; `predict_labels` applies it, and so does
`python infer.py --model PATH_OR_ID --text "..."`.

## Scores

{scores}

## Labels

{labels}

## Training

{training}

## Limits

Labels are readers' impressions of short texts, not what the writer felt. Rare labels are predicted poorly: look at the
per-label scores before you rely on one. Do not use the model to make decisions about people.
"""

CALIBRATED = (
    "The probabilities are calibrated: the scales of the logits, and shifts if the head has biases, were fitted on the validation split."
)
NOT_CALIBRATED = "The probabilities are those of the training: they were not calibrated (`decision.fit_temperature=false`)."
LOSSES = {
    "bce": "binary cross-entropy",
    "focal": "the focal loss",
    "distribution_balanced": "the distribution-balanced loss",
}
"""What the card calls each value of `training.loss`."""
NO_SCORES = ("mean_scale", "mean_shift", "temperature", "shift")
"""What stands beside the validation scores of a model: its calibration; earlier versions had one for all labels."""
VERIFICATION = "Verified"
BEHAVIOUR = "Behaviour"
EARLIER_SECTIONS = ("Validation scores", "Test scores")
"""Sections of the cards of earlier versions, in place of which `Scores` stands."""

PROJECT_USAGE = """With this project (`pip install .` in its folder){more}:

```python
import emotion

model = emotion.load("PATH_OR_ID")
print(model.predict_labels(["Thank you, that made my day!"]))
```"""
PIPELINE_USAGE = """

With transformers alone, for the probabilities of all labels:

```python
from transformers import pipeline

classify = pipeline("text-classification", model="PATH_OR_ID", top_k=None, truncation=True, max_length={max_length})
print(classify("Thank you, that made my day!"))
```"""
ADAPTER_USAGE = """

With PEFT alone, for the probabilities of all labels:

```python
import torch
from peft import AutoPeftModelForSequenceClassification
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("PATH_OR_ID")
model = AutoPeftModelForSequenceClassification.from_pretrained("PATH_OR_ID", num_labels={num_labels}, pad_token_id=tokenizer.pad_token_id)
batch = tokenizer(["a text"], padding=True, padding_side="right", truncation=True, max_length={max_length}, return_tensors="pt")
probabilities = model.eval()(**batch).logits.sigmoid().tolist()
```"""
SEGMENTS_NOTE = """

This project predicts a text of more than {max_length} tokens from segments of it; other programs, as above, read the first {max_length}."""
ADAPTER_NOTE = ", which loads the adapter's backbone too"
BASELINE_NOTE = "; TF-IDF is not a transformers model"


def add_verification(card: Path, table: str) -> None:
    """Write the table of agreements at the end of a model card, in place of an earlier table."""
    _replace_sections(card, {VERIFICATION: table})


def remove_rule_sections(card: Path) -> None:
    """Remove from a model card, if there is one, what was measured with the decision rule that the model had before."""
    if card.is_file():
        _replace_sections(card, {VERIFICATION: None, BEHAVIOUR: None})


def _replace_sections(card: Path, sections: dict[str, str | None]) -> None:
    """Write sections of a model card by title, in place of those that it has; None removes one."""
    text = card.read_text(encoding="utf-8")
    for title, content in sections.items():
        text = replace_section(text, title, content)
    with atomic_write(card) as partial:
        partial.write_text(text, encoding="utf-8")


def write_card(config: Config, label_set: LabelSet, scores: dict[str, float], name: str, is_merged: bool = False) -> str:
    """Return the model card of a run with its validation scores; `is_merged` says that the adapter was merged into the backbone."""
    is_adapter, is_baseline = config.lora.r > 0 and not is_merged, config.model.backbone == BASELINE
    is_cut = config.data.long_texts == "cut"
    origin, packaged = find_origin(config), find_packaged(config.model.backbone)
    front_matter = {
        "library_name": "peft" if is_adapter else "scikit-learn" if is_baseline else "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["emotion", "multi-label"],
        **origin.front_matter,
    }
    usage = PROJECT_USAGE.format(more=ADAPTER_NOTE if is_adapter else BASELINE_NOTE if is_baseline else "")
    usage += ADAPTER_USAGE if is_adapter else "" if is_baseline else PIPELINE_USAGE
    table = ["| metric | value |", "|---|---|", *(f"| {key} | {value:.4f} |" for key, value in scores.items() if key not in NO_SCORES)]
    return CARD.format(
        front_matter=yaml.safe_dump(front_matter, sort_keys=False),
        name=escape_markdown(name),
        num_labels=len(label_set),
        backbone=format_code(origin.backbone),
        loss=LOSSES["bce" if is_baseline else config.training.loss],
        source=format_code(origin.data),
        teachers=_describe_targets(config),
        origin=f"\n{packaged.note}. The backbone's license is {packaged.license}." if packaged is not None and packaged.note else "",
        usage=usage.format(max_length=config.data.max_length, num_labels=len(label_set)),
        calibration=CALIBRATED if config.decision.fit_temperature else NOT_CALIBRATED,
        long_texts="" if is_cut or is_baseline else SEGMENTS_NOTE.format(max_length=config.data.max_length),
        scores="\n".join([f"On the validation rows. {OPTIMISTIC} {OPEN_TEST}", "", *table]),
        labels=", ".join(map(format_code, label_set.names)),
        training=format_training(origin, None),
    )


def format_code(text: str) -> str:
    """Return Markdown that shows a text as code: between more backticks than the text has in a row."""
    shown = escape_controls(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    return f"{fence} {shown} {fence}" if shown.startswith("`") or shown.endswith("`") else f"{fence}{shown}{fence}"


def complete_card(run: RunFolder, folder: Path | None = None, name: str | None = None, reports: RunFolder | None = None) -> None:
    """Write scores with their intervals, the verdict, the training's cost and versions, and the scores' index into a model card.

    Args:
        run: the run that the model was trained in.
        folder: the model's folder, if it is not that of the run.
        name: where the model is, as people load it; None leaves what the card says.
        reports: what holds the reports of the model, if it is not the run.

    The scores are those of the test split if it was opened, and otherwise of validation. Without a report, the sections stay. Results of
    behaviour checks are added if there are any with the model's decision rule.
    """
    from huggingface_hub import ModelCard

    folder = folder or run.model
    path = folder / "README.md"
    if not path.is_file():
        return
    card = ModelCard(path.read_text(encoding="utf-8"), ignore_metadata_errors=True)
    rule, config = read_sidecar(str(folder))[1], run.read_config()
    origin, report, text = find_origin(config), find_report(reports or run, rule), card.text
    if report is not None:
        for title in EARLIER_SECTIONS:
            text = replace_section(text, title, None)
        text = replace_section(text, "Scores", format_scores(report, origin.data))
        text = replace_section(text, "Labels", format_labels(report))
    text = replace_section(text, "Training", format_training(origin, run))
    behaviour = (reports or run).behaviour / FILE_NAME
    if behaviour.is_file() and has_rule(results := read_results(behaviour), rule):
        text = replace_section(text, BEHAVIOUR, format_card_section(results))
    if report is not None and report.split == "test":
        card.data.model_name = escape_controls((name or run.path.resolve().name).rpartition("/")[2])
        card.data.eval_results = list_index_entries(report, origin)
    elif report is not None:  # an index of test scores would be of an earlier rule
        card.data.model_name = card.data.eval_results = None
    for key, value in origin.front_matter.items():
        card.data[key] = value
    with atomic_write(path) as partial:
        partial.write_text(f"---\n{card.data.to_yaml()}\n---\n{_name_location(text, name)}", encoding="utf-8")


def find_location(folder: Path) -> str | None:
    """Return how the card of a model folder can name it: its relative path, or None for a path that is true on this machine only."""
    return None if folder.is_absolute() or folder.parts[:1] in (("..",), ("~",)) else folder.as_posix()


def _name_location(text: str, location: str | None) -> str:
    """Return a card whose section `Use` loads the model from a location, in place of the one that it names."""
    before, heading, rest = text.partition("\n## Use\n")
    use, end, after = rest.partition("\n## ")
    found = re.search(r"(?:emotion\.load\(|model=)\"([^\"\n]+)\"", use)
    if location is not None and found is not None:
        use = use.replace(found[1], location)
    return before + heading + use + end + after


def _describe_targets(config: Config) -> str:
    """Return what training aimed at if that is not the gold labels alone."""
    teachers, weight = config.distillation.teachers or (), config.distillation.weight
    raters = "; the targets are the fractions of raters who gave a label" if config.data.soft_labels else ""
    if not teachers:
        return raters
    means = f"the mean probabilities of {format_count(len(teachers), 'trained model')}"
    means += ", also on texts without labels" if config.distillation.texts else ""
    if weight == 1:  # neither raters nor gold labels count
        return f"; the targets are {means}"
    subject = ", mixed" if raters else "; the targets are mixed"
    return f"{raters}{subject} with {means}, with weight {weight:g}"
