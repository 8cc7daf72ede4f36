"""train.py in a process that runs out of memory: in the forward or backward pass of a micro-batch with more than MAX_ROWS rows.

Environment: SHORT_RANK, the process that is short of memory; SHORT_IN, `forward` or `backward`; MAX_ROWS.
"""

import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def raise_out_of_memory() -> None:
    import torch

    raise torch.OutOfMemoryError


def is_too_large(num_rows: int) -> bool:
    return os.environ.get("RANK", "0") == os.environ["SHORT_RANK"] and num_rows > int(os.environ["MAX_ROWS"])


def limit_forward(build_model: Callable[..., Any]) -> Callable[..., Any]:
    """Return `build_model` for models whose forward pass runs out of memory in training."""

    def check_rows(model: Any, _: Any, inputs: dict[str, Any]) -> None:
        if model.training and is_too_large(len(inputs["input_ids"])):
            raise_out_of_memory()

    def build_limited_model(*arguments: Any) -> Any:
        model, tokenizer = build_model(*arguments)
        model.register_forward_pre_hook(check_rows, with_kwargs=True)
        return model, tokenizer

    return build_limited_model


def limit_backward(build_loss: Callable[..., Any]) -> Callable[..., Any]:
    """Return `build_loss` for losses whose backward pass runs out of memory."""

    def build_limited_loss(*arguments: Any) -> Any:
        compute_loss = build_loss(*arguments)

        def compute_limited_loss(logits: Any, labels: Any) -> Any:
            loss = compute_loss(logits, labels)
            loss.register_hook(lambda _: raise_out_of_memory() if is_too_large(len(logits)) else None)
            return loss

        return compute_limited_loss

    return build_limited_loss


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    # Patched before train.py is executed, which then imports these.
    from emotion.modeling import build
    from emotion.training import losses

    if os.environ["SHORT_IN"] == "forward":
        build.build_model = limit_forward(build.build_model)
    else:
        losses.build_loss = limit_backward(losses.build_loss)
    runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
