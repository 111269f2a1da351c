"""Strict settings: one YAML file, one frozen dataclass, one name everywhere. An unknown key fails by name."""

from __future__ import annotations

import dataclasses
import types
import typing
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from hf_mirror.errors import ConfigError

T = TypeVar("T")


def load_yaml(path: Path, kind: type[T]) -> T:
    """Reads `path` into the dataclass `kind`. Raises ConfigError on anything that does not fit."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        _refuse_repeated_keys(yaml.compose(text, Loader=yaml.SafeLoader), path)
        value = yaml.safe_load(text)
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; give the path of a pipeline YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    return parse(value, kind, str(path))


def parse(value: Any, kind: type[T], where: str) -> T:
    """`value` (what YAML gives) as the dataclass `kind`; `where` is named in errors."""
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: found {value!r}; expected a mapping with {', '.join(_names(kind))}")
    hints = typing.get_type_hints(kind)
    for key in value:
        if key not in hints:
            near = get_close_matches(str(key), hints, n=1, cutoff=0.0)[0]
            raise ConfigError(f"{where}: unknown key {key!r}; did you mean {near!r}? Known: {', '.join(hints)}")
    missing = [field.name for field in dataclasses.fields(kind) if _required(field) and field.name not in value]  # type: ignore[arg-type]
    if missing:
        raise ConfigError(f"{where}: missing {', '.join(missing)}")
    return kind(**{key: _value(item, hints[key], f"{where}: {key}") for key, item in value.items()})


def _refuse_repeated_keys(node: Any, path: Path) -> None:
    """YAML would keep the last of two equal keys, in silence."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, inner in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError(f"{path}:{key.start_mark.line + 1}: a key is no plain word; write `key: value`")
            if key.value in seen:
                raise ConfigError(f"{path}:{key.start_mark.line + 1}: key {key.value!r} is given twice; keep one")
            seen.add(key.value)
            _refuse_repeated_keys(inner, path)
    elif isinstance(node, yaml.SequenceNode):
        for inner in node.value:
            _refuse_repeated_keys(inner, path)


def _value(value: Any, hint: Any, where: str) -> Any:
    if isinstance(hint, types.UnionType):
        inner = [option for option in typing.get_args(hint) if option is not type(None)]
        return None if value is None else _value(value, inner[0], where)
    if dataclasses.is_dataclass(hint):
        return parse(value, hint, where)  # type: ignore[arg-type]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and isinstance(value, list):
        return tuple(_value(item, arguments[0], where) for item in value)
    if origin is dict and isinstance(value, dict):
        return {str(key): _value(item, arguments[1], f"{where}.{key}") for key, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if (
        origin is None
        and hint is not Any
        and (not isinstance(value, hint) or (hint is int and isinstance(value, bool)))
    ):
        raise ConfigError(f"{where}: found {value!r}; expected {hint.__name__}")
    if origin in (tuple, dict):
        raise ConfigError(f"{where}: found {value!r}; expected a {'list' if origin is tuple else 'mapping'}")
    return value


def _names(kind: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
