"""The command line of a script: a mistake in it is one line, and an option that does not exist is answered with the nearest one."""

import argparse
import difflib
import re
import sys
from typing import Any, NoReturn

from emotion.errors import ConfigError
from emotion.text import be_quiet, find_width

MODEL_OPTION: dict[str, Any] = {
    "metavar": "FOLDER",
    "help": "run folder, model folder or Hub id (default: the newest finished run, or else the bundled model)",
}
"""What `--model` shows in the scripts that use one model."""
BACKBONE_OPTION: dict[str, Any] = {
    "metavar": "PATH",
    "help": "folder or Hub id of an adapter's backbone, if it is no longer where it was",
}
"""What `--backbone` shows in the scripts that load a model."""


class ArgumentParser(argparse.ArgumentParser):
    """A parser whose errors are a ConfigError. `description` is the script's docstring, of which `--help` shows the first line."""

    def __init__(self, description: str | None) -> None:
        super().__init__(description=(description or "").split("\n")[0])

    def error(self, message: str) -> NoReturn:
        """Raise a ConfigError: the first unknown option if there is one, otherwise what argparse says."""
        for word in self._list_unknown_options():
            near = difflib.get_close_matches(word, self._option_string_actions, n=1)
            if "." in word and self._takes_settings():
                raise ConfigError(f"{word}: unknown option; a setting has no dashes: {word.lstrip('-')}=VALUE") from None
            hint = f"did you mean {near[0]}?" if near else f"`python {self.prog} --help` lists all options"
            raise ConfigError(f"{word}: unknown option, {hint}") from None
        raise ConfigError(f"{message} (`python {self.prog} --help` lists all options)") from None

    def _takes_settings(self) -> bool:
        return any("=" in str(action.metavar) for action in self._get_positional_actions())

    def _list_unknown_options(self) -> list[str]:
        """Return the words of the command line that look like options and are none; an option may be cut short."""
        options = [word.partition("=")[0] for word in sys.argv[1:] if re.match(r"--?[A-Za-z]", word)]
        return [option for option in options if not any(known.startswith(option) for known in self._option_string_actions)]


class PrintKeys(argparse.Action):
    """Print the settings and exit, whatever else the command line has."""

    def __call__(self, parser: argparse.ArgumentParser, _: argparse.Namespace, section: Any, __: str | None = None) -> None:
        from emotion.config import format_keys

        print(format_keys(section, find_width(sys.stdout)))
        parser.exit()


class BeQuiet(argparse.Action):
    """Turn messages and progress bars off as soon as the option is read: before the packages that draw bars are imported."""

    def __init__(self, **options: Any) -> None:
        super().__init__(nargs=0, **options)

    def __call__(self, *_: Any) -> None:
        be_quiet()


def check_one_source(arguments: argparse.Namespace) -> None:
    """Raise a ConfigError if both a split of the run's data and a file are given as the labelled rows."""
    if arguments.split is not None and arguments.input is not None:
        raise ConfigError(f"--split {arguments.split}: is a split of the run's data, and --input names a file; leave one of them out")
