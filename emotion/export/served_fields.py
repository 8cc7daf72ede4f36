"""The fields of a model folder that other servers read, and what is wrong with them. Works without torch.

Sources of what each server reads: text-embeddings-inference, router/src/lib.rs; vLLM, model_executor/layers/pooler/activations.py;
transformers, pipelines/text_classification.py.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emotion.checks import read_object
from emotion.errors import ModelError
from emotion.evaluation.decision import DecisionRule
from emotion.inference.sidecar import SIDECAR, Sidecar, parse_sidecar
from emotion.inference.torch_free import TOKENIZER, TOKENIZER_CONFIG
from emotion.modeling.limits import count_positions
from emotion.text import describe_error, format_names

PROBLEM_TYPE = "multi_label_classification"
REMEDY = "correct it, or save the model again"
TEI, VLLM, PIPELINE, ONNX_RUNTIME, TRITON = "TEI", "vLLM", "pipeline", "ONNX Runtime", "Triton"
DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}
"""Names of safetensors' dtypes in a `config.json`."""


@dataclass(frozen=True)
class Field:
    """One thing that servers read in a model folder."""

    name: str
    value: str
    readers: tuple[str, ...]
    fault: str | None = None
    """What is wrong, and what to do; None if nothing is."""


@dataclass(frozen=True)
class ServedFolder:
    """What a model folder holds, as far as servers read it."""

    path: Path
    sidecar: Sidecar
    rule: DecisionRule
    config: dict[str, Any]
    tokenizer_config: dict[str, Any]
    shapes: dict[str, list[int]]
    """Shape of each weight."""
    dtypes: list[str]
    """Different dtypes of the weights, as a `config.json` names them."""
    vocabulary: dict[str, int] | None
    """Id of each token; None without a `tokenizer.json`."""

    @property
    def is_decoder(self) -> bool:
        """Whether the answer is read at the last token that is not padding, as transformers' decoders do with a head named `score`."""
        return "score.weight" in self.shapes

    @property
    def num_positions(self) -> int | None:
        """Tokens that the model has positions for; None if that is not known."""
        positions = self.config.get("max_position_embeddings")
        return count_positions(positions, str(self.config.get("model_type"))) if isinstance(positions, int) else None


def read_served(folder: Path) -> ServedFolder:
    """Return what a folder of a full transformer holds.

    Raises: ModelError if a file cannot be read.
    """
    sidecar, rule = parse_sidecar(folder / SIDECAR)
    config, tokenizer_config = (
        read_object(path, REMEDY) if (path := folder / name).is_file() else {} for name in ("config.json", TOKENIZER_CONFIG)
    )
    shapes, dtypes = read_weights(folder)
    return ServedFolder(folder, sidecar, rule, config, tokenizer_config, shapes, dtypes, read_vocabulary(folder))


def read_weights(folder: Path) -> tuple[dict[str, list[int]], list[str]]:
    """Return the shapes and the different dtypes of the weights, from the headers of their files.

    Raises: ModelError if a file cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    shapes, dtypes = {}, set()
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="np") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - it is no dict
                    view = tensors.get_slice(name)
                    shapes[name] = list(view.get_shape())
                    dtypes.add(view.get_dtype())
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path}: cannot be read ({describe_error(error)}); {REMEDY}") from None
    return shapes, sorted(DTYPES.get(dtype, dtype) for dtype in dtypes if dtype in DTYPES)


def read_vocabulary(folder: Path) -> dict[str, int] | None:
    """Return the id of each token, added ones included; None without a `tokenizer.json`.

    Raises: ModelError if the file cannot be read.
    """
    from tokenizers import Tokenizer

    if not (path := folder / TOKENIZER).is_file():
        return None
    try:
        return dict(Tokenizer.from_file(str(path)).get_vocab())
    except Exception as error:  # the library raises plain exceptions
        raise ModelError(f"{path}: cannot be read ({describe_error(error)}); {REMEDY}") from None


def check_fields(folder: ServedFolder) -> list[Field]:
    """Return each field that servers read, with its fault if it has one."""
    return [
        check_architectures(folder),
        check_problem_type(folder),
        *check_labels(folder),
        check_head(folder),
        check_tokenizer_file(folder),
        check_pad_token(folder),
        check_max_length(folder),
        check_dtype(folder),
    ]


def check_architectures(folder: ServedFolder) -> Field:
    found = folder.config.get("architectures")
    names = [str(name) for name in found] if isinstance(found, list) else []
    is_right = len(names) == 1 and names[0].endswith("ForSequenceClassification")
    fault = None if is_right else f"must be one class that ends with ForSequenceClassification; {REMEDY}"
    return Field("architectures", ", ".join(names) or "missing", (TEI, VLLM, PIPELINE), fault)


def check_problem_type(folder: ServedFolder) -> Field:
    found = folder.config.get("problem_type")
    fault = f'must be "{PROBLEM_TYPE}", or pipeline and vLLM apply the softmax over all labels; write it into config.json'
    return Field("problem_type", str(found or "missing"), (VLLM, PIPELINE), None if found == PROBLEM_TYPE else fault)


def check_labels(folder: ServedFolder) -> list[Field]:
    """Return the fields `id2label` and `label2id`."""
    names = folder.sidecar.labels
    expected = {"id2label": {str(column): name for column, name in enumerate(names)}}
    expected["label2id"] = {name: column for column, name in enumerate(names)}  # type: ignore[misc]
    fields = []
    for field, values in expected.items():
        found = folder.config.get(field)
        entries: dict[Any, Any] = found if isinstance(found, dict) else {}
        wrong = [key for key in {**values, **entries} if entries.get(key) != values.get(key)]
        fault = None
        if wrong:
            key = wrong[0]
            fault = f"must be the {len(names)} labels of {SIDECAR} in their order; {key!r} is {entries.get(key)!r}, not {values.get(key)!r}"
        value = f"{len(entries)} labels" if entries else "missing"
        readers = (TEI, VLLM, PIPELINE) if field == "id2label" else (TEI,)
        fields.append(Field(field, value, readers, fault and f"{fault}; {REMEDY}"))
    return fields


def check_head(folder: ServedFolder) -> Field:
    num_labels = len(folder.sidecar.labels)
    heads = [name for name, shape in folder.shapes.items() if len(shape) == 2 and shape[0] == num_labels]
    fault = None if heads else f"no weight in *.safetensors has a row for each of {num_labels} labels; {REMEDY}"
    value = f"{heads[-1]} {tuple(folder.shapes[heads[-1]])}" if heads else f"{len(folder.shapes)} weights"
    return Field("head", value, (TEI, VLLM, PIPELINE), fault)


def check_tokenizer_file(folder: ServedFolder) -> Field:
    fault = None if folder.vocabulary is not None else "TEI and clients of ONNX Runtime and Triton need it; serve with vLLM or pipeline"
    value = f"{len(folder.vocabulary):,} tokens" if folder.vocabulary is not None else "missing"
    return Field(TOKENIZER, value, (TEI, VLLM, PIPELINE, ONNX_RUNTIME, TRITON), fault)


def check_pad_token(folder: ServedFolder) -> Field:
    """Compare the pad token of the tokenizer with the id in `config.json`, at which transformers' decoders end a text."""
    token, found = folder.tokenizer_config.get("pad_token"), folder.config.get("pad_token_id")
    token = token.get("content") if isinstance(token, dict) else token  # as earlier versions of transformers write it
    expected = folder.vocabulary.get(str(token)) if folder.vocabulary is not None else found
    ends = folder.config.get("eos_token_id")
    fault = None
    if token is None:
        fault = f"missing from {TOKENIZER_CONFIG}, so texts of different length make no batch; {REMEDY}"
    elif expected is None:
        fault = f"{TOKENIZER} has no such token; {REMEDY}"
    elif found is None:
        fault = f"pad_token_id is missing from config.json: a decoder reads its answer at the padding; set it to {expected}"
    elif found != expected:
        fault = f"its id is {expected}, but pad_token_id is {found} in config.json; set it to {expected}"
    elif folder.is_decoder and found in (ends if isinstance(ends, list) else [ends]):
        fault = f"is the end token too, which a decoder then never reads; {REMEDY}"
    value = f"{token} = {expected}" if token is not None else "missing"
    return Field("pad token", value, (TEI, PIPELINE, ONNX_RUNTIME, TRITON), fault)


def check_max_length(folder: ServedFolder) -> Field:
    length, positions = folder.sidecar.max_length, folder.num_positions
    fault = None
    if positions is not None and positions < length:
        fault = f"the model has positions for {positions} tokens only (max_position_embeddings); {REMEDY}"
    value = f"{length} tokens of a text, positions for {'more' if positions is None else positions}"
    return Field("max length", value, (TEI, VLLM, PIPELINE), fault)


def check_dtype(folder: ServedFolder) -> Field:
    found = folder.config.get("dtype", folder.config.get("torch_dtype"))  # the name before transformers 5
    fault = None
    if folder.dtypes != [found]:
        weights = format_names(folder.dtypes) if folder.dtypes else "missing"
        fault = f"the weights are {weights}, and servers load all of them as config.json says; {REMEDY}"
    return Field("dtype", str(found or "missing"), (VLLM, PIPELINE), fault)
