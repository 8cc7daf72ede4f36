"""Distillation: a run that learns from teachers trains them first, then mixes their probabilities into its targets.

Source: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", section 2.
"""

import math
from dataclasses import replace

import numpy as np
from accelerate import Accelerator

from emotion.checks import check_values, is_number, read_object
from emotion.config import Config, DistillationConfig, HubConfig, RunConfig, load_teacher_configs
from emotion.data.reading import Dataset, Examples
from emotion.data.remembered import RowKeys, hash_texts
from emotion.distributed.collectives import all_reduce_sum, ask_main
from emotion.errors import ConfigError, ModelError
from emotion.inference.predictor import Predictor
from emotion.inference.sidecar import find_model_folder, read_sidecar
from emotion.labels import LabelSet
from emotion.tracking.locating import find_run_of_model
from emotion.tracking.run_folder import RunFolder
from emotion.tracking.run_rows import read_rows
from emotion.training.fingerprint import fingerprint_rows
from emotion.training.state import TrainState

SEED_STRIDE = 1_000
"""From a run's seed to those of its teachers: runs whose seeds are close have none in common."""
SOFT_LABELS = "teachers"
"""Name of the predictions file that holds the teachers' probabilities of the training rows."""


def list_stages(folder: RunFolder, config: Config) -> list[tuple[RunFolder, Config]]:
    """Return the runs to be trained for a config, in order: teachers, each with a seed of its own, and then the run that learns from them.

    There are `distillation.num_teachers` with the run's settings, or as many with those of each of `distillation.teacher_configs`.

    `auto` must have become a number. Raises: ConfigError for a file of `teacher_configs` that cannot be used.
    """
    assert isinstance(config.distillation.num_teachers, int)
    stages: list[tuple[RunFolder, Config]] = []
    shared = replace(config, distillation=DistillationConfig(), hub=HubConfig())
    for base in load_teacher_configs(config) or [config]:
        for _ in range(config.distillation.num_teachers):
            number = len(stages) + 1
            name, seed = f"{folder.path.name}-teacher-{number}", (config.training.seed + SEED_STRIDE * number) % 2**32
            run, training = RunConfig(folder=str(folder.teachers), name=name), replace(base.training, seed=seed)
            teacher = replace(shared, model=base.model, lora=base.lora, training=training, run=run)
            stages.append((RunFolder(folder.teachers / name), teacher))
    if stages:
        paths = tuple(str(teacher.path) for teacher, _ in stages)
        config = replace(config, distillation=replace(config.distillation, teachers=paths, num_teachers=0, teacher_configs=None))
    if config.distillation.teachers:
        config = replace(config, training=config.distillation.resolve_training(config.training))
    return [*stages, (folder, config)]


def sum_teacher_seconds(folder: RunFolder) -> float:
    """Return the seconds taken by the teachers that a run trained for itself."""
    files = sorted(folder.teachers.glob("*/efficiency.json"))
    values = [read_object(path, "train the teacher again") for path in files]
    for path, value in zip(files, values, strict=True):
        check_values(value, {"total_seconds": ("a number", lambda x: is_number(x, 0, math.inf))}, f"{path}: ", "train the teacher again")
    return float(sum(value["total_seconds"] for value in values))


def check_teachers(teachers: tuple[str, ...], validation: Examples, label_set: LabelSet) -> list[str]:
    """Check that every teacher knows the labels and was validated on the same rows; return a message on each whose rows are not known.

    Raises: ConfigError for one that does not, or is not a model of this project. One that was validated on other rows may have been trained
    on those that judge its student.
    """
    messages = []
    for teacher in teachers:
        try:
            known = read_sidecar(find_model_folder(teacher))[0].labels
        except ModelError as error:
            raise ConfigError(f"distillation.teachers: {str(error).removeprefix('--model ')}") from None
        if missing := [name for name in label_set.names if name not in known]:
            raise ConfigError(
                f"distillation.teachers: {teacher} does not know {', '.join(missing)}; take models with the labels of this data"
            )
    for teacher in teachers:
        run = find_run_of_model(teacher)
        if run is None:
            messages.append(f"teacher {teacher}: is not in a run folder; make sure that it was not trained on validation or test rows")
        elif not _was_validated_on(run, validation, label_set):
            raise ConfigError(
                f"distillation.teachers: {teacher} was validated on other rows, so it may have been trained on those that judge this run; "
                "train it with the same data settings"
            )
    return messages


def _was_validated_on(run: RunFolder, rows: Examples, label_set: LabelSet) -> bool:
    """Return whether a run was validated on these rows, by their ids and, where the run remembers them, texts: ids can be line numbers."""
    remembered = read_rows(run)
    if remembered is not None and not np.array_equal(remembered.splits["validation"].texts, hash_texts(rows.texts)):
        return False
    return run.read_probabilities("validation", rows.ids, label_set) is not None


def check_own_teachers(folder: RunFolder, dataset: Dataset) -> None:
    """Check that the teachers that a run trained first were trained on the rows that it has now.

    Raises: ConfigError for one whose training rows have changed since: labels, corrections or texts.
    """
    remembered = {path: read_rows(RunFolder(path)) for path in sorted(folder.teachers.glob("*")) if path.is_dir()}
    keys = RowKeys.compute(dataset["train"], dataset.label_set) if any(remembered.values()) else None
    for path, rows in remembered.items():
        if keys is not None and rows is not None and not keys.equals(rows.splits["train"]):
            raise ConfigError(f"{path}: was trained on other rows than the data has now; restore the data, or remove this folder")


def build_targets(
    settings: DistillationConfig, rows: Examples, label_set: LabelSet, folder: RunFolder, state: TrainState | None, accelerator: Accelerator
) -> np.ndarray:
    """Return the training targets, (n, L): gold labels or fractions of raters, mixed with the teachers' probabilities where there are
    teachers.

    Without teachers, a label that was not annotated has the target nan. The teachers' probabilities are kept in the run folder: a run that
    is resumed with the same teachers and rows reads them.
    """
    if not settings.teachers:
        return rows.targets if rows.is_judged is None else np.where(rows.is_judged, rows.targets, np.float32("nan"))
    soft_labels = None
    known = {} if state is None else state.progress.fingerprint
    if known.get("distillation.teachers") == list(settings.teachers) and known.get("rows of train") == fingerprint_rows(rows):
        soft_labels = ask_main(accelerator, lambda: folder.read_probabilities(SOFT_LABELS, rows.ids, label_set))
    if soft_labels is None:
        process, num_processes = accelerator.process_index, accelerator.num_processes
        soft_labels = all_reduce_sum(predict_soft_labels(settings.teachers, rows.texts, label_set, process, num_processes), accelerator)
        if accelerator.is_main_process:
            folder.write_predictions(SOFT_LABELS, rows.ids, rows.labels, soft_labels, label_set)
    return mix_targets(rows.targets, soft_labels, settings.weight, rows.is_judged)


def predict_soft_labels(
    teachers: tuple[str, ...], texts: list[str], label_set: LabelSet, process: int = 0, num_processes: int = 1
) -> np.ndarray:
    """Return the mean of the teachers' calibrated probabilities, float32 (n, L), in the columns of `label_set`.

    On several processes each predicts every `num_processes`-th row and leaves the others at 0: the sum of their arrays is the whole.
    """
    soft_labels = np.zeros((len(texts), len(label_set)), dtype=np.float32)
    own_rows = slice(process, None, num_processes)
    for number, teacher in enumerate(teachers, start=1):
        predictor = Predictor.load(teacher)
        columns = [predictor.label_set.names.index(name) for name in label_set.names]
        progress = f"teacher {number} of {len(teachers)}" if process == 0 else None
        soft_labels[own_rows] += predictor.predict(texts[own_rows], progress)[:, columns] / len(teachers)
    return soft_labels


def mix_targets(targets: np.ndarray, soft_labels: np.ndarray, weight: float, is_judged: np.ndarray | None = None) -> np.ndarray:
    """Return the targets, float32 (n, L): gold labels, bool, or fractions of raters, mixed with the teachers' probabilities of `weight`, in
    (0, 1].

    Cross-entropy is linear in its target, so the loss is the weighted sum of both. Where a label was not annotated, bool (n, L), the
    teachers alone give the target.
    """
    mixed = (1 - weight) * targets.astype(np.float64) + weight * soft_labels
    return (mixed if is_judged is None else np.where(is_judged, mixed, soft_labels)).astype(np.float32)
