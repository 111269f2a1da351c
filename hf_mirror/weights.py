"""Where a causal language model's weights come from, and which version exactly: a folder, or a Hub repo at a commit.

Weights are safetensors only and no repo's code is ever run. Backends and recipes load through here.
"""

from __future__ import annotations

from itertools import chain
from math import prod
from pathlib import Path
from typing import Any

from hf_mirror.errors import ConfigError, DataError, HubError
from hf_mirror.files import read_json, sha256_file
from hf_mirror.identity import digest

FILES = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model"]
# What makes a model's answers, and so the version of a folder; a card or a report beside it does not.
MAKES_ANSWERS = [
    "*.safetensors", "config.json", "generation_config.json", "adapter_config.json", "*token*.json", "*.jinja",
    "vocab*", "merges.txt", "*.model",
]  # fmt: skip


def resolve(model: str, revision: str | None = None) -> tuple[Path, str]:
    """The folder that holds `model`, and its exact version.

    The version of a Hub repo is the commit SHA that `revision` (branch, tag or SHA) stands for now; the version of a
    folder is `sha256:` and a digest of all files that make its answers: weights, configuration, tokenizer, chat
    template, and an adapter's base. Raises HubError where the Hub has no such model or revision,
    DataError where the folder is missing or holds no safetensors.
    """
    folder = Path(model)
    if folder.is_dir():
        if revision is not None:
            raise ConfigError(f"{model} is a folder and has no revision {revision!r}; leave the revision out")
    elif folder.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
        raise DataError(f"the model folder {model} does not exist; expected a folder or a Hub id such as owner/name")
    else:
        folder = _download(model, revision)
        revision = folder.name
    if not any(folder.glob("*.safetensors")):
        raise DataError(f"{model} holds no *.safetensors file; save the model with save_pretrained first")
    return folder, revision or _version(folder)


def _version(folder: Path) -> str:
    files = sorted({file for pattern in MAKES_ANSWERS for file in folder.glob(pattern)})
    parts = [part for file in files for part in (file.name, sha256_file(file))]
    if (folder / "adapter_config.json").exists():
        parts.append(resolve_base(folder)[1])
    return f"sha256:{digest(*parts)}"


def _download(model: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        reason = str(error).strip().splitlines()[0]
        at = f" at revision {revision!r}" if revision else ""
        raise HubError(
            f"there is no folder {model}, and model {model!r}{at} could not be read from the Hub: {reason} Check the "
            "path, or the id and HF_ENDPOINT"
        ) from None


def parameters(folder: Path) -> int:
    """How many numbers the weights in `folder` hold, by their headers; of an adapter, those of its base too."""
    from safetensors import safe_open

    found = 0
    for path in folder.glob("*.safetensors"):
        try:
            with safe_open(path, "numpy") as tensors:
                found += sum(prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
        except Exception as error:
            raise DataError(f"{path} is no whole safetensors file ({error}); save the model again") from None
    return found + (parameters(resolve_base(folder)[0]) if (folder / "adapter_config.json").exists() else 0)


def causal_lm_config(folder: Path, model: str) -> Any:
    """The `PretrainedConfig` in `folder`; DataError unless its architecture is a causal LM of transformers."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{model} has no readable config.json of a causal LM: {str(error).splitlines()[0]}") from None
    found = config.architectures or ["unnamed architecture"]
    names = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()
    known = set(chain.from_iterable([name] if isinstance(name, str) else name for name in names))
    if not known.intersection(found):
        raise DataError(f"{model} is a {found[0]}, not a causal LM; expected one such as LlamaForCausalLM")
    return config


def load_causal_lm(folder: Path, model: str, **settings: Any) -> Any:
    """The model in `folder`; an adapter is merged into its base. `settings` go to `from_pretrained`."""
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    if (folder / "adapter_config.json").exists():
        from peft import PeftModel

        base, _ = resolve_base(folder)
        return PeftModel.from_pretrained(load_causal_lm(base, str(base), **settings), str(folder)).merge_and_unload()
    causal_lm_config(folder, model)
    settings |= {"use_safetensors": True, "trust_remote_code": False, "output_loading_info": True}
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(folder, **settings)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise DataError(f"{model} could not be loaded as a causal LM: {str(error).splitlines()[0]}") from None
    lm, info = loaded
    if info["missing_keys"]:
        # transformers would fill them with random numbers and carry on.
        raise DataError(f"{model} lacks weights that its config.json asks for: {sorted(info['missing_keys'])[:3]}")
    return lm


def resolve_base(folder: Path) -> tuple[Path, str]:
    """Folder and version of the model that the adapter in `folder` was trained on."""
    if not (folder / "adapter_model.safetensors").exists():
        raise DataError(f"{folder} holds no adapter_model.safetensors; save the adapter with save_pretrained first")
    adapter = read_json(folder / "adapter_config.json")
    return resolve(adapter["base_model_name_or_path"], adapter.get("revision"))
