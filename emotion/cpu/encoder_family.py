"""The structure of BERT's and DistilBERT's layers and the names of their weights: one description for training, numpy and ONNX.

    hidden -> query, key, value -> attention -> attention_output, dropout -> + hidden -> attention_norm
           -> up -> GELU -> down, dropout -> + -> output_norm

Source: Devlin et al. 2018, "BERT"; Sanh et al. 2019, "DistilBERT". Works without torch.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple


class LayerNames(NamedTuple):
    """Names of a layer's eight modules with weights, relative to the layer, in the order of the computation."""

    query: str
    key: str
    value: str
    attention_output: str
    attention_norm: str
    up: str
    down: str
    output_norm: str


@dataclass(frozen=True)
class EncoderFamily:
    """An architecture: keys of its `config.json` and names of its weights."""

    model_type: str
    num_layers: str
    """Key of the number of layers."""
    num_heads: str
    """Key of the number of attention heads."""
    activation: str
    """Key of the activation's name."""
    embeddings: tuple[str, ...]
    """What is embedded: words and positions, and the types of tokens in BERT."""
    layers: str
    """Prefix of all layers; a layer is `{layers}.{number}`, relative to the model without its head."""
    names: LayerNames
    attention_dropout: str
    attention_output_dropout: str | None
    """None where there is none."""
    output_dropout: str
    activation_module: str
    pooler: str
    """Name of the linear layer before the classifier, in the whole model."""
    pooler_activation: Literal["tanh", "relu"]

    def prefix(self, number: int) -> str:
        """Return what the weights' names of a layer begin with, in the whole model."""
        return f"{self.model_type}.{self.layers}.{number}."

    def list_weights(self, num_layers: int) -> set[str]:
        """Return the names of the weights of a classifier with `num_layers` layers."""
        embeddings = f"{self.model_type}.embeddings."
        layers = [f"{self.prefix(number)}{name}" for number in range(num_layers) for name in self.names]
        modules = (*layers, f"{embeddings}LayerNorm", self.pooler, "classifier")
        tables = {f"{embeddings}{name}_embeddings.weight" for name in self.embeddings}
        return tables | {f"{module}.{part}" for module in modules for part in ("weight", "bias")}


FAMILIES = {
    family.model_type: family
    for family in (
        EncoderFamily(
            model_type="bert",
            num_layers="num_hidden_layers",
            num_heads="num_attention_heads",
            activation="hidden_act",
            embeddings=("word", "position", "token_type"),
            layers="encoder.layer",
            names=LayerNames(
                query="attention.self.query",
                key="attention.self.key",
                value="attention.self.value",
                attention_output="attention.output.dense",
                attention_norm="attention.output.LayerNorm",
                up="intermediate.dense",
                down="output.dense",
                output_norm="output.LayerNorm",
            ),
            attention_dropout="attention.self.dropout",
            attention_output_dropout="attention.output.dropout",
            output_dropout="output.dropout",
            activation_module="intermediate.intermediate_act_fn",
            pooler="bert.pooler.dense",
            pooler_activation="tanh",
        ),
        EncoderFamily(
            model_type="distilbert",
            num_layers="n_layers",
            num_heads="n_heads",
            activation="activation",
            embeddings=("word", "position"),
            layers="transformer.layer",
            names=LayerNames(
                query="attention.q_lin",
                key="attention.k_lin",
                value="attention.v_lin",
                attention_output="attention.out_lin",
                attention_norm="sa_layer_norm",
                up="ffn.lin1",
                down="ffn.lin2",
                output_norm="output_layer_norm",
            ),
            attention_dropout="attention.dropout",
            attention_output_dropout=None,
            output_dropout="ffn.dropout",
            activation_module="ffn.activation",
            pooler="pre_classifier",
            pooler_activation="relu",
        ),
    )
}


def find_family(config: dict[str, Any]) -> EncoderFamily | None:
    """Return the family of a `config.json` with the plain attention and no decoder, or None."""
    is_plain = not config.get("is_decoder", False) and config.get("position_embedding_type", "absolute") == "absolute"
    return FAMILIES.get(config.get("model_type", "")) if is_plain else None
