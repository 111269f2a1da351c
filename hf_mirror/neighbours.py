"""Which items read alike, by a sentence-transformers model: the content walk's other way, for those who have one.

A pretrained model may know the items from elsewhere; scenes that were made with one say so. Nearest neighbours are of
the texts alone, so that nothing of the future is in them; what could not be offered yet is left out when they are used.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl

from hf_mirror.errors import ConfigError

NEAREST = 50
BLOCK = 1024


def nearest(attributes: pl.Series, model: str) -> np.ndarray:
    """The NEAREST items of each item by cosine, itself left out: [items, fewer than NEAREST where there are few].

    attributes: JSON text per item. model: `NAME` or `NAME@REVISION`, a Hub id or a folder.
    """
    vectors = _encoder(model).encode(
        [_text(json.loads(text)) for text in attributes], batch_size=64, normalize_embeddings=True
    )
    count = min(NEAREST, len(vectors) - 1)
    found = np.empty((len(vectors), count), np.int32)
    for begin in range(0, len(vectors), BLOCK):
        block = vectors[begin : begin + BLOCK] @ vectors.T
        rows = np.arange(len(block))
        block[rows, begin + rows] = -np.inf
        found[begin : begin + BLOCK] = np.argsort(-block, axis=1, kind="stable")[:, :count]
    return found


def _encoder(model: str) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise ConfigError(
            "a content model needs sentence-transformers; install it with `pip install -e '.[content]'`"
        ) from None
    name, _, revision = model.partition("@")
    try:
        return SentenceTransformer(
            name, revision=revision or None, trust_remote_code=False, model_kwargs={"use_safetensors": True}
        )
    except (OSError, ValueError) as error:
        raise ConfigError(f"content model {model!r} cannot be loaded: {str(error).splitlines()[0]}") from None


def _text(attributes: dict[str, Any]) -> str:
    """All values as words, the title first."""
    values = [attributes.get("title"), *(value for name, value in attributes.items() if name != "title")]
    return ". ".join(", ".join(map(str, v)) if isinstance(v, list) else str(v) for v in values if v)
