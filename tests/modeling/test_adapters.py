"""LoRA and NF4 over the four architectures of the study: what is frozen, what moves, what is kept, what comes back."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from emotion.config import LoraConfig, ModelConfig
from emotion.errors import ConfigError, ModelError
from emotion.evaluation.decision import default_rule
from emotion.inference.model_folder import save_model
from emotion.inference.predictor import Predictor
from emotion.inference.sidecar import Sidecar
from emotion.labels import LabelSet
from emotion.modeling import factory, quantization
from emotion.modeling.build import build_model, find_head, fingerprint_backbone, list_head_parameters
from tests.conftest import KINDS, make_backbone

LABELS = LabelSet(("anger", "joy", "fear"))
FREQUENCIES = np.array([0.5, 0.1, 0.01])
WAYS = {"full": ("none", 0), "lora": ("none", 4), "nf4": ("nf4", 4)}
TEXTS = ["I am so happy for you, this is wonderful!", "no", "it rains and rains, and nobody came to the party 🙃"]


def build(folder, way, **settings):
    torch.manual_seed(0)
    kind, r = WAYS[way]
    return build_model(ModelConfig(str(folder), quantization=kind, **settings), LoraConfig(r=r), LABELS, FREQUENCIES)


def encode(tokenizer, texts, **options):
    return tokenizer(texts, return_tensors="pt", padding=True, return_token_type_ids=False, **options)


def train_steps(model, tokenizer, num_steps=3, rate=3e-3):
    """Fit the texts for some steps and return the losses."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate)
    labels = torch.eye(3)
    losses = []
    for _ in range(num_steps):
        loss = nn.functional.binary_cross_entropy_with_logits(model(**encode(tokenizer, TEXTS)).logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_only_what_should_move_moves_and_the_head_is_full_precision(tiny_backbones, kind, way):
    model, tokenizer = build(tiny_backbones[kind], way)
    head = find_head(model)
    assert type(head) is nn.Linear and head.weight.dtype == torch.float32 and head.weight.requires_grad
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {dict(model.named_parameters())[name].dtype for name in trained} == {torch.float32}
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    train_steps(model.train(), tokenizer)
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert moved <= trained and any("head" in name or "score" in name or "classifier" in name for name in moved)
    if way == "full":
        assert trained == set(before)
    else:
        assert all("lora_" in name or "modules_to_save" in name for name in trained)
        assert (
            any("lora_" in name for name in moved) and sum(p.numel() for p in model.parameters() if p.requires_grad) < len(trained) * 2_000
        )
    quantized = [module for module in model.modules() if type(module).__module__.startswith("bitsandbytes")]
    assert len(quantized) == (0 if way != "nf4" else 14 if kind in ("gemma", "mistral") else 12)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_padding_and_company_change_nothing(tiny_backbones, kind, way):
    model, tokenizer = build(tiny_backbones[kind], way)
    model.eval()
    assert tokenizer.padding_side == "right" and model.config.pad_token_id == tokenizer.pad_token_id is not None
    alone = torch.cat([model(**encode(tokenizer, [text])).logits for text in TEXTS])
    together = model(**encode(tokenizer, TEXTS)).logits
    torch.testing.assert_close(together, alone, atol=2e-6, rtol=0)
    if kind in ("gemma", "mistral"):  # encoders count positions from the left
        tokenizer.padding_side = "left"
        torch.testing.assert_close(model(**encode(tokenizer, TEXTS)).logits, alone, atol=2e-6, rtol=0)


def test_mistral_pads_with_its_unknown_token_and_gemma_with_its_own(tiny_backbones):
    pads = {kind: build(tiny_backbones[kind], "full")[1].pad_token for kind in ("gemma", "mistral")}
    assert pads == {"gemma": "<pad>", "mistral": "<unk>"}


def save(model, tokenizer, folder, backbone, way):
    sidecar = Sidecar(LABELS.names, ModelConfig(str(backbone), quantization=WAYS[way][0]), 64, "fp32", {})
    save_model(folder, model, tokenizer, default_rule(3), sidecar, "card")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_learns_saves_and_comes_back_equal(tiny_backbones, tmp_path, kind, way):
    model, tokenizer = build(tiny_backbones[kind], way)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # with it, a model this small leaves the plateau of predicting frequencies at some seeds only
    losses = train_steps(model.train(), tokenizer, num_steps=200)
    assert losses[-1] < losses[0] / 2
    save(model, tokenizer, tmp_path / "model", tiny_backbones[kind], way)
    files = {path.name for path in (tmp_path / "model").iterdir()}
    weights = {"adapter_config.json", "adapter_model.safetensors"} if way != "full" else {"config.json", "model.safetensors"}
    assert files == weights | {"README.md", "emotion.json", "tokenizer.json", "tokenizer_config.json"}
    if way != "full":
        saved = load_file(tmp_path / "model" / "adapter_model.safetensors")
        assert all("lora_" in name or "classifier" in name or "score" in name for name in saved)
        assert {value.dtype for value in saved.values()} == {torch.float32}
    expected = model.eval()(**encode(tokenizer, TEXTS)).logits.sigmoid().detach().numpy()
    found = Predictor.load(str(tmp_path / "model"))
    np.testing.assert_allclose(found.predict(TEXTS), expected, atol=1e-6)
    assert find_head(found.model).weight.dtype == torch.float32
    assert not any(parameter.requires_grad for parameter in found.model.parameters()) or way == "full"


def test_adapter_of_another_base_is_refused(tiny_backbones, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(tiny_backbones["mistral"], base)
    model, tokenizer = build(base, "lora")
    save(model, tokenizer, tmp_path / "model", base, "lora")
    make_backbone("mistral", base, seed=7)
    with pytest.raises(ModelError, match="trained on another backbone"):
        Predictor.load(str(tmp_path / "model"))
    make_backbone("gemma", base)
    with pytest.raises(ModelError):
        Predictor.load(str(tmp_path / "model"))
    shutil.rmtree(base)
    with pytest.raises(ModelError, match="no such folder"):
        Predictor.load(str(tmp_path / "model"))


def test_fingerprint_is_the_same_in_every_form_of_one_backbone(tiny_backbones):
    prints = {fingerprint_backbone(build(tiny_backbones["gemma"], way)[0]) for way in WAYS}
    assert len(prints) == 1 and prints != {fingerprint_backbone(build(tiny_backbones["mistral"], "lora")[0])}


def test_adapter_names_its_base_for_other_tools(tiny_backbones, tmp_path):
    model, tokenizer = build(tiny_backbones["gemma"], "lora")
    save(model, tokenizer, tmp_path / "model", tiny_backbones["gemma"], "lora")
    settings = json.loads((tmp_path / "model" / "adapter_config.json").read_text())
    assert len(settings["target_modules"]) > 3 and settings["target_modules"] == sorted(settings["target_modules"])
    assert settings["base_model_name_or_path"] == str(tiny_backbones["gemma"]) and settings["task_type"] == "SEQ_CLS"


def test_prequantized_backbone_is_refused(tiny_backbones, tmp_path):
    shutil.copytree(tiny_backbones["mistral"], tmp_path / "base")
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (tmp_path / "base" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="quantised already"):
        build(tmp_path / "base", "nf4")


@pytest.mark.parametrize("r", [0, 4])
def test_fp16_on_a_bf16_backbone_is_refused(tiny_backbones, r):
    with pytest.raises(ModelError, match=r"set training\.precision=bf16"):
        build_model(ModelConfig(str(tiny_backbones["gemma"])), LoraConfig(r=r), LABELS, FREQUENCIES, "fp16")


def test_nf4_without_bitsandbytes_is_one_line(tiny_backbones, monkeypatch):
    monkeypatch.setattr(quantization.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="needs bitsandbytes: pip install"):
        build(tiny_backbones["bert"], "nf4")


def test_flash_attention_that_is_not_there_is_one_line(tiny_backbones):
    with pytest.raises(ModelError, match="needs the package flash-attn"):
        build(tiny_backbones["gemma"], "lora", attention="flash_attention_2")


def test_unknown_target_modules_are_answered_with_the_known(tiny_backbones):
    with pytest.raises(ModelError, match=r"q_prj.*'q_proj'"):
        build_model(ModelConfig(str(tiny_backbones["gemma"])), LoraConfig(r=4, target_modules=("q_prj",)), LABELS, FREQUENCIES)


def test_head_for_other_labels_is_replaced_with_a_word(tiny_backbones, tmp_path, caplog):
    model, tokenizer = build(tiny_backbones["distilbert"], "full")
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    other, _ = build_model(ModelConfig(str(tmp_path)), LoraConfig(), LabelSet(tuple("abcde")), np.full(5, 0.2))
    assert find_head(other).out_features == 5 and "a new one with 5 labels" in caplog.text


@pytest.mark.parametrize("way", WAYS)
def test_gradient_checkpointing_changes_no_gradient(tiny_backbones, way):
    gradients = []
    for is_on in (False, True):
        model, tokenizer = build(tiny_backbones["mistral"], way, gradient_checkpointing=is_on)
        model.train()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        model(**encode(tokenizer, TEXTS)).logits.sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.requires_grad])
    assert len(gradients[0]) == len(gradients[1]) > 10
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(checkpointed, plain)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_random_weights_have_the_shapes_of_the_real_ones(tiny_backbones, kind, way):
    real, _ = build(tiny_backbones[kind], way)
    random, tokenizer = build(tiny_backbones[kind], way, random_weights=True)
    assert {n: (p.shape, p.dtype) for n, p in random.named_parameters()} == {n: (p.shape, p.dtype) for n, p in real.named_parameters()}
    assert not any(parameter.is_meta for parameter in random.parameters())
    assert fingerprint_backbone(random) != fingerprint_backbone(real)
    losses = train_steps(random.train(), tokenizer, num_steps=40)
    assert losses[-1] < losses[0]


def test_head_parameters_of_adapted_models(tiny_backbones):
    for way, prefix in (("full", ""), ("lora", "base_model.model.")):
        names = list_head_parameters(build(tiny_backbones["distilbert"], way)[0])
        assert names and all(name.startswith((f"{prefix}classifier", f"{prefix}pre_classifier")) for name in names)


def test_dtypes():
    assert factory.choose_dtype("bf16", is_frozen=True) == torch.bfloat16
    assert factory.choose_dtype("bf16", is_frozen=False) == torch.float32


def test_heads_of_other_names_are_trained_saved_and_kept_in_full_precision(tiny_backbones, tmp_path):
    """BART's head is `classification_head`, RoBERTa's `classifier` holds two layers: peft and bitsandbytes know neither by themselves."""
    from transformers import AutoTokenizer, BartConfig, BartModel, RobertaConfig, RobertaModel

    tokenizer = AutoTokenizer.from_pretrained(tiny_backbones["gemma"])
    size = {"vocab_size": len(tokenizer), "max_position_embeddings": 130, "pad_token_id": tokenizer.pad_token_id}
    bart = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    bart |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
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


def test_backbone_with_missing_weights_is_refused(tiny_backbones, tmp_path):
    from safetensors.torch import save_file

    shutil.copytree(tiny_backbones["distilbert"], tmp_path / "base")
    weights = load_file(tmp_path / "base" / "model.safetensors")
    lost = next(name for name in weights if "layer.1" in name and "weight" in name)
    save_file({name: value for name, value in weights.items() if name != lost}, tmp_path / "base" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="lacks weights of the backbone"):
        build(tmp_path / "base", "full")


def test_random_weights_need_no_tokenizer(tiny_backbones, tmp_path, caplog):
    shutil.copytree(tiny_backbones["mistral"], tmp_path / "base")
    for path in (tmp_path / "base").glob("token*"):
        path.unlink()
    (tmp_path / "base" / "model.safetensors").unlink()
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    (tmp_path / "base" / "config.json").write_text(json.dumps(config | {"vocab_size": 40_000}))
    model, tokenizer = build(tmp_path / "base", "lora", random_weights=True)
    assert len(tokenizer) > 30_000 and "stands in" in caplog.text
    save(model, tokenizer, tmp_path / "model", tmp_path / "base", "lora")
    sidecar = json.loads((tmp_path / "model" / "emotion.json").read_text())
    sidecar["model"]["random_weights"] = True
    (tmp_path / "model" / "emotion.json").write_text(json.dumps(sidecar))
    with pytest.raises(ModelError, match="for measuring only"):
        Predictor.load(str(tmp_path / "model"))


def test_length_beyond_the_positions_is_refused(tiny_backbones):
    model, _ = build(tiny_backbones["bert"], "lora")
    factory.check_length(model, 128)
    with pytest.raises(ConfigError, match="at most 128 tokens"):
        factory.check_length(model, 129)
