"""The YAML that people write: cards and `.eval_results`. Read within bounds, and as no more than what JSON can say."""

from __future__ import annotations

import json
import math
from functools import lru_cache
from typing import Any

import yaml

from hf_mirror.hub.gitread import Snapshot
from hf_mirror.hub.refusals import Refusal

MAX_YAML = 256 * 1024  # characters
MAX_DEPTH = 50
MAX_SIZE = 2 * 1024 * 1024  # characters once every alias is written out
MAX_DIGITS = 100  # of a number; longer ones stay text
_JSON_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "str", "seq", "map")}


class YamlError(ValueError):
    """Why a text is not taken."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The safe loader that leaves dates as text and knows no sets, bytes and the like, since JSON has none."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, regexp) for tag, regexp in rules if tag != "tag:yaml.org,2002:timestamp"]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors = {  # noqa: RUF012
        tag: made for tag, made in yaml.SafeLoader.yaml_constructors.items() if tag is None or tag in _JSON_TAGS
    }


def _number(loader: Any, node: yaml.Node) -> Any:
    text = loader.construct_scalar(node)
    if len(text) > MAX_DIGITS:
        return text
    return loader.construct_yaml_int(node) if node.tag.endswith(":int") else loader.construct_yaml_float(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _number)
_Loader.add_constructor("tag:yaml.org,2002:float", _number)


def read_yaml(text: str) -> Any:
    """The value of a YAML text, made of what JSON has; YamlError for one that is malformed, too long or too deep."""
    if len(text) > MAX_YAML:
        raise YamlError(f"it is longer than {MAX_YAML} characters")
    try:
        _check_size(text)
        return _plain(yaml.load(text, Loader=_Loader))
    except YamlError:
        raise
    except (yaml.YAMLError, ValueError, LookupError, ArithmeticError) as error:  # `!!int ""` is a LookupError
        raise YamlError(str(error)) from None


def _check_size(text: str) -> None:
    """YamlError before anything is built that would be too deep, or too large where aliases repeat it."""
    size, begun, sizes = 0, list[tuple[str | None, int]](), dict[str, int]()
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise YamlError(f"the alias {event.anchor!r} stands for nothing, or for what it is part of")
            size += sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            size += len(event.value) + 1
            sizes |= {event.anchor: len(event.value) + 1} if event.anchor else {}
        elif isinstance(event, yaml.CollectionStartEvent):
            begun.append((event.anchor, size))
            size += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = begun.pop()
            sizes |= {anchor: size - before} if anchor else {}
        if len(begun) > MAX_DEPTH:
            raise YamlError(f"it is nested more than {MAX_DEPTH} deep")
        if size > MAX_SIZE:
            raise YamlError(f"its aliases make more than {MAX_SIZE} characters of it")


def _plain(value: Any) -> Any:
    """Numbers that JSON lacks, or few clients read, become text; so do keys."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else json.dumps(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # without lone surrogates
    odd = isinstance(value, float) and not math.isfinite(value)
    return str(value) if odd or (isinstance(value, int) and abs(value) >= 1 << 63) else value


def front_matter(text: str) -> str | None:
    """The YAML between the two `---` lines that open a card, or None when there is none."""
    head, _, rest = text.lstrip("\ufeff").partition("\n")
    if head.rstrip() != "---":
        return None
    block, found, _ = f"\n{rest}".partition("\n---")
    return block if found else None


@lru_cache(maxsize=256)
def card_data(readme: bytes) -> dict[str, Any]:
    """The metadata of a card; empty when there is none or it cannot be read. Dates become text, as in JSON."""
    try:
        found = read_yaml(front_matter(readme.decode("utf-8", "replace")) or "")
    except YamlError:
        return {}
    if not isinstance(found, dict):
        return {}
    # What huggingface_hub cannot take costs its users the whole listing: fields named like its own arguments, odd tags.
    refused = {"self", "ignore_metadata_errors"} | (set() if isinstance(found.get("tags"), str | list) else {"tags"})
    return {key: value for key, value in found.items() if key not in refused}


def eval_results(snapshot: Snapshot) -> list[tuple[str, dict[str, Any]]]:
    """The rows of `.eval_results/*.yaml`, each with its file; those without dataset, task or value are left out."""
    try:
        names = [entry.path for entry in snapshot.list(".eval_results", recursive=True) if not entry.is_folder]
    except Refusal:
        return []
    return [
        (name, row) for name in names if name.endswith((".yaml", ".yml")) for row in _rows(snapshot.read(name) or b"")
    ]


@lru_cache(maxsize=256)
def _rows(content: bytes) -> list[dict[str, Any]]:
    try:
        found = read_yaml(content.decode("utf-8"))
    except ValueError:
        return []
    return [row for row in (found if isinstance(found, list) else []) if _is_result(row)]


def _is_result(row: Any) -> bool:
    """Whether clients of the Hub can read a row: one that they cannot would cost them all of a listing."""
    dataset, source = (row.get("dataset"), row.get("source")) if isinstance(row, dict) else (None, None)
    named = isinstance(dataset, dict) and isinstance(dataset.get("id"), str) and "task_id" in dataset
    return named and "value" in row and (not source or (isinstance(source, dict) and "url" in source))
