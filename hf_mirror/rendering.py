"""From ids to what a person would read: a scene's prompt by its domain's template, and its view for engines.

A run folder keeps the template beside its tables, so that later stages need neither the builder nor the raw files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from hf_mirror.backends import Option, SceneView, SeenItem
from hf_mirror.errors import ConfigError
from hf_mirror.files import read_table
from hf_mirror.prompts import LABELS, Messages

TEMPLATE_FILE = "template.jinja"
UNITS = (("year", 365 * 86_400), ("month", 30 * 86_400), ("day", 86_400), ("hour", 3_600), ("minute", 60))


class Renderer:
    """Writes scenes of one domain. `profiles` and `attributes` map ids to open maps, as values or as JSON text."""

    def __init__(self, template: str, profiles: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
        from jinja2 import Environment, StrictUndefined, TemplateError

        environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
        try:
            self._template = environment.from_string(template)
        except TemplateError as error:
            raise ConfigError(f"the prompt template does not parse ({error}); mend the domain's .jinja") from None
        self._profiles = _Maps(profiles)
        self._attributes = _Maps(attributes)

    @classmethod
    def of_run(cls, domain_folder: Path) -> Renderer:
        """The renderer of a domain folder of a run."""
        users = read_table(domain_folder / "tables" / "users.parquet")
        items = read_table(domain_folder / "tables" / "items.parquet")
        return cls(
            (domain_folder / TEMPLATE_FILE).read_text(encoding="utf-8"),
            dict(zip(users["user_id"].to_pylist(), users["profile"].to_pylist(), strict=True)),
            dict(zip(items["item_id"].to_pylist(), items["attributes"].to_pylist(), strict=True)),
        )

    def prompt(self, scene: Mapping[str, Any], order: Sequence[int] | None = None) -> Messages:
        """One user message. `order[j]` is the position in `scene["exposure"]` of the option at slot j."""
        from jinja2 import TemplateError

        exposed = scene["exposure"] if order is None else [scene["exposure"][position] for position in order]
        try:
            text = self._template.render(
                profile=self._profiles[scene["user_id"]],
                history=[
                    {
                        "item": self._attributes[entry["item_id"]],
                        "signal": entry["signal"],
                        "positive": entry["positive"],
                        "ago": ago(scene["timestamp"] - entry["timestamp"]) if entry["timestamp"] else None,
                    }
                    for entry in scene["history"]
                ],
                exposure=[
                    {"label": LABELS[slot], "item": self._attributes[option["item_id"]]}
                    for slot, option in enumerate(exposed)
                ],
                now=scene["timestamp"],
            )
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            raise ConfigError(f"the prompt template fails ({error}); mend the domain's .jinja") from None
        return [{"role": "user", "content": text.strip()}]

    def view(self, scene: Mapping[str, Any]) -> SceneView:
        """The scene without its truth, for engines that read structure."""
        return SceneView(
            tuple(
                SeenItem(self._attributes[entry["item_id"]], entry["signal"], entry["positive"])
                for entry in scene["history"]
            ),
            tuple(Option(self._attributes[option["item_id"]], option["asof_count"]) for option in scene["exposure"]),
        )


def ago(distance: timedelta) -> str:
    """`3 days ago`, in the largest unit that fits; `just now` below a minute."""
    seconds = int(distance.total_seconds())
    for unit, length in UNITS:
        if seconds >= length:
            count = seconds // length
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def utc_from_ms(milliseconds: int) -> datetime:
    """A timezone-aware UTC time."""
    from datetime import UTC

    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)


class _Maps:
    """Open maps by id, decoded when first asked for: a scene sees a few of many."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self._raw = raw
        self._decoded: dict[str, Any] = {}

    def __getitem__(self, key: str) -> Any:
        if key not in self._decoded:
            value = self._raw[key]
            self._decoded[key] = json.loads(value) if isinstance(value, str) else value
        return self._decoded[key]
