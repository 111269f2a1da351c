"""The `mixed` subset: a weighted, seeded draw of scenes over the domains. It exists only at publication."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from math import floor, isfinite

import pyarrow as pa

from hf_mirror.errors import ConfigError


def check_weights(weights: Mapping[str, float] | None, domains: Mapping[str, object]) -> None:
    """Refuses weights that miss a domain, name an unknown one, or are not positive numbers."""
    if weights is None:
        return
    if set(weights) != set(domains):
        raise ConfigError(f"weights name {sorted(weights)}; expected one weight for each of {sorted(domains)}")
    wrong = {name: value for name, value in weights.items() if not (isfinite(value) and value > 0)}
    if wrong:
        raise ConfigError(
            f"weights {wrong} are not positive numbers; leave a domain out by publishing a run without it"
        )


def quotas(sizes: Mapping[str, int], weights: Mapping[str, float] | None) -> dict[str, int]:
    """How many scenes each domain gives: the largest draw in which no domain runs out, rounded down.

    Without weights every domain gives all it has. A domain that has no scene in this split takes no part in it.
    """
    if weights is None:
        return dict(sizes)
    total = sum(weights[name] for name, size in sizes.items() if size)
    share = {name: weights[name] / total for name, size in sizes.items() if size}
    largest = min((sizes[name] / share[name] for name in share), default=0.0)
    return {name: min(sizes[name], floor(largest * share.get(name, 0.0) + 1e-9)) for name in sizes}


def mix(tables: Mapping[str, pa.Table], weights: Mapping[str, float] | None, seed: int) -> pa.Table:
    """One table from the tables of one split, by domain. Scenes are drawn and ordered by H(seed, domain, scene_id);
    a scene's rows stay together and in order. A single domain is returned as it is; rows that say of no scene they are
    (closed pairs) are all in it, in the order of their hashes."""
    if len(tables) == 1:
        return next(iter(tables.values()))
    if any("scene_id" not in table.column_names for table in tables.values()):
        return pa.concat_tables(tables.values()).sort_by("row_hmac")
    ids = {name: table.column("scene_id").to_pylist() for name, table in tables.items()}
    ranks = {name: {id: _rank(seed, name, id) for id in set(column)} for name, column in ids.items()}
    counts = quotas({name: len(rank) for name, rank in ranks.items()}, weights)
    order: list[tuple[str, str, int]] = []
    for name, column in ids.items():
        drawn = set(sorted(ranks[name], key=ranks[name].__getitem__)[: counts[name]])
        order += [(ranks[name][id], name, index) for index, id in enumerate(column) if id in drawn]
    starts, rows = {}, 0
    for name, table in tables.items():
        starts[name], rows = rows, rows + table.num_rows
    indices = pa.array([starts[name] + index for _, name, index in sorted(order)], pa.int64())
    return pa.concat_tables(tables.values()).take(indices)


def _rank(seed: int, domain: str, scene_id: str) -> str:
    return hashlib.sha256(f"mixed\0{seed}\0{domain}\0{scene_id}".encode()).hexdigest()
