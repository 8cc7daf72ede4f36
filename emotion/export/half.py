"""Write a full model with float16 weights: half the size on disk, for models that are shipped or published.

Rounding moves logits a little, so the decision rule is fitted again on the validation rows, from what the smaller model answers.
"""

import json
from pathlib import Path

from scipy.special import expit

from emotion.config import BASELINE
from emotion.data.reading import Examples
from emotion.errors import ModelError
from emotion.evaluation.decision import fit_rule
from emotion.export.model_card import complete_card, find_location, write_card
from emotion.export.refit import report_again, store_rule
from emotion.export.verification import MAX_LOGIT_DIFFERENCE, Agreement, compare_logits
from emotion.files import TEMPORARY, atomic_write, copy_folder
from emotion.inference.numpy_predictor import WEIGHTS
from emotion.inference.predictor import Predictor
from emotion.inference.sidecar import read_sidecar
from emotion.tracking.run_folder import RunFolder


def write_half(run: RunFolder, rows: Examples, folder: Path, test_rows: Examples | None = None) -> Agreement:
    """Write the model of a run with float16 weights to `folder`, with the validation rows' predictions and report beside it.

    `rows` are those of the validation split, `test_rows` those of the test split if it was opened: the report of the smaller model on them
    is written too. Return how closely the model agrees on the validation rows with that of the run, before its rule is fitted again.

    Raises: ModelError if the model is an adapter or the baseline.
    """
    original, _ = read_sidecar(str(run.model))
    if original.is_adapter:  # whose backbone is not needed to say so
        raise ModelError(f"--half: {run.path} is an adapter, which is small already; write a full model with --merge FOLDER")
    if original.model.backbone == BASELINE:
        raise ModelError(f"--half: {run.path} is the {BASELINE} baseline; use it as it is")
    predictor = Predictor.load(str(run.path))
    config, label_set = run.read_config(), predictor.label_set
    reference = predictor.predict_logits(rows.texts, "float32")
    with atomic_write(folder) as partial:
        copy_folder(run.model, partial, ignored=("onnx", WEIGHTS, *TEMPORARY))
        _convert_weights(run.model, partial)
        smaller, result = Predictor.load(str(partial)), RunFolder(partial)
        logits = smaller.predict_logits(rows.texts, "float16")
        agreement = compare_logits("float16", predictor.rule, rows.labels, reference, logits, MAX_LOGIT_DIFFERENCE["fp16"])
        sidecar, rule = read_sidecar(str(partial))
        rule = fit_rule(rows.labels, logits, config.decision, rule.fitted_on, rows.is_judged)
        result.write_predictions("validation", rows.ids, rows.labels, expit(logits), label_set, rows.is_judged)
        report = report_again(run, "validation", rule, result)
        if test_rows is not None:
            probabilities = smaller.predict(test_rows.texts)
            result.write_predictions("test", test_rows.ids, test_rows.labels, probabilities, label_set, test_rows.is_judged)
            report_again(run, "test", rule, result)
        scores = store_rule(partial, config, sidecar, rule, report)
        (partial / "README.md").write_text(write_card(config, label_set, scores, folder.name), encoding="utf-8")
        complete_card(run, partial, find_location(folder), result)
    return agreement


def _convert_weights(source: Path, target: Path) -> None:
    """Write the weights of a model folder as float16, and say so in its config.

    Raises: ModelError if float16 cannot hold a weight.
    """
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
