"""train.py where process SHORT_RANK has memory for micro-batches of MOST_ROWS rows: forward or backward of a larger one runs out."""

import os
import runpy
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def run_out() -> None:
    import torch

    raise torch.OutOfMemoryError


def is_too_much(num_rows: int) -> bool:
    return os.environ.get("RANK", "0") == os.environ["SHORT_RANK"] and num_rows > int(os.environ["MOST_ROWS"])


def build_short_model(*arguments: Any) -> Any:
    model, tokenizer = build_model(*arguments)
    model.register_forward_pre_hook(
        lambda module, _, inputs: run_out() if module.training and is_too_much(len(inputs["input_ids"])) else None, with_kwargs=True
    )
    return model, tokenizer


def build_short_loss(*arguments: Any) -> Any:
    sum_loss = build_loss(*arguments)

    def short_loss(logits: Any, labels: Any) -> Any:
        loss = sum_loss(logits, labels)
        loss.register_hook(lambda _: run_out() if is_too_much(len(logits)) else None)
        return loss

    return short_loss


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from emotion.modeling import factory
    from emotion.training import optimization

    build_model, build_loss = factory.build_model, optimization.build_loss
    if os.environ["SHORT_IN"] == "forward":
        factory.build_model = build_short_model
    else:
        optimization.build_loss = build_short_loss
    runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
