from dataclasses import replace

import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from emotion.config import Config, DataConfig, DistillationConfig, LoraConfig, ModelConfig
from emotion.export.model_card import add_verification, complete_card, write_card
from emotion.files import write_json
from emotion.labels import LabelSet
from emotion.text import escape_controls
from emotion.tracking.run_folder import RunFolder

LABELS = LabelSet(("anger", "joy"))


def make_card(is_merged=False, r=0, backbone=None, **data):
    model = ModelConfig(backbone) if backbone else ModelConfig()
    return write_card(Config(data=DataConfig(**data), model=model, lora=LoraConfig(r=r)), LABELS, {"loss": 0.1}, "run", is_merged)


def test_card_names_the_training_data():
    assert "on `train.csv`" in make_card(train="train.csv") and "on `sample`" in make_card()


def test_card_names_the_teachers():
    config = Config(distillation=DistillationConfig(teachers=("first", "second"), weight=0.25))
    assert "the mean probabilities of 2 trained model(s), with weight 0.25" in write_card(config, LABELS, {}, "run")


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


def test_python_of_each_card_compiles_and_fits_its_model():
    usages = {
        "full": make_card(),
        "merged": make_card(r=4, is_merged=True),
        "adapter": make_card(r=4),
        "baseline": make_card(backbone="tfidf"),
    }
    codes = {name: card.split("```python\n")[1].split("```")[0] for name, card in usages.items()}
    for code in codes.values():
        compile(code, "card", "exec")
    assert {name for name, code in codes.items() if "pipeline(" in code} == {"full", "merged"}
    assert {name for name, code in codes.items() if 'emotion.load("PATH_OR_ID")' in code} == {"adapter", "baseline"}
    assert {name for name, code in codes.items() if "AutoPeftModelForSequenceClassification" in code} == {"adapter"}


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
    """In the body: the name, the backbone, the data and each label. In the front matter: the base model."""
    backbone, data = "someone\n---\nelse: `x` <b>", "data [x](javascript:1)\n## Verified\n"
    config = Config(data=DataConfig(train=data), model=ModelConfig(backbone))
    parsed = ModelCard(write_card(config, LabelSet(NAMES), {"loss": 0.1}, "run **x** <i>\n## Labels\n"))
    assert yaml.safe_load(parsed.content.split("\n---\n")[0])["base_model"] == parsed.data.base_model == backbone
    tokens = [token for block in MarkdownIt("commonmark").parse(parsed.text) for token in (block.children or [block])]
    codes = [token.content for token in tokens if token.type == "code_inline"]
    expected = [backbone, data, "emotion.json", 'python infer.py --model PATH_OR_ID --text "..."', *NAMES]
    assert codes == list(map(escape_controls, expected))
    assert not [token for token in tokens if token.type.startswith(("html", "link", "strong", "em"))]
    headings = [tokens[position + 1].content for position, token in enumerate(tokens) if token.type == "heading_open"]
    adapter = write_card(replace(config, lora=LoraConfig(r=4)), LabelSet(NAMES), {}, "run")
    compile(adapter.split("```python\n")[1].split("```")[0], "card", "exec")  # the backbone's name stays in its comment
    assert headings[1:] == ["Use", "Validation scores", "Labels", "Limits"]


def test_name_on_the_hub_is_written_beside_labels_of_any_name(tmp_path):
    run = RunFolder(tmp_path)
    run.model.mkdir()
    run.config.write_text("{}")
    (run.model / "README.md").write_text(write_card(Config(), LabelSet(NAMES), {}, "run"), encoding="utf-8")
    rule = {"thresholds": [0.5], "fitted_on": "validation split of <b>\n## Labels\n"}
    report = {"num_rows": 5, "decision": rule, "at_decision_rule": {}, "at_decision_rule_interval_95": {}}
    write_json(run.report("test") / "metrics.json", report | {"probabilities": {"macro_average_precision": 0.5}})
    counts = {"parameters": 2, "trainable_parameters": 1, "total_seconds": 1.0, "examples_per_second": 1.0}
    write_json(run.efficiency, counts)
    complete_card(run, "someone/model")
    text = (run.model / "README.md").read_text(encoding="utf-8")
    assert text.count("PATH_OR_ID") == 1 and "`PATH_OR_ID`" in text.split("\n## Labels\n")[1] and text.count("someone/model") == 2
    assert r"fitted on validation split of \<b\>\n## Labels\n)." in text.replace("\\\\n", "\\n")


def test_verification_replaces_an_earlier_one(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(make_card())
    for table in ("first table", "second table"):
        add_verification(path, table)
    text = path.read_text()
    assert text.startswith(make_card()) and "second table" in text and "first table" not in text
