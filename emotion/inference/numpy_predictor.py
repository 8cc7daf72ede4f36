"""The same answers without torch and without an export: the forward pass of small encoders in numpy, for a few texts at a time.

Importing torch and transformers takes seconds, one text takes milliseconds. Full BERT and DistilBERT classifiers are known here;
many texts are faster by torch or ONNX Runtime.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emotion.cpu.encoder_family import FAMILIES, EncoderFamily, LayerNames, find_family
from emotion.errors import ModelError
from emotion.inference.sidecar import SIDECAR, find_model_folder, read_sidecar
from emotion.inference.torch_free import TOKENIZER, TorchFreePredictor, load_tokenizer
from emotion.labels import LabelSet

WEIGHTS = "model.safetensors"


POOLER_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"tanh": np.tanh, "relu": lambda values: np.maximum(values, 0)}


@dataclass(frozen=True)
class NumpyPredictor(TorchFreePredictor):
    """A trained encoder, its weights as arrays."""

    weights: dict[str, np.ndarray]
    config: dict[str, Any]

    batch_tokens = 1_024

    @classmethod
    def load(cls, location: str) -> "NumpyPredictor":
        """Return the predictor of a run or model folder.

        Raises: ModelError if it is no full float32 model of a known family, or damaged.
        """
        from safetensors.numpy import load_file

        folder = Path(find_model_folder(location))
        if not has_numpy(folder):
            raise ModelError(f"{location}: only full BERT and DistilBERT classifiers in float32 answer by numpy; leave --backend out")
        sidecar, rule = read_sidecar(str(folder))
        try:
            config, weights = _read_config(folder), load_file(folder / WEIGHTS)
            tokenizer = load_tokenizer(folder, sidecar.max_length)
            predictor = cls(tokenizer, LabelSet(sidecar.labels), rule, sidecar, "numpy", config["pad_token_id"], weights, config)
            predictor.predict_logits(["a"])  # all weights are there, and of their shapes
        except Exception as error:  # safetensors and tokenizers raise kinds of their own
            raise ModelError(f"{folder}: cannot be read ({str(error).splitlines()[0]}): the folder is not complete") from None
        return predictor

    def answer(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        family = FAMILIES[self.config["model_type"]]
        embeddings = f"{family.model_type}.embeddings."
        states = self.weights[embeddings + "word_embeddings.weight"][input_ids]
        states = states + self.weights[embeddings + "position_embeddings.weight"][: input_ids.shape[1]]
        if embeddings + "token_type_embeddings.weight" in self.weights:
            states += self.weights[embeddings + "token_type_embeddings.weight"][0]
        states = self._normalize(states, embeddings + "LayerNorm")
        bias = np.where(attention_mask, 0, -np.inf).astype(np.float32)[:, None, None]  # (b, 1, 1, t)
        for number in range(self.config[family.num_layers]):
            is_last = number == self.config[family.num_layers] - 1
            states = self._run_layer(states, bias, family, family.prefix(number), is_last)
        pooled = POOLER_ACTIVATIONS[family.pooler_activation](self._project(states[:, 0], family.pooler))
        return self._project(pooled, "classifier")

    def _run_layer(self, states: np.ndarray, bias: np.ndarray, family: EncoderFamily, prefix: str, is_last: bool) -> np.ndarray:
        """Return a layer's hidden states, (b, t, h); of the last one only the first token's, (b, 1, h): the head reads no other."""
        names = LayerNames(*(prefix + name for name in family.names))
        queries = states[:, :1] if is_last else states
        projected = self._project(queries, names.query), self._project(states, names.key), self._project(states, names.value)
        context = self._attend(*projected, bias, self.config[family.num_heads])
        attended = self._normalize(queries + self._project(context, names.attention_output), names.attention_norm)
        return self._normalize(attended + self._project(gelu(self._project(attended, names.up)), names.down), names.output_norm)

    def _attend(self, query: np.ndarray, key: np.ndarray, value: np.ndarray, bias: np.ndarray, num_heads: int) -> np.ndarray:
        query, key, value = (part.reshape(*part.shape[:2], num_heads, -1).swapaxes(1, 2) for part in (query, key, value))
        scores = query @ key.swapaxes(2, 3) * np.float32(query.shape[-1] ** -0.5) + bias  # (b, heads, q, t)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        attended = scores / scores.sum(axis=-1, keepdims=True) @ value
        return attended.swapaxes(1, 2).reshape(len(attended), attended.shape[2], -1)

    def _project(self, states: np.ndarray, name: str) -> np.ndarray:
        return states @ self.weights[name + ".weight"].T + self.weights[name + ".bias"]

    def _normalize(self, states: np.ndarray, name: str) -> np.ndarray:
        centred = states - states.mean(axis=-1, keepdims=True)
        deviation = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + np.float32(self.config.get("layer_norm_eps", 1e-12)))
        return centred / deviation * self.weights[name + ".weight"] + self.weights[name + ".bias"]


def gelu(values: np.ndarray) -> np.ndarray:
    """Return x times the normal distribution up to x, to 2e-7 |x|; scipy's erf would take longer to import than all else to run.

    Source: Abramowitz and Stegun 1964, formula 7.1.26.
    """
    scaled = np.abs(values) * np.float32(0.5**0.5)
    t = 1 / (1 + np.float32(0.3275911) * scaled)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    erf = np.copysign(1 - series * np.exp(-scaled * scaled), values)
    return values * (1 + erf) * np.float32(0.5)


def has_numpy(folder: Path) -> bool:
    """Whether a model folder holds a full model of a known family, with all that it takes to answer."""
    if not all((folder / name).is_file() for name in (SIDECAR, "config.json", WEIGHTS, TOKENIZER)):
        return False
    try:
        config = _read_config(folder)
    except (ValueError, TypeError):
        return False  # torch's loader says what is wrong with it
    family = find_family(config)
    is_float32 = config.get("dtype", config.get("torch_dtype")) == "float32"
    return family is not None and is_float32 and config.get(family.activation) == "gelu"


def _read_config(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))
