"""Fine-tune a transformer for multi-label emotion detection.

    python train.py --config configs/quickstart.yaml
    accelerate launch train.py --config configs/minilm.yaml training.seed=1 run.name=second
    python train.py --config configs/minilm.yaml run.name=second --resume

config -> data -> model -> loop -> best model folder. The test split stays closed: evaluate.py opens it.
"""

import argparse
import shutil
import sys
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, set_seed

from emotion.config import BASELINE, Config, format_keys, load_config
from emotion.data.batching import TokenizedTexts, WindowSampler, batch_by_length, share_window, tokenize
from emotion.data.reading import Dataset, read_dataset
from emotion.errors import exit_on_error
from emotion.evaluation.plots import plot_training
from emotion.evaluation.reporting import format_report, write_report
from emotion.evaluation.selection import Candidate, judge
from emotion.files import write_json
from emotion.inference.model_folder import save_model
from emotion.inference.sidecar import Sidecar
from emotion.inference.teachers import check_labels, predict_soft_labels
from emotion.modeling.baseline import fit_baseline
from emotion.modeling.factory import build_model, check_length, list_head_parameters
from emotion.tracking.efficiency import EfficiencyMeter
from emotion.tracking.history import History
from emotion.tracking.hub import push_finished
from emotion.tracking.publishing import write_card
from emotion.tracking.run_folder import RunFolder, check_validated_alike
from emotion.tracking.trackers import Tracking, choose_backend, start_tracking
from emotion.training.allocation import keep_freed_memory
from emotion.training.checkpointing import (
    Autosave,
    Progress,
    TrainState,
    capture_loss_scale,
    check_unchanged,
    find_state,
    fingerprint_run,
    fingerprint_settings,
    write_state,
)
from emotion.training.deferral import may_defer, settle
from emotion.training.interruption import Interruption
from emotion.training.launching import check_launch, check_meeting, free_threads, take_sharding
from emotion.training.loop import Halving, choose_precision, name_precision, predict_logits, train_window
from emotion.training.optimization import build_loss, build_optimizer, build_scheduler, compute_pos_weight, mix_targets
from emotion.training.planning import format_plan, plan_run
from emotion.training.processes import add_shares, ask_main, explain_parting
from emotion.training.sharding import describe_shards, prepare, shard_model, whole_weights


def main() -> int:
    arguments = parse_arguments()
    config = load_config(arguments.config, arguments.overrides)
    choose_backend(config.tracking)  # a tracker that is not installed is a mistake now, not after minutes
    check_launch()
    sharding = take_sharding(config.model.quantization)
    accelerator = Accelerator(
        mixed_precision=choose_precision(config.training.precision),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(minutes=config.training.timeout_minutes))],
    )
    check_meeting(accelerator.num_processes)
    if accelerator.device.type == "cpu" and (remark := free_threads()):
        accelerator.print(remark)
    if arguments.dry_run:
        num_shards = accelerator.num_processes if sharding is not None else 1
        accelerator.print(format_plan(plan_run(config, accelerator.num_processes, name_precision(accelerator), num_shards)))
        return 0
    run = ask_main(accelerator, lambda: RunFolder.choose(config, Path(arguments.config).stem, arguments.resume))
    status = 0
    for lesson, lesson_config in run.list_lessons(config):  # teachers that it is to train for itself, and then its own
        accelerator.wait_for_everyone()  # the main process may still have been writing the one before
        if lesson.is_finished:
            before, after = fingerprint_settings(lesson.read_config()), fingerprint_settings(lesson_config)
            check_unchanged(lesson.path, before, after, arguments.resume_anyway, accelerator)
        elif status := train(lesson_config, accelerator, lesson, sharding, arguments):
            break
    accelerator.end_training()
    return status


def train(config: Config, accelerator: Accelerator, run: RunFolder, sharding: str | None, arguments: argparse.Namespace) -> int:
    """Train one model, from its data to its finished run; return 0, or the exit status of a run that was interrupted."""
    accelerator.print(f"{run.path}: {accelerator.device}, {accelerator.num_processes} process(es), precision {name_precision(accelerator)}")
    meter = EfficiencyMeter(accelerator.num_processes)
    dataset, teachers = read_dataset(config.data), config.distillation.teachers or ()
    for remark in dataset.remarks:
        accelerator.print(f"data: {remark}")
    check_labels(teachers, dataset.label_set)
    for remark in check_validated_alike(teachers, dataset["validation"].ids, dataset.label_set):
        accelerator.print(remark)

    if config.model.backbone == BASELINE:
        if accelerator.is_main_process:
            start_run(run, config, dataset, arguments.resume)
            fit_without_steps(config, accelerator, run, meter, dataset)
        return 0

    keep_freed_memory()
    set_seed(config.training.seed)  # every process starts from the same head ...
    model, tokenizer = build_model(
        config.model, config.lora, dataset.label_set, dataset["train"].labels.mean(axis=0), name_precision(accelerator)
    )
    set_seed(config.training.seed, device_specific=True)  # ... and draws its own dropout
    check_length(model, config.data.max_length)
    if sharding is not None and accelerator.num_processes > 1:
        model = shard_model(model, accelerator, sharding)
        accelerator.print(describe_shards(model, accelerator))

    seen = {split: dataset[split] for split in ("train", "validation")}
    fingerprint = fingerprint_run(config, {split: (rows.ids, rows.texts, rows.labels) for split, rows in seen.items()})
    state = find_state(run.states, fingerprint, arguments.resume_anyway, accelerator) if arguments.resume else None
    if accelerator.is_main_process and state is None:  # only now: a mistake in the data or the backbone leaves no folder behind
        start_run(run, config, dataset, arguments.resume)
    accelerator.wait_for_everyone()
    targets = build_targets(config, accelerator, run, dataset, state)
    tokens = {
        split: tokenize(tokenizer, dataset[split].texts, config.data.max_length, f"tokenize {split}") for split in ("train", "validation")
    }
    tracking = start_tracking(config, run) if accelerator.is_main_process else Tracking()
    training = Training(config, accelerator, run, meter, dataset, model, tokenizer, tokens)
    outcome = fit(training, targets, state, fingerprint, tracking)
    if accelerator.is_main_process:
        finish(training, outcome, tracking)
    accelerator.free_memory()
    return 128 + outcome.signal if outcome.signal else 0


@dataclass(frozen=True)
class Training:
    """What one run works with; every process has its own."""

    config: Config
    accelerator: Accelerator
    run: RunFolder
    meter: EfficiencyMeter
    dataset: Dataset
    model: Any
    tokenizer: Any
    tokens: dict[str, TokenizedTexts]
    """By split."""


@dataclass(frozen=True)
class Outcome:
    """What came of training: the best checkpoint, the steps taken, and the signal that ended it early, if one did."""

    best: Candidate
    num_steps: int
    signal: int | None


def start_run(run: RunFolder, config: Config, dataset: Dataset, is_resumed: bool) -> None:
    """Make the run's folder, and put bad rows aside there if they are to be skipped."""
    run.create(config, sys.argv, is_resumed)
    if dataset.bad_rows:
        dataset.write_quarantine(run.quarantine)
        print(f"data: {len(dataset.bad_rows):,} bad rows left out, written to {run.quarantine}")


def build_targets(config: Config, accelerator: Accelerator, run: RunFolder, dataset: Dataset, state: TrainState | None) -> np.ndarray:
    """Return what the loss holds the training rows to, (n, L): gold labels, drawn to the teachers' probabilities where there are any.

    Those are kept in the run: one that is resumed, with the same teachers, reads them.
    """
    rows, settings = dataset["train"], config.distillation
    if not settings.teachers:
        return rows.labels
    soft_labels = None
    if state is not None and state.progress.fingerprint.get("distillation.teachers") == list(settings.teachers):
        soft_labels = ask_main(accelerator, lambda: run.read_probabilities("teachers", rows.ids, dataset.label_set))
    if soft_labels is None:
        share = predict_soft_labels(settings.teachers, rows.texts, dataset.label_set, accelerator.process_index, accelerator.num_processes)
        soft_labels = add_shares(share, accelerator)
        if accelerator.is_main_process:
            run.write_predictions("teachers", rows.ids, rows.labels, soft_labels, dataset.label_set)
    return mix_targets(rows.labels, soft_labels, settings.weight)


def fit(training: Training, targets: np.ndarray, state: TrainState | None, fingerprint: dict[str, Any], tracking: Tracking) -> Outcome:
    """Train from the start or from a state, and save the model whenever validation is better."""
    config, accelerator, model, run, tokens = training.config, training.accelerator, training.model, training.run, training.tokens
    settings, num_processes = config.training, accelerator.num_processes
    window_size = settings.per_device_batch_size * settings.gradient_accumulation_steps * num_processes
    if state is not None:
        window_size = state.progress.window_size
    num_micro_batches = -(-window_size // (settings.per_device_batch_size * num_processes))
    sampler = WindowSampler(tokens["train"].lengths, window_size, settings.seed)
    num_steps = sampler.num_windows * settings.epochs
    checks = list_validation_steps(num_steps, settings.epochs * settings.validations_per_epoch)

    optimizer = build_optimizer(model, list_head_parameters(model), settings, may_defer(accelerator))
    scheduler = build_scheduler(optimizer, num_steps, settings.warmup_ratio)
    sum_loss = build_loss(compute_pos_weight(training.dataset["train"].labels, settings), accelerator.device)
    model, optimizer = prepare(model, optimizer, accelerator, settings.max_grad_norm)
    training = replace(training, model=model)

    best: Candidate | None = None
    step = num_worse = 0
    autosave, halving = Autosave(settings), Halving()
    is_silent = not accelerator.is_main_process
    with (
        Interruption() as interruption,
        History(run, training.meter, num_steps, sampler.num_windows, settings.log_every, is_silent, tracking) as history,
    ):
        if state is not None:
            state.restore(model, optimizer, scheduler, accelerator)
            step, num_worse, halving.num = state.progress.step, state.progress.num_worse, state.progress.num_halvings
            if state.best_logits is not None:
                best = judge(training.dataset["validation"].labels, state.best_logits, config)
            history.restore(state.progress.history, step)
        windows = enumerate(sampler.windows(settings.epochs, num_done=step), start=step + 1)
        for step, window in windows:
            started = time.perf_counter()
            shares = share_window(window, num_micro_batches, accelerator.process_index, num_processes)
            batches = [tokens["train"].collate(rows, targets) for rows in shares]
            result = train_window(
                model, batches, accelerator, optimizer, scheduler, sum_loss, settings.max_grad_norm, len(window), step, halving
            )
            history.add_step(step, result, time.perf_counter() - started)

            is_interrupted, is_save_due = interruption.agree(accelerator, autosave.is_due(step))
            if step in checks:
                kept = consider(training, optimizer, history, step, best)
                num_worse = num_worse + 1 if kept is best else 0
                best = kept
            if is_interrupted or is_save_due:
                progress = Progress(
                    step, num_worse, window_size, history.capture(), capture_loss_scale(accelerator), fingerprint, halving.num
                )
                with training.meter.saving():
                    captured = TrainState.capture(progress, model, optimizer, accelerator, best.logits if best else None)
                    if accelerator.is_main_process:
                        write_state(run.states, captured, settings.num_states)
            if is_interrupted:
                history.say(f"interrupted after step {step} of {num_steps}; --resume goes on from there")
                # Something usable in any case; a resumed run, not knowing of it, validates at its own time.
                return Outcome(best or consider(training, optimizer, history, step, None), step, interruption.signal)
            if settings.patience and num_worse >= settings.patience:
                history.say(f"stopped early: no better {settings.select_by} in {num_worse} validations")
                break
    assert best is not None
    return Outcome(best, step, None)


def consider(training: Training, optimizer: Any, history: History, step: int, best: Candidate | None) -> Candidate:
    """Score the model as it is; save and return it if it is better than the best, otherwise return that."""
    settle(optimizer)  # the embeddings of words that training has not read of late
    candidate = judge(training.dataset["validation"].labels, validate(training), training.config)
    is_best = candidate.is_better_than(best, training.config.training.select_by)
    history.add_validation(step, candidate, is_best)
    if not is_best:
        assert best is not None
        return best
    with whole_weights(training.model, training.accelerator):
        if training.accelerator.is_main_process:
            save(training, candidate)
    return candidate


def fit_without_steps(config: Config, accelerator: Accelerator, run: RunFolder, meter: EfficiencyMeter, dataset: Dataset) -> None:
    """Fit the baseline, which needs no loop; the rest of its run is that of any other."""
    train, validation = dataset["train"], dataset["validation"]
    started = time.perf_counter()
    model, tokenizer = fit_baseline(train.texts, train.labels, config.data.max_length, config.training.seed)
    seconds = time.perf_counter() - started
    tokens = tokenize(tokenizer, validation.texts, config.data.max_length, "tokenize validation")
    training = Training(config, accelerator, run, meter, dataset, model, tokenizer, {"validation": tokens})
    best = judge(validation.labels, validate(training), config)
    save(training, best)
    meter.num_examples, meter.step_seconds = len(train), seconds
    row = {"kind": "validation", "step": 1, "epoch": 1, "examples_seen": len(train), "seconds": seconds, **best.scores, "is_best": True}
    run.log(row)
    tracking = start_tracking(config, run)
    tracking.log(row)
    finish(training, Outcome(best, 1, None), tracking)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, metavar="FILE", help="a YAML file, such as configs/quickstart.yaml")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings on top of the file")
    parser.add_argument("--resume", action="store_true", help="go on from the run's newest state, or start if there is none")
    parser.add_argument("--resume-anyway", action="store_true", help="the same although settings or data have changed")
    parser.add_argument("--dry-run", action="store_true", help="say what the run would take (steps, parameters, memory) and exit")
    parser.add_argument("--keys", action="version", version=format_keys(), help="list all settings and exit")
    arguments = parser.parse_intermixed_args()
    arguments.resume |= arguments.resume_anyway
    return arguments


def list_validation_steps(num_steps: int, num_validations: int) -> set[int]:
    """Return the steps after which the validation split is scored, evenly spread, the last step among them."""
    return {round(num_steps * (check + 1) / num_validations) for check in range(num_validations)}


def validate(training: Training) -> np.ndarray:
    """Return the logits of all validation rows, float32 (n, L), on every process."""
    accelerator, tokens = training.accelerator, training.tokens["validation"]
    batch_size = 2 * training.config.training.per_device_batch_size
    batches = batch_by_length(tokens, batch_size, accelerator.process_index, accelerator.num_processes)
    # Unwrapped: DDP may wait for the others in any forward, and where memory runs out one has more of them than another.
    logits = predict_logits(accelerator.unwrap_model(training.model), batches, len(tokens.token_ids), accelerator.device)
    return add_shares(logits, accelerator)


def save(training: Training, best: Candidate) -> None:
    """Write the model folder and its validation predictions."""
    config, run, label_set, rows = training.config, training.run, training.dataset.label_set, training.dataset["validation"]
    sidecar = Sidecar(label_set.names, config.model, config.data.max_length, name_precision(training.accelerator), best.scores)
    card = write_card(config, label_set, best.scores, run.path.name)
    save_model(run.model, training.accelerator.unwrap_model(training.model), training.tokenizer, best.rule, sidecar, card)
    run.write_predictions("validation", rows.ids, rows.labels, best.probabilities, label_set)


def finish(training: Training, outcome: Outcome, tracking: Tracking) -> None:
    """Write the validation report, the curves and efficiency.json, and say what to do next; a finished run needs its states no more."""
    config, run, dataset, best = training.config, training.run, training.dataset, outcome.best
    gold = dataset["validation"].labels
    report = write_report(run.report("validation"), gold, best.probabilities, best.rule, dataset.label_set, "validation")
    plot_training(run.read_metrics(), run.path / "report" / "training.png")
    efficiency = training.meter.summarize(training.model, run.model, run.sum_teachers_seconds()) | {
        "interrupted_after_step": outcome.num_steps if outcome.signal else None
    }
    write_json(run.efficiency, efficiency)
    tracking.finish(run, report, efficiency, config.tracking.log_model)
    if outcome.signal is None:
        shutil.rmtree(run.states, ignore_errors=True)
    if config.hub.push and config.hub.repo and outcome.signal is None:
        push_finished(run, config.hub.repo, config.hub.private)
    print(format_report(report))
    print(
        f"\n{run.path}: {efficiency['examples_per_second']:.0f} examples/s, {efficiency['total_seconds']:.0f} s in all, "
        f"peak memory {efficiency['peak_memory'] / 2**30:.1f} GiB\n"
        "The thresholds were fitted on these rows, so F1 is optimistic here. For rows that nothing was fitted on:\n"
        f"  python evaluate.py --model {run.path} --split test"
    )


if __name__ == "__main__":
    with exit_on_error(), explain_parting():
        sys.exit(main())
