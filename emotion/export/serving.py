"""Whether a model folder gives the same answers elsewhere: its fields, what each server gets wrong by default, and the remedy.

pipeline and ONNX Runtime are run on a few texts. TEI, vLLM and Triton are not: what is said of them is from their sources and manuals.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emotion.config import BASELINE
from emotion.errors import ModelError
from emotion.export.served_fields import (
    ONNX_RUNTIME,
    PIPELINE,
    PROBLEM_TYPE,
    TEI,
    TRITON,
    VLLM,
    Field,
    ServedFolder,
    check_fields,
    read_served,
)
from emotion.inference.onnx_predictor import CHECK_TEXTS, OnnxPredictor, has_onnx, read_about
from emotion.inference.sidecar import SIDECAR, find_model_folder, parse_sidecar
from emotion.inference.torch_free import TOKENIZER_CONFIG

TEI_CLASSIFIERS = ("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "deberta-v2", "modernbert")
"""Values of `model_type` that TEI has a classification head for. Source: its backends/candle/src/models; Mistral and Gemma are refused."""
VLLM_ENCODERS = ("bert", "roberta", "xlm-roberta", "modernbert")
"""Encoders in vLLM's list of classification models; decoders are converted. Source: its docs/models/pooling_models."""
MAX_PROBABILITY_DIFFERENCE = 1e-3 / 4
"""Between pipeline in float32 and this project: that of `export.py --verify` for a logit, through the slope of the sigmoid."""


@dataclass(frozen=True)
class Remark:
    """What a server does otherwise than this project, and the remedy."""

    server: str
    problem: str
    remedy: str


@dataclass(frozen=True)
class ServingReport:
    """What `export.py --serving-check` found."""

    folder: str
    fields: list[Field]
    remarks: list[Remark]
    runs: dict[str, str]
    """By server, the outcome of its run, or why it was not run."""
    empty_set: str = "none"
    """What the decision rule does with a text none of whose labels reaches its threshold."""

    @property
    def is_ok(self) -> bool:
        return not any(field.fault for field in self.fields)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        fields = [vars(field) | {"readers": list(field.readers), "is_ok": field.fault is None} for field in self.fields]
        servers = [
            {"server": server, "run": run, "remarks": [vars(remark) for remark in self.remarks if remark.server == server]}
            for server, run in self.runs.items()
        ]
        return {"folder": self.folder, "is_ok": self.is_ok, "fields": fields, "servers": servers}


def check_serving(location: str) -> ServingReport:
    """Return what other servers read from a model folder, and what they will get wrong.

    Raises: ModelError if it is no local folder, the baseline, or has a file that cannot be read.
    """
    path = Path(find_model_folder(location))
    if not path.is_dir():
        raise ModelError(f"--serving-check: {location} is not a local folder; download it first")
    sidecar, _ = parse_sidecar(path / SIDECAR)
    if sidecar.model.backbone == BASELINE:
        raise ModelError(f"--serving-check: {location} is the {BASELINE} baseline, which no other server loads; use it with this project")
    if sidecar.is_adapter:
        merge = shlex.join(["python", "export.py", "--model", location, "--merge", "FOLDER"])
        fault = f"no server here loads it with its head and its decision rule; merge it first: {merge}"
        return ServingReport(str(path), [Field("adapter", sidecar.model.backbone, (TEI, VLLM, PIPELINE), fault)], [], {})
    folder = read_served(path)
    fields = check_fields(folder)
    runs = {TEI: "not run", VLLM: "not run", PIPELINE: "not run, because of the fields that are wrong"}
    if not any(field.fault for field in fields):
        fields.append(field := compare_pipeline(folder, location))
        runs[PIPELINE] = "was run" if field.fault is None else "was run, and differs"
    if (graph := check_graph(path, location)) is not None:
        fields.append(graph)
    runs |= {ONNX_RUNTIME: describe_graph_run(graph), TRITON: "not run"}
    return ServingReport(str(path), fields, [remark for find in REMARKS for remark in find(folder, location)], runs, folder.rule.empty_set)


def compare_pipeline(folder: ServedFolder, location: str) -> Field:
    """Return how closely transformers' pipeline, called as the remedies say, agrees with this project on a few texts."""
    from transformers import pipeline

    from emotion.inference.model_folder import without_progress_bar
    from emotion.inference.predictor import Predictor
    from emotion.modeling.backbones import translate_loading_errors

    names, predictor = folder.sidecar.labels, Predictor.load(location)
    texts = [CHECK_TEXTS[row] for row in np.flatnonzero(predictor.count_segments(list(CHECK_TEXTS)) == 1)]  # pipeline cuts the others
    with translate_loading_errors(location), without_progress_bar():
        classify: Any = pipeline("text-classification", model=str(folder.path), device="cpu", **pipeline_options(folder))
        answers = classify(texts)
    found = np.array([[{entry["label"]: entry["score"] for entry in answer}[name] for name in names] for answer in answers])
    difference = float(np.abs(found - predictor.predict(texts)).max())
    fault = None if difference <= MAX_PROBABILITY_DIFFERENCE else "export.py --verify shows which variant of the model differs"
    return Field("answers", f"largest difference of a probability {difference:.1e} on {len(texts)} texts", (PIPELINE,), fault)


def pipeline_options(folder: ServedFolder) -> dict[str, Any]:
    """Return the options with which pipeline gives this project's probabilities."""
    cut = {"truncation": True, "max_length": folder.sidecar.max_length}
    return {"top_k": None, "function_to_apply": "sigmoid", "dtype": "float32", **cut}


def check_graph(path: Path, location: str) -> Field | None:
    """Return the field of the ONNX graph, after its self-check if onnxruntime is installed; None without a graph."""
    if not has_onnx(path):
        return None
    fault = None
    try:
        OnnxPredictor.load(location)
    except ModelError as error:
        fault = str(error)
    return Field("onnx/model.onnx", str(read_about(path / "onnx")["precision"]), (ONNX_RUNTIME, TRITON), fault)


def describe_graph_run(graph: Field | None) -> str:
    if graph is None:
        return "not run: no ONNX graph"
    return "was run: the self-check passed" if graph.fault is None else "not usable"


def find_pipeline_remarks(folder: ServedFolder, _: str) -> list[Remark]:
    options = ", ".join(f"{name}={value!r}" for name, value in pipeline_options(folder).items())
    length = folder.tokenizer_config.get("model_max_length")
    cut = f"at {length}" if isinstance(length, int) and length < 2**31 else "nowhere"
    remarks = [
        ("returns the most probable label only", "top_k=None"),
        (
            f"fails on long texts, and truncation=True alone cuts them {cut}",
            f"truncation=True, max_length={folder.sidecar.max_length}",
        ),
        ("together", f'pipeline("text-classification", model=FOLDER, {options})'),
    ]
    if folder.config.get("problem_type") != PROBLEM_TYPE:
        remarks.insert(1, ("applies the softmax without problem_type", 'function_to_apply="sigmoid"'))
    if (dtype := folder.config.get("dtype")) != "float32":
        remarks.insert(1, (f"computes in {dtype}, as the weights are stored", 'dtype="float32"'))
    return [Remark(PIPELINE, *remark) for remark in remarks]


def find_tei_remarks(folder: ServedFolder, _: str) -> list[Remark]:
    model_type, length = folder.config.get("model_type"), folder.sidecar.max_length
    remarks = []
    if model_type not in TEI_CLASSIFIERS:
        remarks.append((f"has no classification head for {model_type}", "vLLM, pipeline, or this project"))
    remarks += [
        ("applies the softmax over all labels of a model with several", '/predict with "raw_scores": true, then the sigmoid'),
        ("sorts the labels by score", "read each score by its label"),
        (
            f"reads up to {folder.num_positions or 'all'} tokens, and refuses longer texts",
            f'{{"max_seq_length": {length}, "do_lower_case": false}} in sentence_bert_config.json, and "truncate": true',
        ),
        ("computes in float16 on a GPU", "--dtype float32"),
    ]
    if folder.tokenizer_config.get("split_special_tokens") is True:
        reason = f"takes special tokens in a text, such as </s>, for what they mean ({TOKENIZER_CONFIG} says otherwise)"
        remarks.append((reason, "remove them from texts of strangers"))
    return [Remark(TEI, *remark) for remark in remarks]


def find_vllm_remarks(folder: ServedFolder, _: str) -> list[Remark]:
    remarks = []
    if not folder.is_decoder and folder.config.get("model_type") not in VLLM_ENCODERS:
        remarks.append((f"does not list {folder.config.get('model_type')} among its classifiers", "TEI, pipeline, or this project"))
    if folder.config.get("problem_type") != PROBLEM_TYPE:
        remarks.append(("applies the softmax without problem_type", '/classify with "use_activation": false, then the sigmoid'))
    remarks += [
        ("names the most probable label only", 'read "probs", which are in the order of id2label'),
        ("computes in 16 bits on a GPU by default (--dtype auto)", "--dtype float32"),
        (
            f"reads more than {folder.sidecar.max_length} tokens, and truncate_prompt_tokens keeps the end of a text",
            f"cut texts to their first {folder.sidecar.max_length} tokens before they are sent",
        ),
    ]
    return [Remark(VLLM, *remark) for remark in remarks]


def find_graph_remarks(folder: ServedFolder, location: str) -> list[Remark]:
    """Return the remarks on ONNX Runtime and Triton, which read a graph and nothing else."""
    if not has_onnx(folder.path):
        command = shlex.join(["python", "export.py", "--model", location, "--onnx"])
        return [Remark(server, "there is no ONNX graph", command) for server in (ONNX_RUNTIME, TRITON)]
    pad_token_id = read_about(folder.path / "onnx")["pad_token_id"]
    inputs = f"int64 input_ids and attention_mask from {folder.path / 'tokenizer.json'}, at most {folder.sidecar.max_length} tokens"
    padding = f"padded on the right with {pad_token_id}"
    remarks = [("returns logits, without names of labels", "the sigmoid; the labels are in the order of emotion.json")]
    remarks.append(("knows no tokenizer", f"{inputs}, {padding}"))
    layout = "onnx/model.onnx as NAME/1/model.onnx; the inputs and outputs are read from it (backend: onnxruntime)"
    return [Remark(server, *remark) for server in (ONNX_RUNTIME, TRITON) for remark in remarks] + [
        Remark(TRITON, "reads no folder of Hugging Face's layout", layout)
    ]


def find_segment_remarks(folder: ServedFolder, _: str) -> list[Remark]:
    """Return the remark on a model that splits long texts, which no other server does."""
    if folder.sidecar.segments is None:
        return []
    rule, length = folder.sidecar.segments, folder.sidecar.max_length
    remedy = f"send segments of {length} tokens that share {rule.stride}, and take the {rule.combination} of their logits; or this project"
    return [Remark(server, f"does not split a text of more than {length} tokens", remedy) for server in SERVERS]


SERVERS = (TEI, VLLM, PIPELINE, ONNX_RUNTIME, TRITON)
REMARKS = (find_tei_remarks, find_vllm_remarks, find_pipeline_remarks, find_graph_remarks, find_segment_remarks)


def format_serving(report: ServingReport) -> list[str]:
    """Return the report as lines."""
    lines = [f"{report.folder}, as other servers read it:"]
    for field in report.fields:
        mark, fault = ("ok", "") if field.fault is None else ("WRONG", f": {field.fault}")
        lines.append(f"{mark:<5} {field.name}: {field.value}{fault} ({', '.join(field.readers)})")
    for server, run in report.runs.items():
        lines += [f"{server} ({run}): {found.problem} -> {found.remedy}" for found in report.remarks if found.server == server]
    if report.runs:
        top = "; where none does, the most probable label is (decision.empty_set)" if report.empty_set == "top1" else ""
        lines.append(
            f"all: none knows the thresholds; a label is predicted where the sigmoid of its logit is at least its threshold in {SIDECAR} "
            f"(decision.thresholds){top}; the calibration is in the weights already"
        )
    return lines
