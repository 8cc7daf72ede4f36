"""Fine-tune a transformer for multi-label emotion detection.

    python train.py --config configs/quickstart.yaml
    accelerate launch train.py --config configs/minilm.yaml training.seed=1 run.name=second

config -> data -> model -> loop -> best model folder. The test split stays closed: evaluate.py opens it.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, set_seed

from emotion.config import Config, format_keys, load_config
from emotion.data.batching import TokenizedTexts, WindowSampler, batch_by_length, share_window, tokenize
from emotion.data.reading import Dataset, read_dataset
from emotion.errors import exit_on_error
from emotion.evaluation.plots import plot_training
from emotion.evaluation.reporting import format_report, write_report
from emotion.evaluation.selection import Candidate, judge
from emotion.files import write_json
from emotion.inference.model_folder import Sidecar, save_model
from emotion.modeling.factory import build_model, list_head_parameters
from emotion.tracking.efficiency import EfficiencyMeter
from emotion.tracking.history import History
from emotion.tracking.publishing import write_card
from emotion.tracking.run_folder import RunFolder
from emotion.training.interruption import Interruption
from emotion.training.loop import choose_precision, predict_logits, train_window
from emotion.training.optimization import build_loss, build_optimizer, build_scheduler, compute_pos_weight
from emotion.training.planning import format_plan, plan_run


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, metavar="FILE", help="a YAML file, such as configs/quickstart.yaml")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings on top of the file")
    parser.add_argument("--dry-run", action="store_true", help="say what the run would take (steps, parameters, memory) and exit")
    parser.add_argument("--keys", action="version", version=format_keys(), help="list all settings and exit")
    arguments = parser.parse_intermixed_args()
    config = load_config(arguments.config, arguments.overrides)
    accelerator = Accelerator(mixed_precision=choose_precision(config.training.precision))
    if arguments.dry_run:
        accelerator.print(format_plan(plan_run(config, accelerator.num_processes, name_precision(accelerator))))
        return 0
    run = choose_run(config, Path(arguments.config).stem, accelerator)
    meter = EfficiencyMeter(accelerator.num_processes)

    dataset = read_dataset(config.data)
    for remark in dataset.remarks:
        accelerator.print(f"data: {remark}")

    set_seed(config.training.seed)  # every process starts from the same head ...
    model, tokenizer = build_model(
        config.model, config.lora, dataset.label_set, dataset["train"].labels.mean(axis=0), name_precision(accelerator)
    )
    set_seed(config.training.seed, device_specific=True)  # ... and draws its own dropout

    if accelerator.is_main_process:  # only now: a mistake in the data or the backbone leaves no folder behind
        start_run(run, config, dataset)
    tokens = {
        split: tokenize(tokenizer, dataset[split].texts, config.data.max_length, f"tokenize {split}") for split in ("train", "validation")
    }
    best, is_interrupted = fit(config, accelerator, run, meter, dataset, tokens, model, tokenizer)
    if accelerator.is_main_process:
        finish(run, meter, dataset, model, best)
    accelerator.end_training()
    return 130 if is_interrupted else 0


def choose_run(config: Config, config_name: str, accelerator: Accelerator) -> RunFolder:
    """Choose the run's folder on the main process and tell the others."""
    run = [RunFolder.choose(config, config_name)] if accelerator.is_main_process else [None]
    broadcast_object_list(run)
    accelerator.print(
        f"{run[0].path}: {accelerator.device}, {accelerator.num_processes} process(es), precision {name_precision(accelerator)}"
    )
    return run[0]


def start_run(run: RunFolder, config: Config, dataset: Dataset) -> None:
    """Make the run's folder, and put bad rows aside there if they are to be skipped."""
    run.create(config, sys.argv)
    if dataset.bad_rows:
        dataset.write_quarantine(run.quarantine)
        print(f"data: {len(dataset.bad_rows):,} bad rows left out, written to {run.quarantine}")


def fit(
    config: Config,
    accelerator: Accelerator,
    run: RunFolder,
    meter: EfficiencyMeter,
    dataset: Dataset,
    tokens: dict[str, TokenizedTexts],
    model: Any,
    tokenizer: Any,
) -> tuple[Candidate, bool]:
    """Train, and save the model whenever validation is better; return the best, and whether Ctrl-C ended it."""
    settings, labels = config.training, dataset["train"].labels
    num_micro_batches, num_processes = settings.gradient_accumulation_steps, accelerator.num_processes
    sampler = WindowSampler(tokens["train"].lengths, settings.per_device_batch_size * num_micro_batches * num_processes, settings.seed)
    num_steps = sampler.num_windows * settings.epochs
    num_checks = settings.epochs * settings.validations_per_epoch
    checks = {round(num_steps * (check + 1) / num_checks) for check in range(num_checks)}

    optimizer = build_optimizer(model, list_head_parameters(model), settings)
    scheduler = build_scheduler(optimizer, num_steps, settings.warmup_ratio)
    sum_loss = build_loss(compute_pos_weight(labels, settings), accelerator.device)
    model, optimizer = accelerator.prepare(model, optimizer)

    best: Candidate | None = None
    num_worse = 0
    is_silent = not accelerator.is_main_process
    with Interruption() as interruption, History(run, meter, num_steps, sampler.num_windows, settings.log_every, is_silent) as history:
        for step, window in enumerate(sampler.windows(settings.epochs), start=1):
            started = time.perf_counter()
            shares = share_window(window, num_micro_batches, accelerator.process_index, num_processes)
            batches = [tokens["train"].collate(rows, labels) for rows in shares]
            result = train_window(model, batches, accelerator, optimizer, scheduler, sum_loss, settings.max_grad_norm, len(window), step)
            history.add_step(step, result, time.perf_counter() - started)

            is_interrupted = interruption.is_requested(accelerator)
            if step not in checks and not is_interrupted:
                continue
            candidate = judge(dataset["validation"].labels, validate(model, tokens["validation"], config, accelerator), config)
            is_best = candidate.is_better_than(best, settings.select_by)
            num_worse = 0 if is_best else num_worse + 1
            history.add_validation(step, candidate, is_best)
            if is_best:
                best = candidate
                if accelerator.is_main_process:
                    save(config, run, accelerator, model, tokenizer, best, dataset)
            if is_interrupted:
                history.say(f"interrupted after step {step} of {num_steps}; the best model so far is kept")
                return best or candidate, True
            if settings.patience and num_worse >= settings.patience:
                history.say(f"stopped early: no better {settings.select_by} in {num_worse} validations")
                break
    assert best is not None
    return best, False


def validate(model: Any, tokens: TokenizedTexts, config: Config, accelerator: Accelerator) -> np.ndarray:
    """Return the logits of all validation rows, float32 (n, L), on every process."""
    batches = batch_by_length(tokens, 2 * config.training.per_device_batch_size, accelerator.process_index, accelerator.num_processes)
    logits = predict_logits(model, batches, len(tokens.token_ids), accelerator.device)
    return accelerator.reduce(torch.from_numpy(logits).to(accelerator.device), "sum").cpu().numpy()


def save(config: Config, run: RunFolder, accelerator: Accelerator, model: Any, tokenizer: Any, best: Candidate, dataset: Dataset) -> None:
    """Write the model folder and its validation predictions."""
    sidecar = Sidecar(dataset.label_set.names, config.model, config.data.max_length, name_precision(accelerator), best.scores)
    card = write_card(config, dataset.label_set, best.scores, run.path.name)
    save_model(run.model, accelerator.unwrap_model(model), tokenizer, best.rule, sidecar, card)
    run.write_predictions("validation", dataset["validation"].ids, dataset["validation"].labels, best.probabilities, dataset.label_set)


def name_precision(accelerator: Accelerator) -> str:
    """Return `fp32`, `bf16` or `fp16`."""
    return "fp32" if accelerator.mixed_precision == "no" else accelerator.mixed_precision


def finish(run: RunFolder, meter: EfficiencyMeter, dataset: Dataset, model: Any, best: Candidate) -> None:
    """Write the validation report, the curves and efficiency.json, and say what to do next."""
    report = write_report(
        run.report("validation"), dataset["validation"].labels, best.probabilities, best.rule, dataset.label_set, "validation"
    )
    plot_training(run.read_metrics(), run.path / "report" / "training.png")
    efficiency = meter.summarize(model, run.model)
    write_json(run.efficiency, efficiency)
    print(format_report(report))
    print(
        f"\n{run.path}: {efficiency['examples_per_second']:.0f} examples/s, {efficiency['total_seconds']:.0f} s in all, "
        f"peak memory {efficiency['peak_memory'] / 2**30:.1f} GiB\n"
        "The thresholds were fitted on these rows, so F1 is optimistic here. For rows that nothing was fitted on:\n"
        f"  python evaluate.py --model {run.path} --split test"
    )


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
