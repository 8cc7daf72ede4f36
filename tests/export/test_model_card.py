import json
import re
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pandas as pd
import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from emotion.config import (
    Config,
    DataConfig,
    DecisionConfig,
    DistillationConfig,
    HubConfig,
    LoraConfig,
    ModelConfig,
    TrainingConfig,
    load_config,
)
from emotion.evaluation.decision import DecisionRule, default_rule
from emotion.evaluation.document import replace_section
from emotion.evaluation.reporting import score_split
from emotion.evaluation.rows import ScoredRows
from emotion.export.model_card import LOSSES, add_verification, complete_card, find_location, write_card
from emotion.export.origins import find_origin
from emotion.files import write_json
from emotion.inference.model_folder import write_sidecar
from emotion.inference.sidecar import Sidecar
from emotion.labels import LabelSet
from emotion.text import escape_controls
from emotion.tracking.run_folder import RunFolder
from tests.conftest import ROOT

LABELS = LabelSet(("anger", "joy"))


def make_card(is_merged=False, r=0, backbone=None, **data):
    model = ModelConfig(backbone) if backbone else ModelConfig()
    return write_card(Config(data=DataConfig(**data), model=model, lora=LoraConfig(r=r)), LABELS, {"loss": 0.1}, "run", is_merged)


def test_card_names_the_training_data():
    assert "on `train.csv`" in make_card(train="train.csv") and "on `sample`" in make_card()


def test_card_names_the_teachers():
    config = Config(distillation=DistillationConfig(teachers=("first", "second"), weight=0.25))
    assert "the mean probabilities of 2 trained models, with weight 0.25" in write_card(config, LABELS, {}, "run")


def test_card_names_the_loss():
    cards = {loss: write_card(Config(training=TrainingConfig(loss=loss)), LABELS, {}, "run") for loss in LOSSES}
    for loss, name in LOSSES.items():
        assert f"fine-tuned with {name} on" in cards[loss]
    assert LOSSES.keys() == set(get_args(get_type_hints(TrainingConfig)["loss"]))
    baseline = load_config(ROOT / "configs" / "quickstart.yaml", ["model.backbone=tfidf"])  # whose loss is not the file's
    assert "focal" not in write_card(baseline, LABELS, {}, "run")


def test_card_says_whether_the_probabilities_were_calibrated():
    cards = {fit: write_card(Config(decision=DecisionConfig(fit_temperature=fit)), LABELS, {}, "run") for fit in (True, False)}
    scores = {"macro_f1_tuned": 0.5, "temperature": 1.25, "shift": -0.5}  # the latter are means over labels
    card = write_card(Config(), LABELS, scores, "run")
    assert "| macro_f1_tuned | 0.5000 |" in card and "temperature" not in card and "| shift" not in card
    assert "scales of the logits, and shifts if the head has biases, were fitted" in cards[True] and "are calibrated" in cards[True]
    assert "are calibrated" not in cards[False] and "they were not calibrated" in cards[False]


def test_a_folder_of_the_name_of_the_bundled_corpus_is_not_taken_for_it(tmp_path):
    for own in (DataConfig(source=str(tmp_path / "sample")), DataConfig(train="mine/sample")):
        assert own.title == "sample"
        origin = find_origin(Config(data=own))
        assert (origin.data_license, origin.languages, origin.data_note) == (None, (), "")
    assert find_origin(Config()).data_license == "cc0-1.0"


def test_front_matter_names_the_library_that_opens_the_folder():
    def read_library(text):
        return yaml.safe_load(text.split("---")[1])["library_name"]

    assert read_library(make_card()) == read_library(make_card(r=4, is_merged=True)) == "transformers"
    assert read_library(make_card(r=4)) == "peft" and read_library(make_card(backbone="tfidf")) == "scikit-learn"
    assert "base_model: sentence-transformers/all-MiniLM-L6-v2" in make_card(r=4)


def test_card_names_license_and_origin_of_packaged_weights():
    card = make_card(r=4, backbone="bundled:gemma-3-270m")
    front_matter = yaml.safe_load(card.split("---")[1])
    assert front_matter["license"] == "gemma" and front_matter["base_model"] == "google/gemma-3-270m"
    assert "went through 4-bit quantization (GGUF, Q4_K_M) and are not the published ones. The backbone's license is gemma." in card
    assert yaml.safe_load(make_card().split("---")[1])["license"] == "apache-2.0" and "quantization" not in make_card()
    own_file = yaml.safe_load(make_card(backbone="models/mistral.gguf").split("---")[1])
    assert "license" not in own_file and "base_model" not in own_file


def list_codes(card):
    return re.findall(r"```python\n(.*?)```", card, re.S)


def test_python_of_each_card_compiles_and_fits_its_model():
    cards = {
        "full": make_card(),
        "merged": make_card(r=4, is_merged=True),
        "adapter": make_card(r=4),
        "baseline": make_card(backbone="tfidf"),
    }
    codes = {name: list_codes(card) for name, card in cards.items()}
    for code in (code for blocks in codes.values() for code in blocks):
        compile(code, "card", "exec")
    assert {name: len(blocks) for name, blocks in codes.items()} == {"full": 2, "merged": 2, "adapter": 2, "baseline": 1}
    assert all('emotion.load("PATH_OR_ID")' in blocks[0] for blocks in codes.values())
    assert {name for name, blocks in codes.items() if "pipeline(" in blocks[-1]} == {"full", "merged"}
    assert {name for name, blocks in codes.items() if "AutoPeftModelForSequenceClassification" in blocks[-1]} == {"adapter"}


def test_python_of_the_card_runs_and_gives_the_answers_of_the_model(tiny_run):
    """Three lines with this project, three with plain transformers; both read the model at the location that the card names."""
    text = "Thank you, that made my day!"
    outputs = []
    for code in list_codes((tiny_run / "model" / "README.md").read_text()):
        assert len([line for line in code.splitlines() if line]) == 3
        with redirect_stdout(StringIO()) as printed:
            exec(code.replace("PATH_OR_ID", str(tiny_run / "model")), {})
        outputs.append(yaml.safe_load(printed.getvalue()))
    with_project, with_pipeline = outputs
    rule = DecisionRule.from_dict(json.loads((tiny_run / "model" / "emotion.json").read_text())["decision"], 28, "rule")
    scores = {row["label"]: row["score"] for row in with_pipeline[0]}
    names = RunFolder(tiny_run).read_predictions("validation").label_set.names
    predicted = rule.decide(np.array([[scores[name] for name in names]]))[0]
    assert with_project == [sorted((name for name, is_on in zip(names, predicted, strict=True) if is_on), key=lambda name: -scores[name])]
    assert text in code


@pytest.mark.parametrize(
    ("data", "title"),
    [
        ({"source": "/home/anna/secret/comments.csv"}, "comments.csv"),
        ({"source": "~/data/goemotions/"}, "goemotions"),
        ({"source": r"C:\Users\anna\comments.csv"}, "comments.csv"),
        ({"train": "/home/anna/a.csv, /home/anna/b.csv"}, "a.csv, b.csv"),
        ({"train": "data/train-*.parquet"}, "train-*.parquet"),
        ({"source": "."}, "local files"),
        ({"source": "emotion/data/sample"}, "sample"),
        ({"source": "google-research-datasets/go_emotions"}, "google-research-datasets/go_emotions"),
        ({"source": "sample"}, "sample"),
    ],
)
def test_data_are_named_without_their_folders(data, title):
    assert DataConfig(**data).title == title
    assert "anna" not in make_card(**data) and f"`{title}`" in make_card(**data)


def test_backbone_in_a_local_folder_is_named_without_its_path_and_with_the_license_of_its_card(tmp_path):
    folder = tmp_path / "bert"
    folder.mkdir()
    assert find_origin(Config(model=ModelConfig(str(folder)))).license is None
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# BERT\n")
    card = make_card(backbone=str(folder))
    front_matter = yaml.safe_load(card.split("---")[1])
    assert front_matter["license"] == "mit" and "base_model" not in front_matter
    assert str(tmp_path) not in card and "Backbone: bert, license: mit" in card
    for damaged in ("---\nlicense: [\n---\n", "---\n- a\n---\n", "---\nlicense: [a, b]\n---\n", ""):
        (folder / "README.md").write_text(damaged)
        assert find_origin(Config(model=ModelConfig(str(folder)))).license is None


def test_front_matter_has_license_language_and_data():
    def read(config):
        return yaml.safe_load(write_card(config, LABELS, {}, "run").split("---")[1])

    known = read(Config(data=DataConfig(source="google-research-datasets/go_emotions")))
    assert (known["license"], known["language"]) == ("apache-2.0", "en")
    assert known["datasets"] == ["google-research-datasets/go_emotions"]
    local = Config(data=DataConfig(source="/data/go"), model=ModelConfig("/models/bert"))
    assert {"license", "language", "datasets", "base_model"} & read(local).keys() == set()
    named = HubConfig(license="mit", language=("de", "fr"), dataset="google-research-datasets/go_emotions")
    values = read(replace(local, hub=named))
    assert (values["license"], values["language"], values["datasets"]) == ("mit", ["de", "fr"], [named.dataset])
    assert "Data: google-research-datasets/go\\_emotions" not in write_card(replace(local, hub=named), LABELS, {}, "run")


NAMES = (
    "$x$",
    "<script>alert(1)</script>",
    "[x](javascript:1)",
    "a|b",
    "**b** _i_",
    "line\n\n## Labels\n",
    "`tick``s",
    "愤怒😡",
    "\x1b[2J",
    "PATH_OR_ID",
)


def test_card_shows_names_as_text_and_its_yaml_stays_valid():
    """In the body: the name, the backbone, the data and each label. The front matter has no base model: this one can only be a path."""
    backbone, data = "someone\n---\nelse: `x` <b>", "data [x](javascript:1)\n## Verified\n"
    config = Config(data=DataConfig(train=data), model=ModelConfig(backbone))
    parsed = ModelCard(write_card(config, LabelSet(NAMES), {"loss": 0.1}, "run **x** <i>\n## Labels\n"))
    assert "base_model" not in yaml.safe_load(parsed.content.split("\n---\n")[0]) and parsed.data.base_model is None
    assert parsed.data.library_name == "transformers"
    tokens = [token for block in MarkdownIt("commonmark").parse(parsed.text) for token in (block.children or [block])]
    codes = [token.content for token in tokens if token.type == "code_inline"]
    infer = 'python infer.py --model PATH_OR_ID --text "..."'
    expected = [backbone, data, "pip install .", "emotion.json", "predict_labels", infer, "evaluate.py --split test", *NAMES]
    assert codes == list(map(escape_controls, expected))
    assert not [token for token in tokens if token.type.startswith(("html", "link", "strong", "em"))]
    headings = [tokens[position + 1].content for position, token in enumerate(tokens) if token.type == "heading_open"]
    assert headings[1:] == ["Use", "Scores", "Labels", "Training", "Limits"]


def write_scores(folder, labels, probabilities, rule, label_set, split):
    """Write what a card reads of a report."""
    rows = ScoredRows([], label_set, labels, probabilities)
    report = score_split(rows, rule.decide(probabilities), rule, split)
    per_label = report.pop("per_label")
    write_json(folder / "metrics.json", report)
    pd.DataFrame(per_label).to_csv(folder / "per_label.csv", index=False, float_format="%.4f")
    return report


def make_run(folder, names=NAMES, split="test", config="{}"):
    """Write a run whose rows have every label once, with the report of a split."""
    run, label_set, rule = RunFolder(folder / "run-1"), LabelSet(names), default_rule(len(names))
    run.model.mkdir(parents=True)
    run.config.write_text(config)
    (run.model / "README.md").write_text(write_card(Config(), label_set, {}, "run"), encoding="utf-8")
    write_sidecar(run.model, Sidecar(names, ModelConfig(), 128, "fp32", {}), rule)
    labels = np.eye(len(names), dtype=bool)
    write_scores(run.report(split), labels, np.where(labels, 0.9, 0.1), rule, label_set, split)
    return run


def read_card(run):
    return (run.model / "README.md").read_text(encoding="utf-8")


def test_name_on_the_hub_is_written_beside_labels_of_any_name_and_can_change(tmp_path):
    run = make_run(tmp_path)
    for name in ("someone/model", "other/name"):
        complete_card(run, name=name)
        text = read_card(run)
        assert text.count("PATH_OR_ID") == 1 and "PATH_OR_ID" in text.split("\n## Labels\n")[1] and text.count(name) == 3
    assert "someone" not in text
    tokens = [
        token for block in MarkdownIt("commonmark").enable("table").parse(ModelCard(text).text) for token in (block.children or [block])
    ]
    assert not [token for token in tokens if token.type.startswith(("html", "link", "em"))]
    cells = [token.content for token in tokens if token.type == "text"]
    assert set(map(escape_controls, ("$x$", "a|b", "[x](javascript:1)", "<script>alert(1)</script>"))) <= set(map(str.strip, cells))


def test_scores_are_those_of_the_test_split_once_it_was_opened(tmp_path):
    run = make_run(tmp_path, ("anger", "joy"), "validation", "data: {source: /home/anna/comments.csv}")
    complete_card(run)
    assert "2 validation rows of comments.csv" in read_card(run) and "so F1 is optimistic here. The test split has not" in read_card(run)
    assert "model-index" not in read_card(run)
    labels = np.array([[1, 0], [1, 0], [0, 1]], dtype=bool)
    predicted = np.array([[1, 0], [0, 1], [0, 1]], dtype=bool)  # F1 of each label: 2 * 1 / (2 + 1)
    report = write_scores(run.report("test"), labels, np.where(predicted, 0.9, 0.1), default_rule(2), LABELS, "test")
    verdict = {"verdict": "weak", "reason": "few rows", "next_step": "add rows", "scores": {}, "labels_per_text": {}}
    write_json(run.report("test") / "metrics.json", {**report, "verdict": verdict})
    complete_card(run)
    text = read_card(run)
    low, high = report["at_decision_rule_interval_95"]["macro_f1"]
    assert f"| macro-F1 | 0.667 | {low:.3f} to {high:.3f} |" in text and "**verdict: weak: few rows; add rows**" in text
    assert "3 test rows of comments.csv, at the decision rule of `emotion.json`. Nothing was fitted on these rows." in text
    assert re.search(r"\| anger \| 0\.667 \| [\d.]+ to [\d.]+ \| 1\.000 \| 0\.500 \| 2 \| 0\.50 \|", text) and "/home" not in text
    assert [text.count(f"\n## {title}\n") for title in ("Use", "Scores", "Labels", "Training", "Limits")] == [1] * 5
    index = ModelCard(text).data.eval_results
    assert {entry.metric_type: entry.metric_value for entry in index}["macro_f1"] == pytest.approx(2 / 3)
    assert {(entry.dataset_type, entry.dataset_split) for entry in index} == {("comments.csv", "test")}


def test_scores_at_another_rule_than_that_of_the_model_are_left_out(tmp_path):
    run = make_run(tmp_path, ("anger", "joy"), "validation")
    labels = np.eye(2, dtype=bool)
    write_scores(run.report("test"), labels, labels * 0.9, replace(default_rule(2), thresholds=(0.3, 0.3)), LABELS, "test")
    complete_card(run)
    assert "validation rows" in read_card(run) and "test rows" not in read_card(run)
    write_scores(run.report("test"), labels, labels * 0.9, default_rule(2), LABELS, "test")
    complete_card(run)
    assert "model-index" in read_card(run)
    (run.report("test") / "metrics.json").unlink()
    complete_card(run)
    assert "model-index" not in read_card(run) and "model_name" not in read_card(run) and "test rows" not in read_card(run)


def test_completing_a_card_keeps_what_people_have_added(tmp_path):
    run = make_run(tmp_path)
    path = run.model / "README.md"
    added = "## Ethics\n\nAsk before you use it.\n"
    path.write_text(read_card(run).replace("## Limits\n", f"{added}\n## Limits\n\nMine.\n").replace("tags:", "thumbnail: a.png\ntags:"))
    for _ in range(2):
        complete_card(run)
    text = read_card(run)
    assert text.count(added) == text.count("\nMine.\n") == text.count("thumbnail: a.png") == text.count("## Scores") == 1


def test_card_of_an_earlier_version_gets_the_sections_of_this_one(tmp_path):
    run = make_run(tmp_path, ("anger", "joy"))
    earlier = (
        "---\ntags:\n- emotion\n---\n\n# run\n\n## Validation scores\n\n| loss | 1 |\n\n## Test scores\n\nold\n\n## Labels\n\n`anger`\n"
    )
    (run.model / "README.md").write_text(earlier)
    complete_card(run)
    text = read_card(run)
    assert re.findall("^## (.*)", text, re.M) == ["Labels", "Scores", "Training"] and "\nold\n" not in text and "| loss | 1 |" not in text
    (run.model / "README.md").unlink()
    complete_card(run)  # a card that somebody has removed stays so
    assert not (run.model / "README.md").exists()


def test_training_section_has_versions_and_cost(tmp_path):
    run = make_run(tmp_path)
    write_json(run.path / "environment.json", {"python": "3.11.7", "packages": {"torch": "2.13.0", "peft": None}})
    counts = {"parameters": 2000, "trainable_parameters": 1000, "total_seconds": 1.0, "examples_per_second": 3.0}
    write_json(run.efficiency, counts)
    complete_card(run)
    assert "- Versions: Python 3.11.7, torch 2.13.0\n" in read_card(run)
    assert "- Cost: 2,000 parameters, of which 1,000 were trained, in 1 s at 3 examples/s\n" in read_card(run)
    assert "- Data: sample (the bundled corpus of 2,000 synthetic texts), license: cc0-1.0\n" in read_card(
        run
    ) and "- Language of the texts: en\n" in read_card(run)


def test_sections_are_replaced_added_and_removed():
    text = "# a\n\n## One\n\n1\n\n## Two\n\n2\n"
    assert replace_section(text, "One", "new") == "# a\n\n## One\n\nnew\n\n## Two\n\n2\n"
    assert replace_section(text, "Two", r"\1") == "# a\n\n## One\n\n1\n\n## Two\n\n\\1\n"
    assert replace_section(text, "Three", "3") == text + "\n## Three\n\n3\n"
    assert replace_section(text, "One", None) == "# a\n\n## Two\n\n2\n" and replace_section(text, "Three", None) == text


def test_card_names_a_relative_folder_and_no_folder_of_this_machine():
    assert find_location(Path("models/minilm")) == "models/minilm"
    assert [find_location(Path(path)) for path in ("/home/anna/minilm", "../minilm", "~/minilm")] == [None] * 3


def test_verification_replaces_an_earlier_one(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(make_card())
    for table in ("first table", "second table"):
        add_verification(path, table)
    text = path.read_text()
    assert text.startswith(make_card()) and "second table" in text and "first table" not in text
