import yaml

from emotion.config import Config, DataConfig, DistillationConfig, LoraConfig, ModelConfig
from emotion.export.model_card import add_verification, write_card
from emotion.labels import LabelSet

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


def test_verification_replaces_an_earlier_one(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(make_card())
    for table in ("first table", "second table"):
        add_verification(path, table)
    text = path.read_text()
    assert text.startswith(make_card()) and "second table" in text and "first table" not in text
