"""What is kept of a group's rows: per label, how many rows have a probability in each bin and are predicted or not.

The size does not depend on the number of rows. The bins are as wide as `LOGIT_STEP` in the logit, and are those of probabilities with four
decimals, as a scored file has them; below 0.001 each value has a bin of its own.
"""

from functools import cache

import numpy as np

DECIMALS = 4
"""Of a probability in a scored file; those of validation rows are rounded alike."""
LOGIT_STEP = 0.25


@cache
def build_bins() -> tuple[np.ndarray, np.ndarray]:
    """Return the bin of each probability with four decimals, int (10,001), and the mean probability of each bin, float (K,).

    0 stands for [0, 0.00005), so its value is 0.000025; 1 likewise.
    """
    size = 10**DECIMALS
    grid = np.arange(size + 1) / size
    grid[0], grid[-1] = 0.25 / size, 1 - 0.25 / size
    steps = np.round(np.log(grid / (1 - grid)) / LOGIT_STEP)
    bins = np.unique(steps, return_inverse=True)[1]
    return bins, np.bincount(bins, grid) / np.bincount(bins)


def round_scores(probabilities: np.ndarray) -> np.ndarray:
    """Return probabilities as a scored file has them, float64 in the same shape."""
    return np.round(probabilities.astype(np.float64), DECIMALS)


def list_atoms() -> tuple[np.ndarray, np.ndarray]:
    """Return the probability, float (A,), and the decision, bool (A,), of each atom of a histogram; A is twice the number of bins."""
    values = build_bins()[1]
    return np.repeat(values, 2), np.tile([False, True], len(values))


def find_atoms(probabilities: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Return the atom of each probability in [0, 1], int, shaped as `probabilities`."""
    return 2 * build_bins()[0][np.rint(probabilities * 10**DECIMALS).astype(np.int64)] + predictions


def count_atoms(atoms: np.ndarray, cells: np.ndarray, num_cells: int) -> np.ndarray:
    """Return the number of rows in each cell by label and atom, int64 (num_cells, L, A); `atoms` is (n, L), `cells` int (n,).

    An atom of -1 is a label that was not annotated in that row, and does not count.
    """
    num_labels, num_atoms = atoms.shape[1], len(list_atoms()[0])
    index = (cells[:, None] * num_labels + np.arange(num_labels)) * num_atoms + atoms
    counts = np.bincount(index[atoms >= 0], minlength=num_cells * num_labels * num_atoms)
    return counts.reshape(num_cells, num_labels, num_atoms)
