"""The run of the TF-IDF baseline: fitted by scikit-learn, without steps; the rest of its run is that of any other."""

import time

from emotion.data.batching import batch_by_length, tokenize
from emotion.evaluation.selection import score_checkpoint
from emotion.modeling.baseline import fit_baseline
from emotion.modeling.prediction import predict_logits
from emotion.training.run import Run


def fit_baseline_run(run: Run) -> None:
    """Fit the baseline on the training rows, its decision rule on the validation rows, and write the run."""
    dataset, config = run.read_data(), run.config
    run.claim_folder()
    if not run.accelerator.is_main_process:
        return
    run.begin_folder()
    train, validation = dataset["train"], dataset["validation"]
    started = time.perf_counter()
    run.model, tokenizer = fit_baseline(train.texts, train.targets, config.data.max_length, config.training.seed, train.is_judged)
    seconds = time.perf_counter() - started
    max_length = config.data.max_length
    tokens = {name: tokenize(tokenizer, dataset[name].texts, max_length, f"tokenize {name}") for name in ("train", "validation")}
    run.check_lengths(tokenizer, tokens)
    batches = batch_by_length(tokens["validation"], config.training.per_device_batch_size)
    logits = predict_logits(run.model, batches, len(validation), run.accelerator.device)
    run.best = score_checkpoint(validation.labels, logits, config, validation.is_judged)
    run.write_model(run.best, run.model, tokenizer)
    run.meter.num_examples, run.meter.step_seconds = len(train), seconds
    row = {"kind": "validation", "step": 1, "epoch": 1, "examples_seen": len(train), "seconds": seconds}
    run.log_row(row | run.best.scores | {"is_best": True})
    run.write_results(run.model, 1)
