"""From ids to what a person would read: a scene's prompt by its domain's template, and its view for engines.

A run folder keeps the template beside its tables, so that later stages need neither the builder nor the raw files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from hf_mirror.backends import Option, SceneView, SeenItem
from hf_mirror.errors import ConfigError
from hf_mirror.files import read_table
from hf_mirror.processes import spread
from hf_mirror.prompts import LABELS, SEPARATOR, Messages, prompt_sha256

TEMPLATE_FILE = "template.jinja"
SECOND, MILLISECOND = timedelta(seconds=1), timedelta(milliseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UNITS = (("year", 365 * 86_400), ("month", 30 * 86_400), ("day", 86_400), ("hour", 3_600), ("minute", 60))


class Renderer:
    """Writes scenes of one domain. `profiles` and `attributes` map ids to open maps, as values or as JSON text."""

    def __init__(self, template: str, profiles: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
        from jinja2 import Environment, StrictUndefined, TemplateError

        class KeysFirst(Environment):
            """What templates see are dictionaries: `item.title` is a key, found at once, before it is an attribute."""

            def getattr(self, obj: Any, attribute: str) -> Any:
                try:
                    return obj[attribute]
                except (LookupError, TypeError, AttributeError):
                    return super().getattr(obj, attribute)

        def join(value: Iterable[Any], d: str = "", attribute: str | None = None) -> str:
            """Jinja's own filter, without its detour through asynchronous code, which takes half of a prompt's time."""
            return d.join([str(part if attribute is None else part[attribute]) for part in value])

        environment = KeysFirst(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
        environment.filters["join"] = join
        try:
            self._template = environment.from_string(template)
        except TemplateError as error:
            raise ConfigError(f"the prompt template does not parse ({error}); mend the domain's .jinja") from None
        self._context = self._template.new_context()
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

    def item(self, item: str) -> Any:
        """What is known of an item: its attributes."""
        return self._attributes[item]

    def profile(self, user: str) -> Any:
        """What is known of a user."""
        return self._profiles[user]

    def prompt(
        self,
        scene: Mapping[str, Any],
        order: Sequence[int] | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> Messages:
        """One user message. `order[j]` is the position in `scene["exposure"]` of the option at slot j. `attributes`
        takes the place of what is known of the scene's items."""
        known = self._attributes if attributes is None else attributes
        now = scene["timestamp"]
        exposed = scene["exposure"] if order is None else [scene["exposure"][position] for position in order]
        history = [
            self._past(
                known[past["item_id"]],
                past["signal"],
                past["positive"],
                (now - past["timestamp"]) // SECOND if past["timestamp"] else None,
            )
            for past in scene["history"]
        ]
        return self._message(scene["user_id"], now, history, [known[option["item_id"]] for option in exposed])

    def options_only(self, scene: Mapping[str, Any]) -> Messages:
        """The scene's prompt for somebody of whom nothing is known: without profile and history."""
        options = [self._attributes[option["item_id"]] for option in scene["exposure"]]
        return self._message(None, scene["timestamp"], [], options)

    def prompts(
        self, users: Sequence[str], times: Sequence[datetime], history: pa.ListArray, exposure: pa.ListArray,
        workers: int | None, progress: Callable[[int], None],
    ) -> tuple[list[Messages], list[str]]:  # fmt: skip
        """One user message per scene, and its hash; history and exposure as in schema.SCENE, signals as JSON text."""
        milliseconds = history.values.field("timestamp").cast(pa.int64()).to_pylist()
        fields = ("item_id", "signal", "positive")
        items_met, said, liked = (history.values.field(name).to_pylist() for name in fields)
        items = exposure.values.field("item_id").to_pylist()
        shown, offered = (lists.offsets.to_pylist() for lists in (history, exposure))
        signals = {text: json.loads(text) for text in set(said)}
        known = self._attributes

        def one(scene: int) -> tuple[Messages, str]:
            now, at = times[scene], (times[scene] - EPOCH) // MILLISECOND
            memory = [
                self._past(
                    known[items_met[e]],
                    signals[said[e]],
                    liked[e],
                    None if (met := milliseconds[e]) is None else (at - met) // 1000,
                )
                for e in range(shown[scene], shown[scene + 1])
            ]
            options = [known[item] for item in items[offered[scene] : offered[scene + 1]]]
            prompt = self._message(users[scene], now, memory, options)
            return prompt, prompt_sha256(prompt)

        done = spread(one, len(users), workers, progress)
        return [prompt for prompt, _ in done], [sha256 for _, sha256 in done]

    def _past(self, item: Any, signal: Any, positive: bool, seconds: int | None) -> dict[str, Any]:
        """One entry of a scene's memory as templates see it: the item's attributes, and what became of it `seconds`
        ago, None where that is not known."""
        when = None if seconds is None else ago(seconds)
        return {"item": item, "signal": signal, "positive": positive, "ago": when}

    def _message(
        self, user: str | None, now: datetime, history: list[dict[str, Any]], options: Sequence[Any]
    ) -> Messages:
        """`history`: of `_past`, oldest first; `options`: items' attributes, in order."""
        from jinja2 import TemplateError

        # A context of its own for every scene would take a third of the time.
        given = self._context.vars
        given.clear()
        try:
            given["profile"] = {} if user is None else self._profiles[user]
            given["history"], given["now"] = history, now
            given["exposure"] = [{"label": label, "item": item} for label, item in zip(LABELS, options, strict=False)]
            text = "".join(self._template.root_render_func(self._context))
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            raise ConfigError(f"the prompt template fails ({error}); mend the domain's .jinja") from None
        if SEPARATOR in text:
            raise ConfigError(
                "the prompt template writes a line of three dashes between blank lines, which separates the "
                "instruction from the scene; mend the domain's .jinja"
            )
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


def ago(seconds: int) -> str:
    """`3 days ago`, in the largest unit that fits; `just now` below a minute."""
    for unit, length in UNITS:
        if seconds >= length:
            count = seconds // length
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


class _Maps(dict[str, Any]):
    """Open maps by id, decoded when first asked for: a scene sees a few of many."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self._raw = raw

    def __missing__(self, key: str) -> Any:
        value = self._raw[key]
        self[key] = json.loads(value) if isinstance(value, str) else value
        return self[key]
