"""YAML and `section.key=value` -> `Config`, with every mistake named at once."""

import ast
import dataclasses
import difflib
import inspect
import re
import types
import typing
from pathlib import Path
from typing import Any, Literal

import yaml

from emotion.config.settings import BASELINE, BOUNDS, Config
from emotion.errors import ConfigError

TOKEN = re.compile(r"hf_\w{8,}|wandb_v1_\w{8,}|\b[0-9a-f]{40}\b")
"""What a token of the Hub or of Weights & Biases looks like."""


def load_config(path: str | Path | None, overrides: list[str] | tuple[str, ...] = ()) -> Config:
    """Return the config of a YAML file (or the defaults) with `section.key=value` overrides on top.

    Raises: ConfigError naming every unknown key, wrong type and value out of bounds at once.
    """
    values = _read_yaml(Path(path)) if path is not None else {}
    faults: list[str] = []
    for override in overrides:
        _apply_override(values, override, faults)
    config = _build(Config, values, "", faults)
    if not faults:
        faults = [
            f"{key}={_lookup(config, key)!r}: must be {bound}"
            for key, (bound, is_allowed) in BOUNDS.items()
            if not is_allowed(_lookup(config, key))
        ]
        if config.model.quantization != "none" and config.lora.r == 0:
            faults.append("model.quantization=nf4 with lora.r=0: 4-bit weights cannot be trained; set lora.r=16, or quantization=none")
        faults += _find_secrets(config)
        if config.hub.push and not config.hub.repo:
            faults.append("hub.push=true without hub.repo: say where to, as hub.repo=USER/NAME")
        if config.model.backbone == BASELINE and config.lora.r > 0:
            faults.append(f"model.backbone={BASELINE} with lora.r: the baseline has no layers to adapt; set lora.r=0")
        if config.distillation.teachers and config.distillation.num_teachers:
            faults.append("distillation.teachers with num_teachers: name teachers or have them trained; set the other to null or 0")
        if config.model.backbone == BASELINE and (config.distillation.teachers or config.distillation.num_teachers):
            remedy = "set distillation.teachers=null, num_teachers=0"
            faults.append(f"model.backbone={BASELINE} with distillation: the baseline learns from gold labels only; {remedy}")
    if faults:
        raise ConfigError(f"{path or 'config'}: " + "; ".join(faults))
    return config


def to_dict(config: Config) -> dict[str, dict[str, Any]]:
    """Return the sections as plain YAML and JSON types."""
    sections = dataclasses.asdict(config)
    return {
        section: {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
        for section, values in sections.items()
    }


def describe_keys() -> list[tuple[str, str, str]]:
    """Return (key, default, meaning) of every setting, read from the dataclasses."""
    rows = []
    for section in dataclasses.fields(Config):
        cls = typing.get_type_hints(Config)[section.name]
        body = typing.cast(ast.ClassDef, ast.parse(inspect.getsource(cls)).body[0]).body
        fields = [node for node in body if not isinstance(node, ast.FunctionDef)]
        for node, doc in zip(fields[::2], fields[1::2], strict=True):
            name = typing.cast(ast.Name, typing.cast(ast.AnnAssign, node).target).id
            text = typing.cast(ast.Constant, typing.cast(ast.Expr, doc).value).value
            default = yaml.safe_dump(getattr(cls(), name)).splitlines()[0]
            rows.append((f"{section.name}.{name}", default, str(text)))
    return rows


def format_keys() -> str:
    """Return the settings as the Markdown table that the README holds."""
    rows = [f"| `{key}` | `{default}` | {meaning.replace('|', chr(92) + '|')} |" for key, default, meaning in describe_keys()]
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *rows])


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); the published configs are in configs/") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values or {}, dict):
        raise ConfigError(f"{path}: must hold sections such as `data:`, got a {type(values).__name__}")
    return values or {}


def _apply_override(values: dict[str, Any], override: str, faults: list[str]) -> None:
    key, equals, text = override.partition("=")
    section, dot, name = key.strip().partition(".")
    if not (equals and dot and name):
        near = _nearest(key.strip(), [row[0] for row in describe_keys()])
        faults.append(f"{override!r}: settings are given as section.key=value{near}")
        return
    try:
        value = yaml.safe_load(text) if text.strip() else None
    except yaml.YAMLError:
        value = text
    if values.get(section) is None:
        values[section] = {}
    target = values[section]
    if isinstance(target, dict):
        target[name] = text.strip() if _wants_text(section, name) and value is not None else value


def _wants_text(section: str, name: str) -> bool:
    """Whether `data.source=2024` means the text "2024" and not the number."""
    hint = typing.get_type_hints(typing.get_type_hints(Config).get(section, Config)).get(name)
    return hint is str or hint == str | None


def _build(cls: Any, values: Any, prefix: str, faults: list[str]) -> Any:
    if not isinstance(values, dict):
        faults.append(f"{prefix.rstrip('.')}: must hold keys, got {values!r}")
        return cls()
    hints = typing.get_type_hints(cls)
    known: dict[str, Any] = {}
    for key, value in values.items():
        if key not in hints:
            names = [prefix + name for name in hints] if prefix else [*hints, *(row[0] for row in describe_keys())]
            faults.append(f"unknown key {prefix}{key}{_nearest(prefix + str(key), names)}")
        elif dataclasses.is_dataclass(hints[key]):
            known[key] = _build(hints[key], value if value is not None else {}, f"{key}.", faults)
        else:
            try:
                known[key] = _convert(value, hints[key])
            except (TypeError, ValueError):
                faults.append(f"{prefix}{key}={value!r}: must be {_describe(hints[key])}")
    return cls(**known)


def _convert(value: Any, hint: Any) -> Any:
    """Return `value` as the type `hint`; PyYAML reads `3e-4` as text, so floats are parsed from text too."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _convert(value, next(a for a in arguments if a is not type(None)))
    if origin is Literal:
        text = "none" if value is None and "none" in arguments else value
        if text not in arguments:
            raise ValueError(value)
        return text
    if origin is tuple:
        items = value.split(",") if isinstance(value, str) else value
        return tuple(str(item).strip() for item in items)
    if hint is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        return float(value)
    if hint is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if type(value) is not hint:
        raise TypeError(value)
    return value


def _describe(hint: Any) -> str:
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return " or ".join(map(str, arguments))
    if typing.get_origin(hint) is tuple:
        return "a list of names"
    if arguments:
        return f"{_describe(next(a for a in arguments if a is not type(None)))} or null"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[hint]


def _nearest(key: str, names: list[str]) -> str:
    """Return a hint at the known key that was probably meant, by its full or its last name."""
    by_last = {name.rpartition(".")[2]: name for name in names}
    near = difflib.get_close_matches(key, names, n=1) or [
        by_last[last] for last in difflib.get_close_matches(key.rpartition(".")[2], by_last, n=1)
    ]
    if near:
        return f", did you mean {near[0]}?"
    return f" (known: {', '.join(names)})" if len(names) <= 12 else " (`python train.py --keys` lists all)"


def _find_secrets(config: Config) -> list[str]:
    """Name the settings whose value looks like a token: the config is written to the run folder and told to trackers."""
    return [
        f"{section}.{key}: looks like a token; settings are written to files: give tokens by HF_TOKEN or WANDB_API_KEY alone"
        for section, values in to_dict(config).items()
        for key, value in values.items()
        if key != "revision" and TOKEN.search(str(value))  # a revision is often a commit, 40 hexadecimal digits too
    ]


def _lookup(config: Config, key: str) -> Any:
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)
