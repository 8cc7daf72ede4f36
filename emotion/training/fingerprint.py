"""What a resumed run must have in common with the run before: settings that change the result, and data."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator

from emotion.config import INERT_SECTIONS, Config, to_dict
from emotion.data.batching import BUCKET_BATCHES
from emotion.data.reading import Examples
from emotion.distributed.collectives import print_on_main
from emotion.errors import ConfigError

FREE_KEYS = (
    {
        f"training.{name}"
        for name in (
            "per_device_batch_size",
            "gradient_accumulation_steps",
            "save_every_minutes",
            "save_every_steps",
            "num_states",
            "timeout_minutes",
        )
    }
    | {f"data.{name}" for name in ("source", "train", "validation", "test")}
    | {f"distillation.{name}" for name in ("num_teachers", "teacher_configs", "epochs", "texts")}
)
"""Settings that do not change the result: the batch keeps its size, data is compared by content, teachers by their runs, the
epochs of a student as those of its training."""

VALIDATION_KEYS = ("rows of validation", "data.max_length", "data.long_texts", "data.stride", "decision.")
"""Beginnings of the keys of a fingerprint that decide how a checkpoint is validated."""


def fingerprint_run(config: Config, splits: dict[str, Examples]) -> dict[str, Any]:
    """Return what a resumed run must have in common with the one before: its settings, the layout of batches, and a SHA-256 of the rows of
    each split."""
    digests = {f"rows of {split}": fingerprint_rows(rows) for split, rows in splits.items()}
    return {**fingerprint_settings(config), "batches of a bucket": BUCKET_BATCHES, **digests}


def fingerprint_rows(rows: Examples) -> str:
    """Return a digest of the ids, texts and labels of rows."""
    digest = hashlib.sha256(json.dumps([rows.ids, rows.texts]).encode("utf-8"))
    digest.update(np.packbits(rows.labels).tobytes())
    if rows.is_judged is not None:
        digest.update(np.packbits(rows.is_judged).tobytes())
    if rows.fractions is not None:
        digest.update(rows.fractions.tobytes())
    return digest.hexdigest()[:16]


def fingerprint_settings(config: Config) -> dict[str, Any]:
    """Return the settings that change the result of training, by `section.key`."""
    return {
        f"{section}.{key}": value
        for section, values in to_dict(config).items()
        for key, value in values.items()
        if f"{section}.{key}" not in FREE_KEYS and section not in INERT_SECTIONS
    }


def check_unchanged(run: Path, before: dict[str, Any], after: dict[str, Any], is_forced: bool, accelerator: Accelerator) -> None:
    """Compare the fingerprint of a run with the one it had; where it has changed, print the changes if that is forced.

    Raises: ConfigError naming each change, unless forced.
    """
    if changes := describe_changes(before, after):
        if not is_forced:
            raise ConfigError(f"{run}: cannot resume: these settings changed: {'; '.join(changes)}: give the old ones, or --resume-anyway")
        print_on_main(accelerator, f"resuming although these settings changed: {'; '.join(changes)}")


def is_validated_alike(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Return whether runs with these two fingerprints validate a checkpoint in the same way, on the same rows."""
    return not any(key.startswith(VALIDATION_KEYS) for key in _find_changes(before, after))


def describe_changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return `key: before -> after` for each difference between two fingerprints.

    A setting that the version of `before` did not have counts as its default.
    """
    return [f"{key}: {old} -> {new}" for key, (old, new) in _find_changes(before, after).items()]


def _find_changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    before = {key: value for key, value in fingerprint_settings(Config()).items() if key in after} | before
    return {key: (before.get(key), after.get(key)) for key in {**before, **after} if before.get(key) != after.get(key)}
