"""A causal LM and what each forward pass through it needs: padded rows, masks, and a cache that rows share."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_mirror.errors import ConfigError
from hf_mirror.weights import load_causal_lm

if TYPE_CHECKING:
    import torch


class LanguageModel:
    """The weights in `folder`, on the GPU if there is one. `context`: the most tokens that one row may have."""

    def __init__(self, folder: Path, name: str, dtype: str | None = None) -> None:
        import torch

        self.name = name
        cuda = torch.cuda.is_available()
        # Half precision is slow on CPUs and rounds probabilities; GPUs take the weights as they were saved.
        lm = load_causal_lm(folder, name, dtype=dtype or ("auto" if cuda else "float32"))
        self.lm = lm.to("cuda" if cuda else "cpu").eval()
        self.context = getattr(self.lm.config.get_text_config(), "max_position_embeddings", None) or sys.maxsize
        self._partial_logits = "logits_to_keep" in inspect.signature(self.lm.forward).parameters

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor, keep: torch.Tensor | None = None, **settings: Any
    ) -> tuple[torch.Tensor, Any]:
        """Logits, shape [rows, positions, vocabulary], and the cache that holds all rows' keys and values so far.
        With `keep`, only the logits at these positions: those of all would be the largest tensor by far."""
        if keep is not None and self._partial_logits:
            settings["logits_to_keep"] = keep
        out = self.lm(input_ids=ids, attention_mask=mask, **settings)
        cut = keep is not None and not self._partial_logits
        return out.logits[:, keep] if cut else out.logits, getattr(out, "past_key_values", None)

    def begin(self, rows: Sequence[Sequence[int]], copies: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor, Any]:
        """Reads each of `rows` once and holds it once per number in `copies`, which says whose copy comes where.
        Returns the logits of what follows, [copies, vocabulary], the mask, [copies, width], and the cache."""
        import torch

        ids, mask = self.pad(rows, left=True)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        last = torch.tensor([ids.shape[1] - 1], device=ids.device)
        logits, cache = self.forward(ids, mask, last, position_ids=positions, use_cache=True)
        whose = torch.tensor(copies, device=ids.device)
        self.select(cache, whose)
        return logits[whose, -1], mask[whose], cache

    def select(self, cache: Any, rows: torch.Tensor) -> None:
        """Leaves a copy of the cache's row for each of `rows`."""
        layers = getattr(cache, "layers", None)
        if layers is None or not all(_can_select(layer) for layer in layers):
            kind = type(self.lm).__name__
            raise ConfigError(f"{self.name} is a {kind}, whose memory rows cannot share; use backend vllm")
        cache.batch_select_indices(rows)

    def pad(self, rows: Sequence[Sequence[int]], left: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and mask, both [rows, longest row]."""
        import torch

        width = max(map(len, rows))
        ids, mask = torch.zeros(2, len(rows), width, dtype=torch.long)
        for index, row in enumerate(rows):
            place = slice(width - len(row), width) if left else slice(0, len(row))
            ids[index, place], mask[index, place] = torch.tensor(row), 1
        return ids.to(self.lm.device), mask.to(self.lm.device)


def _can_select(layer: Any) -> bool:
    """Whether selecting rows selects all that a layer remembers: of linear attention its states would stay as they
    are."""
    linear = any(kind.__name__.startswith("LinearAttention") for kind in type(layer).__mro__)
    return hasattr(layer, "batch_select_indices") and not linear
