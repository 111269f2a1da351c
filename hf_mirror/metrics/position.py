"""What the place of an option does to the choice: read in the random order, in which slots say nothing of the truth."""

from __future__ import annotations

import numpy as np

from hf_mirror.metrics.rows import Bools, Floats, Ints, per_scene, scored


def slot_shares(chosen: Floats, n_options: Ints) -> dict[str, list[float]]:
    """Per K, the share of choices that fall on each slot, from `choices(...)` rows in random order; failures left out.

    Far from 1/K it says that the model looks at the slot. A K with no scored row is left out. Keys are K as text,
    as JSON has them.
    """
    seen = scored(chosen)
    return {
        str(size): chosen[seen & (n_options == size), :size].mean(axis=0).tolist()
        for size in np.unique(n_options[seen])
    }


def by_item(values: Floats, ranks: Ints) -> Floats:
    """Moves columns from slots to items: out[i, ranks[i, j]] = values[i, j]. `ranks` [N, W] is a permutation per row
    that numbers a scene's items alike in all of its variants."""
    moved = np.empty_like(values)
    np.put_along_axis(moved, ranks, values, axis=1)
    return moved


def flip_rate(chosen: Floats, scene: Ints, random_order: Bools, n_scenes: int) -> float | None:
    """How often the item chosen in the random order is not the item chosen in a shifted order, averaged over a scene's
    shifts, then over scenes: mean_s (1 - sum_k r_sk * mean_v c_svk).

    `chosen` [N, W] is `by_item(choices(...))`. Ties count as independent draws, so a uniform model flips 1 - 1/K.
    None where no scene has both orders scored.
    """
    seen = scored(chosen)
    in_random, in_shifts = (
        np.stack(
            [per_scene(np.where(seen & rows, column, np.nan), scene, n_scenes) for column in chosen.T],
            axis=1,
        )
        for rows in (random_order, ~random_order)
    )
    kept = 1 - (in_random * in_shifts).sum(axis=1)
    return float(np.nanmean(kept)) if np.isfinite(kept).any() else None


def ckld(chosen: Floats, truths: Floats, n_options: Ints) -> dict[str, float]:
    """Choices' KL divergence, per K: sum_j p_j ln(p_j / q_j) in nats, p the truths' share of slot j and q the choices',
    both over the rows that are scored and smoothed, (n_j + 1) / (n + K) (arXiv 2409.18857).

    `chosen` and `truths` [N, W] are `choices(...)` rows in random order. 0 where choices fall as truths do; chance
    alone gives about (K - 1) / n. A K with no scored row is left out.
    """
    seen = scored(chosen)
    found = {}
    for size in np.unique(n_options[seen]):
        rows = seen & (n_options == size)
        p, q = ((of[rows, :size].sum(axis=0) + 1) / (rows.sum() + size) for of in (truths, chosen))
        found[str(size)] = float((p * np.log(p / q)).sum())
    return found
