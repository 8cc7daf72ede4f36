"""The runs of a config, one after another: teachers first, where the config asks for them."""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from accelerate import Accelerator

from emotion.config import Config
from emotion.data.reading import read_dataset
from emotion.data.reading.plain_texts import add_texts
from emotion.distributed.collectives import ask_main, print_on_main
from emotion.distributed.launch import Launch
from emotion.tracking.run_folder import RunFolder
from emotion.training.distillation import list_stages
from emotion.training.fingerprint import check_unchanged, fingerprint_settings
from emotion.training.interruption import format_resume_command
from emotion.training.run import Run


def open_runs(config: Config, arguments: argparse.Namespace, launch: Launch) -> Iterator[Run]:
    """Yield the runs to be trained for a config, one after another: teachers first, where the config asks for them.

    Raises: ConfigError if the folder is taken, or a finished teacher had other settings.
    """
    accelerator = launch.accelerator
    folder = ask_main(accelerator, lambda: RunFolder.choose(config, Path(arguments.config).stem, arguments.resume))
    resume_command = format_resume_command(sys.argv, folder.path.name)
    config = count_teachers(config, accelerator)
    for stage_folder, stage_config in list_stages(folder, config):
        accelerator.wait_for_everyone()  # the main process may still be writing the stage before
        if stage_folder.is_finished:
            finished = stage_folder.read_config()
            if stage_config.training.epochs == "auto":  # of which the finished run has the number
                stage_config = replace(stage_config, training=replace(stage_config.training, epochs=finished.training.epochs))
            before, after = fingerprint_settings(finished), fingerprint_settings(stage_config)
            check_unchanged(stage_folder.path, before, after, arguments.resume_anyway, accelerator)
        else:
            yield Run(stage_config, stage_folder, launch, arguments.resume, arguments.resume_anyway, resume_command)


def count_teachers(config: Config, accelerator: Accelerator) -> Config:
    """Return the config with a number in place of `distillation.num_teachers=auto`; for this, the training rows are read.

    Raises: DataError if `distillation.texts` cannot be used: now, and not after hours of teachers.
    """
    distillation = config.distillation
    is_counted = distillation.num_teachers == "auto"
    if not is_counted and not (distillation.num_teachers and distillation.texts):
        return config
    dataset = read_dataset(config.data)
    num_rows = len(dataset["train"])
    if distillation.texts:
        add_texts(dataset, distillation.texts, config.data)
    if is_counted:
        distillation = distillation.resolve_num_teachers(num_rows)
        reason = f"{num_rows:,} rows" + (" and texts without labels" if distillation.texts else "")
        print_on_main(accelerator, f"train: {distillation.num_teachers} teachers for {reason} (distillation.num_teachers=auto)")
    return replace(config, distillation=distillation)
