"""Run small encoders in numpy, for a few texts at a time, without torch and without an export.

Importing torch and transformers takes seconds, predicting one text takes milliseconds. Full BERT and DistilBERT classifiers are supported;
for many texts, torch and ONNX Runtime are faster.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emotion.checks import check_values, check_weights
from emotion.cpu.encoder_family import FAMILIES, EncoderFamily, LayerNames, find_family
from emotion.errors import ModelError
from emotion.inference.sidecar import REMEDY, SIDECAR, find_model_folder, read_config, read_sidecar
from emotion.inference.torch_free import PAD_TOKEN_ID, TOKENIZER, TorchFreePredictor, load_tokenizer
from emotion.labels import LabelSet
from emotion.text import describe_error

WEIGHTS = "model.safetensors"
POOLER_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"tanh": np.tanh, "relu": lambda values: np.maximum(values, 0)}


@dataclass(frozen=True)
class NumpyPredictor(TorchFreePredictor):
    """A trained encoder with its weights as arrays."""

    weights: dict[str, np.ndarray]
    config: dict[str, Any]

    batch_tokens = 1_024
    is_batch_faster = False  # a text's activations fit into the cache, those of a batch do not

    @classmethod
    def load(cls, location: str) -> "NumpyPredictor":
        """Return the predictor of a run folder or model folder.

        Raises: ModelError if it is not a full model of a supported family in float32 or float16, or its files are damaged.
        """
        from safetensors.numpy import load_file

        folder = Path(find_model_folder(location))
        if not is_numpy_supported(folder):
            raise ModelError(
                f"{location}: --backend numpy supports full BERT and DistilBERT classifiers in float32 or float16; use --backend torch"
            )
        sidecar, rule = read_sidecar(str(folder))
        config, label_set = read_config(folder), LabelSet(sidecar.labels)
        check_values(config, {"pad_token_id": PAD_TOKEN_ID}, f"{folder}/config.json: ", REMEDY)
        try:
            weights = {name: value.astype(np.float32, copy=False) for name, value in load_file(folder / WEIGHTS).items()}
            family = FAMILIES[config["model_type"]]
            expected = family.list_weights(config[family.num_layers])
            check_weights(expected - weights.keys(), weights.keys() - expected, str(folder))
            label_set.check_outputs(len(weights["classifier.bias"]), str(folder))
            tokenizer = load_tokenizer(folder, sidecar)
            predictor = cls(tokenizer, label_set, rule, sidecar, "numpy", config["pad_token_id"], weights, config)
            predictor.predict_logits(["a"])  # fails if a weight has another shape
        except ModelError:
            raise
        except Exception as error:  # safetensors and tokenizers raise their own types
            raise ModelError(f"{folder}: cannot be read ({describe_error(error)}); the folder is not complete, save it again") from None
        return predictor

    def compute_logits(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        family = FAMILIES[self.config["model_type"]]
        hidden = self._embed(input_ids, f"{family.model_type}.embeddings.")
        mask_bias = np.where(attention_mask, 0, -np.inf).astype(np.float32)[:, None, None]  # (b, 1, 1, t)
        num_layers = self.config[family.num_layers]
        for number in range(num_layers):
            hidden = self._run_layer(hidden, mask_bias, family, family.prefix(number), is_last=number == num_layers - 1)
        pooled = POOLER_ACTIVATIONS[family.pooler_activation](self._project(hidden[:, 0], family.pooler))
        return self._project(pooled, "classifier")

    def _embed(self, input_ids: np.ndarray, prefix: str) -> np.ndarray:
        """Return the hidden states before the first layer, (b, t, h)."""
        hidden = self.weights[prefix + "word_embeddings.weight"][input_ids]
        hidden = hidden + self.weights[prefix + "position_embeddings.weight"][: input_ids.shape[1]]
        if prefix + "token_type_embeddings.weight" in self.weights:
            hidden += self.weights[prefix + "token_type_embeddings.weight"][0]
        return self._normalize(hidden, prefix + "LayerNorm")

    def _run_layer(self, hidden: np.ndarray, mask_bias: np.ndarray, family: EncoderFamily, prefix: str, is_last: bool) -> np.ndarray:
        """Return a layer's hidden states, (b, t, h); of the last layer the first token's only, (b, 1, h): the head reads no other."""
        names = LayerNames(*(prefix + name for name in family.names))
        queried = hidden[:, :1] if is_last else hidden
        query, key, value = self._project(queried, names.query), self._project(hidden, names.key), self._project(hidden, names.value)
        context = self._attend(query, key, value, mask_bias, self.config[family.num_heads])
        attended = self._normalize(queried + self._project(context, names.attention_output), names.attention_norm)
        return self._normalize(attended + self._project(gelu(self._project(attended, names.up)), names.down), names.output_norm)

    def _attend(self, query: np.ndarray, key: np.ndarray, value: np.ndarray, mask_bias: np.ndarray, num_heads: int) -> np.ndarray:
        """Return the context vectors of multi-head attention, (b, q, h)."""
        query, key, value = (part.reshape(*part.shape[:2], num_heads, -1).swapaxes(1, 2) for part in (query, key, value))
        scores = query @ key.swapaxes(2, 3) * np.float32(query.shape[-1] ** -0.5) + mask_bias  # (b, heads, q, t)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        context = scores / scores.sum(axis=-1, keepdims=True) @ value
        return context.swapaxes(1, 2).reshape(len(context), context.shape[2], -1)

    def _project(self, states: np.ndarray, name: str) -> np.ndarray:
        """Return the output of the linear layer `name`; the ONNX export overrides this to observe its input."""
        return states @ self.weights[name + ".weight"].T + self.weights[name + ".bias"]

    def _normalize(self, states: np.ndarray, name: str) -> np.ndarray:
        """Return the output of the layer norm `name`."""
        centered = states - states.mean(axis=-1, keepdims=True)
        deviation = np.sqrt(np.square(centered).mean(axis=-1, keepdims=True) + np.float32(self.config.get("layer_norm_eps", 1e-12)))
        return centered / deviation * self.weights[name + ".weight"] + self.weights[name + ".bias"]


def gelu(values: np.ndarray) -> np.ndarray:
    """Return GELU, x times the standard normal CDF of x, with an error of at most 2e-7 |x|.

    scipy's erf would take longer to import than a prediction takes. Source: Abramowitz and Stegun 1964, formula 7.1.26.
    """
    scaled = np.abs(values) * np.float32(0.5**0.5)
    t = 1 / (1 + np.float32(0.3275911) * scaled)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    erf = np.copysign(1 - series * np.exp(-scaled * scaled), values)
    return values * (1 + erf) * np.float32(0.5)


def is_numpy_supported(folder: Path) -> bool:
    """Return whether a folder holds a full model of a supported family, in float32 or float16, with all files needed to run it in numpy."""
    if not all((folder / name).is_file() for name in (SIDECAR, "config.json", WEIGHTS, TOKENIZER)):
        return False
    try:
        config = read_config(folder)
    except ModelError:
        return False  # loading with torch reports what is wrong with it
    family = find_family(config)
    has_dtype = config.get("dtype", config.get("torch_dtype")) in ("float32", "float16")
    return family is not None and has_dtype and config.get(family.activation) == "gelu"
