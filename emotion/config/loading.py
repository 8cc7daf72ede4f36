"""Build a `Config` from YAML and `section.key=value` overrides, and report all errors of a config together."""

import ast
import dataclasses
import difflib
import inspect
import sys
import textwrap
import types
import typing
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from emotion.config.checks import (
    check_backbone,
    check_bounds,
    check_columns,
    check_combinations,
    find_repository_fault,
    find_secrets,
    find_unwritable,
)
from emotion.config.effects import find_ineffective
from emotion.config.settings import BASELINE, Config
from emotion.config.yaml_files import Loader, WrittenFloat, WrittenInteger, find_config, read_yaml
from emotion.errors import ConfigError
from emotion.secrets import mask_secrets

MIN_DESCRIPTION_WIDTH = 40
"""Columns of a terminal below which a description goes under its key."""
VERBATIM_NAMES = ("label_delimiter",)
"""Settings in which blanks count: ` and ` is not `and`."""


def load_config(path: str | Path | None, overrides: Sequence[str] = (), is_of_run: bool = False) -> Config:
    """Return the config of a YAML file, or the defaults if `path` is None, with `section.key=value` overrides applied.

    `is_of_run` is for the file in a run folder: an earlier version may have written what is refused as a secret now.

    Raises: ConfigError that lists every unknown key, wrong type and value out of bounds.
    """
    values = read_yaml(find_config(path)) if path is not None else {}
    problems: list[str] = []
    for override in overrides:
        _apply_override(values, override, problems)
    config = _build(Config, values, "", problems)
    problems += check_bounds(config)
    if not problems:
        problems = [*check_combinations(config), *find_unwritable(config)]
        if not is_of_run:
            problems += [*check_backbone(config), *check_columns(config)]
            problems += find_secrets(config) or find_repository_fault(f"hub.repo={config.hub.repo!r}", config.hub.repo)
        problems += find_ineffective(config, overrides)
    if problems:
        raise ConfigError(mask_secrets(f"{path or 'config'}: " + "; ".join(problems)))
    return config


def load_teacher_configs(config: Config) -> list[Config]:
    """Return the configs of `distillation.teacher_configs`, whose model, LoRA and training settings the teachers get.

    Raises: ConfigError for a file that cannot be used.
    """
    bases = []
    for path in config.distillation.teacher_configs or ():
        try:
            base = load_config(path)
        except ConfigError as error:
            raise ConfigError(f"distillation.teacher_configs: {error}") from None
        if base.model.backbone == BASELINE:
            raise ConfigError(f"distillation.teacher_configs: {path} is of the baseline ({BASELINE}), which does not teach; name others")
        if base.training.precision not in ("auto", config.training.precision):
            raise ConfigError(
                f"distillation.teacher_configs: {path} has training.precision={base.training.precision}, the run "
                f"{config.training.precision}: a run has one precision for all its models; set training.precision={base.training.precision}"
            )
        bases.append(base)
    return bases


def to_dict(config: Config) -> dict[str, dict[str, Any]]:
    """Return the config as nested dicts of plain YAML and JSON types, one dict per section."""
    sections = dataclasses.asdict(config)
    return {
        section: {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
        for section, values in sections.items()
    }


def describe_keys() -> list[tuple[str, str, str]]:
    """Return (key, default, description) of every setting, read from the source of the dataclasses."""
    rows = []
    for section in dataclasses.fields(Config):
        cls = typing.get_type_hints(Config)[section.name]
        body = typing.cast(ast.ClassDef, ast.parse(inspect.getsource(cls)).body[0]).body
        fields = [node for node in body if not isinstance(node, ast.FunctionDef)]
        for node, doc in zip(fields[::2], fields[1::2], strict=True):
            name = typing.cast(ast.Name, typing.cast(ast.AnnAssign, node).target).id
            text = typing.cast(ast.Constant, typing.cast(ast.Expr, doc).value).value
            default = yaml.safe_dump(getattr(cls(), name), default_flow_style=True).splitlines()[0]
            rows.append((f"{section.name}.{name}", default, str(text)))
    return rows


def format_keys(section: str | None = None, width: int | None = None) -> str:
    """Return all settings, or those of a section, as aligned text of `width` columns; one line per setting if that is None.

    Raises: ConfigError if there is no such section.
    """
    names = [field.name for field in dataclasses.fields(Config)]
    if section is not None and section not in names:
        raise ConfigError(f"--keys {section}: unknown section{_suggest_key(section, names)}")
    described, blocks = describe_keys(), []
    for name in [section] if section else names:
        rows = [row for row in described if row[0].startswith(f"{name}.")]
        key_width, default_width = (max(len(row[column]) for row in rows) for column in (0, 1))
        first = [f"{key:{key_width}}  {default:{default_width}}  " for key, default, _ in rows]
        if width is not None and width < len(first[0]) + MIN_DESCRIPTION_WIDTH:  # the description goes below its key
            filled = [textwrap.fill(text, width, initial_indent="    ", subsequent_indent="    ") for _, _, text in rows]
            lines = [f"{start.rstrip()}\n{text}" for start, text in zip(first, filled, strict=True)]
        else:
            options: dict[str, Any] = {"subsequent_indent": " " * len(first[0]), "width": width or sys.maxsize}
            lines = [textwrap.fill(start + row[2], **options) for start, row in zip(first, rows, strict=True)]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def format_keys_table() -> str:
    """Return all settings as a Markdown table, that of docs/settings.md."""
    rows = [f"| `{key}` | `{default}` | {text.replace('|', chr(92) + '|')} |" for key, default, text in describe_keys()]
    return "\n".join(["| key | default | description |", "|---|---|---|", *rows])


def check_keys(overrides: Sequence[str], allowed: Collection[str], why: str) -> None:
    """Check that every `key=value` override can be read, and has an effect.

    Raises: ConfigError that lists every unknown key, wrong type and value out of bounds, or for the first whose key is not `allowed`; `why`
    ends the message.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    for override in overrides:
        _apply_override(values, override, problems)
    config = _build(Config, values, "", problems)
    if problems := problems + check_bounds(config):
        raise ConfigError(mask_secrets(f"config: {'; '.join(problems)}"))
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key not in allowed:
            raise ConfigError(f"{override}: has no effect here; allowed are {', '.join(sorted(allowed))}: {why}")


def _apply_override(values: dict[str, Any], override: str, problems: list[str]) -> None:
    key, equals, text = override.partition("=")
    section, dot, name = key.strip().partition(".")
    if not (equals and dot and name):
        near = _suggest_key(key.strip(), [row[0] for row in describe_keys()])
        problems.append(f"{override!r}: must be section.key=value{near}")
        return
    try:
        value = yaml.load(text, Loader) if text.strip() else None
    except (yaml.YAMLError, ValueError, RecursionError):
        value = text
    if values.get(section) is None:
        values[section] = {}
    target = values[section]
    if isinstance(target, dict):
        target[name] = _read_string(text, name in VERBATIM_NAMES) if _is_string_setting(section, name) else value


def _read_string(text: str, is_verbatim: bool) -> str | None:
    """Return the value of a string setting as it was typed: `#` is no comment and a blank is a blank. `null` or nothing is None.

    Blanks around another value are kept if `is_verbatim`.
    """
    if text and not text.strip():
        return text
    return None if text.strip() in ("", "~", "null", "Null", "NULL") else text if is_verbatim else text.strip()


def _is_string_setting(section: str, name: str) -> bool:
    """Return whether a setting is a string, so that `data.source=2024` means "2024" and not a number."""
    hint = typing.get_type_hints(typing.get_type_hints(Config).get(section, Config)).get(name)
    return hint is str or hint == str | None


def _build(cls: Any, values: Any, prefix: str, problems: list[str]) -> Any:
    if not isinstance(values, dict):
        problems.append(f"{prefix.rstrip('.')}: must contain keys, got {values!r}")
        return cls()
    hints = typing.get_type_hints(cls)
    known: dict[str, Any] = {}
    for key, value in values.items():
        if key not in hints:
            names = [prefix + name for name in hints] if prefix else [*hints, *(row[0] for row in describe_keys())]
            problems.append(f"unknown key {prefix}{key}{_suggest_key(prefix + str(key), names)}")
        elif dataclasses.is_dataclass(hints[key]):
            known[key] = _build(hints[key], value if value is not None else {}, f"{key}.", problems)
        else:
            try:
                known[key] = _convert(value, hints[key])
            except (TypeError, ValueError, OverflowError):
                problems.append(f"{prefix}{key}={value!r}: must be {_describe_type(hints[key])}")
    return cls(**known)


def _convert(value: Any, hint: Any) -> Any:
    """Return `value` converted to the type `hint`; floats are also parsed from strings, because PyYAML reads `3e-4` as a string.

    Raises: TypeError, ValueError or OverflowError if the value does not fit.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        choice = next((a for a in arguments if typing.get_origin(a) is Literal and value in typing.get_args(a)), arguments[0])
        return _convert(value, choice)
    if origin is Literal:
        value = "none" if value is None and "none" in arguments else value
        if isinstance(value, bool) or value not in arguments:  # True is equal to 1
            raise ValueError(value)
        return arguments[arguments.index(value)]
    if origin is tuple:
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, list):  # of a mapping, the keys would be taken
            raise TypeError(value)
        return tuple(_convert(item, str).strip() for item in items)  # in YAML, no is False and null is None
    if hint is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        return float(value)
    if hint is str and isinstance(value, WrittenInteger | WrittenFloat):
        return value.written
    if hint is int and isinstance(value, WrittenInteger):
        return int(value)
    if type(value) is not hint:
        raise TypeError(value)
    return value


def _describe_type(hint: Any) -> str:
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return " or ".join(map(str, arguments))
    if typing.get_origin(hint) is tuple:
        return 'a list of names, with quotes around those that YAML reads as something else, such as "no"'
    if arguments:
        return " or ".join("null" if argument is type(None) else _describe_type(argument) for argument in arguments)
    return {int: "an integer", float: "a number", bool: "true or false", str: "a string"}[hint]


def _suggest_key(key: str, names: list[str]) -> str:
    """Return a hint with the known key that is nearest, compared by its full name and by its last part."""
    by_last = {name.rpartition(".")[2]: name for name in names}
    near = difflib.get_close_matches(key, names, n=1) or [
        by_last[last] for last in difflib.get_close_matches(key.rpartition(".")[2], by_last, n=1)
    ]
    if near:
        return f", did you mean {near[0]}?"
    return f" (known: {', '.join(names)})" if len(names) <= 12 else " (`python train.py --keys` lists all)"
