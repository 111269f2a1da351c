"""SASRec (Kang and McAuley 2018, https://arxiv.org/abs/1808.09781) with the full cross-entropy that makes it strong
(Klenitskiy and Vasilev 2023, https://arxiv.org/abs/2309.07602): a causal transformer over items, no user factors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from hf_mirror.baselines.feedback import Asked, Sequences
from hf_mirror.baselines.recommenders import Scores
from hf_mirror.metrics import Floats

LENGTH, WIDTH, LAYERS, HEADS, DROPOUT = 50, 64, 2, 2, 0.2
EPOCHS, BATCH, RATE = 12, 64, 2e-3


def sasrec(known: Sequences, attributes: Sequence[Any]) -> Scores:
    """Scores: the last hidden state of the history against each option's embedding. An item that nobody chose in what
    was learned from has an embedding that only weight decay and the softmax have touched."""
    import torch
    from torch import nn

    nothing = known.n_items
    windows = [items[max(end - LENGTH - 1, 0) : end] for items in known.items for end in range(len(items), 1, -LENGTH)]
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(0)
        embed, place = nn.Embedding(nothing + 1, WIDTH), nn.Embedding(LENGTH, WIDTH)
        nn.init.normal_(embed.weight, std=0.02)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, DROPOUT, batch_first=True, norm_first=True)
        encoder = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        causal = torch.triu(torch.full((LENGTH, LENGTH), float("-inf")), 1)

        def hidden(items: torch.Tensor) -> torch.Tensor:
            return encoder(embed(items) * WIDTH**0.5 + place.weight, mask=causal)

        model = nn.ModuleList([embed, place, encoder])
        optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
        x, y = (torch.from_numpy(_padded([window[side] for window in windows], nothing))
                for side in (slice(None, -1), slice(1, None)))  # fmt: skip
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(x)).split(BATCH):
                seen = y[rows] != nothing
                loss = nn.functional.cross_entropy(hidden(x[rows])[seen] @ embed.weight[:nothing].T, y[rows][seen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    model.eval()

    def scores(asked: Asked) -> Floats:
        with torch.inference_mode():
            histories = torch.from_numpy(_padded([history[-LENGTH:] for history in asked.history], nothing))
            last = [max(min(len(history), LENGTH) - 1, 0) for history in asked.history]
            states = torch.cat([hidden(part) for part in histories.split(256)])[torch.arange(len(last)), last]
            options = torch.from_numpy(np.where(asked.options < 0, nothing, asked.options))
            found = np.asarray((embed(options) @ states[:, :, None])[:, :, 0].double().numpy())
        found[[not history for history in asked.history]] = 0
        return found

    return scores


@contextmanager
def _one_thread() -> Iterator[None]:
    """Two threads of so small a model are little faster, and wait for each other for minutes on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _padded(sequences: Sequence[Sequence[int]], nothing: int) -> np.ndarray:
    """Sequences from the left, [n, LENGTH], with `nothing` behind their end."""
    found = np.full((len(sequences), LENGTH), nothing, np.int64)
    for row, items in enumerate(sequences):
        found[row, : len(items)] = items
    return found
