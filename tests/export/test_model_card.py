import yaml

from emotion.config import Config, DataConfig, LoraConfig, ModelConfig
from emotion.export.model_card import add_verification, write_card
from emotion.labels import LabelSet

LABELS = LabelSet(("anger", "joy"))


def card(is_merged=False, r=0, **data):
    return write_card(Config(data=DataConfig(**data), model=ModelConfig(), lora=LoraConfig(r=r)), LABELS, {"loss": 0.1}, "run", is_merged)


def test_card_names_the_data_that_was_trained_on():
    assert "on `train.csv`" in card(train="train.csv") and "on `sample`" in card()


def test_front_matter_says_how_the_folder_opens():
    def library(text):
        return yaml.safe_load(text.split("---")[1])["library_name"]

    assert library(card()) == library(card(r=4, is_merged=True)) == "transformers" and library(card(r=4)) == "peft"
    assert "base_model: sentence-transformers/all-MiniLM-L6-v2" in card(r=4)
    assert "pipeline(" in card(r=4, is_merged=True) and "pipeline(" not in card(r=4)


def test_verification_takes_the_place_of_an_earlier_one(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(card())
    for table in ("first table", "second table"):
        add_verification(path, table)
    text = path.read_text()
    assert text.startswith(card()) and "second table" in text and "first table" not in text
