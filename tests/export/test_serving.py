"""A model folder gives the same answers elsewhere, and `export.py --serving-check` says what is wrong with one that does not."""

import json
import runpy
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy.special import expit

from emotion.config import LoraConfig, ModelConfig
from emotion.export.merging import write_merged
from emotion.export.onnx_export import export_onnx
from emotion.export.served_fields import check_fields, read_served
from emotion.export.serving import MAX_PROBABILITY_DIFFERENCE, check_serving, format_serving, pipeline_options
from emotion.export.verification import MAX_LOGIT_DIFFERENCE
from emotion.inference.model_folder import save_model
from emotion.inference.predictor import Predictor
from emotion.inference.sidecar import Sidecar
from emotion.modeling.build import build_model
from tests.conftest import ROOT
from tests.inference.test_numpy import LABELS, RULE, TEXTS, save

NAMES = ["architectures", "problem_type", "id2label", "label2id", "head", "tokenizer.json", "pad token", "max length", "dtype"]


@pytest.fixture(scope="module")
def encoder(tiny_bert, tmp_path_factory):
    return save(tiny_bert, tmp_path_factory.mktemp("encoder") / "model")


def save_adapter(backbone, folder):
    """Write a LoRA adapter and a head of random weights, large enough that the logits of texts differ."""
    import torch

    torch.manual_seed(0)
    config = ModelConfig(str(backbone))
    model, tokenizer = build_model(config, LoraConfig(r=4), LABELS, np.full(3, 0.2))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.5)
    save_model(folder, model, tokenizer, RULE, Sidecar(LABELS.names, config, 64, "fp32", {}), "card")
    return folder


def merge(folder, target, monkeypatch):
    """Merge an adapter as export.py does, but for the card, which needs the run."""
    monkeypatch.setattr("emotion.export.merging.write_card", lambda *_, **__: "card")
    monkeypatch.setattr("emotion.export.merging.complete_card", lambda *_: None)
    run = SimpleNamespace(read_config=lambda: None, path=Path("run"))
    write_merged(Predictor.load(str(folder)), str(folder), run, target)
    return target


@pytest.mark.parametrize("family", ["mistral", "gemma"])
def test_a_merged_decoder_answers_the_same_in_transformers_with_any_padding(family, tiny_backbones, tmp_path, monkeypatch):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    adapter = save_adapter(tiny_backbones[family], tmp_path / "adapter")
    expected = Predictor.load(str(adapter)).predict_logits(TEXTS)
    assert np.ptp(expected, axis=0).min() > 0.1
    merged = merge(adapter, tmp_path / "merged", monkeypatch)
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(merged), AutoTokenizer.from_pretrained(merged)
    assert model.config.pad_token_id == tokenizer.pad_token_id not in (None, tokenizer.eos_token_id)
    for side in ("right", "left"):
        inputs = tokenizer(TEXTS, padding=True, padding_side=side, truncation=True, max_length=64, return_tensors="pt")
        assert (inputs.attention_mask == 0).any()
        with torch.inference_mode():
            logits = model(**inputs).logits.numpy()
        np.testing.assert_allclose(logits, expected, atol=MAX_LOGIT_DIFFERENCE["fp32"])
        tokenizer.padding_side = side
        classify = pipeline("text-classification", model=model, tokenizer=tokenizer, batch_size=len(TEXTS))
        answers = classify(TEXTS, function_to_apply="sigmoid", top_k=None, truncation=True, max_length=64)
        found = [[{entry["label"]: entry["score"] for entry in answer}[name] for name in LABELS.names] for answer in answers]
        np.testing.assert_allclose(found, expit(expected), atol=MAX_PROBABILITY_DIFFERENCE)
    report = check_serving(str(merged))
    assert report.is_ok and report.runs["pipeline"] == "was run"
    assert f"TEI (not run): has no classification head for {family} -> vLLM, pipeline, or this project" in format_serving(report)
    assert not any(remark.server == "vLLM" and "does not list" in remark.problem for remark in report.remarks)


def run_export(monkeypatch, *words):
    """Call export.py in this process, and return its exit status."""
    monkeypatch.setattr(sys, "argv", ["export.py", *map(str, words)])
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / "export.py"), run_name="__main__")
    return stopped.value.code


def test_an_adapter_is_to_be_merged_first(tiny_backbones, tmp_path, monkeypatch, capsys):
    adapter = save_adapter(tiny_backbones["mistral"], tmp_path / "an adapter")
    assert run_export(monkeypatch, "--model", adapter, "--serving-check") == 1
    lines = capsys.readouterr().out.splitlines()
    command = f"merge it first: python export.py --model '{adapter}' --merge FOLDER (TEI, vLLM, pipeline)"
    assert len(lines) == 2 and lines[1].startswith(f"WRONG adapter: {tiny_backbones['mistral']}: ") and lines[1].endswith(command)


def test_a_sound_model_is_ok_and_every_server_gets_its_remedies(encoder, monkeypatch, capsys):
    assert run_export(monkeypatch, "--model", encoder, "--serving-check") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in lines[1:11]] == [f"ok    {name}" for name in [*NAMES, "answers"]]
    assert "ok    pad token: [PAD] = 0 (TEI, pipeline, ONNX Runtime, Triton)" in lines
    assert "ok    max length: 64 tokens of a text, positions for 128 (TEI, vLLM, pipeline)" in lines
    for remedy in (
        'TEI (not run): applies the softmax over all labels of a model with several -> /predict with "raw_scores": true, then the sigmoid',
        'vLLM (not run): names the most probable label only -> read "probs", which are in the order of id2label',
        "pipeline (was run): returns the most probable label only -> top_k=None",
        f"ONNX Runtime (not run: no ONNX graph): there is no ONNX graph -> python export.py --model {encoder} --onnx",
        f"Triton (not run): there is no ONNX graph -> python export.py --model {encoder} --onnx",
    ):
        assert remedy in lines
    assert lines[-1].startswith("all: none knows the thresholds; ") and "top1" not in lines[-1]
    assert run_export(monkeypatch, "--model", encoder, "--serving-check", "--json") == 0
    values = json.loads(capsys.readouterr().out)
    assert values["is_ok"] and [field["name"] for field in values["fields"]] == [*NAMES, "answers"]
    assert all(field["is_ok"] and field["fault"] is None for field in values["fields"])
    assert {server["server"]: bool(server["remarks"]) for server in values["servers"]} == dict.fromkeys(
        ("TEI", "vLLM", "pipeline", "ONNX Runtime", "Triton"), True
    )


def change_config(**values):
    """Return a function that sets values of a folder's config.json, or removes those that are None."""

    def change(folder):
        path = folder / "config.json"
        config = json.loads(path.read_text()) | values
        path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))

    return change


def change_tokenizer(folder):
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pad_token": None}))


def drop_head(folder):
    weights = load_file(folder / "model.safetensors")
    save_file({name: value for name, value in weights.items() if name != "classifier.weight"}, folder / "model.safetensors")


FAULTS = {
    "architectures": ("architectures", change_config(architectures=["BertModel"]), "must be one class that ends with ForSequenceC"),
    "no architectures": ("architectures", change_config(architectures=None), "must be one class that ends with ForSequenceClassification"),
    "no problem type": ("problem_type", change_config(problem_type=None), 'must be "multi_label_classification", or pipeline and vLLM'),
    "problem type": ("problem_type", change_config(problem_type="single_label_classification"), 'must be "multi_label_classification", or'),
    "swapped labels": (
        "id2label",
        change_config(id2label={"0": "joy", "1": "anger", "2": "fear"}),
        "must be the 3 labels of emotion.json in their order; '0' is 'joy', not 'anger'",
    ),
    "label too many": (
        "id2label",
        change_config(id2label={"0": "anger", "1": "joy", "2": "fear", "3": "x"}),
        "must be the 3 labels of emotion.json in their order; '3' is 'x', not None",
    ),
    "no label2id": (
        "label2id",
        change_config(label2id=None),
        "must be the 3 labels of emotion.json in their order; 'anger' is None, not 0",
    ),
    "no head": ("head", drop_head, "no weight in *.safetensors has a row for each of 3 labels"),
    "no tokenizer.json": ("tokenizer.json", lambda folder: (folder / "tokenizer.json").unlink(), "TEI and clients of ONNX Runtime"),
    "no pad id": ("pad token", change_config(pad_token_id=None), "pad_token_id is missing from config.json: a decoder reads its answer"),
    "pad id": ("pad token", change_config(pad_token_id=3), "its id is 0, but pad_token_id is 3 in config.json; set it to 0"),
    "no pad token": ("pad token", change_tokenizer, "missing from tokenizer_config.json, so texts of different length make no batch"),
    "positions": ("max length", change_config(max_position_embeddings=32), "the model has positions for 32 tokens only"),
    "dtype": ("dtype", change_config(dtype="float16"), "the weights are 'float32', and servers load all of them as config.json says"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_wrong_field_is_named_and_no_other(case, encoder, tmp_path):
    name, damage, fault = FAULTS[case]
    folder = shutil.copytree(encoder, tmp_path / "model")
    damage(folder)
    found = {field.name: field.fault for field in check_fields(read_served(folder)) if field.fault}
    assert list(found) == [name] and found[name].startswith(fault)


def test_an_end_token_as_padding_is_wrong_in_a_decoder_only(encoder, tiny_backbones, tmp_path):
    decoder = save(tiny_backbones["gemma"], tmp_path / "decoder")
    for folder, is_wrong in ((decoder, True), (shutil.copytree(encoder, tmp_path / "encoder"), False)):
        served = read_served(folder)
        assert not any(field.fault for field in check_fields(served))
        change_config(eos_token_id=[1, served.config["pad_token_id"]])(folder)
        faults = [field.fault for field in check_fields(read_served(folder)) if field.fault]
        assert bool(faults) == is_wrong and all(fault.startswith("is the end token too, which a decoder") for fault in faults)


def test_a_wrong_field_gives_status_1_and_its_remedies(encoder, tmp_path, monkeypatch, capsys):
    folder = shutil.copytree(encoder, tmp_path / "model")
    change_config(problem_type=None)(folder)
    assert run_export(monkeypatch, "--model", folder, "--serving-check") == 1
    shown = capsys.readouterr().out
    assert 'WRONG problem_type: missing: must be "multi_label_classification", or pipeline and vLLM apply the softmax over all' in shown
    reason = "not run, because of the fields that are wrong"
    assert f"pipeline ({reason}): applies the softmax without problem_type -> function_to_apply=" in shown and "answers" not in shown
    assert 'vLLM (not run): applies the softmax without problem_type -> /classify with "use_activation": false, then the sigmoid' in shown


def test_pipeline_is_compared_with_this_project(encoder, monkeypatch):
    predict = Predictor.predict
    monkeypatch.setattr(Predictor, "predict", lambda self, texts: predict(self, texts) + 2 * MAX_PROBABILITY_DIFFERENCE)
    report = check_serving(str(encoder))
    assert [field.name for field in report.fields if field.fault] == ["answers"] and not report.is_ok
    assert report.runs["pipeline"] == "was run, and differs"


def test_the_onnx_graph_is_opened_and_one_of_other_weights_is_wrong(encoder, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    folder = shutil.copytree(encoder, tmp_path / "model")
    export_onnx(Predictor.load(str(folder)), str(folder), False, TEXTS, np.ones((len(TEXTS), 3), dtype=bool))
    report = check_serving(str(folder))
    assert report.is_ok and report.runs["ONNX Runtime"] == "was run: the self-check passed" and report.runs["Triton"] == "not run"
    remedies = [remark.remedy for remark in report.remarks if remark.server == "ONNX Runtime"]
    assert f"int64 input_ids and attention_mask from {folder}/tokenizer.json, at most 64 tokens, padded on the right with 0" in remedies
    weights = load_file(folder / "model.safetensors")
    save_file({name: value * 2 for name, value in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    report = check_serving(str(folder))
    (wrong,) = [field for field in report.fields if field.fault]
    assert wrong.name == "onnx/model.onnx" and "was exported from other weights than the folder holds now" in wrong.fault
    assert report.runs["ONNX Runtime"] == "not usable"


def test_remarks_depend_on_the_model(tiny_backbones, tmp_path):
    folder = save(tiny_backbones["distilbert"], tmp_path / "model")
    served = read_served(folder)
    assert served.tokenizer_config["split_special_tokens"] is True and pipeline_options(served)["max_length"] == 64
    shown = format_serving(check_serving(str(folder)))
    assert any("vLLM (not run): does not list distilbert among its classifiers" in line for line in shown)
    assert any("TEI (not run): takes special tokens in a text, such as </s>, for what they mean" in line for line in shown)
    assert not any("has no classification head" in line for line in shown)


def test_what_has_no_fields_is_refused_with_one_line(monkeypatch, capsys):
    assert run_export(monkeypatch, "--model", "user/name", "--serving-check") == 2
    assert capsys.readouterr().err.endswith("error: --serving-check: user/name is not a local folder; download it first\n")
    assert run_export(monkeypatch, "--model", "user/name", "--verify", "--json") == 2
    assert capsys.readouterr().err == "error: --json: is an option of --serving-check, got --verify\n"
