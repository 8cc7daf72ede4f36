"""Fine-tune a transformer for multi-label emotion detection.

    python train.py --config configs/quickstart.yaml
    python train.py --config configs/quickstart.yaml training.seed=1 run.name=second --resume
    python train.py --config configs/mistral_qlora.yaml --dry-run

config -> data -> model -> loop -> best model folder. `train` below is the method. What surrounds it (devices and processes, the run folder,
resuming, signals, out-of-memory back-off, logs) is the `Run` object of `emotion/training/run.py`. Training does not use the test split;
evaluate.py does. In comments, b is the number of texts in a micro-batch, n that in a split, L the number of labels.
"""

from emotion.errors import exit_on_error

with exit_on_error():  # Ctrl-C during the imports is one line too
    import argparse
    import sys
    from typing import TYPE_CHECKING, Any

    from emotion.arguments import ArgumentParser, BeQuiet, PrintKeys
    from emotion.config import BASELINE, load_config, load_teacher_configs

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from emotion.data.batching import Batch, TokenizedTexts
    from emotion.data.reading import Examples
    from emotion.training.run import Run


def main() -> int:
    arguments = parse_arguments()
    config = load_config(arguments.config, arguments.overrides)
    load_teacher_configs(config)  # raises now, not after the data is read
    # Imported after the command and the config were checked: torch and transformers take seconds.
    from emotion.distributed.collectives import translate_process_group_errors
    from emotion.distributed.launch import start_launch
    from emotion.tracking.trackers import choose_backend

    choose_backend(config.tracking)  # raises now, not minutes into the run, if the tracker is not installed
    with translate_process_group_errors():
        launch = start_launch(config)
        if arguments.dry_run:
            from emotion.planning.plan import print_plan

            print_plan(config, launch)
            return 0
        from emotion.training.baseline_run import fit_baseline_run
        from emotion.training.stages import open_runs

        for run in open_runs(config, arguments, launch):  # teachers first, where the config asks for them
            with run:
                if config.model.backbone == BASELINE:
                    fit_baseline_run(run)
                else:
                    train(run)
            if run.exit_status:
                break
        launch.accelerator.end_training()
        return run.exit_status


def train(run: "Run") -> None:
    """Train one model, from its data to its finished run folder."""
    import numpy as np
    from accelerate.utils import set_seed

    from emotion.data.batching import LengthBucketSampler, tokenize
    from emotion.modeling.build import build_model
    from emotion.training.losses import build_loss, find_base_rates
    from emotion.training.optimization import build_optimizer, build_scheduler

    # Data and model.
    dataset = run.read_data()
    config, settings, device = run.config, run.config.training, run.accelerator.device
    train_rows, validation_rows = dataset["train"], dataset["validation"]
    set_seed(settings.seed)  # the same new head on every process
    base_rates = find_base_rates(settings, train_rows)  # the head starts from these probabilities
    model, tokenizer = build_model(config.model, config.lora, dataset.label_set, base_rates, run.precision)
    set_seed(settings.seed, device_specific=True)  # different dropout on each process
    model = run.setup_model(model, tokenizer)
    run.start_or_resume()  # creates the run folder, or finds the state to resume from
    targets = run.build_targets(train_rows)  # (n, L): gold labels, or fractions of raters, or mixed with teachers; nan: not annotated
    train_tokens = tokenize(tokenizer, train_rows.texts, config.data.max_length, "tokenize train")
    stride = config.data.segment_stride  # None: long texts are cut; else predicted in segments
    validation_tokens = tokenize(tokenizer, validation_rows.texts, config.data.max_length, "tokenize validation", stride)
    run.check_lengths(tokenizer, {"train": train_tokens, "validation": validation_tokens})  # prints how many texts are cut

    # Order of the rows, optimizer, schedule, loss.
    sampler = LengthBucketSampler(train_tokens.lengths, run.batch_size, settings.seed)
    optimizer = build_optimizer(model, settings, run.is_single_cpu)  # AdamW
    scheduler = build_scheduler(optimizer, sampler.num_batches * settings.num_epochs, settings.warmup_ratio)
    loss_function = build_loss(settings, train_rows, device)  # BCE-with-logits, summed, or what else training.loss names
    model, optimizer, scheduler = run.prepare(model, optimizer, scheduler)  # for this launch; restores the state of a resumed run

    for rows in run.steps(sampler):  # the row numbers of one optimizer step's batch, over all processes
        model.train()
        num_targets = int(np.isfinite(targets[rows]).sum())
        for micro_batch in run.micro_batches(rows, train_tokens, targets):  # of this process
            with run.accumulate():  # out of memory: `micro_batches` restarts the batch with smaller ones
                run.backward(compute_loss(model, micro_batch, loss_function, num_targets))
        step_result = run.clip_gradients(settings.max_grad_norm)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        run.log_step(step_result)

        if run.is_validation_due():
            validate_and_keep_best(run, tokenizer, validation_tokens, validation_rows)
        run.save_state_if_due()
        if run.should_stop():  # interrupted, or no better validation for `training.patience` validations
            break

    if run.best is None:  # interrupted before the first validation, or none was left: leave a usable model
        validate_and_keep_best(run, tokenizer, validation_tokens, validation_rows)
    run.finish()


def compute_loss(model: Any, micro_batch: "Batch", loss_function: "Callable[..., torch.Tensor]", num_targets: int) -> "torch.Tensor":
    """Return what a micro-batch adds to the loss of its batch: the sum of its losses, divided by the number of targets of the whole batch.

    So the gradients of all micro-batches, on all processes, add up to that of the batch's mean loss, however it is split. (DDP averages
    over processes; `run.backward` multiplies by their number.)
    """
    logits = model(**micro_batch.inputs).logits  # (b, L)
    return loss_function(logits, micro_batch.labels) / num_targets


def validate_and_keep_best(run: "Run", tokenizer: Any, tokens: "TokenizedTexts", rows: "Examples") -> None:
    """Fit calibration and thresholds on the validation rows, score the model with them, and save it if it is the best so far."""
    from emotion.evaluation.selection import score_checkpoint

    logits = run.predict(tokens)  # (n, L), or (m, L) for the segments of long texts
    # Fits the decision rule first; a head without biases takes no shift.
    candidate = score_checkpoint(rows.labels, logits, run.config, rows.is_judged, tokens.starts, run.has_bias)
    is_best = candidate.is_better_than(run.best, run.config.training.select_by)
    run.log_validation(candidate, is_best)
    if is_best:
        run.save_best(candidate, tokenizer)


def parse_arguments() -> argparse.Namespace:
    parser = ArgumentParser(__doc__)
    parser.add_argument("--config", required=True, metavar="FILE", help="a YAML file, such as configs/quickstart.yaml")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings on top of the file")
    parser.add_argument("--resume", action="store_true", help="continue from the run's newest state, or start if there is none")
    parser.add_argument("--resume-anyway", action="store_true", help="like --resume, even if settings or data have changed")
    parser.add_argument("--dry-run", action="store_true", help="print steps, time, parameters and memory of the run, and exit")
    parser.add_argument("--keys", action=PrintKeys, nargs="?", metavar="SECTION", help="list all settings, or a section's, and exit")
    parser.add_argument("--quiet", action=BeQuiet, help="print results and errors only")
    arguments = parser.parse_intermixed_args()
    arguments.resume |= arguments.resume_anyway
    return arguments


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
