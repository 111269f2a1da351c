"""What the licences of generators and base models ask for: naming, notice, allowed use. A first table, by model id.

Sources are not here: a source's licence is found by its builder and stands in report.json (SCIENCE: licences belong
to the release found). A model that the table does not know is stated as unknown on every card, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from hf_mirror.errors import ConfigError

# Licence ids the Hub knows and that appear here or on common feedback sources:
# https://huggingface.co/docs/hub/repositories-licenses. Anything else is `other` with a name and a link.
HUB_LICENCES = frozenset(
    re.findall(
        r"\S+",
        "apache-2.0 mit bsd-3-clause cc0-1.0 cc-by-4.0 cc-by-sa-4.0 cc-by-nc-4.0 cc-by-nc-sa-4.0 odbl odc-by"
        " llama3.1 llama3.2 llama3.3 gemma unknown",
    )
)
PERMISSIVE = frozenset({"apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0"})


@dataclass(frozen=True)
class Terms:
    """A licence's duties. `prefix` opens the name of every model trained from the model or on its outputs;
    `weightless` marks text that the project's own `template` backend wrote from fixed phrases."""

    licence: str
    notice: str = ""
    use: str = "any use the licence allows"
    prefix: str = ""
    weightless: bool = False


PROJECT_TEXT = Terms("apache-2.0", "text of this project", weightless=True)
UNKNOWN = Terms("unknown", use="not in this project's table: read the model's own page first")

# The first pattern that matches the model's id, in any case, decides.
MODELS = {
    r"template(:.*)?|echo|teacher|student|reader": PROJECT_TEXT,
    r"meta-llama/llama-3\.1.*": Terms("llama3.1", "Built with Llama", "Llama 3.1 Community License", "Llama"),
    r"meta-llama/llama-3\.2.*": Terms("llama3.2", "Built with Llama", "Llama 3.2 Community License", "Llama"),
    r"meta-llama/llama-3\.3.*": Terms("llama3.3", "Built with Llama", "Llama 3.3 Community License", "Llama"),
    r"qwen/qwen2\.5-(3b|vl-3b).*": Terms("qwen-research", "Built with Qwen", "research only, no commercial use"),
    r"qwen/qwen2\.5-72b.*": Terms("qwen", "Built with Qwen", "Qwen LICENSE AGREEMENT"),
    r"qwen/.*": Terms("apache-2.0"),
    r"google/gemma.*": Terms("gemma", "Gemma is provided under and subject to the Gemma Terms of Use", "Gemma terms"),
    r"huggingfacetb/smollm.*": Terms("apache-2.0"),
}


def terms(model: str) -> Terms:
    """The terms of a model by its Hub id (or backend name); UNKNOWN if the table has no line for it."""
    for pattern, known in MODELS.items():
        if re.fullmatch(pattern, model, re.IGNORECASE):
            return known
    return UNKNOWN


def hub_licence(licence: str, link: str = "LICENSE.md") -> dict[str, str]:
    """The card's licence fields: the Hub's id where it has one, else `other` with a name and a link."""
    if licence.lower() in HUB_LICENCES:
        return {"license": licence.lower()}
    name = re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-") or "unknown"
    return {"license": "other", "license_name": name[:60].rstrip("-"), "license_link": link}


def check_model_name(name: str, ancestors: Iterable[str]) -> None:
    """Refuses a model name that a base model or generator forbids, e.g. one trained on Llama's outputs."""
    for ancestor in ancestors:
        prefix = terms(ancestor).prefix
        if prefix and not name.startswith(prefix):
            raise ConfigError(
                f"model {name!r} comes from {ancestor}, whose licence asks that its name begin with {prefix!r}; "
                f"rename its folder to {prefix}-{name}"
            )
