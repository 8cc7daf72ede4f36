"""Read the YAML of a config: numbers keep how they were written, and no key may stand twice."""

import typing
from pathlib import Path
from typing import Any

import yaml

from emotion.errors import ConfigError
from emotion.paths import expand_path
from emotion.secrets import mask_secrets

PROJECT = Path(__file__).parents[2]
"""The folder of the scripts and of configs/; without the latter if the package is installed."""


class WrittenInteger(int):
    """An integer of YAML, and how it was written: 010, which is 8, may be the name of a column."""

    written: str


class WrittenFloat(float):
    """A number of YAML, and how it was written: 1.10 may be the name of a branch."""

    written: str


class Loader(yaml.SafeLoader):
    """Safe YAML that keeps how a number was written, and refuses a key that a mapping has twice: PyYAML drops the first one."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key in [key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]:  # of which there may be more
            if key.value in seen:
                raise yaml.composer.ComposerError(
                    None, None, f"the key {key.value} stands here for the second time; keep one of them", key.start_mark
                )
            seen.add(key.value)
        return node

    def construct_integer(self, node: yaml.ScalarNode) -> WrittenInteger:
        value = WrittenInteger(self.construct_yaml_int(node))
        value.written = node.value
        return value

    def construct_float(self, node: yaml.ScalarNode) -> WrittenFloat:
        value = WrittenFloat(self.construct_yaml_float(node))
        value.written = node.value
        return value

    yaml_constructors: typing.ClassVar = {
        **yaml.SafeLoader.yaml_constructors,
        "tag:yaml.org,2002:int": construct_integer,
        "tag:yaml.org,2002:float": construct_float,
    }


def find_config(path: str | Path) -> Path:
    """Return the path of a config file; from any working directory, `configs/NAME.yaml` also means a published one."""
    path = expand_path(path)
    published = PROJECT / path
    is_published = path.parts[:1] == ("configs",) and not path.exists() and published.is_file()
    return published if is_published else path


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the sections of a YAML file.

    Raises: ConfigError if it cannot be read, is not valid YAML or has no sections.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); see configs/ for the published configs") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: of the encoding, or of a date such as 2026-13-01
        raise ConfigError(f"{path}: is not valid YAML: {mask_secrets(' '.join(str(error).split()))}") from None
    if not isinstance(values or {}, dict):
        raise ConfigError(f"{path}: must contain sections such as `data:`, got a {type(values).__name__}")
    return values or {}
