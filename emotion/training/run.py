"""A run: what surrounds the training loop of `train.py`. It contains no part of the method.

A run opens its folder and data, places the model on devices, goes on from a saved state, yields the batches that are left, logs, saves
states, stops for signals, keeps the best model and writes what is left behind.
"""

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import Any

import numpy as np

from emotion.config import BASELINE, Config
from emotion.cpu import fast_path
from emotion.data.batching import Batch, LengthBucketSampler, TokenizedTexts, batch_by_length, check_stride, split_batch
from emotion.data.reading import Dataset, Examples, read_dataset
from emotion.data.reading.plain_texts import add_texts
from emotion.distributed import sharding
from emotion.distributed.collectives import all_reduce_sum, ask_main, print_on_main
from emotion.distributed.launch import Launch
from emotion.evaluation.selection import Candidate, describe_combination, score_checkpoint
from emotion.export.hub import push_finished
from emotion.export.model_card import complete_card, write_card
from emotion.files import write_json
from emotion.inference.model_folder import save_model
from emotion.inference.predictor import find_cut
from emotion.inference.sidecar import Segments, Sidecar
from emotion.inference.text_checks import ALL_FIT, count_split, describe_counts, measure_scripts
from emotion.modeling.build import check_length
from emotion.modeling.heads import find_head
from emotion.modeling.prediction import predict_logits
from emotion.text import format_count
from emotion.tracking.efficiency import EfficiencyMeter, StepResult
from emotion.tracking.history import History
from emotion.tracking.run_folder import RunFolder
from emotion.tracking.run_rows import write_rows
from emotion.tracking.trackers import Tracking, start_tracking
from emotion.training.accumulation import GradientAccumulator, OomBackoff
from emotion.training.distillation import build_targets, check_own_teachers, check_teachers, sum_teacher_seconds
from emotion.training.fingerprint import fingerprint_run, is_validated_alike
from emotion.training.interruption import Interruption
from emotion.training.results import print_results, write_validation_report
from emotion.training.state import (
    Autosave,
    Progress,
    TrainState,
    capture_loss_scale,
    find_state,
    write_state,
)


class Run(AbstractContextManager["Run"]):
    """One model's training, from its data to its finished folder. Every process has its own object; the main one writes."""

    def __init__(
        self, config: Config, folder: RunFolder, launch: Launch, is_resumed: bool, is_forced: bool, resume_command: str = ""
    ) -> None:
        self.config, self.folder, self.launch, self.accelerator = config, folder, launch, launch.accelerator
        self.precision, self.meter = launch.precision, EfficiencyMeter(self.accelerator.num_processes)
        self.is_resumed, self._is_forced, self._resume_command = is_resumed, is_forced, resume_command
        self.has_bias = True
        """Whether the head has biases, which can hold the shift of the calibration."""
        self.best: Candidate | None = None
        """The best checkpoint so far, by validation."""
        self.exit_status = 0
        self._num_worse = self._num_done = 0
        self._is_interrupted = False
        self._stack, self._interruption, self._tracking = ExitStack(), Interruption(), Tracking()
        self._lock = ExitStack()
        self._checks: dict[str, int] = {}
        """What was counted in the validation texts."""
        self._starts: np.ndarray | None = None
        """Position of each validation text's first segment; None where long texts are cut."""
        self._autosave, self._backoff = Autosave(config.training), OomBackoff()

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, KeyboardInterrupt):
            error.add_note(f"go on with: {self._resume_command}")  # in the line that the script ends with
        self._stack.close()
        # DDP must be gone before the process group is: afterwards its destructor can wait for a partner without end.
        for name in ("model", "optimizer", "_accumulator"):
            vars(self).pop(name, None)
        self.accelerator.free_memory()
        self._lock.close()

    def say(self, message: str) -> None:
        """Print a message, unless `--quiet` is given."""
        print_on_main(self.accelerator, message)

    def read_data(self) -> Dataset:
        """Return the data set, and print what there is to know about it. The config then has a number of epochs, if it had `auto`.

        Raises: EmotionError if data or teachers cannot be used.
        """
        device, num_processes = self.accelerator.device, self.accelerator.num_processes
        self.say(f"{self.folder.path}: {device}, {num_processes} process(es), precision {self.precision}")
        self.dataset = self.find_dataset()
        for message in self.dataset.messages:
            self.say(f"data: {message}")
        teachers, texts = self.config.distillation.teachers or (), self.config.distillation.texts
        for message in check_teachers(teachers, self.dataset["validation"], self.dataset.label_set):
            self.say(message)
        if not self._is_forced:
            check_own_teachers(self.folder, self.dataset)
        if teachers and texts:
            self.say(f"data: {add_texts(self.dataset, texts, self.config.data)}")
        training = self.config.training.resolve_epochs(len(self.dataset["train"]), is_student=bool(teachers))
        if training != self.config.training:
            self.config = replace(self.config, training=training)
            if self.config.model.backbone != BASELINE:
                self.say(f"train: {training.epochs} epochs for {len(self.dataset['train']):,} rows (training.epochs=auto)")
        self._scripts = measure_scripts(self.dataset["train"].texts)
        return self.dataset

    def find_dataset(self) -> Dataset:
        """Return the data set that the config names."""
        return read_dataset(self.config.data)

    def check_lengths(self, tokenizer: Any, tokens: dict[str, TokenizedTexts]) -> None:
        """Count the texts that are longer than `data.max_length`, and print how many of each split are cut or split into segments."""
        for split, tokenized in tokens.items():
            texts = self.dataset[split].texts
            counts = {"cut": int(find_cut(tokenizer, texts, tokenized, self.config.data.max_length).sum())}
            if tokenized.num_segments is not None:
                counts |= count_split(tokenized.num_segments)
            for sentence in describe_counts(counts, len(texts)) or [ALL_FIT]:
                self.say(f"{split}: {sentence}")
            if split == "validation":
                self._checks, self._starts = counts, tokenized.starts

    def setup_model(self, model: Any, tokenizer: Any) -> Any:
        """Return the model as this launch computes it: with cheaper layers on a CPU, in shards where that was asked for.

        Raises: ConfigError if it has no positions for `data.max_length` tokens, or `data.stride` is too large for its tokenizer.
        """
        data = self.config.data
        check_length(model, data.max_length)
        check_stride(tokenizer, data.max_length, data.segment_stride)
        model = fast_path.optimize_encoder(model, self.accelerator.device)
        self.has_bias = find_head(model).bias is not None
        if self.launch.num_shards > 1:
            model = sharding.shard_model(model, self.accelerator)
            self.say(sharding.describe_shards(model, self.accelerator))
        return model

    def start_or_resume(self) -> None:
        """Find the state to resume from, or begin the run.

        Raises: ConfigError if settings or data of the state were others; LockHeldError if another process trains this run.
        """
        self.claim_folder()
        self._fingerprint = fingerprint_run(self.config, {split: self.dataset[split] for split in ("train", "validation")})
        self._state = find_state(self.folder.states, self._fingerprint, self._is_forced, self.accelerator) if self.is_resumed else None
        if self.accelerator.is_main_process:
            if self._state is None:
                self.begin_folder()
            else:
                self.folder.resume(self.config)
                write_rows(self.folder, self.dataset, is_resumed=True)
        self.accelerator.wait_for_everyone()

    def claim_folder(self) -> None:
        """Make the run's folder and lock it: only now, so that a mistake in data or backbone leaves none behind.

        Raises: ConfigError if it exists, or is finished by now; LockHeldError if another process trains this run.
        """

        def claim() -> None:
            self.folder.make(self.is_resumed)
            self._lock.enter_context(self.folder.hold())
            if self.is_resumed:
                self.folder.check_unfinished()

        ask_main(self.accelerator, claim)

    def begin_folder(self) -> None:
        """Begin the run in its folder, and put bad rows aside there if they are to be skipped."""
        self.folder.begin(self.config, sys.argv)
        write_rows(self.folder, self.dataset)
        if self.dataset.corrected:
            self.dataset.write_corrected(self.folder.corrections)
        if self.dataset.bad_rows:
            self.dataset.write_quarantine(self.folder.quarantine)
            self.say(f"data: {format_count(len(self.dataset.bad_rows), 'bad row')} left out, written to {self.folder.quarantine}")

    def build_targets(self, rows: Examples) -> np.ndarray:
        """Return the training targets, (n, L): gold labels or fractions of raters, mixed with teachers' probabilities if there are any."""
        return build_targets(self.config.distillation, rows, self.dataset.label_set, self.folder, self._state, self.accelerator)

    @property
    def batch_size(self) -> int:
        """Rows of an optimizer step over all processes; a resumed run keeps it, on any number of processes."""
        settings = self.config.training
        if self._state is not None:
            return self._state.progress.batch_size
        return settings.per_device_batch_size * settings.gradient_accumulation_steps * self.accelerator.num_processes

    @property
    def is_single_cpu(self) -> bool:
        """Whether there is one process, on a CPU."""
        return self.accelerator.num_processes == 1 and self.accelerator.device.type == "cpu"

    def prepare(self, model: Any, optimizer: Any, scheduler: Any) -> tuple[Any, Any, Any]:
        """Return model, optimizer and scheduler ready for the loop (autocast, several processes), with the state of a resumed run.

        Raises: TrainingError if the state is of another model.
        """
        self.model, self.optimizer = sharding.prepare(model, optimizer, self.accelerator)
        self._accumulator = GradientAccumulator(self.model, self.optimizer, self.accelerator, self._backoff)
        if self._state is not None:
            progress = self._state.progress
            self._state.restore(self.model, self.optimizer, scheduler, self.accelerator)
            self._num_done, self._num_worse, self._backoff.num_halvings = progress.step, progress.num_worse, progress.num_halvings
            if self._state.best_logits is not None and not is_validated_alike(progress.fingerprint, self._fingerprint):
                self._num_worse = 0
                self.say("the best model so far was validated in another way: the best one from here on takes its place")
            elif self._state.best_logits is not None:
                rows = self.dataset["validation"]
                self.best = score_checkpoint(rows.labels, self._state.best_logits, self.config, rows.is_judged, self._starts, self.has_bias)
        return self.model, self.optimizer, scheduler

    def steps(self, sampler: LengthBucketSampler) -> Iterator[np.ndarray]:
        """Yield the row numbers of the batch of each optimizer step that is left."""
        settings = self.config.training
        self._num_steps = sampler.num_batches * settings.num_epochs
        num_validations = settings.num_epochs * settings.validations_per_epoch
        # Evenly spread, the last step among them.
        self._validation_steps = {round(self._num_steps * (number + 1) / num_validations) for number in range(num_validations)}
        is_main = self.accelerator.is_main_process
        self._tracking = start_tracking(self.config, self.folder) if is_main else self._tracking
        self._stack.enter_context(self._interruption)
        self.history = self._stack.enter_context(
            History(self.folder, self.meter, self._num_steps, sampler.num_batches, settings.log_every, not is_main, self._tracking)
        )
        if self._state is not None:
            self.history.restore(self._state.progress.history, self._num_done)
        self._step = self._num_done  # a run killed after its last step has none left
        for step, rows in enumerate(sampler.batches(settings.num_epochs, self._num_done), start=self._num_done + 1):
            self._step, self._started = step, time.perf_counter()
            yield rows

    def micro_batches(self, rows: np.ndarray, tokens: TokenizedTexts, targets: np.ndarray) -> Iterator[Batch]:
        """Yield this process's micro-batches of a batch; where memory runs out, the batch begins again with halves of them."""
        num_processes = self.accelerator.num_processes
        num_micro_batches = -(-self.batch_size // (self.config.training.per_device_batch_size * num_processes))
        parts = split_batch(rows, num_micro_batches, self.accelerator.process_index, num_processes)
        return self._accumulator.micro_batches([tokens.collate(part, targets) for part in parts], self._step)

    def accumulate(self) -> AbstractContextManager[None]:
        """Return the context of a micro-batch's forward and backward, which exchanges gradients between processes when it must."""
        return self._accumulator.accumulate()

    def backward(self, loss: Any) -> None:
        """Add the gradients of a micro-batch's loss."""
        self._accumulator.backward(loss)

    def clip_gradients(self, max_grad_norm: float) -> StepResult:
        """Clip the gradients and return loss, norm and counts over all processes.

        Raises: TrainingError if loss or gradients are not finite; the weights are then untouched.
        """
        return self._accumulator.clip_gradients(max_grad_norm)

    def log_step(self, result: StepResult) -> None:
        """Count a step, and log it every `training.log_every` steps."""
        self.history.add_step(self._step, result, time.perf_counter() - self._started)

    def is_validation_due(self) -> bool:
        return self._step in self._validation_steps

    def predict(self, tokens: TokenizedTexts) -> np.ndarray:
        """Return the model's logits of all texts, float32 (n, L), or of all segments, (m, L), on every process."""
        batch_size = 2 * self.config.training.per_device_batch_size
        batches = batch_by_length(tokens, batch_size, self.accelerator.process_index, self.accelerator.num_processes)
        # Unwrapped: DDP may wait for the others in any forward, and where memory runs out one process has more of them than another.
        logits = predict_logits(self.accelerator.unwrap_model(self.model), batches, len(tokens.token_ids), self.accelerator.device)
        return all_reduce_sum(logits, self.accelerator)

    def log_validation(self, candidate: Candidate, is_best: bool) -> None:
        """Log the scores of a checkpoint."""
        self._num_worse = 0 if is_best else self._num_worse + 1
        self.history.add_validation(self._step, candidate, is_best)

    def save_best(self, candidate: Candidate, tokenizer: Any) -> None:
        """Keep a checkpoint as the best one: write its model folder and its validation predictions."""
        self.best = candidate
        with sharding.whole_weights(self.model, self.accelerator):
            if self.accelerator.is_main_process:
                self.write_model(candidate, self.accelerator.unwrap_model(self.model), tokenizer)

    def write_model(self, candidate: Candidate, model: Any, tokenizer: Any) -> None:
        """Write a model folder and the predictions of the validation rows."""
        config, label_set, rows = self.config, self.dataset.label_set, self.dataset["validation"]
        segments = None if self._starts is None else Segments(int(config.data.segment_stride or 0), candidate.combination)
        max_length, scores = config.data.max_length, candidate.scores
        sidecar = Sidecar(label_set.names, config.model, max_length, self.precision, scores, scripts=self._scripts, segments=segments)
        card = write_card(config, label_set, candidate.scores, self.folder.path.name)
        save_model(self.folder.model, model, tokenizer, candidate.rule, sidecar, card, candidate.calibration)
        self.folder.write_predictions("validation", rows.ids, rows.labels, candidate.probabilities, label_set, rows.is_judged)

    def save_state_if_due(self) -> None:
        """Save a state where one is due by steps or minutes, or where a signal has interrupted any process."""
        self._is_interrupted, is_save_due = self._interruption.agree(self.accelerator, self._autosave.is_due(self._step))
        if self._is_interrupted or is_save_due:
            self._save_state()

    def should_stop(self) -> bool:
        """Return whether training ends here: after a signal, or after `training.patience` validations without a better one."""
        settings = self.config.training
        if self._is_interrupted:
            self.exit_status = 128 + (self._interruption.signal or 0)
            self.history.say(f"interrupted after step {self._step} of {self._num_steps}, the state is saved")
            return True
        if settings.patience and self._num_worse >= settings.patience:
            self.history.say(f"stopped early: no better {settings.select_by} in {self._num_worse} validations")
            return True
        return False

    def finish(self) -> None:
        """Write report, curves and efficiency.json, push where that is asked for, and say what to do next."""
        self._stack.close()  # progress bar and signals
        if self.accelerator.is_main_process:
            self.write_results(self.model, self._step)
            if self._is_interrupted:
                print(f"interrupted; go on with: {self._resume_command}", file=sys.stderr)

    def write_results(self, model: Any, num_steps: int) -> None:
        """Write what a run leaves behind beside its model; a finished run needs its states no more."""
        folder, best, is_finished = self.folder, self.best, self.exit_status == 0
        assert best is not None
        if self._starts is not None:
            self.say(f"validation: {describe_combination(best, self._starts, self.config)}")
        report, findings = write_validation_report(folder, self.config, self.dataset, best, self._checks)
        efficiency = self.write_efficiency(model, num_steps)
        complete_card(folder)
        self._tracking.finish(folder, report, efficiency, self.config.tracking.log_model)
        self.remove_states()
        hub = self.config.hub
        if is_finished and hub.push and hub.repo:
            push_finished(folder, hub.repo, hub.private)
        print_results(folder, report, efficiency, findings, "test" in self.dataset.splits)

    def write_efficiency(self, model: Any, num_steps: int) -> dict[str, Any]:
        """Write efficiency.json, which says that a run is finished, and return its content."""
        efficiency = self.meter.summarize(model, self.folder.model, sum_teacher_seconds(self.folder))
        efficiency |= {"interrupted_after_step": num_steps if self.exit_status else None}
        write_json(self.folder.efficiency, efficiency)
        return efficiency

    def remove_states(self) -> None:
        """Remove the states of a finished run, which needs them no more."""
        if self.exit_status == 0:
            shutil.rmtree(self.folder.states, ignore_errors=True)

    def log_row(self, row: dict[str, Any]) -> None:
        """Write a row of metrics.jsonl for a run without steps, and start its tracker."""
        self.folder.log(row)
        self._tracking = start_tracking(self.config, self.folder)
        self._tracking.log(row)

    def _save_state(self) -> None:
        loss_scale = capture_loss_scale(self.accelerator)
        progress = Progress(
            step=self._step,
            num_worse=self._num_worse,
            batch_size=self.batch_size,
            history=self.history.capture(),
            loss_scale=loss_scale,
            fingerprint=self._fingerprint,
            num_halvings=self._backoff.num_halvings,
        )
        with self.meter.saving():
            best_logits = self.best.logits if self.best is not None else None
            captured = TrainState.capture(progress, self.model, self.optimizer, self.accelerator, best_logits)
            if self.accelerator.is_main_process:
                write_state(self.folder.states, captured, self.config.training.num_states)
