"""LoRA and NF4 on the study's four architectures: what is frozen, what is trained, what is saved, what is loaded again."""

import json
import shutil
from typing import Literal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from emotion.config import LoraConfig, ModelConfig
from emotion.errors import ModelError
from emotion.evaluation.decision import default_rule
from emotion.inference.model_folder import save_model
from emotion.inference.predictor import Predictor
from emotion.inference.sidecar import Sidecar
from emotion.labels import LabelSet
from emotion.modeling.build import build_model
from emotion.modeling.heads import find_head, list_head_parameters
from emotion.modeling.lora import fingerprint_backbone
from tests.conftest import FAMILIES, make_backbone

LABELS = LabelSet(("anger", "joy", "fear"))
FREQUENCIES = np.array([0.5, 0.1, 0.01])
VARIANTS: dict[str, tuple[Literal["none", "nf4"], int]] = {"full": ("none", 0), "lora": ("none", 4), "nf4": ("nf4", 4)}
"""Quantization and `lora.r` of each variant."""
TEXTS = ["I am so happy for you, this is wonderful!", "no", "it rains and rains, and nobody came to the party 🙃"]


def build(folder, variant, **settings):
    torch.manual_seed(0)
    quantization, r = VARIANTS[variant]
    return build_model(ModelConfig(str(folder), quantization=quantization, **settings), LoraConfig(r=r), LABELS, FREQUENCIES)


def save(model, tokenizer, folder, backbone, variant):
    sidecar = Sidecar(LABELS.names, ModelConfig(str(backbone), quantization=VARIANTS[variant][0]), 64, "fp32", {})
    save_model(folder, model, tokenizer, default_rule(3), sidecar, "card")


def encode(tokenizer, texts):
    return tokenizer(texts, return_tensors="pt", padding=True, return_token_type_ids=False)


def disable_dropout(model):
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


def train_steps(model, tokenizer, num_steps=3, learning_rate=3e-3):
    """Train on the texts and return the losses."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=learning_rate)
    labels = torch.eye(3)
    losses = []
    for _ in range(num_steps):
        loss = nn.functional.binary_cross_entropy_with_logits(model(**encode(tokenizer, TEXTS)).logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_only_trainable_parameters_move_and_they_are_float32(tiny_backbones, family, variant):
    model, tokenizer = build(tiny_backbones[family], variant)
    head = find_head(model)
    assert type(head) is nn.Linear and head.weight.dtype == torch.float32 and head.weight.requires_grad
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {dict(model.named_parameters())[name].dtype for name in trainable} == {torch.float32}
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    train_steps(model.train(), tokenizer)
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert moved <= trainable and any("head" in name or "score" in name or "classifier" in name for name in moved)
    if variant == "full":
        assert trainable == set(before)
    else:
        assert all("lora_" in name or "modules_to_save" in name for name in trainable)
        assert any("lora_" in name for name in moved)
        assert sum(p.numel() for p in model.parameters() if p.requires_grad) < len(trainable) * 2_000
    quantized = [module for module in model.modules() if type(module).__module__.startswith("bitsandbytes")]
    assert len(quantized) == (0 if variant != "nf4" else 14 if family in ("gemma", "mistral") else 12)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_depend_neither_on_padding_nor_on_other_texts_of_the_batch(tiny_backbones, family, variant):
    model, tokenizer = build(tiny_backbones[family], variant)
    model.eval()
    assert tokenizer.padding_side == "right" and model.config.pad_token_id == tokenizer.pad_token_id is not None
    single = torch.cat([model(**encode(tokenizer, [text])).logits for text in TEXTS])
    batched = model(**encode(tokenizer, TEXTS)).logits
    torch.testing.assert_close(batched, single, atol=2e-6, rtol=0)
    if family in ("gemma", "mistral"):  # encoders count positions from the left
        tokenizer.padding_side = "left"
        torch.testing.assert_close(model(**encode(tokenizer, TEXTS)).logits, single, atol=2e-6, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_trained_model_is_saved_and_loaded_with_equal_probabilities(tiny_backbones, tmp_path, family, variant):
    model, tokenizer = build(tiny_backbones[family], variant)
    disable_dropout(model)  # with dropout, a model this small learns more than the label frequencies with some seeds only
    losses = train_steps(model.train(), tokenizer, num_steps=200 if family == "bert" else 60)
    assert losses[-1] < losses[0] / 2
    save(model, tokenizer, tmp_path / "model", tiny_backbones[family], variant)
    files = {path.name for path in (tmp_path / "model").iterdir()}
    weights = {"adapter_config.json", "adapter_model.safetensors"} if variant != "full" else {"config.json", "model.safetensors"}
    assert files == weights | {"README.md", "emotion.json", "tokenizer.json", "tokenizer_config.json"}
    if variant != "full":
        saved = load_file(tmp_path / "model" / "adapter_model.safetensors")
        assert saved and all("lora_" in name or "classifier" in name or "score" in name for name in saved)
        assert {value.dtype for value in saved.values()} == {torch.float32}
    expected = model.eval()(**encode(tokenizer, TEXTS)).logits.sigmoid().detach().numpy()
    loaded = Predictor.load(str(tmp_path / "model"))
    np.testing.assert_allclose(loaded.predict(TEXTS), expected, atol=1e-6)
    assert find_head(loaded.model).weight.dtype == torch.float32
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters()) or variant == "full"


def test_an_adapter_is_not_loaded_onto_another_backbone(tiny_backbones, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(tiny_backbones["mistral"], base)
    model, tokenizer = build(base, "lora")
    save(model, tokenizer, tmp_path / "model", base, "lora")
    make_backbone("mistral", base, seed=7)
    with pytest.raises(ModelError, match="trained on other weights than those of"):
        Predictor.load(str(tmp_path / "model"))
    make_backbone("gemma", base)
    with pytest.raises(ModelError):
        Predictor.load(str(tmp_path / "model"))
    shutil.rmtree(base)
    with pytest.raises(ModelError, match="no such folder"):
        Predictor.load(str(tmp_path / "model"))


@pytest.mark.parametrize("damage", ["weights", "config"])
def test_an_adapter_that_is_not_whole_is_refused(damage, tiny_backbones, tmp_path, recwarn):
    """peft puts new adapters in the place of missing weights, and leaves out those that the config does not name."""
    model, tokenizer = build(tiny_backbones["bert"], "lora")
    save(model, tokenizer, tmp_path / "model", tiny_backbones["bert"], "lora")
    Predictor.load(str(tmp_path / "model"))
    if damage == "weights":
        path = tmp_path / "model" / "adapter_model.safetensors"
        weights = load_file(path)
        lost = [name for name in weights if "layer.1." in name]
        save_file({name: value for name, value in weights.items() if name not in lost}, path)
    else:
        path = tmp_path / "model" / "adapter_config.json"
        config = json.loads(path.read_text())
        lost = [name for name in load_file(path.with_name("adapter_model.safetensors")) if "lora_" in name and ".query." not in name]
        path.write_text(json.dumps(config | {"target_modules": ["query"]}))
    assert len(lost) == {"weights": 12, "config": 22}[damage]
    with pytest.raises(ModelError) as caught:
        Predictor.load(str(tmp_path / "model"))
    assert f"differ in {len(lost)} weights, such as {min(lost)!r}; restore the files that belong together" in str(caught.value)
    assert not [warning for warning in recwarn if "missing adapter keys" in str(warning.message)]


def test_the_fingerprint_is_the_same_for_all_variants_of_a_backbone(tiny_backbones):
    fingerprints = {fingerprint_backbone(build(tiny_backbones["gemma"], variant)[0]) for variant in VARIANTS}
    assert len(fingerprints) == 1
    assert fingerprints != {fingerprint_backbone(build(tiny_backbones["mistral"], "lora")[0])}


def test_an_adapter_names_its_base_model_for_other_tools(tiny_backbones, tmp_path):
    model, tokenizer = build(tiny_backbones["gemma"], "lora")
    save(model, tokenizer, tmp_path / "model", tiny_backbones["gemma"], "lora")
    settings = json.loads((tmp_path / "model" / "adapter_config.json").read_text())
    assert len(settings["target_modules"]) > 3 and settings["target_modules"] == sorted(settings["target_modules"])
    assert settings["base_model_name_or_path"] == str(tiny_backbones["gemma"]) and settings["task_type"] == "SEQ_CLS"


def test_unknown_target_modules_are_answered_with_the_known_ones(tiny_backbones):
    with pytest.raises(ModelError, match=r"q_prj.*'q_proj'"):
        build_model(ModelConfig(str(tiny_backbones["gemma"])), LoraConfig(r=4, target_modules=("q_prj",)), LABELS, FREQUENCIES)


def test_one_unknown_target_module_among_known_ones_is_refused(tiny_backbones):
    """peft would train fewer adapters, and say nothing."""
    backbone = ModelConfig(str(tiny_backbones["gemma"]))
    with pytest.raises(
        ModelError, match=r"lora\.target_modules: no layer has the name 'v_prj'; the backbone's linear layers are .*'v_proj'"
    ):
        build_model(backbone, LoraConfig(r=4, target_modules=("q_proj", "v_prj")), LABELS, FREQUENCIES)
    build_model(backbone, LoraConfig(r=4, target_modules=("q_proj", "layers.0.self_attn.v_proj")), LABELS, FREQUENCIES)


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradient_checkpointing_changes_no_gradient(tiny_backbones, variant):
    gradients = []
    for is_checkpointed in (False, True):
        model, tokenizer = build(tiny_backbones["mistral"], variant, gradient_checkpointing=is_checkpointed)
        disable_dropout(model.train())
        model(**encode(tokenizer, TEXTS)).logits.sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.requires_grad])
    assert len(gradients[0]) == len(gradients[1]) > 10
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(checkpointed, plain)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_random_weights_have_shapes_and_dtypes_of_the_real_ones_and_can_be_trained(tiny_backbones, family, variant):
    real, _ = build(tiny_backbones[family], variant)
    random, tokenizer = build(tiny_backbones[family], variant, random_weights=True)
    assert {n: (p.shape, p.dtype) for n, p in random.named_parameters()} == {n: (p.shape, p.dtype) for n, p in real.named_parameters()}
    assert not any(parameter.is_meta for parameter in random.parameters())
    assert fingerprint_backbone(random) != fingerprint_backbone(real)
    losses = train_steps(random.train(), tokenizer, num_steps=40)
    assert losses[-1] < losses[0]


def test_a_model_trained_on_random_weights_is_not_loaded(tiny_backbones, tmp_path):
    model, tokenizer = build(tiny_backbones["mistral"], "lora", random_weights=True)
    save(model, tokenizer, tmp_path / "model", tiny_backbones["mistral"], "lora")
    sidecar = json.loads((tmp_path / "model" / "emotion.json").read_text())
    sidecar["model"]["random_weights"] = True
    (tmp_path / "model" / "emotion.json").write_text(json.dumps(sidecar))
    with pytest.raises(ModelError, match="for measuring only"):
        Predictor.load(str(tmp_path / "model"))


def test_head_parameters_of_adapted_models(tiny_backbones):
    for variant, prefix in (("full", ""), ("lora", "base_model.model.")):
        names = list_head_parameters(build(tiny_backbones["distilbert"], variant)[0])
        assert names and all(name.startswith((f"{prefix}classifier", f"{prefix}pre_classifier")) for name in names)


def test_heads_with_other_names_are_trained_in_full_precision(tiny_backbones, tmp_path):
    """BART's head is `classification_head`, RoBERTa's `classifier` has two layers; by default peft and bitsandbytes handle neither."""
    from transformers import AutoTokenizer, BartConfig, BartModel, RobertaConfig, RobertaModel

    tokenizer = AutoTokenizer.from_pretrained(tiny_backbones["gemma"])
    size = {"vocab_size": len(tokenizer), "max_position_embeddings": 130, "pad_token_id": tokenizer.pad_token_id}
    bart = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    bart |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "bos_token_id": 1, "decoder_start_token_id": 2}
    bart["eos_token_id"] = tokenizer.bos_token_id  # BART answers at a token that every text must have once
    roberta = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    models = {
        "bart": BartModel(BartConfig(**size, **bart)),
        "roberta": RobertaModel(RobertaConfig(**size, **roberta), add_pooling_layer=False),
    }
    for name, backbone in models.items():
        folder = tmp_path / name
        backbone.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        for settings in ({}, {"random_weights": True}):
            model, _ = build(folder, "nf4", **settings)
            heads = {key: value for key, value in model.named_parameters() if "modules_to_save" in key}
            assert len(heads) == 4 and all(value.requires_grad and value.dtype == torch.float32 for value in heads.values()), name
            assert any(type(module).__module__.startswith("bitsandbytes") for module in model.modules())
