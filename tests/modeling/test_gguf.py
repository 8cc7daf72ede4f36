"""A GGUF file as backbone computes what the checkpoint computes that it comes from."""

import struct

import numpy as np
import pytest
import torch

from emotion.config import LoraConfig, ModelConfig
from emotion.errors import ModelError
from emotion.labels import LabelSet
from emotion.modeling.backbones import locate_backbone
from emotion.modeling.build import build_model
from emotion.modeling.gguf import fingerprint_file
from emotion.modeling.tokenization import load_tokenizer
from tests.gguf_files import TOKENS, make_checkpoint, write_gguf

LABELS = LabelSet(("anger", "joy", "fear"))
FAMILIES = ("mistral", "gemma3_text")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EMOTION_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def hidden_states(model, input_ids):
    with torch.no_grad():
        return model(input_ids=input_ids, attention_mask=torch.ones_like(input_ids)).last_hidden_state


BOUNDS = {"F32": 1e-5, "F16": 0.005, "Q8_0": 0.05, "Q4_0": 0.5}
"""Root-mean-square difference, in standard deviations of the states: about eight times a rounding of the type, through 14 matrices.
Unrelated states, as after queries in the wrong order or norms without their one, differ by 1 or more."""


@pytest.mark.parametrize(("quantization", "bound"), BOUNDS.items())
@pytest.mark.parametrize("family", FAMILIES)
def test_a_gguf_backbone_computes_what_its_checkpoint_computes(family, quantization, bound, tmp_path):
    checkpoint = make_checkpoint(family)
    path = write_gguf(tmp_path / "tiny.gguf", checkpoint, quantization)
    model, tokenizer = build_model(ModelConfig(str(path)), LoraConfig(), LABELS, np.full(3, 0.2))
    input_ids = torch.tensor([[2, *np.random.default_rng(0).integers(260, len(TOKENS), 20)]])
    before, after = hidden_states(checkpoint.model.eval(), input_ids), hidden_states(model.base_model.eval(), input_ids)
    difference = (after.float() - before).square().mean().sqrt() / before.std()
    assert difference < bound
    token_ids = tokenizer("hi you").input_ids
    assert token_ids[0] == 2 and tokenizer.decode(token_ids, skip_special_tokens=True).strip() == "hi you"


def test_a_file_is_converted_once_and_another_one_of_its_name_again(tmp_path, cache):
    path = write_gguf(tmp_path / "tiny.gguf", make_checkpoint("mistral"))
    folder = locate_backbone(ModelConfig(str(path)))
    written = (cache / f"tiny-{fingerprint_file(path)}" / "model.safetensors").stat().st_mtime_ns
    assert locate_backbone(ModelConfig(str(path))) == folder
    assert (cache / f"tiny-{fingerprint_file(path)}" / "model.safetensors").stat().st_mtime_ns == written
    assert load_tokenizer(folder).pad_token == "<pad>"
    other = make_checkpoint("mistral")
    torch.nn.init.zeros_(other.model.norm.weight)
    write_gguf(path, other)
    assert locate_backbone(ModelConfig(str(path))) != folder and len([path for path in cache.iterdir() if path.is_dir()]) == 2


def unknown_architecture(path):
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<Q", 5) + b"llama", struct.pack("<Q", 5) + b"yacht", 1))


MISTAKES = {
    "missing": (lambda path: path.unlink(), "tiny.gguf: no such file"),
    "no GGUF": (lambda path: path.write_bytes(b"PK\3\4"), "tiny.gguf: is not a GGUF file"),
    "empty": (lambda path: path.write_bytes(b""), "tiny.gguf: is not a GGUF file"),
    "truncated weights": (lambda path: path.write_bytes(path.read_bytes()[:-10_000]), "is damaged or incomplete, download it again"),
    "truncated header": (lambda path: path.write_bytes(path.read_bytes()[:200]), "is damaged or incomplete, download it again"),
    "unknown architecture": (unknown_architecture, "tiny.gguf: transformers cannot convert it .*yacht"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_file_that_cannot_be_used_is_one_line(mistake, tmp_path, cache):
    damage, message = MISTAKES[mistake]
    path = write_gguf(tmp_path / "tiny.gguf", make_checkpoint("mistral"))
    damage(path)
    with pytest.raises(ModelError, match=message) as caught:
        locate_backbone(ModelConfig(str(path)))
    assert "\n" not in str(caught.value) and not [path for path in cache.glob("*") if path.is_dir()]


def test_split_files_and_a_missing_package_name_the_remedy(tmp_path, monkeypatch):
    path = write_gguf(tmp_path / "m-00001-of-00002.gguf", make_checkpoint("mistral"))
    with pytest.raises(ModelError, match=r"is one part of a split file; join the parts first: llama-gguf-split --merge"):
        locate_backbone(ModelConfig(str(path)))
    path = path.rename(tmp_path / "m.gguf")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r'm.gguf: reading GGUF files needs the package gguf: pip install "\.\[backbones\]"'):
        locate_backbone(ModelConfig(str(path)))
