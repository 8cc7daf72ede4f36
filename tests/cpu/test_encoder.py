"""The fast layers compute what transformers' layers compute, and apply only where they may."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from emotion.config import LoraConfig, ModelConfig
from emotion.cpu.dropout import CheapDropout, draw_mask
from emotion.cpu.encoder import optimize_encoder
from emotion.cpu.encoder_layer import run_layer
from emotion.labels import LabelSet
from emotion.modeling.build import build_model

CPU = torch.device("cpu")
LABELS = LabelSet(("anger", "joy", "fear"))
TEXTS = ["so happy", "what a day that was, and how it went on and on", "no"]


@pytest.fixture(params=["bert", "distilbert"])
def pair(request, tiny_backbones, tmp_path):
    """The same weights in fast layers and in transformers' own, and inputs for both."""
    torch.manual_seed(0)
    ours, tokenizer = build_model(ModelConfig(str(tiny_backbones[request.param])), LoraConfig(), LABELS, np.full(3, 0.2))
    ours.save_pretrained(tmp_path)
    return (
        optimize_encoder(ours, CPU),
        AutoModelForSequenceClassification.from_pretrained(tmp_path),
        tokenizer(TEXTS, return_tensors="pt", padding=True),
    )


def test_logits_are_those_of_the_plain_model(pair):
    ours, plain, inputs = pair
    assert type(ours.base_model) is type(plain.base_model) and ours.state_dict().keys() == plain.state_dict().keys()
    del inputs["token_type_ids"]
    for model in (ours, plain):
        model.eval()
    torch.testing.assert_close(ours(**inputs).logits, plain(**inputs).logits, atol=1e-6, rtol=0)
    alone = {name: value[1:2] for name, value in inputs.items()}  # the longest: no padding, so no mask
    torch.testing.assert_close(ours(**alone).logits, plain(**alone).logits, atol=1e-6, rtol=0)


def test_gradients_are_those_of_the_plain_model(pair):
    """In training mode without dropout."""
    ours, plain, inputs = pair
    for model in (ours, plain):
        for module in model.train().modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 1e-9 if model is ours else 0.0  # rounds to none dropped, yet takes the path of dropout
        model(**inputs).logits.square().sum().backward()
    expected = dict(plain.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].grad, atol=1e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


def test_written_out_layers_apply_where_they_are_right(pair, monkeypatch):
    ours, _, inputs = pair
    answers = []
    monkeypatch.setattr("emotion.cpu.encoder.run_layer", lambda *given: answers.append(run_layer(*given)) or answers[-1])

    def count():
        answers.clear()
        ours(**inputs)
        return [answer is not None for answer in answers]

    num_layers = ours.config.num_hidden_layers - 1  # the last layer has its own path
    assert num_layers > 0 and count() == []
    ours.train()
    assert count() == [True] * num_layers
    with torch.autocast("cpu", torch.bfloat16):
        assert count() == [False] * num_layers
    next(ours.base_model.children()).requires_grad_(False)  # the embeddings: nothing before the first layer requires a gradient
    assert count() == [False] + [True] * (num_layers - 1)
    ours.base_model.requires_grad_(False)
    assert count() == [False] * num_layers


def test_last_layer_computes_the_first_token_only(pair):
    ours, _, inputs = pair
    seen = []
    ours.eval().base_model.register_forward_hook(lambda module, args, output: seen.append(output.last_hidden_state.shape[1]))
    ours(**inputs)
    assert seen == [1]


def test_nothing_changes_on_a_gpu(tiny_bert):
    model, _ = build_model(ModelConfig(str(tiny_bert)), LoraConfig(), LABELS, np.full(3, 0.2))
    before = [type(module) for module in model.modules()]
    assert optimize_encoder(model, torch.device("cuda")) is model and [type(module) for module in model.modules()] == before
    assert [type(module) for module in optimize_encoder(model, CPU).modules()] != before


def test_another_attention_kernel_keeps_the_layers(tiny_bert):
    model, _ = build_model(ModelConfig(str(tiny_bert), attention="eager"), LoraConfig(), LABELS, np.full(3, 0.2))
    optimize_encoder(model, CPU)
    assert type(model.bert.encoder.layer[-1]).__name__ == "BertLayer"


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_adapters_in_fast_layers(family, tiny_backbones, tmp_path):
    """The plain model with merged weights gives the same logits."""
    config = ModelConfig(str(tiny_backbones[family]))
    torch.manual_seed(0)
    adapted, tokenizer = build_model(config, LoraConfig(r=4, dropout=0.0), LABELS, np.full(3, 0.2))
    adapted = optimize_encoder(adapted, CPU)
    inputs = tokenizer(TEXTS, return_tensors="pt", padding=True)
    inputs.pop("token_type_ids", None)
    before = adapted.eval()(**inputs).logits
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:  # they start at zero and would change nothing
            torch.nn.init.normal_(parameter, std=0.5)
    logits = adapted(**inputs).logits
    assert (logits - before).abs().max() > 1e-3
    adapted.merge_and_unload().save_pretrained(tmp_path)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(logits, plain(**inputs).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.99999])
@pytest.mark.parametrize("size", [(7,), (250, 401)])
def test_mask_drops_with_its_probability_and_keeps_the_mean(p, size):
    torch.manual_seed(0)
    mask = draw_mask(torch.ones(size), p)
    assert mask.shape == size and mask.dtype == torch.float32
    assert set(mask.unique().tolist()) <= {0.0, mask.max().item()}
    if len(size) > 1:
        error = (p * (1 - p) / mask.numel()) ** 0.5
        assert abs((mask == 0).float().mean() - p) < 5 * error + 1e-5
        flat = mask.flatten() != 0  # neighbors, of one draw or of two, are independent
        kept = flat.float().mean()
        for gap in (1, 2, 3, 4):
            assert abs((flat[:-gap] & flat[gap:]).float().mean() - kept**2) < 5 * error + 1e-5


def test_dropout_repeats_with_its_seed_and_is_off_in_evaluation():
    dropout, values = CheapDropout(0.3), torch.ones(1_000, requires_grad=True)
    torch.manual_seed(1)
    first = dropout(values)
    torch.manual_seed(1)
    assert torch.equal(first, dropout(values)) and not torch.equal(first, dropout(values))
    first.sum().backward()
    assert torch.equal(values.grad, first)  # dropped values get no gradient, kept ones the scale
    assert torch.equal(dropout.eval()(values), values)
