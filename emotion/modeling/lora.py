"""Adapters: small trained products beside frozen layers. The only user of peft.

Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models".
"""

from typing import Any

from torch import nn

from emotion.config import LoraConfig
from emotion.errors import ModelError
from emotion.modeling.backbones import translate_loading_errors, without_deprecations
from emotion.modeling.quantization import count_weights, is_quantized


def attach_lora(model: Any, config: LoraConfig, head_modules: list[str], base_name: str, revision: str | None) -> Any:
    """Return the model with its backbone frozen, fresh adapters beside it and its head trained as it is.

    `head_modules` are the head's top-level modules: left alone, peft keeps those called `classifier` or `score` only.
    `base_name` is what the adapter's own config names as its base.

    Raises: ModelError if no layer has a name in `lora.target_modules`.
    """
    import peft

    # peft's own "all-linear" takes DistilBERT's `pre_classifier` too, which is part of its head, and fails.
    names = sorted({name.rpartition(".")[2] for name, module in model.base_model.named_modules() if isinstance(module, nn.Linear)})
    settings = peft.LoraConfig(
        task_type="SEQ_CLS",
        modules_to_save=head_modules,
        r=config.r,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=list(config.target_modules or names),
    )
    try:
        with without_deprecations():
            adapted = peft.get_peft_model(prepare_frozen(model), settings)
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"lora.target_modules={config.target_modules}: {' '.join(str(error).split())[:200]}; the backbone's linear layers are {names}"
        ) from None
    settings.base_model_name_or_path, settings.revision = base_name, revision
    settings.target_modules = sorted(settings.target_modules)  # peft makes a set of it, which saves in another order each time
    return adapted


def load_adapter(model: Any, folder: str, revision: str | None) -> Any:
    """Return the base model with the adapters and the head of a folder or Hub id, nothing of it trainable.

    Raises: ModelError if they do not fit the model.
    """
    import peft

    with translate_loading_errors(folder), without_deprecations():
        return peft.PeftModel.from_pretrained(prepare_frozen(model), folder, revision=revision)


def prepare_frozen(model: Any) -> Any:
    """Freeze a backbone; of a 4-bit one, norms and embeddings become float32, for training and for loading alike."""
    if is_quantized(model):
        import peft

        return peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    return model.requires_grad_(False)


def is_adapted(model: Any) -> bool:
    """Return whether a model holds adapters."""
    return hasattr(model, "peft_config")


def strip_adapters(model: Any) -> Any:
    """Return the transformers model below the adapters, or the model itself."""
    return model.get_base_model() if is_adapted(model) else model


def merge_adapters(model: Any) -> Any:
    """Return a plain transformers model whose weights hold the adapters' products."""
    return model.merge_and_unload()


def count_parameters(model: Any) -> tuple[int, int]:
    """Return how many parameters a model has, and how many of them are trained.

    A 4-bit weight counts as one although two share a byte; the untrained copy of the head that peft keeps does not count.
    """
    counts = [
        (count_weights(model.get_submodule(name.rpartition(".")[0]), parameter), parameter)
        for name, parameter in model.named_parameters()
        if ".original_module." not in name
    ]
    return sum(count for count, _ in counts), sum(count for count, parameter in counts if parameter.requires_grad)
