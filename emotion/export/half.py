"""Write a full model with float16 weights: half the size on disk, for models that are shipped or published.

Rounding moves logits a little, so the decision rule is fitted again on the validation rows, from what the smaller model answers.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import logit

from emotion.config import BASELINE
from emotion.data.reading.sources import Examples
from emotion.errors import ModelError
from emotion.evaluation.decision import refit_rule
from emotion.evaluation.reporting import write_report
from emotion.export.model_card import write_card
from emotion.files import atomic_write
from emotion.inference.model_folder import write_sidecar
from emotion.inference.numpy_predictor import WEIGHTS
from emotion.inference.predictor import Predictor
from emotion.inference.sidecar import read_sidecar
from emotion.tracking.run_folder import RunFolder


def write_half(run: RunFolder, rows: Examples, folder: Path) -> dict[str, Any]:
    """Write the model of a run with float16 weights to `folder`, with the validation rows' predictions and report beside it.

    `rows` are those of the validation split. Return the `size` in bytes, the largest `logit_difference` and `num_flipped`, the number of
    decisions that differ from those of the run's model.

    Raises: ModelError if the model is an adapter or the baseline.
    """
    predictor = Predictor.load(str(run.path))
    config = run.read_config()
    if predictor.sidecar.is_adapter:
        raise ModelError(f"--half: {run.path} is an adapter, which is small already; write a full model with --merge FOLDER")
    if predictor.sidecar.model.backbone == BASELINE:
        raise ModelError(f"--half: {run.path} is the {BASELINE} baseline; use it as it is")
    before = predictor.predict(rows.texts, "float32")
    with atomic_write(folder) as partial:
        shutil.copytree(run.model, partial, ignore=shutil.ignore_patterns("onnx", WEIGHTS))
        _convert(run.model, partial)
        smaller = Predictor.load(str(partial))
        after = smaller.predict(rows.texts, "float16")
        sidecar, rule = read_sidecar(str(partial))
        rule = refit_rule(rows.labels, after, config.decision, rule, rows.is_judged)
        result = RunFolder(partial)
        label_set = predictor.label_set
        report = write_report(result.report("validation"), rows.labels, after, rule, label_set, "validation", rows.is_judged)
        result.write_predictions("validation", rows.ids, rows.labels, after, label_set, rows.is_judged)
        scores = sidecar.validation | {f"{name}_tuned": report["at_decision_rule"][name] for name in ("macro_f1", "micro_f1")}
        write_sidecar(partial, replace(sidecar, validation=scores), rule)
        (partial / "README.md").write_text(write_card(config, label_set, scores, folder.name), encoding="utf-8")
    differences = np.abs(logit(np.clip(before, 1e-7, 1 - 1e-7)) - logit(np.clip(after, 1e-7, 1 - 1e-7)))
    num_flipped = int((predictor.rule.decide(before) != rule.decide(after)).sum())
    return {"size": (folder / WEIGHTS).stat().st_size, "logit_difference": float(differences.max()), "num_flipped": num_flipped}


def _convert(source: Path, target: Path) -> None:
    """Write the weights of a model folder as float16, and say so in its config."""
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(source / WEIGHTS)
    largest = max(float(value.abs().max()) for value in weights.values() if value.is_floating_point())
    if largest > torch.finfo(torch.float16).max:
        raise ModelError(f"--half: a weight of {source} is {largest:.3g}, which float16 cannot hold; use the model as it is")
    half = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    save_file(half, target / WEIGHTS, metadata={"format": "pt"})
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    (target / "config.json").write_text(json.dumps(config | {"dtype": "float16"}, indent=2) + "\n", encoding="utf-8")
