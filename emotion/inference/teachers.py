"""What trained models say of the training rows: the soft labels that a student learns beside the gold ones."""

import numpy as np

from emotion.errors import ConfigError, ModelError
from emotion.inference.predictor import Predictor
from emotion.inference.sidecar import find_model_folder, read_sidecar
from emotion.labels import LabelSet


def check_labels(teachers: tuple[str, ...], label_set: LabelSet) -> None:
    """Hold every teacher to know the student's labels.

    Raises: ConfigError for one that does not, or is not a model of this project.
    """
    for teacher in teachers:
        try:
            known = read_sidecar(find_model_folder(teacher))[0].labels
        except ModelError as error:
            raise ConfigError(f"distillation.teachers: {str(error).removeprefix('--model ')}") from None
        if missing := [name for name in label_set.names if name not in known]:
            raise ConfigError(
                f"distillation.teachers: {teacher} does not know {', '.join(missing)}; take models with the labels of this data"
            )


def predict_soft_labels(
    teachers: tuple[str, ...], texts: list[str], label_set: LabelSet, process: int = 0, num_processes: int = 1
) -> np.ndarray:
    """Return the mean of the teachers' calibrated probabilities, float32 (n, L), in the columns of `label_set`.

    On several processes each predicts its share of the rows and leaves the others at 0: the sum of their arrays is the whole.
    """
    soft_labels = np.zeros((len(texts), len(label_set)), dtype=np.float32)
    share = slice(process, None, num_processes)
    for number, teacher in enumerate(teachers, start=1):
        predictor = Predictor.load(teacher)
        columns = [predictor.label_set.names.index(name) for name in label_set.names]
        progress = f"teacher {number} of {len(teachers)}" if process == 0 else None
        soft_labels[share] += predictor.predict(texts[share], progress)[:, columns] / len(teachers)
    return soft_labels
