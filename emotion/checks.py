"""Check files of a model or run folder, which may come from anywhere: JSON values by a table of what is allowed, weights by their names."""

import json
import reprlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from emotion.errors import ModelError
from emotion.text import format_names

Rules = dict[str, tuple[str, Callable[[Any], bool]]]
"""What each key may hold: in words, and as a function that tests a value of any type."""
MAX_BYTES = 2**26
"""Largest file that is read as JSON: a hundred times the `emotion.json` of 10,000 labels."""


def read_object(path: Path, remedy: str) -> dict[str, Any]:
    """Return the JSON object of a file; `remedy` ends an error message.

    Raises: ModelError if the file cannot be read or holds anything else.
    """
    try:
        if (num_bytes := path.stat().st_size) > MAX_BYTES:
            raise ModelError(f"{path}: has {num_bytes:,} bytes, at most {MAX_BYTES:,} are read; {remedy}")
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read ({type(error).__name__}: {error}); {remedy}") from None
    if not isinstance(values, dict):
        raise ModelError(f"{path}: must hold a JSON object, not {reprlib.repr(values)}; {remedy}")
    return values


def check_values(values: Any, rules: Rules, where: str, remedy: str, optional: Collection[str] = ()) -> None:
    """Check the values of a JSON object; `where` precedes the key in an error message, `remedy` ends it.

    Raises: ModelError for the first key that is missing and not `optional`, or whose value is not allowed.
    """
    if not isinstance(values, dict):
        raise ModelError(f"{where.rstrip('.: ')}: must be a JSON object, not {reprlib.repr(values)}; {remedy}")
    for key, (allowed, is_allowed) in rules.items():
        if key not in values and key not in optional:
            raise ModelError(f"{where}{key} is missing; {remedy}")
        if key in values and not is_allowed(values[key]):
            raise ModelError(f"{where}{key}={reprlib.repr(values[key])}: must be {allowed}; {remedy}")


def check_weights(wrong: Collection[str], surplus: Collection[str], folder: str) -> None:
    """Check the weights of a model folder against its config.

    `wrong` are the names of weights that are missing or have another shape, `surplus` those of weights that the config does not describe.

    Raises: ModelError if there are any: the model would answer with new weights, or without its last layers.
    """
    if wrong:
        raise ModelError(
            f"{folder}: its weights do not have {format_names(sorted(wrong))} as config.json describes: it is damaged, or not a trained "
            "classifier; restore it, or train one with train.py"
        )
    if surplus:
        raise ModelError(
            f"{folder}: its weights have {len(surplus)} that the model of config.json lacks, such as {min(surplus)!r}; "
            "restore the files that belong together, or train again"
        )


def is_number(value: Any, low: float, high: float) -> bool:
    """Return whether a value is a number in [low, high]; nan and booleans are not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def is_integer(value: Any, low: int) -> bool:
    """Return whether a value is an integer of at least `low` that fits into 63 bits; booleans are not."""
    return type(value) is int and low <= value < 2**63
