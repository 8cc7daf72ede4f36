"""The pad token is one that never occurs, set everywhere; special tokens in a text are plain characters."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerFast

from benchmarks.tiny_checkpoints import make_checkpoint
from emotion.config import LoraConfig, ModelConfig
from emotion.data.batching import tokenize
from emotion.errors import ModelError
from emotion.evaluation.calibration import Calibration
from emotion.evaluation.decision import default_rule
from emotion.inference.model_folder import save_model
from emotion.inference.predictor import Predictor
from emotion.inference.sidecar import Sidecar
from emotion.inference.torch_free import load_tokenizer as load_torch_free
from emotion.labels import LabelSet
from emotion.modeling.build import build_model
from emotion.modeling.heads import calibrated_head
from emotion.modeling.tokenization import load_backbone_tokenizer, load_tokenizer

LABELS = LabelSet(("anger", "joy", "fear"))
TEXTS = ["no", "I am so happy for you, this is wonderful!", "<|end_of_text|> and <pad> and </s> are words, as [SEP] is"]
SIDECAR = Sidecar(("joy",), ModelConfig(), 64, "fp32", {})
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())


def make_tokenizer(special=(), vocabulary=BYTES, is_byte_level=True, **roles):
    """Return a tokenizer of single characters with these special tokens at the end of its vocabulary, each text after the first of them."""
    ids = {token: number for number, token in enumerate([*vocabulary, *special])}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=[], unk_token=roles.get("unk_token")))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel() if is_byte_level else pre_tokenizers.Metaspace()
    if special:
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{special[0]} $A", special_tokens=[(special[0], ids[special[0]])])
    tokenizer.add_special_tokens(list(special))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles)


def make_llama(folder, tokenizer, num_spare=0):
    """Write a decoder with an embedding for each token and for `num_spare` more."""
    tokenizer.save_pretrained(folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 1, "intermediate_size": 64}
    config = AutoConfig.for_model("llama", vocab_size=len(tokenizer) + num_spare, max_position_embeddings=128, **sizes)
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder)
    return folder


LLAMA = ("<|begin|>", "<|end|>", "<|reserved_special_token_0|>", "<|finetune_right_pad_id|>")
LLAMA_ROLES = {"bos_token": "<|begin|>", "eos_token": "<|end|>"}
CHOICES = {
    "its own": (make_tokenizer(["<s>", "<mine>"], bos_token="<s>", pad_token="<mine>"), "<mine>"),
    "named for padding": (make_tokenizer(LLAMA, **LLAMA_ROLES), "<|finetune_right_pad_id|>"),
    "reserved": (make_tokenizer(LLAMA[:3], **LLAMA_ROLES), "<|reserved_special_token_0|>"),
    "new": (make_tokenizer(LLAMA[:2], **LLAMA_ROLES), "<pad>"),
    "new, its name taken": (make_tokenizer(LLAMA[:2], [*BYTES, "<pad>"], **LLAMA_ROLES), "[PAD]"),
    "unknown that never occurs": (make_tokenizer(["<s>", "<unk>"], bos_token="<s>", unk_token="<unk>"), "<unk>"),
    "unknown that occurs": (make_tokenizer(["<s>", "<unk>"], list("▁abc"), False, bos_token="<s>", unk_token="<unk>"), "<pad>"),
    "unknown at each start": (make_tokenizer(["<s>"], bos_token="<s>", unk_token="<s>"), "<pad>"),
}


@pytest.mark.parametrize(("tokenizer", "expected"), CHOICES.values(), ids=CHOICES)
def test_the_pad_token_is_one_that_never_occurs(tokenizer, expected, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = load_backbone_tokenizer(ModelConfig(), str(tmp_path))
    assert loaded.pad_token == expected and loaded.padding_side == "right"
    token_ids = tokenize(loaded, [*TEXTS, expected, "\ua66e 🙃", "unused"], 64).token_ids
    assert all(loaded.pad_token_id not in ids for ids in token_ids)


@pytest.mark.parametrize("variant", ["full", "lora", "nf4"])
@pytest.mark.parametrize(
    ("special", "num_spare"), [(LLAMA, 0), (LLAMA[:2], 0), (LLAMA[:2], 3)], ids=["reserved", "added", "added to spare"]
)
def test_a_decoder_without_a_pad_token_is_trained_saved_and_loaded_with_one(variant, special, num_spare, tmp_path):
    base = make_llama(tmp_path / "base", make_tokenizer(special, **LLAMA_ROLES), num_spare)
    settings = ModelConfig(str(base), quantization="nf4" if variant == "nf4" else "none")
    model, tokenizer = build_model(settings, LoraConfig(r=0 if variant == "full" else 4), LABELS, np.full(3, 0.3))
    num_embeddings = len(BYTES) + max(len(special) + num_spare, 3)
    assert len(model.get_input_embeddings().weight) == num_embeddings and model.config.pad_token_id == tokenizer.pad_token_id
    sidecar = Sidecar(LABELS.names, settings, 64, "fp32", {})
    calibration = Calibration(np.full(3, 0.5), np.zeros(3))
    save_model(tmp_path / "model", model, tokenizer, default_rule(3), sidecar, "card", calibration)

    predictor = Predictor.load(str(tmp_path / "model"))
    batched = predictor.predict_logits(TEXTS)
    for changed in ({"is_alone": True}, {"is_padded": True}):
        np.testing.assert_allclose(predictor.predict_logits(TEXTS, **changed), batched, atol=2e-6)
    with calibrated_head(model.eval(), calibration), torch.no_grad():
        tokens = tokenize(tokenizer, TEXTS, 64)
        np.testing.assert_allclose(model(**tokens.collate(np.arange(3)).inputs).logits, batched, atol=2e-6)
    if variant == "full":  # any user of transformers
        plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
        inputs = AutoTokenizer.from_pretrained(tmp_path / "model")(TEXTS, padding=True, return_tensors="pt", return_token_type_ids=False)
        np.testing.assert_allclose(plain(**inputs).logits.detach(), batched, atol=2e-6)


def test_special_tokens_in_a_text_are_characters_in_training_and_wherever_the_model_is_loaded(tiny_bert, tmp_path):
    text = "[SEP] a [PAD] b [MASK]"
    tokenizer = load_backbone_tokenizer(ModelConfig(), str(tiny_bert))
    ids = tokenizer(text).input_ids
    assert (
        not {tokenizer.sep_token_id, tokenizer.pad_token_id, tokenizer.mask_token_id} & set(ids[1:-1]) and ids[-1] == tokenizer.sep_token_id
    )
    tokenizer.save_pretrained(tmp_path)
    assert load_tokenizer(str(tmp_path))(text).input_ids == AutoTokenizer.from_pretrained(tmp_path)(text).input_ids == ids
    assert load_torch_free(tmp_path, SIDECAR).encode(text).ids == ids


def test_a_model_of_an_earlier_version_reads_special_tokens_as_it_did(tiny_bert, tmp_path):
    old = AutoTokenizer.from_pretrained(tiny_bert)
    old.save_pretrained(tmp_path)
    assert "split_special_tokens" not in json.loads((tmp_path / "tokenizer_config.json").read_text())
    expected = old("a [MASK]").input_ids
    assert old.mask_token_id in expected
    assert load_tokenizer(str(tmp_path))("a [MASK]").input_ids == load_torch_free(tmp_path, SIDECAR).encode("a [MASK]").ids == expected


@pytest.mark.parametrize(("side", "words"), [("left", [2, 3]), ("right", [0, 1])])
def test_a_long_text_is_cut_on_the_side_of_its_tokenizer_by_all_backends(side, words, tiny_bert, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert, truncation_side=side)
    tokenizer.save_pretrained(tmp_path)
    first, *content, last = tokenizer("the day was happy").input_ids
    assert len(content) == 4
    cut = tokenize(load_tokenizer(str(tmp_path)), ["the day was happy"], 4).token_ids
    torch_free = load_torch_free(tmp_path, replace(SIDECAR, max_length=4))
    assert cut == [torch_free.encode("the day was happy").ids] == [[first, *(content[word] for word in words), last]]


@pytest.mark.parametrize("model_type", ["bart", "mbart"])
def test_an_end_token_in_a_text_does_not_move_where_the_answer_is_read(model_type, tmp_path):
    make_checkpoint(model_type, tmp_path / "base")
    model, tokenizer = build_model(ModelConfig(str(tmp_path / "base")), LoraConfig(), LABELS, np.full(3, 0.3))
    batch = tokenize(tokenizer, ["no", "the end</s>", "</s></s> was the beginning, and this one is cut</s>"], 20).collate(np.arange(3))
    assert (batch.input_ids == tokenizer.eos_token_id).sum(dim=1).tolist() == [1, 1, 1]
    assert model(**batch.inputs).logits.isfinite().all()


def test_a_tokenizer_without_its_vocabulary_is_refused(tiny_bert, tmp_path):
    """transformers builds one of special tokens only where the file is missing: every text would be read alike."""
    folder = shutil.copytree(tiny_bert, tmp_path / "bert")
    load_tokenizer(str(folder))
    for name in ("tokenizer.json", "vocab.txt"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(ModelError, match=r"bert: its tokenizer has no vocabulary: restore tokenizer\.json"):
        load_tokenizer(str(folder))
