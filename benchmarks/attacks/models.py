"""Groups of `benchmarks.hostile` on model folders of others and on what is printed: code, `emotion.json`, terminal escapes."""

import json
import pickle
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.attacks.scripts import Target, Trials, change_json, cut_in_half, expect, write_texts

EVIL_CODE = """open({marker!r}, "w").close()
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

class EvilConfig(BertConfig):
    model_type = "evil"

class EvilModel(BertForSequenceClassification): ...

class EvilTokenizer(BertTokenizerFast): ...
"""
EVIL_FILES: dict[str, dict[str, dict[str, Any]]] = {
    "an unknown model_type": {
        "config.json": {
            "model_type": "evil",
            "auto_map": {"AutoConfig": "evil.EvilConfig", "AutoModelForSequenceClassification": "evil.EvilModel"},
        }
    },
    "a model of its own": {
        "config.json": {"auto_map": {"AutoModelForSequenceClassification": "evil.EvilModel", "AutoModel": "evil.EvilModel"}}
    },
    "a tokenizer of its own": {
        "tokenizer_config.json": {
            "tokenizer_class": "EvilTokenizer",
            "auto_map": {"AutoTokenizer": ["evil.EvilTokenizer", "evil.EvilTokenizer"]},
        }
    },
}
EVIL_COMMANDS = {
    "infer.py": "infer.py --model {model} --backend torch",
    "infer.py --text": "infer.py --model {model} --backend torch --text hello",
    "evaluate.py": "evaluate.py --model {model} --input {folder}/in.csv --output {folder}/out.csv",
    "export.py": "export.py --model {model} --verify --input {data}/test.jsonl",
    "train.py": "train.py --config {config} model.backbone={model} data.source={data} run.folder={folder} run.name=run training.epochs=1",
}


class RunsCode:
    """Unpickled, it creates a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, (str(self.marker), "w")


def attack_code(target: Target, folder: Path) -> Trials:
    """No Python code of a model folder runs, whatever stdin answers; pickled weights are refused in one line."""
    for what in EVIL_FILES:
        for name, command in EVIL_COMMANDS.items():
            yield f"{what}, {name}", partial(check_no_code, target, what, command)
    for name in ("pytorch_model.bin", "model.safetensors"):
        yield f"pickled weights as {name}", partial(check_pickle, target, name)


def check_no_code(target: Target, what: str, command: str, folder: Path, generator: random.Random) -> None:
    model, marker = target.copy_model(folder / "model"), folder / "ran"
    write_texts(folder / "in.csv", 3, generator)
    (model / "evil.py").write_text(EVIL_CODE.format(marker=str(marker)))
    for name, changes in EVIL_FILES[what].items():
        change_json(model / name, **changes)
    words = command.format(model=model, folder=folder, data=target.data, config="configs/quickstart.yaml").split()
    result = target.run(*words, stdin=b"y\ny\nhello\n")
    expect(not marker.exists(), "its code ran")
    result.check()
    expect(result.is_refused or "unknown" not in what, "accepted")


def check_pickle(target: Target, name: str, folder: Path, generator: random.Random) -> None:
    model, marker = target.copy_model(folder / "model"), folder / "ran"
    (model / "model.safetensors").unlink()
    (model / name).write_bytes(pickle.dumps(RunsCode(marker)))
    result = target.infer("--text", "hello", model=model)
    expect(not marker.exists(), "its code ran")
    result.check_refused()


Change = Callable[[Path], object]


def change_sidecar(**changes: Any) -> Change:
    return lambda model: change_json(model / "emotion.json", **changes)


def change_decision(**changes: Any) -> Change:
    def change(model: Path) -> None:
        decision = json.loads((model / "emotion.json").read_text())["decision"]
        change_json(model / "emotion.json", decision=decision | changes)

    return change


def write_file(name: str, content: bytes) -> Change:
    def change(model: Path) -> None:
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_bytes(content)

    return change


NESTED = b'{"format_version": 1, "labels": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
HALF = [0.5, 0.5, 0.5]
WRONG_SIDECARS: dict[str, Change] = {
    "a threshold NaN": change_decision(thresholds=[float("nan"), *HALF]),
    "a threshold infinite": change_decision(thresholds=[float("inf"), *HALF]),
    "a threshold below 0": change_decision(thresholds=[-0.5, *HALF]),
    "a threshold above 1": change_decision(thresholds=[1.5, *HALF]),
    "a threshold as text": change_decision(thresholds=["0.5", *HALF]),
    "a threshold true": change_decision(thresholds=[True, *HALF]),
    "thresholds as text": change_decision(thresholds="5555"),
    "too few thresholds": change_decision(thresholds=HALF),
    "empty_set all": change_decision(empty_set="all"),
    "no decision": change_sidecar(decision=None),
    "labels as text": change_sidecar(labels="abcd"),
    "labels twice": change_sidecar(labels=["a", "a", "b", "c"]),
    "labels as numbers": change_sidecar(labels=[1, 2, 3, 4]),
    "an empty label": change_sidecar(labels=["", "a", "b", "c"]),
    "other number of labels": lambda model: (change_sidecar(labels=["a", "b", "c"])(model), change_decision(thresholds=HALF)(model)),
    "max_length 0": change_sidecar(max_length=0),
    "max_length below 0": change_sidecar(max_length=-1),
    "max_length true": change_sidecar(max_length=True),
    "max_length as text": change_sidecar(max_length="128"),
    "max_length beyond the positions": change_sidecar(max_length=4_096),
    "an unknown precision": change_sidecar(precision="fp4"),
    "format_version as text": change_sidecar(format_version="1"),
    "format_version true": change_sidecar(format_version=True),
    "a list": write_file("emotion.json", b"[]"),
    "an empty file": write_file("emotion.json", b""),
    "bytes that are not UTF-8": write_file("emotion.json", b'{"format_version": 1, "labels": "\xff"}'),
    "nested 100,000 deep": write_file("emotion.json", NESTED),
}
WRONG_FILES: dict[str, Change] = {
    "an empty config.json": write_file("config.json", b""),
    "a list as config.json": write_file("config.json", b"[]"),
    "half of the weights": lambda model: cut_in_half(model / "model.safetensors"),
    "a header of the weights that lies": write_file("model.safetensors", b"\xff" * 7 + b"\x7f{}"),
    "half of the tokenizer": lambda model: cut_in_half(model / "tokenizer.json"),
}
WRONG_ABOUTS = {"empty": b"", "a list": b"[]", "null": b"null", "without keys": b"{}", "other types": b'{"fp32": 7, "int8": "x"}'}
LONG_TEXT = "why " * 3_000


def attack_sidecar(target: Target, folder: Path) -> Trials:
    """A model folder whose files hold what they may not is refused in one line."""
    for name, change in (WRONG_SIDECARS | WRONG_FILES).items():
        yield name, partial(check_folder, target, change)
    yield "token ids beyond the vocabulary", partial(check_folder, target, number_tokens_beyond)
    for name, content in WRONG_ABOUTS.items():
        yield f"about.json {name}", partial(check_folder, target, write_onnx(content), backend="onnx")
    yield "a damaged graph", partial(check_folder, target, write_file("onnx/model.onnx", b"\x08\x07" * 50), backend="onnx")


def write_onnx(about: bytes) -> Change:
    """Return what adds an empty graph and an `about.json`."""

    def change(model: Path) -> None:
        write_file("onnx/model.onnx", b"")(model)
        write_file("onnx/about.json", about)(model)

    return change


def check_folder(target: Target, change: Change, folder: Path, generator: random.Random, backend: str = "auto") -> None:
    model = target.copy_model(folder / "model")
    change(model)
    target.infer("--text", LONG_TEXT, "--backend", backend, model=model).check_refused()


def number_tokens_beyond(model: Path) -> None:
    """Give a common word an id that the embeddings do not have."""
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["why"] = 1_000_000
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
